//! OCSP: the bytes of a question about a certificate, and what an answer says and is worth.
//!
//! No I/O. Only what RFC 6960 and RFC 5019 need for one certificate is read, by a reader of DER that
//! takes definite lengths only.

mod der;

use aws_lc_rs::digest::{self, digest};
use x509_parser::prelude::{FromDer, GeneralName, ParsedExtension, X509Certificate};

use self::der::{Der, moment, wrap};
use super::provider;

/// How far the responder's clock may be ahead.
const SKEW_S: i64 = 300;

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
const NULL: u8 = 0x05;
const OID: u8 = 0x06;
const ENUMERATED: u8 = 0x0a;
const TIME: u8 = 0x18;

const SHA1: &[u8] = &[0x2b, 0x0e, 0x03, 0x02, 0x1a];
const SHA256: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01];
/// id-pkix-ocsp-basic.
const BASIC: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x30, 0x01, 0x01];
/// id-ad-ocsp.
const RESPONDER: &str = "1.3.6.1.5.5.7.48.1";
/// id-pe-tlsfeature.
const TLS_FEATURE: &str = "1.3.6.1.5.5.7.1.24";
/// The number of `status_request` among the TLS extensions.
const STATUS_REQUEST: u8 = 5;

/// A certificate whose state is asked for.
pub struct Question {
    serial: Vec<u8>,
    /// The issuer's name, DER.
    name: Vec<u8>,
    /// The issuer's public key: all of it, and the key's own bits.
    spki: Vec<u8>,
    key: Vec<u8>,
}

/// An answer that may be stapled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    pub state: State,
    /// Seconds since 1970.
    pub this_update: i64,
    /// Seconds since 1970; `None` when there is always newer news to be had.
    pub next_update: Option<i64>,
}

/// What a responder says of a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Good,
    Revoked,
    Unknown,
}

/// Why nobody can be asked, or an answer is not stapled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OcspError {
    #[error("the certificate names no OCSP responder (authority information access)")]
    NoResponder,
    #[error("the chain has no certificate of the issuer after the leaf")]
    NoIssuer,
    #[error("the certificate after the leaf is not its issuer's")]
    OtherIssuer,
    #[error("the certificate cannot be read")]
    Certificate,
    #[error("the responder answered with the error {0}")]
    Refused(&'static str),
    #[error("the answer cannot be read: {0}")]
    Unreadable(&'static str),
    #[error("the answer is about another certificate")]
    OtherCertificate,
    #[error("the answer is signed neither by the issuer nor by a responder of its own")]
    Untrusted,
    #[error("the answer is from the future")]
    Early,
    #[error("the answer is out of date")]
    Late,
    #[error("the certificate is revoked")]
    Revoked,
    #[error("the responder does not know the certificate")]
    Unknown,
}

/// Something signed: what, by which algorithm, and the signature.
struct Signed<'a> {
    data: &'a [u8],
    algorithm: &'a [u8],
    signature: &'a [u8],
}

/// The address of the responder that a certificate names.
///
/// # Errors
/// It names none.
pub fn responder(leaf: &[u8]) -> Result<String, OcspError> {
    let (_, leaf) = X509Certificate::from_der(leaf).map_err(|_| OcspError::Certificate)?;
    let access =
        leaf.extensions().iter().filter_map(|extension| match extension.parsed_extension() {
            ParsedExtension::AuthorityInfoAccess(access) => Some(access),
            _ => None,
        });
    let mut addresses =
        access.flat_map(|access| &access.accessdescs).filter_map(|description| match &description
            .access_location
        {
            GeneralName::URI(uri) if description.access_method.to_id_string() == RESPONDER => {
                Some((*uri).to_owned())
            }
            _ => None,
        });
    addresses.next().ok_or(OcspError::NoResponder)
}

/// Whether a certificate is to be believed only with its state stapled to it (RFC 7633).
pub fn must_staple(leaf: &[u8]) -> bool {
    let Ok((_, leaf)) = X509Certificate::from_der(leaf) else {
        return false;
    };
    let feature = leaf.extensions().iter().find(|found| found.oid.to_id_string() == TLS_FEATURE);
    let Some(mut list) = feature.and_then(|found| Der(found.value).take(SEQUENCE).map(Der)) else {
        return false;
    };
    std::iter::from_fn(|| list.take(INTEGER)).any(|number| number == [STATUS_REQUEST])
}

