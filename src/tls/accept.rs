//! The handshake of a connection: server name in, finished TLS stream out.

use std::io;
use std::sync::{Arc, LazyLock};

use rustls::server::Acceptor;
use rustls::{CipherSuite, NamedGroup};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use super::Served;
use super::proof::Proofs;
use super::sni::without_dot;

/// What the handshake settled.
#[derive(Debug)]
pub struct Handshake {
    /// Server name, lower case and without a dot at its end.
    pub sni: Option<Box<str>>,
    pub is_h2: bool,
    /// As nginx names it.
    pub protocol: &'static str,
    /// `h2`, `http/1.1`, or empty.
    pub alpn: &'static str,
    /// As OpenSSL names it.
    pub cipher: &'static str,
    /// The group of the key exchange, as OpenSSL names it.
    pub curve: &'static str,
    pub resumed: bool,
    /// The certificate that the client showed, DER.
    pub certificate: Option<Box<[u8]>>,
    /// Why that certificate is not good, where it did not have to be.
    pub problem: Option<Box<str>>,
}

/// Why there is no TLS connection.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    #[error("no certificate for server name {0:?}")]
    UnknownName(Option<Box<str>>),
    #[error("it was an ACME server, which has seen the proof of a name")]
    Proved,
    #[error("TLS handshake: {0}")]
    Io(#[from] io::Error),
}

/// Shakes hands over `io` with what `find` has for the client's server name, unless it is an ACME
/// server that `proofs` are for.
///
/// # Errors
/// [`HandshakeError::UnknownName`] after an `unrecognized_name` alert; what the client did wrong;
/// [`HandshakeError::Proved`] when an ACME server has seen what it came for.
pub async fn accept<IO>(
    io: IO,
    proofs: &Proofs,
    find: impl FnOnce(Option<&str>) -> Option<Arc<Served>>,
) -> Result<(TlsStream<IO>, Handshake), HandshakeError>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let start = LazyConfigAcceptor::new(Acceptor::default(), io).await?;
    let hello = start.client_hello();
    let proof = proofs.find(&hello);
    let name = hello.server_name().map(|name| without_dot(name).to_ascii_lowercase());
    if let Some(proof) = proof {
        // All is said with the handshake (RFC 8737, section 3).
        start.into_stream(proof).await?.shutdown().await?;
        return Err(HandshakeError::Proved);
    }
    let Some(served) = find(name.as_deref()) else {
        return Err(unknown(start, name).await);
    };
    let stream = start.into_stream(served.config.clone()).await?;
    let (_, session) = stream.get_ref();
    let chain = session.peer_certificates();
    let exemption = served.exemption.as_ref();
    let problem = exemption.zip(chain).and_then(|(exemption, chain)| exemption.problem(chain));
    let alpn = match session.alpn_protocol() {
        Some(b"h2") => "h2",
        Some(b"http/1.1") => "http/1.1",
        _ => "",
    };
    let handshake = Handshake {
        is_h2: alpn == "h2",
        alpn,
        protocol: match session.protocol_version() {
            Some(rustls::ProtocolVersion::TLSv1_2) => "TLSv1.2",
            _ => "TLSv1.3",
        },
        sni: name.map(String::into_boxed_str),
        cipher: session.negotiated_cipher_suite().map_or("", |suite| cipher(suite.suite())),
        curve: session.negotiated_key_exchange_group().map_or("", |group| curve(group.name())),
        resumed: session.handshake_kind() == Some(rustls::HandshakeKind::Resumed),
        certificate: chain.and_then(|chain| Some(chain.first()?[..].into())),
        problem: problem.map(String::into_boxed_str),
    };
    Ok((stream, handshake))
}

/// OpenSSL's names, which differ from the registry's in TLS 1.2.
fn cipher(suite: CipherSuite) -> &'static str {
    use CipherSuite as C;
    match suite {
        C::TLS13_AES_128_GCM_SHA256 => "TLS_AES_128_GCM_SHA256",
        C::TLS13_AES_256_GCM_SHA384 => "TLS_AES_256_GCM_SHA384",
        C::TLS13_CHACHA20_POLY1305_SHA256 => "TLS_CHACHA20_POLY1305_SHA256",
        C::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 => "ECDHE-ECDSA-AES128-GCM-SHA256",
        C::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384 => "ECDHE-ECDSA-AES256-GCM-SHA384",
        C::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256 => "ECDHE-ECDSA-CHACHA20-POLY1305",
        C::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 => "ECDHE-RSA-AES128-GCM-SHA256",
        C::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384 => "ECDHE-RSA-AES256-GCM-SHA384",
        C::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256 => "ECDHE-RSA-CHACHA20-POLY1305",
        _ => "",
    }
}

fn curve(group: NamedGroup) -> &'static str {
    match group {
        NamedGroup::X25519 => "X25519",
        NamedGroup::secp256r1 => "prime256v1",
        NamedGroup::secp384r1 => "secp384r1",
        NamedGroup::secp521r1 => "secp521r1",
        NamedGroup::X25519MLKEM768 => "X25519MLKEM768",
        NamedGroup::secp256r1MLKEM768 => "SecP256r1MLKEM768",
        NamedGroup::MLKEM768 => "MLKEM768",
        _ => "",
    }
}

/// Tells the client by an alert, as RFC 6066 section 3 has it, that its name is not served.
async fn unknown<IO>(
    start: tokio_rustls::StartHandshake<IO>,
    name: Option<String>,
) -> HandshakeError
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    if let Some(refusing) = &*REFUSING {
        // Fails by its nature; the alert is on its way when it has.
        let _ = start.into_stream(refusing.clone()).await;
    }
    HandshakeError::UnknownName(name.map(String::into_boxed_str))
}

/// A configuration without a certificate: its handshake sends the alert. Made once, since clients
/// choose how often it is needed.
static REFUSING: LazyLock<Option<Arc<rustls::ServerConfig>>> = LazyLock::new(|| refusing().ok());

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
