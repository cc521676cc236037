//! What a server name gets: a finished rustls configuration.

use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, SignatureScheme, SupportedProtocolVersion};

use super::certificate::Certificate;
use super::staple::{Shown, Staples, Stapling};
use super::tickets::Tickets;
use super::verify::{Asked, Exemption};
use super::{TlsError, provider};

/// What is the same for everything that a node serves.
#[derive(Clone)]
pub struct Terms {
    /// The crypto library with the cipher suites that are offered, in order of preference.
    pub provider: Arc<CryptoProvider>,
    /// Set where clients may resume by ticket.
    pub tickets: Option<Arc<Tickets>>,
    /// What fetches staples; without it nothing is stapled.
    pub staples: Option<Staples>,
}

/// What to serve.
pub struct ServerSpec<'a> {
    /// Id of the ssl object.
    pub ssl: Arc<str>,
    /// Chains and keys, PEM; several serve clients with different abilities.
    pub pairs: Vec<(&'a str, &'a str)>,
    /// `TLSv1.2` and `TLSv1.3`.
    pub protocols: &'a [String],
    /// Set to ask clients for certificates.
    pub clients: Option<Asked<'a>>,
    /// Whether `h2` is offered beside `http/1.1`.
    pub http2: bool,
    /// Whether and how the state of the certificates is stapled to them.
    pub stapling: Option<Stapling>,
    pub terms: &'a Terms,
}

/// What is served for the names of one ssl object.
pub struct Served {
    pub ssl: Arc<str>,
    pub config: Arc<ServerConfig>,
    pub certificates: Vec<Certificate>,
    /// Whether clients must show a certificate, for some paths at least.
    pub verifies_clients: bool,
    /// Set where not every request needs one.
    pub exemption: Option<Exemption>,
    /// Whether it is served over QUIC too: not where clients have to show a certificate, nor
    /// without TLS 1.3.
    pub is_over_quic: bool,
    /// What handshakes choose from.
    pub(super) keys: Arc<ByAbility>,
}

/// Chooses among several certificates by what the client can verify.
#[derive(Debug)]
pub(super) struct ByAbility(Box<[Shown]>);

// === impl Terms ===

impl Default for Terms {
    fn default() -> Self {
        Self { provider: provider(), tickets: None, staples: None }
    }
}

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
        let builder = ServerConfig::builder_with_provider(spec.terms.provider.clone())
            .with_protocol_versions(&versions(spec.protocols)?)?;
        let (builder, exemption) = match &spec.clients {
            None => (builder.with_no_client_auth(), None),
            Some(asked) => {
                let (verifier, exemption) = asked.verifier()?;
                (builder.with_client_cert_verifier(verifier), exemption)
            }
        };
        let shown = certificates
            .iter()
            .map(|certificate| Shown::new(&spec.ssl, certificate, spec.stapling, spec.terms));
        let keys = Arc::new(ByAbility(shown.collect()));
        let mut config = builder.with_cert_resolver(keys.clone());
        if spec.http2 {
            config.alpn_protocols.push(b"h2".to_vec());
        }
        config.alpn_protocols.push(b"http/1.1".to_vec());
        // As `ssl_prefer_server_ciphers on`, which APISIX sets.
        config.ignore_client_order = true;
        // Sessions that are remembered here would be locked, and of one node only.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        // Who resumes is not verified again: where clients show certificates, each handshake is a
        // full one, and a certificate that has ended lets nobody in.
        match spec.terms.tickets.as_ref().filter(|_| spec.clients.is_none()) {
            Some(tickets) => config.ticketer = tickets.ticketer(),
            None => config.send_tls13_tickets = 0,
        }
        Ok(Self {
            ssl: spec.ssl.clone(),
            config: Arc::new(config),
            certificates,
            verifies_clients: spec.clients.is_some(),
            exemption,
            is_over_quic: spec.clients.is_none()
                && spec.protocols.iter().any(|version| version == "TLSv1.3"),
            keys,
        })
    }

    /// Whether there is a certificate that clients believe only with a staple, and nobody has been
    /// asked for that yet.
    pub fn awaits_staple(&self) -> bool {
        self.keys.0.iter().any(Shown::awaits_staple)
    }

    /// The certificates, in the same order, with what is stapled to them.
    pub fn shown(&self) -> &[Shown] {
        &self.keys.0
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

// === impl ByAbility ===

impl ResolvesServerCert for ByAbility {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        if let [only] = &*self.0 {
            return Some(only.now());
        }
        let fits = |wanted: fn(SignatureScheme) -> bool| {
            let offered: Vec<_> = hello
                .signature_schemes()
                .iter()
                .copied()
                .filter(|scheme| wanted(*scheme))
                .collect();
            self.0.iter().find(|shown| shown.can_sign(&offered)).map(Shown::now)
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
