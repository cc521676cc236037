//! Clients' certificates: who has to show one, and which are good.

use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, OtherError, RootCertStore,
    SignatureScheme,
};
use rustls_pki_types::{CertificateDer, UnixTime};
use webpki::{EndEntityCert, KeyUsage, VerifiedPath};

use super::certificate::authorities;
use super::{TlsError, provider};
use crate::expr::Pattern;

/// What is asked of clients.
pub struct Asked<'a> {
    /// Authorities that they must have a certificate of, PEM.
    pub ca: &'a str,
    /// The most certificates that may stand between theirs and an authority's.
    pub depth: u32,
    /// Paths that need no certificate. While there are none, a handshake without one fails.
    pub exempt: Vec<Pattern>,
}

/// Verifies certificates after the handshake, for clients that may come without.
pub struct Exemption {
    verifier: UpTo,
    /// Those that need none.
    pub paths: Arc<[Pattern]>,
}

/// Takes chains up to a length; or lets everybody in, when what they show is looked at later.
///
/// Source: OpenSSL `SSL_set_verify_depth`, which counts neither the client's certificate nor the
/// authority's.
#[derive(Debug, Clone)]
struct UpTo {
    depth: usize,
    roots: Arc<RootCertStore>,
    inner: Arc<dyn ClientCertVerifier>,
    /// Whether a handshake without a good certificate fails.
    demands: bool,
}

/// A chain has more certificates than `depth` allows.
#[derive(Debug, thiserror::Error)]
#[error("certificate chain too long")]
struct TooLong;

// === impl Asked ===

impl Asked<'_> {
    /// What the handshake verifies by, and what is verified after it.
    ///
    /// # Errors
    /// What is wrong with the authorities.
    pub(super) fn verifier(
        &self,
    ) -> Result<(Arc<dyn ClientCertVerifier>, Option<Exemption>), TlsError> {
        let roots = Arc::new(authorities(self.ca)?);
        let inner = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider())
            .build()
            .map_err(|error| TlsError::Authorities(error.to_string()))?;
        let depth = usize::try_from(self.depth).unwrap_or(usize::MAX);
        let demanding = UpTo { depth, roots, inner, demands: true };
        if self.exempt.is_empty() {
            return Ok((Arc::new(demanding), None));
        }
        let asking = UpTo { demands: false, ..demanding.clone() };
        let exemption = Exemption { verifier: demanding, paths: self.exempt.clone().into() };
        Ok((Arc::new(asking), Some(exemption)))
    }
}

// === impl Exemption ===

impl Exemption {
    /// What is wrong with the chain that a client has shown, in OpenSSL's words where it has some.
    pub fn problem(&self, chain: &[CertificateDer<'_>]) -> Option<String> {
        let (leaf, more) = chain.split_first()?;
        let verified = self.verifier.verify_client_cert(leaf, more, UnixTime::now());
        verified.err().map(|error| reason(&error))
    }
}

fn reason(error: &rustls::Error) -> String {
    use CertificateError as E;
    let rustls::Error::InvalidCertificate(problem) = error else {
        return error.to_string();
    };
    match problem {
        E::UnknownIssuer => "unable to verify the first certificate".to_owned(),
        E::Expired | E::ExpiredContext { .. } => "certificate has expired".to_owned(),
        E::NotValidYet | E::NotValidYetContext { .. } => "certificate is not yet valid".to_owned(),
        E::BadSignature => "certificate signature failure".to_owned(),
        E::Other(OtherError(other)) => other.to_string(),
        other => other.to_string(),
    }
}

// === impl UpTo ===

impl UpTo {
    /// Whether there is a way to an authority that is short enough, given that there is a way.
    fn is_within_depth(
        &self,
        leaf: &CertificateDer<'_>,
        more: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> bool {
        let is_short = |path: &VerifiedPath<'_>| {
            if path.intermediate_certificates().count() <= self.depth {
                Ok(())
            } else {
                Err(webpki::Error::MaximumPathDepthExceeded)
            }
        };
        // What else there was to refuse has been refused.
        EndEntityCert::try_from(leaf).is_ok_and(|leaf| {
            let algorithms = provider().signature_verification_algorithms;
            let usage = KeyUsage::client_auth();
            let roots = &self.roots.roots;
            leaf.verify_for_usage(algorithms.all, roots, more, now, usage, None, Some(&is_short))
                .is_ok()
        })
    }
}

impl ClientCertVerifier for UpTo {
    fn client_auth_mandatory(&self) -> bool {
        self.demands
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        more: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        if !self.demands {
            return Ok(ClientCertVerified::assertion());
        }
        let verified = self.inner.verify_client_cert(leaf, more, now)?;
        // Where fewer were sent than may be, there is nothing to count.
        if more.len() <= self.depth || self.is_within_depth(leaf, more, now) {
            return Ok(verified);
        }
        Err(CertificateError::Other(OtherError(Arc::new(TooLong))).into())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, leaf, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, leaf, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests;
