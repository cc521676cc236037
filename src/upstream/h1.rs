//! HTTP/1.1 to a node, driven from the task of the request it serves.
//!
//! No task of its own, no channel, no copy of the body: [`Connection::exchange`] writes the head
//! and the body and reads the response's head in one future, and the body is pulled with
//! [`Connection::poll_body`] as fast as the client takes it.
//!
//! Source: RFC 9112.

use std::future::{Future as _, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http_body::Body;
use tokio::time::Sleep;

use super::{Endpoint, Failure, Timeouts};
use crate::clock;
use crate::http1::framing::{Framing, Next, Piece, READ_BYTES};
use crate::http1::output::Output;
use crate::http1::response::{self, Head};
use crate::tls::stream::Stream;

/// So much is gathered of a request that comes in small pieces before it is written.
const GATHERED_BYTES: usize = 16 * 1024;

/// More interim responses than this before the one that counts are no answer.
const MOST_INTERIM: u32 = 32;

/// A connection to an endpoint.
pub struct Connection {
    stream: Stream,
    pub endpoint: Arc<Endpoint>,
    /// Over TLS, the `Host` that the connection was opened for.
    pub name: Option<Rc<[u8]>>,
    /// Exchanges begun on it.
    pub served: u32,
    input: BytesMut,
    output: Output,
    timer: Timer,
}

/// How the body of a request is framed on its way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outbound {
    /// There is none.
    Empty,
    /// As many bytes as `Content-Length` says.
    Length(u64),
    Chunked,
}

/// A deadline that costs a timer only when something really waits, and re-arms it only when it
/// fires: most exchanges end long before.
#[derive(Default)]
struct Timer {
    sleep: Option<Pin<Box<Sleep>>>,
}

// === impl Connection ===

impl Connection {
    /// A fresh connection over `stream`. Boxed: it changes hands some ten times a request.
    pub fn new(stream: Stream, endpoint: Arc<Endpoint>, name: Option<Rc<[u8]>>) -> Box<Self> {
        Box::new(Self {
            stream,
            endpoint,
            name,
            served: 0,
            input: BytesMut::new(),
            output: Output::default(),
            timer: Timer::default(),
        })
    }

    /// Whether an idle connection may carry another exchange.
    pub fn is_quiet(&mut self) -> bool {
        self.input.is_empty() && self.stream.is_quiet()
    }

    /// Frees the buffers: the next exchange may be a long way off.
    pub fn rest(&mut self) {
        self.input = BytesMut::new();
        self.output = Output::default();
    }

    /// Room for the next request's head; what is written here goes out with `exchange`.
    pub fn head_buffer(&mut self) -> &mut BytesMut {
        let lines = self.output.lines();
        lines.clear();
        lines
    }