// === impl Question ===

impl Question {
    /// Asks about `leaf`, whose issuer's certificate is `issuer`, both DER.
    ///
    /// # Errors
    /// One cannot be read, or they do not belong together.
    pub fn new(leaf: &[u8], issuer: &[u8]) -> Result<Self, OcspError> {
        let (_, leaf) = X509Certificate::from_der(leaf).map_err(|_| OcspError::Certificate)?;
        let (_, issuer) = X509Certificate::from_der(issuer).map_err(|_| OcspError::Certificate)?;
        if leaf.issuer().as_raw() != issuer.subject().as_raw() {
            return Err(OcspError::OtherIssuer);
        }
        Ok(Self {
            serial: leaf.raw_serial().to_vec(),
            name: issuer.subject().as_raw().to_vec(),
            spki: issuer.public_key().raw.to_vec(),
            key: issuer.public_key().subject_public_key.data.to_vec(),
        })
    }

    /// The request, DER. By SHA-1, which every responder knows: nothing rests on its strength here.
    pub fn request(&self) -> Vec<u8> {
        let sha1 = |bytes: &[u8]| digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, bytes);
        let id = wrap(
            SEQUENCE,
            &[
                &wrap(SEQUENCE, &[&wrap(OID, &[SHA1]), &wrap(NULL, &[])]),
                &wrap(OCTET_STRING, &[sha1(&self.name).as_ref()]),
                &wrap(OCTET_STRING, &[sha1(&self.key).as_ref()]),
                &wrap(INTEGER, &[&self.serial]),
            ],
        );
        // OCSPRequest, tbsRequest, requestList, Request.
        (0..4).fold(id, |inner, _| wrap(SEQUENCE, &[&inner]))
    }

    /// What `answer` says at the time `now`, in seconds since 1970. Unless `verify`, it is believed
    /// whoever it is from, whenever, and whatever it says.
    ///
    /// # Errors
    /// Why it is not to be stapled.
    pub fn read(&self, answer: &[u8], now: i64, verify: bool) -> Result<Answer, OcspError> {
        let basic = basic(answer)?;
        let unreadable = || OcspError::Unreadable("it is no basic OCSP response");
        let mut parts = Der(Der(basic).take(SEQUENCE).ok_or_else(unreadable)?);
        let signed = Signed::read(&mut parts).ok_or_else(unreadable)?;
        let certificates = parts.optional(0xa0).and_then(|inner| Der(inner).take(SEQUENCE));
        let (found, is_about_it) = self.single(signed.data).ok_or_else(unreadable)?;
        if !is_about_it {
            return Err(OcspError::OtherCertificate);
        }
        if !verify {
            return Ok(found);
        }
        if !self.trusts(&signed, certificates.unwrap_or_default(), now) {
            return Err(OcspError::Untrusted);
        }
        if found.this_update > now + SKEW_S {
            return Err(OcspError::Early);
        }
        if found.next_update.is_some_and(|next| next <= now) {
            return Err(OcspError::Late);
        }
        match found.state {
            State::Good => Ok(found),
            State::Revoked => Err(OcspError::Revoked),
            State::Unknown => Err(OcspError::Unknown),
        }
    }

    /// What the response data `data` says of the certificate; of another one, where it says nothing
    /// of this one.
    fn single(&self, data: &[u8]) -> Option<(Answer, bool)> {
        let mut data = Der(Der(data).take(SEQUENCE)?);
        data.optional(0xa0);
        // The responder's name or key.
        data.next()?;
        data.take(TIME)?;
        let mut responses = Der(data.take(SEQUENCE)?);
        let mut last = None;
        while let Some(response) = responses.take(SEQUENCE) {
            let mut response = Der(response);
            let id = response.take(SEQUENCE)?;
            let (tag, _) = response.next()?;
            let answer = Answer {
                state: match tag & 0x1f {
                    0 => State::Good,
                    1 => State::Revoked,
                    _ => State::Unknown,
                },
                this_update: moment(response.take(TIME)?)?,
                next_update: match response.optional(0xa0) {
                    Some(next) => Some(moment(Der(next).take(TIME)?)?),
                    None => None,
                },
            };
            let is_about_it = self.is_named(id)?;
            last = Some((answer, is_about_it));
            if is_about_it {
                break;
            }
        }
        last
    }

    /// Whether a CertID is the certificate's.
    fn is_named(&self, id: &[u8]) -> Option<bool> {
        let mut id = Der(id);
        let algorithm = match Der(id.take(SEQUENCE)?).take(OID)? {
            SHA1 => &digest::SHA1_FOR_LEGACY_USE_ONLY,
            SHA256 => &digest::SHA256,
            _ => return Some(false),
        };
        let (name, key) = (id.take(OCTET_STRING)?, id.take(OCTET_STRING)?);
        Some(
            name == digest(algorithm, &self.name).as_ref()
                && key == digest(algorithm, &self.key).as_ref()
                && id.take(INTEGER)? == self.serial,
        )
    }

    /// Whether the issuer has signed, or one to whom it has handed that on by a certificate for
    /// nothing else (RFC 6960 section 4.2.2.2).
    fn trusts(&self, signed: &Signed<'_>, certificates: &[u8], now: i64) -> bool {
        if signed.is_by(&self.spki) {
            return true;
        }
        let mut rest = Der(certificates);
        std::iter::from_fn(|| rest.whole(SEQUENCE)).any(|certificate| {
            self.has_delegated(certificate, now).is_some_and(|spki| signed.is_by(&spki))
        })
    }

    /// The public key of a certificate by which the issuer lets somebody answer for it.
    fn has_delegated(&self, certificate: &[u8], now: i64) -> Option<Vec<u8>> {
        let (_, read) = X509Certificate::from_der(certificate).ok()?;
        let is_for_it = read.extended_key_usage().ok()??.value.ocsp_signing;
        let validity = read.validity();
        let is_valid =
            (validity.not_before.timestamp()..=validity.not_after.timestamp()).contains(&now);
        let is_named = read.issuer().as_raw() == self.name;
        let signed = Signed::read(&mut Der(Der(certificate).take(SEQUENCE)?))?;
        (is_for_it && is_valid && is_named && signed.is_by(&self.spki))
            .then(|| read.public_key().raw.to_vec())
    }
}

