//! What a client's TLS handshake settled, for the variables `ssl_*`.
//!
//! Source: nginx `ngx_http_ssl_module`.

use std::cell::OnceCell;
use std::fmt::Write as _;
use std::time::{Duration, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use x509_parser::objects::{oid_registry, oid2abbrev};
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

use crate::clock;
use crate::expr::TlsVariable;

/// A TLS session.
#[derive(Debug)]
pub struct TlsSession {
    /// As nginx names it: `TLSv1.3`.
    pub protocol: &'static str,
    /// As OpenSSL names it.
    pub cipher: &'static str,
    /// The group of the key exchange, as OpenSSL names it.
    pub curve: &'static str,
    /// `h2`, `http/1.1`, or empty.
    pub alpn: &'static str,
    pub resumed: bool,
    /// The certificate that the client showed, DER; it has been verified if there is no problem.
    pub certificate: Option<Box<[u8]>>,
    /// Why the certificate is not good.
    problem: Option<Box<str>>,
    /// What of it is shown, made when it is first asked for.
    shown: OnceCell<Option<Box<Shown>>>,
}

/// The parts of a certificate as text.
#[derive(Debug)]
struct Shown {
    pem: String,
    fingerprint: String,
    serial: String,
    subject: [String; 2],
    issuer: [String; 2],
    start: String,
    end: String,
    ends_at: i64,
}

// === impl TlsSession ===

impl TlsSession {
    pub fn new(
        protocol: &'static str,
        cipher: &'static str,
        curve: &'static str,
        alpn: &'static str,
        resumed: bool,
        certificate: Option<Box<[u8]>>,
    ) -> Self {
        let (problem, shown) = (None, OnceCell::new());
        Self { protocol, cipher, curve, alpn, resumed, certificate, problem, shown }
    }

    /// The same session with what is wrong with the client's certificate.
    #[must_use]
    pub fn with_problem(self, problem: Option<Box<str>>) -> Self {
        Self { problem, ..self }
    }

    /// Whether the client has shown a certificate that is good.
    pub fn is_verified(&self) -> bool {
        self.certificate.is_some() && self.problem.is_none()
    }

    /// The value of a variable; appended to `out`. Whether there is one.
    pub(super) fn append(&self, name: TlsVariable, out: &mut String) -> bool {
        use TlsVariable as V;
        let fixed = match name {
            V::Protocol => self.protocol,
            V::Cipher => self.cipher,
            V::Curve => self.curve,
            V::AlpnProtocol => self.alpn,
            V::SessionReused if self.resumed => "r",
            V::SessionReused => ".",
            V::ClientVerify if let Some(problem) = &self.problem => {
                out.push_str("FAILED:");
                problem
            }
            V::ClientVerify if self.certificate.is_some() => "SUCCESS",
            V::ClientVerify => "NONE",
            _ => return self.shown().is_some_and(|shown| shown.append(name, out)),
        };
        out.push_str(fixed);
        !fixed.is_empty()
    }

    fn shown(&self) -> Option<&Shown> {
        let der = self.certificate.as_deref()?;
        self.shown.get_or_init(|| Shown::of(der).map(Box::new)).as_deref()
    }
}

// === impl Shown ===

impl Shown {
    fn of(der: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY, der);
        let validity = certificate.validity();
        let (start, end) = (validity.not_before.timestamp(), validity.not_after.timestamp());
        let names = |name: &X509Name<'_>| [rfc_2253(name), legacy(name)];
        Some(Self {
            pem: pem(der),
            fingerprint: hexadecimal(digest.as_ref()),
            serial: hexadecimal(certificate.raw_serial()).to_ascii_uppercase(),
            subject: names(certificate.subject()),
            issuer: names(certificate.issuer()),
            start: date(start),
            end: date(end),
            ends_at: end,
        })
    }

    fn append(&self, name: TlsVariable, out: &mut String) -> bool {
        use TlsVariable as V;
        let text = match name {
            V::ClientRawCert => &self.pem,
            V::ClientFingerprint => &self.fingerprint,
            V::ClientSerial => &self.serial,
            V::ClientSubject => &self.subject[0],
            V::ClientSubjectLegacy => &self.subject[1],
            V::ClientIssuer => &self.issuer[0],
            V::ClientIssuerLegacy => &self.issuer[1],
            V::ClientStart => &self.start,
            V::ClientEnd => &self.end,
            V::ClientCert => {
                // Its lines fit into a header that way.
                out.push_str(&self.pem.trim_end().replace('\n', "\n\t"));
                return true;
            }
            V::ClientEscapedCert => {
                out.extend(utf8_percent_encode(&self.pem, ESCAPED));
                return true;
            }
            V::ClientRemain => {
                let left = self.ends_at.saturating_sub(clock::unix()).max(0);
                return write!(out, "{}", left / DAY_SECONDS).is_ok();
            }
            _ => return false,
        };
        out.push_str(text);
        true
    }
}

