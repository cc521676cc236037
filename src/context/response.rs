//! The response of an exchange, as far as there is one.

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use smallvec::SmallVec;

/// The response head as the client will see it.
#[derive(Debug)]
pub struct Response {
    pub status: StatusCode,
    /// The head once there is one; before, what plugins want added to it.
    pub headers: HeaderMap,
    /// What plugins have set since: see [`Response::set`].
    set: SmallVec<[(HeaderName, HeaderValue); 3]>,
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
            set: SmallVec::new(),
            head_bytes: 0,
            from_upstream: false,
            withheld: false,
        }
    }
}

impl Response {
    /// Sets a field in the place of all others of its name. It waits beside the others, so that it
    /// is put into a map once: not once before there is a head, and again when there is one.
    pub fn set(&mut self, name: HeaderName, value: HeaderValue) {
        self.set.push((name, value));
    }

    /// The value that waits to be set under a name.
    pub(super) fn waiting(&self, name: &HeaderName) -> Option<&HeaderValue> {
        self.set.iter().rev().find(|(set, _)| set == name).map(|(_, value)| value)
    }

    /// Puts what was set among the others: before somebody looks at all of them, or changes one.
    pub fn join(&mut self) -> &mut HeaderMap {
        for (name, value) in self.set.drain(..) {
            self.headers.insert(name, value);
        }
        &mut self.headers
    }

    /// Bytes of the head as HTTP/1.1 writes it.
    pub fn measure(&self) -> u64 {
        let status_line = 17;
        let lines = self.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4);
        (lines.sum::<usize>() + status_line) as u64
    }
}

#[cfg(test)]
mod tests {
    use http::header::{DATE, ETAG};

    use super::*;

    #[test]
    fn what_was_set_last_counts_and_goes_before_what_was_there() {
        let mut response = Response::default();
        response.headers.append(ETAG, HeaderValue::from_static("0"));
        response.headers.append(ETAG, HeaderValue::from_static("1"));
        response.set(ETAG, HeaderValue::from_static("2"));
        response.set(ETAG, HeaderValue::from_static("3"));
        assert_eq!(response.waiting(&ETAG).unwrap(), "3");
        assert!(response.waiting(&DATE).is_none());
        let joined: Vec<_> = response.join().get_all(ETAG).iter().collect();
        assert_eq!(joined, ["3"]);
        assert!(response.waiting(&ETAG).is_none());
    }
}
