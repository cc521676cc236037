//! The part of a request's body that was read before it is sent on, because a variable asked.

use std::mem;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::Frame;

/// What was read ahead, and has not been handed out.
#[derive(Default)]
pub(super) struct Ahead {
    /// Everything, as long as that is one piece: most bodies are.
    first: Bytes,
    /// Everything, once there are more: small pieces would each hold on to a buffer.
    more: BytesMut,
    trailers: Option<HeaderMap>,
    /// Whether the body's end has come.
    pub(super) ended: bool,
}

// === impl Ahead ===

impl Ahead {
    pub(super) fn len(&self) -> usize {
        self.first.len() + self.more.len()
    }

    /// Whether there is nothing to be handed out.
    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0 && self.trailers.is_none()
    }

    pub(super) fn push(&mut self, frame: Frame<Bytes>) {
        match frame.into_data() {
            Ok(data) if self.first.is_empty() && self.more.is_empty() => self.first = data,
            Ok(data) => {
                if self.more.is_empty() {
                    self.more.extend_from_slice(&self.first);
                    self.first = Bytes::new();
                }
                self.more.extend_from_slice(&data);
            }
            Err(frame) => self.trailers = frame.into_trailers().ok(),
        }
    }

    /// Everything so far, in one piece.
    pub(super) fn join(&mut self) -> Bytes {
        if !self.more.is_empty() {
            self.first = mem::take(&mut self.more).freeze();
        }
        self.first.clone()
    }

    /// The next piece; there is one.
    pub(super) fn take(&mut self) -> Frame<Bytes> {
        match self.trailers.take() {
            Some(trailers) if self.first.is_empty() => Frame::trailers(trailers),
            trailers => {
                self.trailers = trailers;
                Frame::data(mem::take(&mut self.first))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hands_out_everything_in_one_piece_and_trailers_last() {
        let mut ahead = Ahead::default();
        for piece in ["one ", "two ", "three"] {
            ahead.push(Frame::data(Bytes::from_static(piece.as_bytes())));
        }
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", http::HeaderValue::from_static("1"));
        ahead.push(Frame::trailers(trailers.clone()));
        assert_eq!((ahead.len(), ahead.join()), (13, Bytes::from("one two three")));
        assert_eq!(ahead.take().into_data().unwrap(), "one two three");
        assert!(!ahead.is_empty());
        assert_eq!(ahead.take().into_trailers().unwrap(), trailers);
        assert!(ahead.is_empty());
    }

    #[test]
    fn can_be_read_on_after_it_was_joined() {
        let mut ahead = Ahead::default();
        ahead.push(Frame::data(Bytes::from("a")));
        assert_eq!(ahead.join(), "a");
        ahead.push(Frame::data(Bytes::from("b")));
        assert_eq!(ahead.join(), "ab");
        assert_eq!(Ahead::default().join(), "");
    }
}