const DAY_SECONDS: i64 = 24 * 60 * 60;

/// What nginx escapes for `$ssl_client_escaped_cert`: everything but unreserved characters.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn pem(der: &[u8]) -> String {
    let encoded = STANDARD.encode(der);
    let mut text = String::from("-----BEGIN CERTIFICATE-----\n");
    for line in encoded.as_bytes().chunks(64) {
        text.extend(line.iter().map(|byte| char::from(*byte)));
        text.push('\n');
    }
    text.push_str("-----END CERTIFICATE-----\n");
    text
}

/// `Nov 24 02:00:00 2026 GMT`, as OpenSSL prints it.
///
/// A certificate may say a time that no calendar has, and clients choose theirs: it is written as
/// the last one that can be.
fn date(seconds: i64) -> String {
    const LAST: i64 = 253_402_300_799;
    let at = UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds.min(LAST)).unwrap_or(0));
    // `Tue, 24 Nov 2026 02:00:00 GMT` has every part that is needed.
    let date = httpdate::fmt_http_date(at);
    let mut parts = date.split(' ').skip(1);
    let mut next = || parts.next().unwrap_or_default();
    let (day, month, year, time) = (next(), next(), next(), next());
    let day = day.trim_start_matches('0');
    format!("{month} {day:>2} {time} {year} GMT")
}

/// `CN=a,O=b`: from the last part to the first.
fn rfc_2253(name: &X509Name<'_>) -> String {
    let parts = name.iter_rdn().map(|part| {
        let attributes = part.iter().map(|attribute| {
            format!("{}={}", key(attribute), escaped(attribute.as_str().unwrap_or_default()))
        });
        attributes.collect::<Vec<_>>().join("+")
    });
    let mut parts: Vec<String> = parts.collect();
    parts.reverse();
    parts.join(",")
}

/// `/O=b/CN=a`.
fn legacy(name: &X509Name<'_>) -> String {
    name.iter_attributes().fold(String::new(), |text, attribute| {
        text + "/" + &key(attribute) + "=" + attribute.as_str().unwrap_or_default()
    })
}

fn key(attribute: &AttributeTypeAndValue<'_>) -> String {
    let oid = attribute.attr_type();
    match oid2abbrev(oid, oid_registry()) {
        Ok("Email") => "emailAddress".to_owned(),
        Ok(name) => name.to_owned(),
        Err(_) => oid.to_id_string(),
    }
}