    /// Sends the head that is in the head buffer and `body`, and reads the response's head.
    ///
    /// The response may come while the body is still being sent; `sending` then says so, and
    /// [`Connection::poll_send`] goes on with it. Interim responses are passed over, as nginx does
    /// (its `early_hints` is off unless asked for); 101 is not one.
    ///
    /// # Errors
    /// [`Failure::Closed`] before anything was answered: with a kept-alive connection the node
    /// may never have seen the request. The others mean what they say.
    pub async fn exchange<B>(
        &mut self,
        sending: &mut Sending,
        body: &mut B,
        no_response_body: bool,
        timeouts: &Timeouts,
    ) -> Result<Head, Failure>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        self.served += 1;
        let mut last_progress = clock::now();
        let mut interim = 0;
        poll_fn(|cx| {
            if self.poll_send(sending, body, cx)? {
                last_progress = clock::now();
            }
            let sent = self.output.is_flushed() && sending.done;
            match self.poll_head(cx, no_response_body, &mut interim) {
                Poll::Ready(answer) => Poll::Ready(answer),
                Poll::Pending => {
                    let (limit, failure): (Duration, fn(Duration) -> Failure) = if sent {
                        (timeouts.read, Failure::ReadTimeout)
                    } else if !self.output.is_flushed() {
                        (timeouts.send, Failure::SendTimeout)
                    } else {
                        // The client is the slow one; its own timeout watches it.
                        return Poll::Pending;
                    };
                    ready!(self.timer.poll(cx, last_progress + limit));
                    Poll::Ready(Err(failure(limit)))
                }
            }
        })
        .await
    }

    /// Sends as much of the head and `body` as there is and as the node takes; returns whether
    /// any of the body went on its way. The task is woken when there is more to do.
    ///
    /// # Errors
    /// [`Failure::RequestBody`] when the body breaks off. That the node stopped reading is no
    /// error here: it may have answered before it did, and what it said is worth more.
    pub fn poll_send<B>(
        &mut self,
        sending: &mut Sending,
        body: &mut B,
        cx: &mut Context<'_>,
    ) -> Result<bool, Failure>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let mut progress = false;
        loop {
            // The first pieces go out together with the head, and small ones together: else a
            // client could have a write for each of its bytes.
            let mut waits = sending.done || sending.broken;
            while !waits && self.output.takes_data() && self.output.len() < GATHERED_BYTES {
                match Pin::new(&mut *body).poll_frame(cx) {
                    Poll::Ready(next) => {
                        sending.take(next, &mut self.output)?;
                        progress = true;
                        waits = sending.done;
                    }
                    Poll::Pending => waits = true,
                }
            }
            if self.output.is_flushed() || sending.broken {
                return Ok(progress);
            }
            match self.output.poll_write(&mut self.stream, cx) {
                Poll::Ready(Ok(_)) if waits => return Ok(progress),
                Poll::Ready(Ok(_)) => progress = true,
                Poll::Ready(Err(_)) => {
                    sending.broken = true;
                    return Ok(progress);
                }
                Poll::Pending => return Ok(progress),
            }
        }
    }

    /// Whether everything that was to be sent is.
    pub fn has_sent(&self, sending: &Sending) -> bool {
        sending.done && self.output.is_flushed() && !sending.broken
    }

    fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        no_response_body: bool,
        interim: &mut u32,
    ) -> Poll<Result<Head, Failure>> {
        loop {
            match response::parse(&mut self.input, no_response_body)? {
                Some(head) if head.is_interim() => {
                    *interim += 1;
                    if *interim > MOST_INTERIM {
                        let what = "too many interim responses come before it";
                        return Poll::Ready(Err(Failure::Malformed(what)));
                    }
                }
                Some(head) => return Poll::Ready(Ok(head)),
                None => {
                    let read = ready!(self.stream.poll_fill(&mut self.input, READ_BYTES, cx))?;
                    if read == 0 {
                        return Poll::Ready(Err(Failure::Closed));
                    }
                }
            }
        }
    }

    /// The whole body, if it has arrived with the head; `framing` is then at its end.
    pub fn take_whole(&mut self, framing: &mut Framing) -> Option<Bytes> {
        match *framing {
            Framing::None => Some(Bytes::new()),
            Framing::Length(length) => {
                let length = usize::try_from(length).ok()?;
                (self.input.len() >= length).then(|| {
                    *framing = Framing::None;
                    self.input.split_to(length).freeze()
                })
            }
            Framing::Chunked(_) | Framing::UntilClose => None,
        }
    }

    /// The next piece of the response's body; `None` is its proper end.
    ///
    /// `deadline` is when a read that brings nothing has taken too long.
    pub fn poll_body(
        &mut self,
        framing: &mut Framing,
        deadline: Instant,
        limit: Duration,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Piece, Failure>>> {
        loop {
            match framing.next(&mut self.input) {
                Ok(Next::Piece(piece)) => return Poll::Ready(Some(Ok(piece))),
                Ok(Next::End) => return Poll::Ready(None),
                Ok(Next::More) => {}
                Err(malformed) => return Poll::Ready(Some(Err(malformed.into()))),
            }
            let size = framing.read_bytes();
            match self.stream.poll_fill(&mut self.input, size, cx) {
                Poll::Ready(Ok(0)) => {
                    return Poll::Ready(match framing {
                        Framing::UntilClose => {
                            *framing = Framing::None;
                            None
                        }
                        _ => Some(Err(Failure::Closed)),
                    });
                }
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
                Poll::Pending => {
                    ready!(self.timer.poll(cx, deadline));
                    return Poll::Ready(Some(Err(Failure::ReadTimeout(limit))));
                }
            }
        }
    }

    /// The stream after a 101, and what was already read from it.
    pub fn into_upgraded(self) -> (Stream, Bytes) {
        (self.stream, self.input.freeze())
    }
}

// === impl Sending ===

/// How far a request's body has come.
#[derive(Debug)]
pub struct Sending {
    done: bool,
    /// Bytes that `Content-Length` still promises.
    left: Option<u64>,
    /// The node has stopped reading.
    broken: bool,
}

impl Sending {
    /// A body that is yet to be sent.
    pub fn new(outbound: Outbound) -> Self {
        Self {
            done: outbound == Outbound::Empty,
            left: match outbound {
                Outbound::Length(length) => Some(length),
                Outbound::Empty | Outbound::Chunked => None,
            },
            broken: false,
        }
    }

    fn take<E>(
        &mut self,
        next: Option<Result<http_body::Frame<Bytes>, E>>,
        output: &mut Output,
    ) -> Result<(), Failure> {
        match next {
            Some(Ok(frame)) => {
                let data = match frame.into_data() {
                    Ok(data) => data,
                    Err(frame) => {
                        // Without chunks there is no place for trailers.
                        if let (None, Ok(trailers)) = (self.left, frame.into_trailers()) {
                            output.trailers(&trailers);
                            self.done = true;
                        }
                        return Ok(());
                    }
                };
                match &mut self.left {
                    Some(left) => {
                        *left = left.checked_sub(data.len() as u64).ok_or(Failure::RequestBody)?;
                        output.data(data);
                    }
                    None if data.is_empty() => {}
                    None => output.chunk(data),
                }
                Ok(())
            }
            Some(Err(_)) => Err(Failure::RequestBody),
            None if self.left.is_some_and(|left| left > 0) => Err(Failure::RequestBody),
            None => {
                if self.left.is_none() {
                    output.last_chunk();
                }
                self.done = true;
                Ok(())
            }
        }
    }
}

// === impl Timer ===

impl Timer {
    fn poll(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        let deadline = tokio::time::Instant::from_std(deadline);
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        if sleep.deadline() > deadline {
            sleep.as_mut().reset(deadline);
        }
        loop {
            ready!(sleep.as_mut().poll(cx));
            if tokio::time::Instant::now() >= deadline {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(deadline);
        }
    }
}
