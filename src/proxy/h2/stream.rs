//! One stream: what has come of its request's body, what may be sent of its response, and its end.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::mem;
use std::task::Waker;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;

use crate::http2::window::{Overflow, Receiving, Sending};
use crate::proxy::streams::{Asked, STREAM_WINDOW_BYTES};

/// A piece of a body that has to wait is copied to those before it if it is this small: by itself each
/// would take a place in the queue, and hold on to the buffer that it was read to.
const SMALL_BYTES: usize = 1024;

/// So much is joined at most.
const JOINED_BYTES: usize = 16 * 1024;

/// A stream, as its connection and its task have it.
pub(super) struct Stream {
    pub(super) id: u32,
    /// What the client still takes of it.
    pub(super) window: Cell<Sending>,
    /// Whether it waits for its turn to write, and whether it has it.
    pub(super) queued: Cell<bool>,
    pub(super) granted: Cell<bool>,
    /// Until there is a response.
    asked: Cell<Option<Asked>>,
    answered: Cell<bool>,
    /// Whether it was reset, by either side, or its connection has ended.
    over: Cell<bool>,
    inbox: RefCell<Inbox>,
    /// Its task, once that has waited.
    waker: RefCell<Option<Waker>>,
}

/// The request's body as far as it has come.
struct Inbox {
    window: Receiving,
    pieces: VecDeque<Bytes>,
    /// What has come after them in small pieces.
    small: BytesMut,
    trailers: Option<HeaderMap>,
    /// What `Content-Length` says that is still to come.
    left: Option<u64>,
    ended: bool,
    /// Whether nobody reads it any more.
    unread: bool,
    /// Whether any of it has come.
    begun: bool,
}

/// What comes next of a request's body.
pub(super) enum Next {
    Data(Bytes),
    Trailers(HeaderMap),
    /// It is over.
    End,
    /// Nothing yet.
    Wait,
}

/// What is wrong with a piece of a request's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unfit {
    /// It comes after the end.
    Late,
    /// It is more than the window lets.
    TooMuch,
    /// It makes the body another length than the head says.
    OfAnotherLength,
}

// === impl Stream ===

impl Stream {
    /// A stream that a request has opened: with a body to come unless it has `ended`.
    pub(super) fn new(
        id: u32,
        window: Sending,
        asked: Asked,
        length: Option<u64>,
        ended: bool,
    ) -> Self {
        Self {
            id,
            window: Cell::new(window),
            queued: Cell::new(false),
            granted: Cell::new(false),
            asked: Cell::new(Some(asked)),
            answered: Cell::new(false),
            over: Cell::new(false),
            inbox: RefCell::new(Inbox {
                window: Receiving::new(STREAM_WINDOW_BYTES),
                pieces: VecDeque::new(),
                small: BytesMut::new(),
                trailers: None,
                left: length,
                ended,
                unread: ended,
                begun: ended,
            }),
            waker: RefCell::new(None),
        }
    }

    /// Notes the task that is woken from now on.
    pub(super) fn woken_by(&self, waker: &Waker) {
        let mut known = self.waker.borrow_mut();
        if !known.as_ref().is_some_and(|known| known.will_wake(waker)) {
            *known = Some(waker.clone());
        }
    }