// === impl Signed ===

impl<'a> Signed<'a> {
    /// A certificate and a basic OCSP response begin the same way.
    fn read(parts: &mut Der<'a>) -> Option<Self> {
        let data = parts.whole(SEQUENCE)?;
        let algorithm = parts.take(SEQUENCE)?;
        let signature = parts.take(BIT_STRING)?.strip_prefix(&[0])?;
        Some(Self { data, algorithm, signature })
    }

    /// Whether the holder of a public key (SubjectPublicKeyInfo, DER) has signed.
    fn is_by(&self, spki: &[u8]) -> bool {
        let open = || {
            let mut parts = Der(Der(spki).take(SEQUENCE)?);
            let algorithm = parts.take(SEQUENCE)?;
            Some((algorithm, parts.take(BIT_STRING)?.strip_prefix(&[0])?))
        };
        let Some((algorithm, key)) = open() else {
            return false;
        };
        provider().signature_verification_algorithms.all.iter().any(|known| {
            known.signature_alg_id().as_ref() == self.algorithm
                && known.public_key_alg_id().as_ref() == algorithm
                && known.verify_signature(key, self.data, self.signature).is_ok()
        })
    }
}

/// The basic response in an OCSP response.
fn basic(answer: &[u8]) -> Result<&[u8], OcspError> {
    let unreadable = || OcspError::Unreadable("it is no OCSP response");
    let mut parts = Der(Der(answer).take(SEQUENCE).ok_or_else(unreadable)?);
    match parts.take(ENUMERATED).ok_or_else(unreadable)? {
        [0] => {}
        [1] => return Err(OcspError::Refused("malformedRequest")),
        [2] => return Err(OcspError::Refused("internalError")),
        [3] => return Err(OcspError::Refused("tryLater")),
        [5] => return Err(OcspError::Refused("sigRequired")),
        [6] => return Err(OcspError::Refused("unauthorized")),
        _ => return Err(unreadable()),
    }
    let bytes = parts.take(0xa0).and_then(|inner| Der(inner).take(SEQUENCE));
    let mut bytes = Der(bytes.ok_or_else(unreadable)?);
    if bytes.take(OID).ok_or_else(unreadable)? != BASIC {
        return Err(OcspError::Unreadable("it is of a kind that is not basic"));
    }
    bytes.take(OCTET_STRING).ok_or_else(unreadable)
}

#[cfg(test)]
mod tests;
