//! The response of an exchange, as far as there is one.

use http::{HeaderMap, StatusCode};

/// The response head as the client will see it.
#[derive(Debug)]
pub struct Response {
    pub status: StatusCode,
    /// The head once there is one; before, what plugins want added to it.
    pub headers: HeaderMap,
    /// Bytes of the head as HTTP/1.1 writes it; set when the head is handed over to be written.
    pub head_bytes: u64,
    /// Whether the upstream answered (`response_source` is `upstream`).
    pub from_upstream: bool,
    /// Whether a plugin that was to look at it failed: the client gets a 500 instead, and no more of
    /// it where its head is on its way.
    pub withheld: bool,
}

// === impl Response ===

impl Default for Response {
    fn default() -> Self {
        Self {
            status: StatusCode::OK,
            headers: HeaderMap::new(),
            head_bytes: 0,
            from_upstream: false,
            withheld: false,
        }
    }
}

impl Response {
    /// Bytes of the head as HTTP/1.1 writes it.
    pub fn measure(&self) -> u64 {
        let status_line = 17;
        let lines = self.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4);
        (lines.sum::<usize>() + status_line) as u64
    }
}
