//! What a certificate chain is worth to clients, as far as can be seen without its key.

use x509_parser::prelude::{ParsedExtension, X509Certificate};
use x509_parser::public_key::PublicKey;

use super::TlsError;

/// The fewest bits of an RSA key that browsers take, and the most that can be served.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// Curves that can be served, which are those that browsers know, and their names.
const CURVES: [(&str, &str); 3] =
    [("1.2.840.10045.3.1.7", "P-256"), ("1.3.132.0.34", "P-384"), ("1.3.132.0.35", "P-521")];

/// Signatures that can be forged, and the hash that is to blame.
const FORGEABLE: [(&str, &str); 6] = [
    ("1.2.840.113549.1.1.2", "MD2"),
    ("1.2.840.113549.1.1.4", "MD5"),
    ("1.2.840.113549.1.1.5", "SHA-1"),
    ("1.2.840.10045.4.1", "SHA-1"),
    ("1.2.840.10040.4.3", "SHA-1"),
    ("1.3.14.3.2.29", "SHA-1"),
];

/// What is said of a chain.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Verdict {
    /// The kind of the leaf's key: `RSA 2048`, `ECDSA P-256`.
    pub(super) key: String,
    /// Why nobody should be served it.
    pub(super) weakness: Option<String>,
    /// What some clients will stumble over.
    pub(super) doubts: Vec<String>,
    /// When the first of the certificates behind the leaf ends, in seconds since 1970.
    pub(super) issuers_end: Option<i64>,
}

/// Looks at a chain, leaf first.
///
/// # Errors
/// The leaf's key is one that no server can use.
pub(super) fn judge(chain: &[X509Certificate<'_>]) -> Result<Verdict, TlsError> {
    let Some((leaf, issuers)) = chain.split_first() else {
        return Ok(Verdict::default());
    };
    let key = kind_of_key(leaf).map_err(TlsError::Certificate)?;
    let mut doubts = Vec::new();
    for (at, issuer) in issuers.iter().enumerate() {
        if let Err(reason) = kind_of_key(issuer) {
            doubts.push(format!("certificate {} of the chain: {reason}", at + 2));
        }
    }
    doubts.extend((1..chain.len()).filter_map(|at| out_of_order(chain, at)));
    if !is_an_extension(leaf, |it| matches!(it, ParsedExtension::SubjectAlternativeName(_))) {
        doubts
            .push("has no subject alternative names, and clients look at nothing else".to_owned());
    }
    Ok(Verdict {
        key,
        weakness: chain.iter().zip(1..).find_map(|(one, number)| forgeable(one, number)),
        doubts,
        issuers_end: issuers.iter().map(|one| one.validity().not_after.timestamp()).min(),
    })
}

/// What is wrong with the place of the certificate at `at`: it should have issued the one before.
fn out_of_order(chain: &[X509Certificate<'_>], at: usize) -> Option<String> {
    let (one, before) = (&chain[at], &chain[at - 1]);
    if let Some(same) = chain[..at].iter().position(|other| other.as_ref() == one.as_ref()) {
        return Some(format!("certificates {} and {} of the chain are the same", same + 1, at + 1));
    }
    if has_issued(one, before) {
        return None;
    }
    let (number, name, of) = (at + 1, one.subject(), before.subject());
    let issuer = chain.iter().position(|other| has_issued(other, before));
    let issuer = match issuer.filter(|issuer| *issuer != at - 1) {
        Some(issuer) => format!("certificate {} has", issuer + 1),
        None if is_self_signed(before) => "that one has issued itself".to_owned(),
        None => format!("{} has, which is not there", before.issuer()),
    };
    Some(format!(
        "certificate {number} of the chain ({name}) has not issued the one before it ({of}): \
         {issuer}; some clients need them in order"
    ))
}

/// Whether `issuer` can have signed `issued`, by what both say of themselves.
fn has_issued(issuer: &X509Certificate<'_>, issued: &X509Certificate<'_>) -> bool {
    if issuer.subject() != issued.issuer() {
        return false;
    }
    // Authorities that renew their key keep their name.
    let own = issuer.extensions().iter().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0),
        _ => None,
    });
    let wanted =
        issued.extensions().iter().find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::AuthorityKeyIdentifier(id) => {
                id.key_identifier.as_ref().map(|id| id.0)
            }
            _ => None,
        });
    own.zip(wanted).is_none_or(|(own, wanted)| own == wanted)
}

fn is_self_signed(certificate: &X509Certificate<'_>) -> bool {
    has_issued(certificate, certificate)
}

fn is_an_extension(
    certificate: &X509Certificate<'_>,
    is_it: impl Fn(&ParsedExtension<'_>) -> bool,
) -> bool {
    certificate.extensions().iter().any(|extension| is_it(extension.parsed_extension()))
}

/// The hash that a certificate's signature can be forged by. Nobody looks at the signature of
/// those that have signed themselves: they are trusted, or not, as they are.
fn forgeable(certificate: &X509Certificate<'_>, number: usize) -> Option<String> {
    let oid = certificate.signature_algorithm.algorithm.to_id_string();
    let (_, hash) = FORGEABLE.iter().find(|(forgeable, _)| **forgeable == oid)?;
    (!is_self_signed(certificate)).then(|| {
        format!(
            "certificate {number} of the chain ({}) is signed by way of {hash}, which can be \
             forged and which clients refuse; expected SHA-256 or better",
            certificate.subject()
        )
    })
}

/// The kind of a certificate's key, or why it cannot be served.
fn kind_of_key(certificate: &X509Certificate<'_>) -> Result<String, String> {
    let info = certificate.public_key();
    let oid = info.algorithm.algorithm.to_id_string();
    match info.parsed() {
        Ok(PublicKey::RSA(key)) => {
            // The encoding of a number may begin with a byte of zeros.
            let leading = key.modulus.iter().take_while(|byte| **byte == 0).count();
            let bits = (key.modulus.len() - leading) * 8;
            if RSA_BITS.contains(&bits) {
                Ok(format!("RSA {bits}"))
            } else {
                let (least, most) = (RSA_BITS.start(), RSA_BITS.end());
                Err(format!("its RSA key has {bits} bits; expected {least} to {most}"))
            }
        }
        Ok(PublicKey::EC(_)) => {
            let curve = info.algorithm.parameters.as_ref().and_then(|it| it.as_oid().ok());
            let curve = curve.map(|curve| curve.to_id_string()).unwrap_or_default();
            let known = CURVES.iter().find(|(oid, _)| *oid == curve);
            known.map(|(_, name)| format!("ECDSA {name}")).ok_or_else(|| {
                format!("its key is on the curve {curve}; expected P-256, P-384 or P-521")
            })
        }
        _ if oid == "1.3.101.112" => Ok("Ed25519".to_owned()),
        _ => Err(format!(
            "its key is of a kind that clients do not know ({oid}); expected RSA, ECDSA or Ed25519"
        )),
    }
}

#[cfg(test)]
mod tests;