    pub(super) fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }

    /// The client takes more of it, or less.
    ///
    /// # Errors
    /// [`Overflow`]: more than it may.
    pub(super) fn widen(&self, by: i64) -> Result<(), Overflow> {
        let mut window = self.window.get();
        let was_shut = window.bytes() == 0;
        window.shift(by)?;
        self.window.set(window);
        if was_shut && window.bytes() > 0 {
            self.wake();
        }
        Ok(())
    }

    /// There is a response.
    pub(super) fn answered(&self) {
        self.answered.set(true);
        if let Some(asked) = self.asked.take() {
            asked.answered();
        }
    }

    pub(super) fn is_answered(&self) -> bool {
        self.answered.get()
    }

    /// Ends it: its task lets go of everything.
    pub(super) fn end(&self) {
        self.over.set(true);
        drop(self.asked.take());
        self.wake();
    }

    pub(super) fn is_over(&self) -> bool {
        self.over.get()
    }

    /// Whether all of the request has come.
    pub(super) fn has_ended(&self) -> bool {
        self.inbox.borrow().ended
    }

    /// Whether any of the request's body has come, or its end.
    pub(super) fn has_begun(&self) -> bool {
        self.inbox.borrow().begun
    }

    /// Whether all of the request has been taken.
    pub(super) fn is_read(&self) -> bool {
        let inbox = self.inbox.borrow();
        inbox.ended && inbox.is_empty() && inbox.trailers.is_none()
    }

    /// Takes in data, which flow control counts as `counted` bytes. Gives how many of those are room
    /// for others at once: padding, and what nobody reads.
    pub(super) fn receive(&self, data: Bytes, counted: u32, ends: bool) -> Result<u32, Unfit> {
        let inbox = &mut *self.inbox.borrow_mut();
        if inbox.ended {
            return Err(Unfit::Late);
        }
        inbox.window.take(counted).map_err(|_| Unfit::TooMuch)?;
        inbox.shorten(data.len() as u64, ends)?;
        inbox.ended = ends;
        inbox.begun = true;
        let kept = if inbox.unread { 0 } else { data.len() as u32 };
        if kept > 0 {
            inbox.push(data);
        }
        self.wake();
        Ok(counted - kept)
    }

    /// Takes in trailers, with which the request ends.
    pub(super) fn finish(&self, trailers: HeaderMap) -> Result<(), Unfit> {
        let inbox = &mut *self.inbox.borrow_mut();
        if inbox.ended {
            return Err(Unfit::Late);
        }
        inbox.shorten(0, true)?;
        inbox.ended = true;
        inbox.begun = true;
        if !inbox.unread && !trailers.is_empty() {
            inbox.trailers = Some(trailers);
        }
        self.wake();
        Ok(())
    }

    /// The next piece of the request's body.
    pub(super) fn next(&self) -> Next {
        let inbox = &mut *self.inbox.borrow_mut();
        if let Some(data) = inbox.take() {
            return Next::Data(data);
        }
        match inbox.trailers.take() {
            Some(trailers) => Next::Trailers(trailers),
            None if inbox.ended => Next::End,
            None => Next::Wait,
        }
    }

    /// There is room for `bytes` more. Gives what the client is to be told.
    pub(super) fn release(&self, bytes: u32) -> Option<u32> {
        let inbox = &mut *self.inbox.borrow_mut();
        inbox.window.release(bytes).filter(|_| !inbox.ended)
    }

    /// Nobody reads the request any more. Gives how many bytes were there.
    pub(super) fn leave_unread(&self) -> u32 {
        let inbox = &mut *self.inbox.borrow_mut();
        inbox.unread = true;
        inbox.trailers = None;
        let mut bytes = 0;
        while let Some(piece) = inbox.take() {
            // Never more than the window.
            bytes += piece.len() as u32;
        }
        inbox.pieces = VecDeque::new();
        bytes
    }

    /// What may still come of a stream that has been reset, since the client does not know yet.
    pub(super) fn may_still_come(&self) -> u32 {
        let inbox = self.inbox.borrow();
        if inbox.ended { 0 } else { inbox.window.left() }
    }
}

// === impl Inbox ===

impl Inbox {
    fn is_empty(&self) -> bool {
        self.pieces.is_empty() && self.small.is_empty()
    }

    /// Adds data. What does not have to wait behind other is not copied.
    fn push(&mut self, data: Bytes) {
        if data.len() < SMALL_BYTES && !self.is_empty() {
            if self.small.len() + data.len() > JOINED_BYTES {
                self.pieces.push_back(mem::take(&mut self.small).freeze());
            }
            self.small.extend_from_slice(&data);
            return;
        }
        if !self.small.is_empty() {
            self.pieces.push_back(mem::take(&mut self.small).freeze());
        }
        self.pieces.push_back(data);
    }

    /// Takes what came first.
    fn take(&mut self) -> Option<Bytes> {
        let piece = self.pieces.pop_front();
        piece.or_else(|| (!self.small.is_empty()).then(|| mem::take(&mut self.small).freeze()))
    }

