//! A client's QUIC connection as `h3` asks for one.
//!
//! Reads without a buffer of its own and can stop at any time; a stream that is let go is ended by
//! what has become of it: quinn would end it well, which makes a whole of half a response.

use std::cell::Cell;
use std::future::Future;
use std::mem;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use ::h3::error::Code;
use ::h3::quic::{
    self, ConnectionErrorIncoming, SendStream as _, StreamErrorIncoming, StreamId, WriteBuf,
};
use bytes::{Buf as _, Bytes};
use quinn::{ConnectionError, ReadError, VarInt, WriteError};

use super::guard::Guard;
use crate::proxy::patience::Patience;

/// A connection.
pub(super) struct Transport {
    connection: quinn::Connection,
    send_timeout: Duration,
    accepting_both: Option<Opening<(quinn::SendStream, quinn::RecvStream)>>,
    accepting_one: Option<Opening<quinn::RecvStream>>,
    opening_both: Option<Opening<(quinn::SendStream, quinn::RecvStream)>>,
    opening_one: Option<Opening<quinn::SendStream>>,
}

type Opening<T> = Pin<Box<dyn Future<Output = Result<T, ConnectionError>>>>;

/// What becomes of a request's stream, as both directions have to know it.
pub(super) struct Fate {
    /// Why it is given up.
    fault: Cell<Option<Code>>,
    /// Whether a response has to come to its end.
    is_asked: Cell<bool>,
}

/// A request's stream.
pub(super) struct Both {
    send: Send,
    receive: Receive,
}

/// The direction to the client.
pub(super) struct Send {
    stream: quinn::SendStream,
    writing: Option<WriteBuf<Bytes>>,
    /// Whether the client lets that wait, and for how long it may.
    waits: bool,
    patience: Patience,
    /// Of the connection, to see whether it still goes forward.
    connection: quinn::Connection,
    /// Waits for the client to have all of it.
    delivered: Option<Gone>,
    /// What had been sent on the connection when that was looked at last.
    sent: u64,
    fate: Rc<Fate>,
    is_finished: bool,
}

/// Ready when the client takes no more of a stream, or has all of it. Whether it left some.
pub(super) type Gone = Pin<Box<dyn Future<Output = bool>>>;

/// The direction from the client.
pub(super) struct Receive {
    stream: quinn::RecvStream,
    guard: Guard,
    fate: Rc<Fate>,
    is_read: bool,
}

// === impl Fate ===

impl Fate {
    fn new() -> Rc<Self> {
        Rc::new(Self { fault: Cell::new(None), is_asked: Cell::new(false) })
    }

    /// Has the stream end with `code` when it is let go, unless it has one to end with.
    pub(super) fn fail(&self, code: Code) {
        if self.fault.get().is_none() {
            self.fault.set(Some(code));
        }
    }

    /// Whether it has been given up.
    pub(super) fn has_failed(&self) -> bool {
        self.fault.get().is_some()
    }

    /// From now on a response is owed: one that breaks off must not look whole.
    pub(super) fn asked(&self) {
        self.is_asked.set(true);
    }
}

// === impl Transport ===

impl Transport {
    /// A connection whose streams wait for the client as long as `send_timeout` says.
    pub(super) fn new(connection: quinn::Connection, send_timeout: Duration) -> Self {
        Self {
            connection,
            send_timeout,
            accepting_both: None,
            accepting_one: None,
            opening_both: None,
            opening_one: None,
        }
    }

    fn both(&self, (send, receive): (quinn::SendStream, quinn::RecvStream)) -> Both {
        let fate = Fate::new();
        Both {
            send: self.send(send, fate.clone()),
            receive: Receive { stream: receive, guard: Guard::of_request(), fate, is_read: false },
        }
    }

