//! The handshake of a connection: server name in, finished TLS stream out.

use std::io;
use std::sync::Arc;

use rustls::server::Acceptor;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use super::Served;

/// What the handshake settled.
#[derive(Debug)]
pub struct Handshake {
    /// Server name, lower case.
    pub sni: Option<Box<str>>,
    pub is_h2: bool,
    /// As nginx names it.
    pub protocol: &'static str,
}

/// Why there is no TLS connection.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    #[error("no certificate for server name {0:?}")]
    UnknownName(Option<Box<str>>),
    #[error("TLS handshake: {0}")]
    Io(#[from] io::Error),
}

/// Shakes hands over `io` with what `find` has for the client's server name.
///
/// # Errors
/// [`HandshakeError::UnknownName`] after an `unrecognized_name` alert; what the client did wrong.
pub async fn accept<IO>(
    io: IO,
    find: impl FnOnce(Option<&str>) -> Option<Arc<Served>>,
) -> Result<(TlsStream<IO>, Handshake), HandshakeError>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let start = LazyConfigAcceptor::new(Acceptor::default(), io).await?;
    let name = start.client_hello().server_name().map(str::to_ascii_lowercase);
    let Some(served) = find(name.as_deref()) else {
        return Err(unknown(start, name).await);
    };
    let stream = start.into_stream(served.config.clone()).await?;
    let (_, session) = stream.get_ref();
    let handshake = Handshake {
        is_h2: session.alpn_protocol() == Some(b"h2"),
        protocol: match session.protocol_version() {
            Some(rustls::ProtocolVersion::TLSv1_2) => "TLSv1.2",
            _ => "TLSv1.3",
        },
        sni: name.map(String::into_boxed_str),
    };
    Ok((stream, handshake))
}

/// Tells the client by an alert, as RFC 6066 section 3 has it, that its name is not served.
async fn unknown<IO>(
    start: tokio_rustls::StartHandshake<IO>,
    name: Option<String>,
) -> HandshakeError
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    if let Ok(refusing) = refusing() {
        // Fails by its nature; the alert is on its way when it has.
        let _ = start.into_stream(refusing).await;
    }
    HandshakeError::UnknownName(name.map(String::into_boxed_str))
}

/// A configuration without a certificate: its handshake sends the alert.
fn refusing() -> Result<Arc<rustls::ServerConfig>, rustls::Error> {
    #[derive(Debug)]
    struct Nothing;

    impl rustls::server::ResolvesServerCert for Nothing {
        fn resolve(
            &self,
            _: rustls::server::ClientHello<'_>,
        ) -> Option<Arc<rustls::sign::CertifiedKey>> {
            None
        }
    }

    let config = rustls::ServerConfig::builder_with_provider(super::provider())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Nothing));
    Ok(Arc::new(config))
}