/// RFC 2253, section 2.4.
fn escaped(value: &str) -> String {
    let last = value.chars().count().saturating_sub(1);
    let mut out = String::with_capacity(value.len());
    for (at, char) in value.chars().enumerate() {
        let is_special = matches!(char, ',' | '+' | '"' | '\\' | '<' | '>' | ';')
            || (at == 0 && char == '#')
            || ((at == 0 || at == last) && char == ' ');
        if is_special {
            out.push('\\');
        }
        out.push(char);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_that_no_calendar_has_is_written_all_the_same() {
        assert_eq!(date(i64::MAX), "Dec 31 23:59:59 9999 GMT");
        assert_eq!(date(-1), "Jan  1 00:00:00 1970 GMT");
    }

    fn session() -> TlsSession {
        let mut params = rcgen::CertificateParams::default();
        params.serial_number = Some(rcgen::SerialNumber::from(vec![0x0a, 0xbc]));
        params.distinguished_name = rcgen::DistinguishedName::new();
        let name = &mut params.distinguished_name;
        name.push(rcgen::DnType::OrganizationName, "Ünits, Inc.");
        name.push(rcgen::DnType::CommonName, "client");
        params.not_before = rcgen::date_time_ymd(2026, 1, 4);
        params.not_after = rcgen::date_time_ymd(2027, 11, 24);
        let key = rcgen::KeyPair::generate().unwrap();
        let der = params.self_signed(&key).unwrap().der().to_vec();
        TlsSession::new("TLSv1.3", "TLS_AES_128_GCM_SHA256", "X25519", "", false, Some(der.into()))
    }

    fn check(session: &TlsSession, name: TlsVariable) -> Option<String> {
        let mut out = String::new();
        session.append(name, &mut out).then_some(out)
    }

    #[test]
    fn shows_a_clients_certificate_as_nginx_does() {
        use TlsVariable as V;
        let session = session();
        for (name, expected) in [
            (V::ClientSubject, "CN=client,O=Ünits\\, Inc."),
            (V::ClientIssuer, "CN=client,O=Ünits\\, Inc."),
            (V::ClientSubjectLegacy, "/O=Ünits, Inc./CN=client"),
            (V::ClientSerial, "0ABC"),
            (V::ClientStart, "Jan  4 00:00:00 2026 GMT"),
            (V::ClientEnd, "Nov 24 00:00:00 2027 GMT"),
            (V::ClientVerify, "SUCCESS"),
            (V::Cipher, "TLS_AES_128_GCM_SHA256"),
            (V::SessionReused, "."),
        ] {
            assert_eq!(check(&session, name).as_deref(), Some(expected), "{name:?}");
        }
        assert_eq!(check(&session, V::AlpnProtocol), None);
        assert_eq!(check(&session, V::ClientFingerprint).unwrap().len(), 40);
        let raw = check(&session, V::ClientRawCert).unwrap();
        assert!(raw.starts_with("-----BEGIN CERTIFICATE-----\n") && raw.ends_with("-----\n"));
        let folded = check(&session, V::ClientCert).unwrap();
        assert_eq!(folded.replace("\n\t", "\n") + "\n", raw);
        let encoded = check(&session, V::ClientEscapedCert).unwrap();
        assert!(encoded.starts_with("-----BEGIN%20CERTIFICATE-----%0A"), "{encoded}");
        let decoded = percent_encoding::percent_decode_str(&encoded).decode_utf8().unwrap();
        assert_eq!(decoded, raw);
    }

    #[test]
    fn has_nothing_of_a_certificate_where_there_is_none() {
        let bad = session().with_problem(Some("certificate has expired".into()));
        let verified = check(&bad, TlsVariable::ClientVerify);
        assert_eq!(verified.as_deref(), Some("FAILED:certificate has expired"));
        let session = TlsSession { certificate: None, ..session() };
        assert_eq!(check(&session, TlsVariable::ClientVerify).as_deref(), Some("NONE"));
        assert_eq!(check(&session, TlsVariable::ClientSubject), None);
        assert_eq!(check(&session, TlsVariable::ClientRemain), None);
    }

    #[test]
    fn escapes_what_would_end_a_part_of_a_name() {
        assert_eq!(escaped("#a+b "), "\\#a\\+b\\ ");
        assert_eq!(escaped(""), "");
        assert_eq!(escaped(" "), "\\ ");
    }
}