    fn send(&self, stream: quinn::SendStream, fate: Rc<Fate>) -> Send {
        Send {
            stream,
            writing: None,
            waits: false,
            patience: Patience::new(self.send_timeout),
            connection: self.connection.clone(),
            delivered: None,
            sent: 0,
            fate,
            is_finished: false,
        }
    }
}

/// Polls what `open` begins, until it is there.
fn poll_opening<T, F>(
    opening: &mut Option<Opening<T>>,
    connection: &quinn::Connection,
    open: impl FnOnce(quinn::Connection) -> F,
    cx: &mut Context<'_>,
) -> Poll<Result<T, ConnectionErrorIncoming>>
where
    F: Future<Output = Result<T, ConnectionError>> + 'static,
{
    let begin = || -> Opening<T> { Box::pin(open(connection.clone())) };
    let opened = ready!(opening.get_or_insert_with(begin).as_mut().poll(cx));
    *opening = None;
    Poll::Ready(opened.map_err(lost))
}

impl quic::Connection<Bytes> for Transport {
    type RecvStream = Receive;
    type OpenStreams = Self;

    fn poll_accept_recv(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Receive, ConnectionErrorIncoming>> {
        let accept = |connection: quinn::Connection| async move { connection.accept_uni().await };
        let stream = ready!(poll_opening(&mut self.accepting_one, &self.connection, accept, cx))?;
        let (guard, fate) = (Guard::of_other(), Fate::new());
        Poll::Ready(Ok(Receive { stream, guard, fate, is_read: false }))
    }

    fn poll_accept_bidi(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Both, ConnectionErrorIncoming>> {
        let accept = |connection: quinn::Connection| async move { connection.accept_bi().await };
        let streams = ready!(poll_opening(&mut self.accepting_both, &self.connection, accept, cx))?;
        Poll::Ready(Ok(self.both(streams)))
    }

    fn opener(&self) -> Self {
        Self::new(self.connection.clone(), self.send_timeout)
    }
}

impl quic::OpenStreams<Bytes> for Transport {
    type BidiStream = Both;
    type SendStream = Send;

    fn poll_open_bidi(&mut self, cx: &mut Context<'_>) -> Poll<Result<Both, StreamErrorIncoming>> {
        let open = |connection: quinn::Connection| async move { connection.open_bi().await };
        let streams = ready!(poll_opening(&mut self.opening_both, &self.connection, open, cx))
            .map_err(of_stream)?;
        Poll::Ready(Ok(self.both(streams)))
    }

    fn poll_open_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<Send, StreamErrorIncoming>> {
        let open = |connection: quinn::Connection| async move { connection.open_uni().await };
        let stream = ready!(poll_opening(&mut self.opening_one, &self.connection, open, cx))
            .map_err(of_stream)?;
        Poll::Ready(Ok(self.send(stream, Fate::new())))
    }

    fn close(&mut self, code: Code, reason: &[u8]) {
        self.connection.close(number(code.value()), reason);
    }
}

// === impl Both ===

impl Both {
    pub(super) fn fate(&self) -> Rc<Fate> {
        self.send.fate.clone()
    }

    /// Tells when the client wants no response any more.
    pub(super) fn gone(&self) -> Gone {
        self.send.gone()
    }
}

impl quic::BidiStream<Bytes> for Both {
    type SendStream = Send;
    type RecvStream = Receive;

    fn split(self) -> (Send, Receive) {
        (self.send, self.receive)
    }
}

impl quic::RecvStream for Both {
    type Buf = Bytes;

    fn poll_data(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Bytes>, StreamErrorIncoming>> {
        self.receive.poll_data(cx)
    }

    fn stop_sending(&mut self, code: u64) {
        self.receive.stop_sending(code);
    }

    fn recv_id(&self) -> StreamId {
        self.receive.recv_id()
    }
}

impl quic::SendStream<Bytes> for Both {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        self.send.poll_ready(cx)
    }

    fn send_data<T: Into<WriteBuf<Bytes>>>(&mut self, data: T) -> Result<(), StreamErrorIncoming> {
        self.send.send_data(data)
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        self.send.poll_finish(cx)
    }

    fn reset(&mut self, code: u64) {
        self.send.reset(code);
    }

    fn send_id(&self) -> StreamId {
        self.send.send_id()
    }
}

// === impl Send ===

impl Send {
    fn gone(&self) -> Gone {
        let stopped = self.stream.stopped();
        Box::pin(async move { !matches!(stopped.await, Ok(None)) })
    }

    /// The client takes nothing now: the response is given up when that was so for too long, whatever
    /// else the client does on the connection meanwhile.
    fn poll_give_up(&mut self, cx: &mut Context<'_>) -> Poll<StreamErrorIncoming> {
        if !self.fate.is_asked.get() {
            // The connection's own streams, without which there is none.
            return Poll::Pending;
        }
        // Woken, but not by the timer: the connection had room, which other streams have taken. quinn
        // does not wake a stream for that whose own window is shut. (Or by what else its task waits
        // for, a few times.)
        if !mem::replace(&mut self.waits, true) || !self.patience.is_over() {
            self.patience.renew();
        }
        ready!(self.patience.poll_end(cx));
        Poll::Ready(self.give_up())
    }

    /// As any response that is abandoned half way (RFC 9114, section 4.1.1).
    fn give_up(&mut self) -> StreamErrorIncoming {
        let code = Code::H3_REQUEST_CANCELLED;
        self.fate.fail(code);
        terminated(code)
    }

    /// The client does not have all of it yet. How much it has, quinn does not tell: it is given up
    /// when for too long nothing was sent on any stream, as windows are shut then.
    fn poll_stand_still(&mut self, cx: &mut Context<'_>) -> Poll<StreamErrorIncoming> {
        while self.patience.poll_end(cx).is_ready() {
            let sent = self.connection.stats().frame_tx.stream;
            if mem::replace(&mut self.sent, sent) == sent {
                return Poll::Ready(self.give_up());
            }
            self.patience.renew();
        }
        Poll::Pending
    }
}

impl quic::SendStream<Bytes> for Send {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        if let Some(data) = &mut self.writing {
            while data.has_remaining() {
                let Poll::Ready(written) = Pin::new(&mut self.stream).poll_write(cx, data.chunk())
                else {
                    return self.poll_give_up(cx).map(Err);
                };
                data.advance(written.map_err(unwritten)?);
                self.waits = false;
            }
        }
        self.writing = None;
        Poll::Ready(Ok(()))
    }

    fn send_data<T: Into<WriteBuf<Bytes>>>(&mut self, data: T) -> Result<(), StreamErrorIncoming> {
        if self.writing.is_some() {
            let reason = "data before the last is written".to_owned();
            return Err(of_stream(ConnectionErrorIncoming::InternalError(reason)));
        }
        self.writing = Some(data.into());
        Ok(())
    }

    /// Ends the stream and waits until the client has all of it: a connection that is closed before
    /// would take the rest away.
    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        if !self.is_finished {
            self.is_finished = true;
            let finished = self.stream.finish();
            finished.map_err(|error| StreamErrorIncoming::Unknown(Box::new(error)))?;
            self.delivered = Some(self.gone());
            self.patience.renew();
        }
        if let Some(delivered) = &mut self.delivered {
            if delivered.as_mut().poll(cx).is_pending() {
                return self.poll_stand_still(cx).map(Err);
            }
            self.delivered = None;
        }
        Poll::Ready(Ok(()))
    }

