//! Certificates: PEM text in, a checked chain and key out.

use std::sync::Arc;

use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::chain::{self, Verdict};
use super::sni::without_dot;
use super::{TlsError, provider};

/// A chain with its key, and what people ask about it.
#[derive(Clone)]
pub struct Certificate {
    pub key: Arc<CertifiedKey>,
    /// Seconds since 1970.
    pub not_before: i64,
    /// Seconds since 1970.
    pub not_after: i64,
    pub subject: String,
    /// SHA-256 of the leaf, hexadecimal.
    pub fingerprint: String,
    /// DNS names and addresses that it is for.
    pub names: Vec<String>,
    /// `RSA 2048`, `ECDSA P-256`, `Ed25519`.
    pub kind: String,
    /// Why clients refuse it, if they do: whoever writes it is told at once.
    pub weakness: Option<String>,
    /// What some clients will stumble over.
    doubts: Vec<String>,
    /// When the first certificate behind the leaf ends, in seconds since 1970.
    issuers_end: Option<i64>,
}

// === impl Certificate ===

impl Certificate {
    /// Parses a chain, leaf first, and the leaf's private key (PKCS#8, PKCS#1 or SEC1).
    ///
    /// # Errors
    /// What is wrong with which of the two; that they do not match.
    pub fn parse(chain_pem: &str, key_pem: &str) -> Result<Self, TlsError> {
        let chain = certificates(chain_pem).map_err(TlsError::Certificate)?;
        let read = read(&chain)?;
        let Verdict { key: kind, weakness, doubts, issuers_end } = chain::judge(&read)?;
        let leaf = &read[0];
        let validity = leaf.validity();
        let (not_before, not_after) =
            (validity.not_before.timestamp(), validity.not_after.timestamp().min(LAST_SECOND));
        let subject = leaf.subject().to_string();
        let names = alternative_names(leaf);
        drop(read);
        let key = certified(chain, private_key(key_pem)?)?;
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &key.cert[0]);
        let fingerprint =
            digest.as_ref().iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"));
        Ok(Self {
            key: Arc::new(key),
            not_before,
            not_after,
            subject,
            fingerprint,
            names,
            kind,
            weakness,
            doubts,
            issuers_end,
        })
    }

    /// Days until it ends, negative when it has ended, as of `now` in seconds since 1970.
    pub fn days_left(&self, now: i64) -> i64 {
        (self.not_after - now).div_euclid(DAY_SECONDS)
    }

    /// What whoever serves it for `snis` should know, as of `now` in seconds since 1970.
    pub fn warnings(&self, snis: &[String], now: i64) -> Vec<String> {
        let mut warnings: Vec<String> = self.weakness.iter().cloned().collect();
        if self.not_before > now {
            let days = (self.not_before - now).div_euclid(DAY_SECONDS);
            warnings.push(format!("is not valid yet: its time begins in {days} days"));
        }
        warnings.extend(ending(self.not_after, now));
        let issuers = self.issuers_end.and_then(|end| ending(end, now));
        warnings.extend(issuers.map(|ending| format!("a certificate of its chain {ending}")));
        let uncovered: Vec<&str> =
            snis.iter().map(String::as_str).filter(|sni| !self.covers(sni)).collect();
        if !uncovered.is_empty() && !self.names.is_empty() {
            warnings.push(format!(
                "is not for {}: it is for {}",
                listed(uncovered.into_iter()),
                listed(self.names.iter().map(String::as_str)),
            ));
        }
        warnings.extend(self.doubts.iter().cloned());
        warnings
    }

    /// Whether it is for a server name, which may be a wildcard.
    fn covers(&self, sni: &str) -> bool {
        let sni = without_dot(sni);
        let parent = sni.split_once('.').map(|(_, parent)| parent);
        sni == "*"
            || self.names.iter().any(|name| {
                let name = without_dot(name);
                name.eq_ignore_ascii_case(sni)
                    || name
                        .strip_prefix("*.")
                        .zip(parent)
                        .is_some_and(|(of, parent)| of.eq_ignore_ascii_case(parent))
            })
    }
}

/// The last second that a date of HTTP can say: the end of the year 9999. A certificate may say
/// more.
const LAST_SECOND: i64 = 253_402_300_799;

const DAY_SECONDS: i64 = 24 * 60 * 60;

/// How long before its end a certificate is warned of: what is renewed by itself is renewed
/// earlier.
const SOON_DAYS: i64 = 30;

/// What is said of an end that is near or over.
fn ending(end: i64, now: i64) -> Option<String> {
    match (end - now).div_euclid(DAY_SECONDS) {
        days @ ..0 => Some(format!("has expired {} days ago", -days)),
        days @ 0..SOON_DAYS => Some(format!("expires in {days} days")),
        _ => None,
    }
}

