//! What a server name gets: a finished rustls configuration.

use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{
    ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, SignatureScheme, SupportedProtocolVersion};

use super::certificate::{Certificate, authorities};
use super::{TlsError, provider};

/// What to serve.
pub struct ServerSpec<'a> {
    /// Id of the ssl object.
    pub ssl: Arc<str>,
    /// Chains and keys, PEM; several serve clients with different abilities.
    pub pairs: Vec<(&'a str, &'a str)>,
    /// `TLSv1.2` and `TLSv1.3`.
    pub protocols: &'a [String],
    /// Authorities that clients must have a certificate of, PEM.
    pub client_ca: Option<&'a str>,
    /// Whether `h2` is offered beside `http/1.1`.
    pub http2: bool,
}

/// What is served for the names of one ssl object.
pub struct Served {
    pub ssl: Arc<str>,
    pub config: Arc<ServerConfig>,
    pub certificates: Vec<Certificate>,
    /// Whether clients must show a certificate.
    pub verifies_clients: bool,
    /// Whether it is served over QUIC too: not where clients have to show a certificate, nor
    /// without TLS 1.3.
    pub is_over_quic: bool,
    pub(super) keys: Arc<ByAbility>,
}

/// Chooses among several certificates by what the client can verify.
#[derive(Debug)]
pub(super) struct ByAbility(Vec<Arc<CertifiedKey>>);

// === impl Served ===

impl Served {
    /// Makes `spec` ready to serve.
    ///
    /// # Errors
    /// What is wrong with a certificate, a key, the authorities or the protocols.
    pub fn new(spec: &ServerSpec<'_>) -> Result<Self, TlsError> {
        let certificates = spec
            .pairs
            .iter()
            .enumerate()
            .map(|(index, (chain, key))| {
                Certificate::parse(chain, key)
                    .map_err(|error| TlsError::Pair { index, error: Box::new(error) })
            })
            .collect::<Result<Vec<_>, _>>()?;
        let keys = certificates.iter().map(|certificate| certificate.key.clone());
        let provider = provider();
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&versions(spec.protocols)?)?;
        let builder = match spec.client_ca {
            None => builder.with_no_client_auth(),
            Some(pem) => builder.with_client_cert_verifier(client_verifier(pem, provider)?),
        };
        let keys = Arc::new(ByAbility(keys.collect()));
        let mut config = builder.with_cert_resolver(keys.clone());
        if spec.http2 {
            config.alpn_protocols.push(b"h2".to_vec());
        }
        config.alpn_protocols.push(b"http/1.1".to_vec());
        // Resumption would need state that is locked or shared; it has its own issue.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Self {
            ssl: spec.ssl.clone(),
            config: Arc::new(config),
            certificates,
            verifies_clients: spec.client_ca.is_some(),
            is_over_quic: spec.client_ca.is_none()
                && spec.protocols.iter().any(|version| version == "TLSv1.3"),
            keys,
        })
    }
}

fn versions(names: &[String]) -> Result<Vec<&'static SupportedProtocolVersion>, TlsError> {
    let mut versions = Vec::new();
    for name in names {
        match name.as_str() {
            "TLSv1.3" => versions.push(&rustls::version::TLS13),
            "TLSv1.2" => versions.push(&rustls::version::TLS12),
            other => {
                let reason = format!("{other} is not offered; expected TLSv1.2 or TLSv1.3");
                return Err(TlsError::Protocols(reason));
            }
        }
    }
    if versions.is_empty() {
        return Err(TlsError::Protocols("none is left".to_owned()));
    }
    Ok(versions)
}

fn client_verifier(
    pem: &str,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let roots = Arc::new(authorities(pem)?);
    WebPkiClientVerifier::builder_with_provider(roots, provider)
        .build()
        .map_err(|error| TlsError::Authorities(error.to_string()))
}

// === impl ByAbility ===

impl ResolvesServerCert for ByAbility {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        if let [only] = self.0.as_slice() {
            return Some(only.clone());
        }
        let fits = |wanted: fn(SignatureScheme) -> bool| {
            let offered: Vec<_> = hello
                .signature_schemes()
                .iter()
                .copied()
                .filter(|scheme| wanted(*scheme))
                .collect();
            self.0.iter().find(|key| key.key.choose_scheme(&offered).is_some()).cloned()
        };
        // ECDSA costs the server a fraction of what RSA does.
        fits(is_ecdsa).or_else(|| fits(|_| true))
    }
}

fn is_ecdsa(scheme: SignatureScheme) -> bool {
    matches!(
        scheme,
        SignatureScheme::ECDSA_NISTP256_SHA256
            | SignatureScheme::ECDSA_NISTP384_SHA384
            | SignatureScheme::ECDSA_NISTP521_SHA512
            | SignatureScheme::ED25519
    )
}
