//! Certificates: PEM text in, a checked chain and key out.

use std::sync::Arc;

use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

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
}

// === impl Certificate ===

impl Certificate {
    /// Parses a chain, leaf first, and the leaf's private key (PKCS#8, PKCS#1 or SEC1).
    ///
    /// # Errors
    /// What is wrong with which of the two; that they do not match.
    pub fn parse(chain_pem: &str, key_pem: &str) -> Result<Self, TlsError> {
        let chain = chain(chain_pem).map_err(TlsError::Certificate)?;
        let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).map_err(|_| {
            let hint = if key_pem.contains("ENCRYPTED") {
                "it is encrypted with a passphrase; expected one that is not"
            } else {
                "expected a PEM private key"
            };
            TlsError::Key(hint.to_owned())
        })?;
        let key = CertifiedKey::from_der(chain, key, &provider()).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => TlsError::Mismatch,
            rustls::Error::InvalidCertificate(reason) => {
                TlsError::Certificate(format!("not a certificate that can be read ({reason})"))
            }
            other => TlsError::Key(other.to_string()),
        })?;
        let (_, leaf) = X509Certificate::from_der(&key.cert[0])
            .map_err(|error| TlsError::Certificate(error.to_string()))?;
        let validity = leaf.validity();
        let (not_before, not_after) =
            (validity.not_before.timestamp(), validity.not_after.timestamp());
        let subject = leaf.subject().to_string();
        let names = alternative_names(&leaf);
        drop(leaf);
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &key.cert[0]);
        let fingerprint =
            digest.as_ref().iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"));
        Ok(Self { key: Arc::new(key), not_before, not_after, subject, fingerprint, names })
    }
}

fn chain(pem: &str) -> Result<Vec<CertificateDer<'static>>, String> {
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
    for certificate in chain(pem).map_err(TlsError::Authorities)? {
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