/// A few names of many.
fn listed<'n>(names: impl ExactSizeIterator<Item = &'n str>) -> String {
    const MOST: usize = 5;
    let more = names.len().saturating_sub(MOST);
    let listed = names.take(MOST).collect::<Vec<_>>().join(", ");
    if more > 0 { format!("{listed} and {more} more") } else { listed }
}

fn read<'c>(chain: &'c [CertificateDer<'static>]) -> Result<Vec<X509Certificate<'c>>, TlsError> {
    let mut read = Vec::with_capacity(chain.len());
    for (certificate, number) in chain.iter().zip(1..) {
        let (_, certificate) = X509Certificate::from_der(certificate).map_err(|_| {
            let which =
                if number > 1 { format!("certificate {number} is ") } else { String::new() };
            TlsError::Certificate(format!("{which}not a certificate that can be read"))
        })?;
        read.push(certificate);
    }
    Ok(read)
}

fn private_key(pem: &str) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| {
        let reason = if pem.contains("ENCRYPTED") {
            "it is encrypted with a passphrase, and nobody is there to enter it; expected one that \
             is not (openssl pkey -in KEY -out PLAIN takes the passphrase off)"
        } else if pem.contains("BEGIN CERTIFICATE") || pem.contains("BEGIN PUBLIC KEY") {
            "expected a PEM private key; this is what everybody may know"
        } else {
            "expected a PEM private key"
        };
        TlsError::Key(reason.to_owned())
    })
}

fn certified(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<CertifiedKey, TlsError> {
    let is_of = |certificate: &CertificateDer<'static>| {
        let chain = vec![certificate.clone()];
        CertifiedKey::from_der(chain, key.clone_key(), &provider()).is_ok()
    };
    let certified = CertifiedKey::from_der(chain.clone(), key.clone_key(), &provider());
    certified.map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => match chain.iter().position(is_of) {
            Some(at) => TlsError::Order(at + 1),
            None => TlsError::Mismatch,
        },
        rustls::Error::InvalidCertificate(reason) => {
            TlsError::Certificate(format!("not a certificate that can be read ({reason})"))
        }
        // rustls names the formats that it has tried, not what is wrong.
        _ => TlsError::Key("not a key that can be read; expected RSA, ECDSA or Ed25519".to_owned()),
    })
}

fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|error| format!("not PEM ({error})"))?;
    if certificates.is_empty() {
        return Err("expected PEM with at least one certificate".to_owned());
    }
    Ok(certificates)
}

/// The certificates of a PEM bundle.
///
/// # Errors
/// What is wrong with it.
pub fn authorities(pem: &str) -> Result<rustls::RootCertStore, TlsError> {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in certificates(pem).map_err(TlsError::Authorities)? {
        roots.add(certificate).map_err(|error| TlsError::Authorities(error.to_string()))?;
    }
    Ok(roots)
}

fn alternative_names(leaf: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(extension)) = leaf.subject_alternative_name() else {
        return Vec::new();
    };
    let names = extension.value.general_names.iter();
    names
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            GeneralName::IPAddress(bytes) => match **bytes {
                [a, b, c, d] => Some(std::net::Ipv4Addr::new(a, b, c, d).to_string()),
                _ => {
                    let bytes: [u8; 16] = (*bytes).try_into().ok()?;
                    Some(std::net::Ipv6Addr::from(bytes).to_string())
                }
            },
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn issue(name: &str) -> (String, String) {
        let issued = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
        (issued.cert.pem(), issued.signing_key.serialize_pem())
    }

    fn refused(cert: &str, key: &str) -> String {
        Certificate::parse(cert, key).err().unwrap().to_string()
    }

    #[test]
    fn reads_names_and_validity() {
        let (cert, key) = issue("test.com");
        let certificate = Certificate::parse(&cert, &key).unwrap();
        assert_eq!(certificate.names, ["test.com"]);
        assert!(certificate.not_before < certificate.not_after);
    }

    #[test]
    fn says_which_of_the_two_is_wrong() {
        let (cert, key) = issue("test.com");
        let (_, other) = issue("test.com");
        assert_eq!(refused(&cert, &other), "the private key does not match the certificate");
        assert!(refused("nonsense", &key).starts_with("certificate: expected PEM"));
        assert!(refused(&cert, "nonsense").starts_with("private key: expected a PEM"));
        let no_certificate = "-----BEGIN CERTIFICATE-----\nMAo=\n-----END CERTIFICATE-----\n";
        assert!(refused(no_certificate, &key).starts_with("certificate: not a certificate"));
    }
}
