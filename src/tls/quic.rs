//! The TLS of QUIC connections: one configuration, whose certificates are those served now.

use std::fmt;
use std::sync::Arc;

use quinn::crypto::rustls::QuicServerConfig;
use rustls::ServerConfig;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::{Served, TlsError, provider};

/// The protocol that is spoken over QUIC (RFC 9114, section 3.1).
const ALPN: &[u8] = b"h3";

/// Asks for what is served each time that a client shakes hands.
struct Current<F>(F);

/// A configuration that serves every connection what `find` has for its server name.
///
/// One configuration cannot ask the clients of some names for certificates and not those of others,
/// so a name whose clients have to show one is refused, as is one that nobody has, and one whose
/// ssl object leaves TLS 1.3 out. What comes before the handshake is done is not read (no 0-RTT):
/// it could have been sent by anyone who recorded it.
///
/// # Errors
/// What rustls has against it.
pub fn config<F>(find: F) -> Result<Arc<QuicServerConfig>, TlsError>
where
    F: Fn(Option<&str>) -> Option<Arc<Served>> + Send + Sync + 'static,
{
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Current(find)));
    config.alpn_protocols.push(ALPN.to_vec());
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    let config = QuicServerConfig::try_from(config)
        .map_err(|error| TlsError::Rustls(rustls::Error::General(error.to_string())))?;
    Ok(Arc::new(config))
}

// === impl Current ===

impl<F> fmt::Debug for Current<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Current")
    }
}

impl<F> ResolvesServerCert for Current<F>
where
    F: Fn(Option<&str>) -> Option<Arc<Served>> + Send + Sync,
{
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let served = self.0(hello.server_name())?;
        if served.is_over_quic { served.keys.resolve(hello) } else { None }
    }
}