    fn reset(&mut self, code: u64) {
        self.is_finished = true;
        // It may have ended already.
        let _ = self.stream.reset(number(code));
    }

    fn send_id(&self) -> StreamId {
        id(self.stream.id())
    }
}

impl Drop for Send {
    fn drop(&mut self) {
        let broken = self.fate.is_asked.get() && !self.is_finished;
        let code = self.fate.fault.get().or(broken.then_some(Code::H3_INTERNAL_ERROR));
        if let Some(code) = code {
            self.reset(code.value());
        }
    }
}

// === impl Receive ===

impl Receive {
    /// The stream is given up.
    fn fail(&mut self, code: Code) -> Poll<Result<Option<Bytes>, StreamErrorIncoming>> {
        self.fate.fail(code);
        self.stop(code.value());
        Poll::Ready(Err(terminated(code)))
    }

    fn stop(&mut self, code: u64) {
        self.is_read = true;
        // It may have ended already.
        let _ = self.stream.stop(number(code));
    }
}

impl quic::RecvStream for Receive {
    type Buf = Bytes;

    fn poll_data(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Bytes>, StreamErrorIncoming>> {
        // For ever: what follows a fault is not looked at.
        if let Some(code) = self.fate.fault.get() {
            return self.fail(code);
        }
        loop {
            match self.guard.next() {
                Ok(Some(bytes)) => return Poll::Ready(Ok(Some(bytes))),
                Ok(None) => {}
                Err(code) => return self.fail(code),
            }
            if self.is_read {
                return Poll::Ready(Ok(None));
            }
            // The future holds nothing between polls, so it can be made anew each time.
            let read = ready!(pin!(self.stream.read_chunk(usize::MAX, true)).poll(cx));
            match read.map_err(unread)? {
                Some(chunk) => self.guard.push(chunk.bytes),
                None => {
                    self.is_read = true;
                    if let Err(code) = self.guard.end() {
                        return self.fail(code);
                    }
                }
            }
        }
    }

    fn stop_sending(&mut self, code: u64) {
        self.stop(code);
    }

    fn recv_id(&self) -> StreamId {
        id(self.stream.id())
    }
}

impl Drop for Receive {
    fn drop(&mut self) {
        if !self.is_read {
            // The response does not need the rest of the request (RFC 9114, section 4.1).
            let code = self.fate.fault.get().unwrap_or(Code::H3_NO_ERROR);
            self.stop(code.value());
        }
    }
}

/// A code as quinn has it.
pub(super) fn number(code: u64) -> VarInt {
    VarInt::from_u64(code).unwrap_or(VarInt::MAX)
}

fn id(id: quinn::StreamId) -> StreamId {
    use ::h3::proto::varint::VarInt as Number;
    // quinn's ids have 62 bits too.
    Number::from_u64(VarInt::from(id).into_inner()).unwrap_or(Number::MAX).into()
}

fn lost(error: ConnectionError) -> ConnectionErrorIncoming {
    match error {
        ConnectionError::ApplicationClosed(close) => {
            ConnectionErrorIncoming::ApplicationClose { error_code: close.error_code.into_inner() }
        }
        ConnectionError::TimedOut => ConnectionErrorIncoming::Timeout,
        error => ConnectionErrorIncoming::Undefined(Arc::new(error)),
    }
}

fn terminated(code: Code) -> StreamErrorIncoming {
    StreamErrorIncoming::StreamTerminated { error_code: code.value() }
}

fn of_stream(connection_error: ConnectionErrorIncoming) -> StreamErrorIncoming {
    StreamErrorIncoming::ConnectionErrorIncoming { connection_error }
}

fn unread(error: ReadError) -> StreamErrorIncoming {
    match error {
        ReadError::Reset(code) => {
            StreamErrorIncoming::StreamTerminated { error_code: code.into_inner() }
        }
        ReadError::ConnectionLost(error) => of_stream(lost(error)),
        error => StreamErrorIncoming::Unknown(Box::new(error)),
    }
}

fn unwritten(error: WriteError) -> StreamErrorIncoming {
    match error {
        WriteError::Stopped(code) => {
            StreamErrorIncoming::StreamTerminated { error_code: code.into_inner() }
        }
        WriteError::ConnectionLost(error) => of_stream(lost(error)),
        error => StreamErrorIncoming::Unknown(Box::new(error)),
    }
}
