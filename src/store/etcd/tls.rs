//! TLS towards the members.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::{DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject};
use tonic::transport::{ClientTlsConfig, Endpoint, Identity};

use super::Tls;
use super::fault::innermost;

/// Accepts whatever certificate a member has: `deployment.etcd.tls.verify: false`.
#[derive(Debug)]
struct Unverified(Arc<CryptoProvider>);

/// Puts `written` on `endpoint`.
///
/// # Errors
/// Which of the files holds not what is expected of it, or that there is nothing to verify by.
pub(super) fn apply(endpoint: Endpoint, written: &Tls) -> Result<Endpoint, String> {
    let mut config = ClientTlsConfig::new();
    if let Some((certificate, key)) = &written.certificate {
        config = config.identity(Identity::from_pem(certificate, key));
    }
    if let Some(name) = &written.server_name {
        config = config.domain_name(name);
    }
    let applied = if written.verify {
        let roots = roots(written.ca.as_deref())?;
        endpoint.tls_config(config.trust_anchors(roots.roots))
    } else {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        endpoint.tls_config_with_verifier(config, Arc::new(Unverified(provider)))
    };
    applied.map_err(|error| innermost(&error))
}

/// The authorities in `ca`, or those of the system.
fn roots(ca: Option<&str>) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    let Some(ca) = ca else {
        let found = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(found.certs);
        if roots.is_empty() {
            return Err("the system has no certificate authorities".to_owned());
        }
        return Ok(roots);
    };
    for certificate in CertificateDer::pem_slice_iter(ca.as_bytes()) {
        let certificate = certificate.map_err(|error| format!("ca: {error}"))?;
        roots
            .add(certificate)
            .map_err(|error| format!("ca: {error}"))?;
    }
    if roots.is_empty() {
        return Err("ca: expected at least one PEM certificate, there is none".to_owned());
    }
    Ok(roots)
}

// === impl Unverified ===

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