    /// So much of the body has come.
    fn shorten(&mut self, bytes: u64, ends: bool) -> Result<(), Unfit> {
        if let Some(left) = &mut self.left {
            *left = left.checked_sub(bytes).ok_or(Unfit::OfAnotherLength)?;
            if ends && *left > 0 {
                return Err(Unfit::OfAnotherLength);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;
    use crate::proxy::streams::Tally;

    fn stream(length: Option<u64>) -> Stream {
        let asked = Rc::<Tally>::default().asked();
        Stream::new(1, Sending::new(10), asked, length, false)
    }

    fn data(size: usize) -> Bytes {
        vec![b'x'; size].into()
    }

    #[test]
    fn a_body_has_the_length_that_its_head_says() {
        let exact = stream(Some(5));
        assert_eq!(exact.receive(data(3), 3, false), Ok(0));
        assert_eq!(exact.receive(data(2), 9, true), Ok(7), "padding is room at once");
        assert_eq!(exact.receive(data(0), 0, true), Err(Unfit::Late));
        assert_eq!(stream(Some(5)).receive(data(6), 6, false), Err(Unfit::OfAnotherLength));
        assert_eq!(stream(Some(5)).receive(data(4), 4, true), Err(Unfit::OfAnotherLength));
        assert_eq!(stream(Some(5)).finish(HeaderMap::new()), Err(Unfit::OfAnotherLength));
        assert_eq!(stream(Some(0)).finish(HeaderMap::new()), Ok(()));
    }

    #[test]
    fn no_more_comes_than_the_window_lets() {
        let stream = stream(None);
        let half = STREAM_WINDOW_BYTES / 2;
        for _ in 0..2 {
            assert_eq!(stream.receive(data(half as usize), half, false), Ok(0));
        }
        assert_eq!(stream.receive(data(1), 1, false), Err(Unfit::TooMuch));
        assert!(matches!(stream.next(), Next::Data(_)));
        assert_eq!(stream.release(half), Some(half));
        assert_eq!(stream.receive(data(1), 1, false), Ok(0));
        assert_eq!(stream.leave_unread(), half + 1);
        assert_eq!(stream.receive(data(7), 7, true), Ok(7), "nobody reads it");
    }

    #[test]
    fn a_body_that_comes_byte_by_byte_takes_hardly_more_than_its_bytes() {
        let window = STREAM_WINDOW_BYTES as usize;
        let sent: Vec<u8> = (0..window).map(|at| (at % 251) as u8).collect();
        let read = Bytes::from(sent.clone());
        let stream = stream(None);
        for at in 0..window {
            let (piece, ends) = (read.slice(at..=at), at + 1 == window);
            assert_eq!(stream.receive(piece, 1, ends), Ok(0));
        }
        let mut come = Vec::new();
        let mut pieces = 0;
        while let Next::Data(data) = stream.next() {
            come.extend_from_slice(&data);
            pieces += 1;
            // The first had nothing to be joined to.
            assert!(pieces == 1 || read.is_unique(), "the buffer that they were read to is free");
        }
        assert!(come == sent && stream.is_read());
        assert!(pieces <= 1 + window.div_ceil(JOINED_BYTES), "{pieces} pieces");
    }

    #[test]
    fn pieces_of_any_size_come_in_order_and_large_ones_as_they_are() {
        let stream = stream(None);
        let large = Bytes::from(vec![b'l'; SMALL_BYTES]);
        let small = Bytes::from(vec![b's'; SMALL_BYTES - 1]);
        for data in [&large, &small, &small, &large, &small] {
            assert_eq!(stream.receive(data.clone(), data.len() as u32, false), Ok(0));
        }
        let next = || match stream.next() {
            Next::Data(data) => data,
            _ => panic!("nothing comes"),
        };
        assert_eq!(next().as_ptr(), large.as_ptr(), "not copied");
        assert_eq!(next(), [&small[..], &small].concat());
        assert_eq!(next().as_ptr(), large.as_ptr(), "not copied");
        assert_eq!(stream.leave_unread(), SMALL_BYTES as u32 - 1);
    }
}
