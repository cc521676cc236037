//! TLS towards servers: upstream nodes, and what else a node calls.

use std::sync::{Arc, LazyLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject};

use super::{TlsError, provider};

/// Accepts whatever certificate a server has.
#[derive(Debug)]
struct Unverified;

/// What the gateway is to nodes: whom it takes for one, and who it says that it is.
pub struct Client {
    pub config: Arc<ClientConfig>,
    verify: bool,
    /// The certificate that is shown, and those above it. Its key is not compared: there is one for
    /// each certificate.
    chain: Vec<CertificateDer<'static>>,
}

// === impl Client ===

impl Client {
    /// One that verifies nodes or does not, by which authorities where not by the system's, and the
    /// certificate shown to them with its key, PEM.
    ///
    /// # Errors
    /// What is wrong with the certificate or its key.
    pub fn new(
        verify: bool,
        trusted: Option<&Arc<RootCertStore>>,
        certificate: Option<(&str, &str)>,
    ) -> Result<Self, TlsError> {
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?;
        let builder = if verify {
            builder.with_root_certificates(trusted.cloned().unwrap_or_else(system_roots))
        } else {
            builder.dangerous().with_custom_certificate_verifier(unverified())
        };
        let mut shown = Vec::new();
        let config = match certificate {
            None => builder.with_no_client_auth(),
            Some((chain, key)) => {
                shown = CertificateDer::pem_slice_iter(chain.as_bytes())
                    .collect::<Result<Vec<_>, _>>()
                    .map_err(|error| TlsError::Certificate(error.to_string()))?;
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes())
                    .map_err(|_| TlsError::Key("expected a PEM private key".to_owned()))?;
                builder.with_client_auth_cert(shown.clone(), key)?
            }
        };
        Ok(Self { config: Arc::new(config), verify, chain: shown })
    }

    /// Whether `other` would have come to the same connections: who may use one's may use the
    /// other's. Both are of one gateway, and with it of the same authorities.
    pub fn is_as(&self, other: &Self) -> bool {
        self.verify == other.verify && self.chain == other.chain
    }
}

/// Takes every server for what it says it is: for nodes, which APISIX verifies only where
/// `tls.verify` says so, and for etcd with `deployment.etcd.tls.verify: false`.
pub fn unverified() -> Arc<dyn ServerCertVerifier> {
    Arc::new(Unverified)
}

/// The certificate authorities of the system, read once.
fn system_roots() -> Arc<RootCertStore> {
    static ROOTS: LazyLock<Arc<RootCertStore>> = LazyLock::new(|| {
        let mut roots = RootCertStore::empty();
        let found = rustls_native_certs::load_native_certs();
        for error in &found.errors {
            tracing::warn!(%error, "a system certificate authority could not be read");
        }
        roots.add_parsable_certificates(found.certs);
        Arc::new(roots)
    });
    ROOTS.clone()
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
        let algorithms = provider().signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, &algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = provider().signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}
