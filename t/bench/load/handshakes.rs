//! TLS handshakes: a connection for each request, with every session resumed or none.
//!
//! wrk keeps its sessions and h2load its connections, so this client is the bench's own.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures_util::future::try_join_all;
use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, HandshakeKind, RootCertStore};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::Load;
use super::client::{PATIENCE, request};
use crate::site::{HOST, Site};

/// Connections being made at the same time.
pub const CONNECTIONS: usize = 16;

/// Whether the client comes back with what it was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sessions {
    /// Every handshake is a full one.
    Forgotten,
    /// Every handshake but a connection's first is by the ticket of the one before.
    Resumed,
}

/// Connects to the TLS port `port` again and again for the seconds of `site`.
pub async fn run(site: &Site, port: u16, path: &str, sessions: Sessions) -> Result<Load> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(site.certificate.pem.as_bytes())?)?;
    let mut config = ClientConfig::builder_with_protocol_versions(&[&rustls::version::TLS13])
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    let request = request("GET", path, "Connection: close\r\n", "");

    let began = Instant::now();
    let end = began + Duration::from_secs(site.seconds);
    let task = async || -> Result<Vec<f64>> {
        // Each with a memory of its own: rustls keeps too few tickets of a server for all of them.
        let mut config = config.clone();
        if sessions == Sessions::Resumed {
            config.resumption = Resumption::in_memory_sessions(1);
        }
        let connector = TlsConnector::from(Arc::new(config));
        let mut micros = Vec::new();
        while Instant::now() < end {
            let start = Instant::now();
            let once = once(&connector, port, request.as_bytes());
            let kind = timeout(PATIENCE, once).await.context("a connection hangs")??;
            let wanted = sessions == Sessions::Resumed && !micros.is_empty();
            let is_resumed = kind == Some(HandshakeKind::Resumed);
            ensure!(is_resumed == wanted, "a session was resumed: {is_resumed}, expected {wanted}");
            micros.push(start.elapsed().as_secs_f64() * 1e6);
        }
        Ok(micros)
    };
    let micros = try_join_all((0..CONNECTIONS).map(|_| task())).await?;
    Load::of(micros.concat(), 0, began.elapsed().as_secs_f64())
}

async fn once(
    connector: &TlsConnector,
    port: u16,
    request: &[u8],
) -> Result<Option<HandshakeKind>> {
    let tcp = TcpStream::connect(("127.0.0.1", port)).await?;
    tcp.set_nodelay(true)?;
    let mut stream = connector.connect(ServerName::try_from(HOST)?, tcp).await?;
    stream.write_all(request).await?;
    let mut response = Vec::new();
    // A server may close without TLS's goodbye once everything is said.
    let end = stream.read_to_end(&mut response).await;
    ensure!(response.starts_with(b"HTTP/1.1 200"), "no 200 but: {end:?}");
    Ok(stream.get_ref().1.handshake_kind())
}
