//! A connection to a node: plain or TLS, opened within a time.

use std::sync::Arc;

use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::{Endpoint, Failure, Timeouts};
use crate::tls::stream::Stream;

/// Opens a connection to `endpoint`, TLS included when `tls` is given.
///
/// `server_name` is told to the node and, where the configuration verifies, checked.
///
/// # Errors
/// [`Failure::Connect`] and [`Failure::ConnectTimeout`]: another node may be tried.
pub async fn connect(
    endpoint: &Endpoint,
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    timeouts: &Timeouts,
) -> Result<Stream, Failure> {
    let addr = endpoint.addr;
    let opened = async {
        let tcp = TcpStream::connect(addr).await?;
        tcp.set_nodelay(true)?;
        match tls {
            None => Ok(Stream::Tcp(tcp)),
            Some((config, server_name)) => {
                let connector = TlsConnector::from(config);
                let tls = connector.connect(server_name, tcp).await?;
                Ok(Stream::Tls(Box::new(tls.into())))
            }
        }
    };
    match tokio::time::timeout(timeouts.connect, opened).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(source)) => Err(Failure::Connect { addr, source }),
        Err(_) => Err(Failure::ConnectTimeout { addr, after: timeouts.connect }),
    }
}
