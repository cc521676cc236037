//! A plain HTTP/1.1 client for what the load tools cannot do: idle connections, a paced rate,
//! calls to an Admin API.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::site::HOST;

/// How long an answer may take before it counts as none.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// One keep-alive connection to a port of loopback.
pub struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// What of the head of a response matters here.
struct Head {
    status: u16,
    length: usize,
    body: usize,
}

// === impl Client ===

impl Client {
    pub async fn connect(port: u16) -> Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::new() })
    }

    /// Sends `GET path` and returns the status once the whole response is here.
    pub async fn get(&mut self, path: &str) -> Result<u16> {
        self.exchange(request("GET", path, "", "").as_bytes()).await
    }

    /// Sends a whole request and returns the status once the whole response is here.
    ///
    /// # Errors
    /// The connection ends, the response is none, or it is not there within [`PATIENCE`].
    pub async fn exchange(&mut self, request: &[u8]) -> Result<u16> {
        let answered = timeout(PATIENCE, self.send_and_receive(request)).await;
        answered.with_context(|| format!("no answer within {PATIENCE:?}"))?
    }

    async fn send_and_receive(&mut self, request: &[u8]) -> Result<u16> {
        self.stream.write_all(request).await?;
        self.buffer.clear();
        loop {
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                bail!("the connection was closed before the response was complete");
            }
            if let Some(head) = head(&self.buffer)?
                && self.buffer.len() >= head.body + head.length
            {
                return Ok(head.status);
            }
        }
    }

    /// What the last response held, head and body.
    pub fn response(&self) -> String {
        String::from_utf8_lossy(&self.buffer).into_owned()
    }

    /// Gives memory back that an idle connection needs not hold.
    pub fn rest(&mut self) {
        self.buffer = Vec::new();
    }
}

/// A request's text; `headers` are whole lines.
pub fn request(method: &str, path: &str, headers: &str, body: &str) -> String {
    let length = match body.len() {
        0 => String::new(),
        length => format!("Content-Length: {length}\r\n"),
    };
    format!("{method} {path} HTTP/1.1\r\nHost: {HOST}\r\n{headers}{length}\r\n{body}")
}

fn head(bytes: &[u8]) -> Result<Option<Head>> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(body) = response.parse(bytes)? else {
        return Ok(None);
    };
    let length = response.headers.iter().find(|h| h.name.eq_ignore_ascii_case("content-length"));
    let length = length.context("a response without Content-Length")?;
    Ok(Some(Head {
        status: response.code.context("a response without a status")?,
        length: std::str::from_utf8(length.value)?.parse()?,
        body,
    }))
}
