//! HTTP/1.1 by hand: bytes out, text in.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::PATIENCE;

/// Reads until `text` has come; panics with what came when it does not.
pub async fn read_until(socket: &mut TcpStream, text: &str) -> String {
    let mut all = Vec::new();
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let seen = String::from_utf8_lossy(&all);
        if seen.contains(text) {
            return seen.into_owned();
        }
        let read = tokio::time::timeout(PATIENCE, socket.read(&mut buffer)).await;
        match read {
            Ok(Ok(read @ 1..)) => all.extend_from_slice(&buffer[..read]),
            other => panic!("{text:?} did not come ({other:?}) after {seen:?}"),
        }
    }
}

/// Sends `bytes` on a connection of its own and returns everything that comes until the gateway
/// closes it, which it has to.
pub async fn send(port: u16, bytes: &str) -> String {
    let all = until_closed(port, bytes.as_bytes()).await;
    let all = all.unwrap_or_else(|| panic!("the connection of {bytes:?} is not closed"));
    String::from_utf8_lossy(&all).into_owned()
}

/// GETs a target exactly as written.
pub async fn ask(port: u16, target: &str) -> String {
    send(port, &format!("GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")).await
}

/// Sends `bytes` on a connection of its own and returns everything that comes before the gateway
/// closes it; `None` when it does not within [`PATIENCE`].
pub async fn until_closed(port: u16, bytes: &[u8]) -> Option<Vec<u8>> {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    // The gateway may have had enough before it was sent everything.
    let _ = socket.write_all(bytes).await;
    let mut all = Vec::new();
    let read = tokio::time::timeout(PATIENCE, socket.read_to_end(&mut all)).await;
    read.is_ok().then_some(all)
}

/// The statuses of the responses that stand in `bytes`.
pub fn statuses(bytes: &[u8]) -> Vec<u16> {
    let text = String::from_utf8_lossy(bytes);
    let heads = text.match_indices("HTTP/1.1 ");
    heads.map(|(at, start)| text[at + start.len()..][..3].parse().unwrap()).collect()
}
