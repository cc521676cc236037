//! What the streams of a connection share: the bytes on their way out, the windows, and whose turn
//! it is to write.
//!
//! A stream's task writes its head and its data here; the connection's task, which is woken by
//! that, has all of them leave in one write. Data waits for the client's windows, and for its turn
//! where more is waiting than leaves at once: streams are served in the order in which they asked,
//! a frame each.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::mem;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, StatusCode, header};
use tokio::io::AsyncWrite;

use super::stream::Stream;
use crate::http1::fields::is_of_connection;
use crate::http1::request::LONGEST_BYTES;
use crate::http1::response::is_without_body;
use crate::http2::frame::{self, LARGEST_BYTES};
use crate::http2::hpack::Encoder;
use crate::http2::output::Output;
use crate::http2::settings::{
    FIRST_WINDOW_BYTES, INITIAL_WINDOW_SIZE, MAX_CONCURRENT_STREAMS, MAX_HEADER_LIST_SIZE, Setting,
};
use crate::http2::window::{Receiving, Sending};
use crate::http2::{Code, Fault};
use crate::proxy::Worker;
use crate::proxy::patience::Patience;
use crate::proxy::roster::Slot;
use crate::proxy::streams::{CONNECTION_WINDOW_BYTES, STREAM_WINDOW_BYTES, STREAMS};

/// So much is gathered before it has to leave.
const FULL_BYTES: usize = 4 * LARGEST_BYTES;

/// So much may come of a stream that was reset besides data: its last frames.
const IGNORABLE_BYTES: u64 = 4 * 1024;

const WINDOW_OVERFLOW: Fault =
    Code::FLOW_CONTROL_ERROR.because("a window is larger than any may be");

/// What the streams of a connection share.
pub(super) struct Wire {
    state: RefCell<State>,
    worker: Rc<Worker>,
    pub(super) slot: Rc<Slot>,
}

struct State {
    output: Output,
    encoder: Encoder,
    /// What the client takes on the connection, and what each of its streams begins with.
    window: Sending,
    stream_window: u32,
    /// What may come of request bodies.
    receiving: Receiving,
    /// Those that are not over, by id.
    streams: Vec<Rc<Stream>>,
    /// Those of them that have data and wait for their turn.
    waiting: VecDeque<Rc<Stream>>,
    /// Turns that were given and not taken yet.
    granted: usize,
    /// Data that has been written.
    sent: u64,
    /// What may still come of streams that were reset, since the client does not know yet.
    ignorable: u64,
    /// The connection's task, and whether it knows that there is something to do.
    waker: Option<Waker>,
    is_woken: bool,
}

// === impl Wire ===

impl Wire {
    pub(super) fn new(worker: Rc<Worker>, slot: Rc<Slot>) -> Rc<Self> {
        let state = State {
            output: Output::default(),
            encoder: Encoder::new(),
            window: Sending::new(FIRST_WINDOW_BYTES),
            stream_window: FIRST_WINDOW_BYTES,
            receiving: Receiving::new(CONNECTION_WINDOW_BYTES),
            streams: Vec::new(),
            waiting: VecDeque::new(),
            granted: 0,
            sent: 0,
            ignorable: 0,
            waker: None,
            is_woken: false,
        };
        Rc::new(Self { state: RefCell::new(state), worker, slot })
    }

    /// Says what the connection is like.
    pub(super) fn greet(&self) {
        let settings = [
            (MAX_CONCURRENT_STREAMS, STREAMS),
            (INITIAL_WINDOW_SIZE, STREAM_WINDOW_BYTES),
            (MAX_HEADER_LIST_SIZE, LONGEST_BYTES as u32),
        ];
        self.write(|out| {
            frame::write_settings(out, &settings);
            let more = CONNECTION_WINDOW_BYTES - FIRST_WINDOW_BYTES;
            frame::write_window_update(out, 0, more);
        });
    }

    /// Writes frames of the connection.
    pub(super) fn write(&self, write: impl FnOnce(&mut BytesMut)) {
        write(self.lines(&mut self.state.borrow_mut()));
    }

    /// The connection's task begins a turn; it is woken from now on.
    pub(super) fn woken_by(&self, waker: &Waker) {
        let state = &mut *self.state.borrow_mut();
        state.is_woken = false;
        if !state.waker.as_ref().is_some_and(|known| known.will_wake(waker)) {
            state.waker = Some(waker.clone());
        }
    }

    /// The stream `id`, if it is not over.
    pub(super) fn stream(&self, id: u32) -> Option<Rc<Stream>> {
        let state = self.state.borrow();
        let at = state.find(id)?;
        Some(state.streams[at].clone())
    }

    /// How many streams there are.
    pub(super) fn streams(&self) -> usize {
        self.state.borrow().streams.len()
    }

    /// A window for the responses of a new stream.
    pub(super) fn stream_window(&self) -> Sending {
        Sending::new(self.state.borrow().stream_window)
    }

    /// Adds a stream; its id is the highest so far.
    pub(super) fn add(&self, stream: Rc<Stream>) {
        self.state.borrow_mut().streams.push(stream);
    }

    /// The response is written. What of the request has not come is not wanted any more.
    pub(super) fn finish(&self, stream: &Stream) {
        if stream.has_ended() {
            self.remove(stream);
        } else {
            self.reset(stream, Code::NO_ERROR);
        }
    }

    /// Resets a stream.
    pub(super) fn reset(&self, stream: &Stream, code: Code) {
        self.remove(stream);
        stream.end();
        self.refuse(stream.id, code, stream.may_still_come());
    }

    /// Resets a stream that is none here: `coming` bytes may come of it all the same.
    pub(super) fn refuse(&self, id: u32, code: Code, coming: u32) {
        let state = &mut *self.state.borrow_mut();
        state.ignorable += u64::from(coming) + IGNORABLE_BYTES;
        frame::write_reset(self.lines(state), id, code);
        state.wake();
    }

    /// Something came of a stream that is over.
    ///
    /// # Errors
    /// [`Fault`]: the client knows that it is.
    pub(super) fn ignore(&self, bytes: usize) -> Result<(), Fault> {
        let state = &mut *self.state.borrow_mut();
        let fault = Code::STREAM_CLOSED.because("a stream goes on that is over");
        state.ignorable = state.ignorable.checked_sub(bytes as u64).ok_or(fault)?;
        Ok(())
    }

    /// Takes a stream out that is over.
    pub(super) fn remove(&self, stream: &Stream) {
        let state = &mut *self.state.borrow_mut();
        if let Some(at) = state.find(stream.id) {
            state.streams.remove(at);
        }
        self.release_to(state, stream.leave_unread());
        // Not left to its turn, which does not come while the client takes nothing.
        if stream.queued.take() {
            state.waiting.retain(|waiting| waiting.id != stream.id);
        }
        if stream.granted.take() {
            state.granted -= 1;
            state.grant();
        }
        // It may be the last that was waited for.
        state.wake();
    }

    /// Ends every stream.
    pub(super) fn remove_all(&self) {
        let state = &mut *self.state.borrow_mut();
        state.waiting.clear();
        for stream in state.streams.drain(..) {
            stream.end();
        }
    }

    /// Does as the client's settings say.
    ///
    /// # Errors
    /// [`Fault`]: a window cannot be as large.
    pub(super) fn set(&self, setting: Setting) -> Result<(), Fault> {
        let state = &mut *self.state.borrow_mut();
        match setting {
            Setting::TableBytes(bytes) => state.encoder.resize(bytes),
            Setting::Window(bytes) => {
                let by = i64::from(bytes) - i64::from(state.stream_window);
                state.stream_window = bytes;
                for stream in &state.streams {
                    stream.widen(by).map_err(|_| WINDOW_OVERFLOW)?;
                }
            }
        }
        Ok(())
    }

    /// The client takes more on the connection.
    ///
    /// # Errors
    /// [`Fault`]: more than it may.
    pub(super) fn widen(&self, by: u32) -> Result<(), Fault> {
        let state = &mut *self.state.borrow_mut();
        state.window.shift(i64::from(by)).map_err(|_| WINDOW_OVERFLOW)?;
        state.grant();
        Ok(())
    }

    /// So much of a request's body has come.
    ///
    /// # Errors
    /// [`Fault`]: more than may.
    pub(super) fn receive(&self, counted: u32) -> Result<(), Fault> {
        let fault = Code::FLOW_CONTROL_ERROR.because("more data comes than the window lets");
        self.state.borrow_mut().receiving.take(counted).map_err(|_| fault)
    }

    /// There is room for so many bytes of any stream.
    pub(super) fn release(&self, bytes: u32) {
        self.release_to(&mut self.state.borrow_mut(), bytes);
    }

    /// There is room for so many bytes of `stream`.
    pub(super) fn release_of(&self, stream: &Stream, bytes: u32) {
        let state = &mut *self.state.borrow_mut();
        if let Some(told) = stream.release(bytes) {
            frame::write_window_update(self.lines(state), stream.id, told);
            state.wake();
        }
        self.release_to(state, bytes);
    }

    /// Tells the client to send its body.
    pub(super) fn write_continue(&self, stream: &Stream) {
        self.write_section(stream, false, |encoder, out| {
            encoder.status(StatusCode::CONTINUE, out);
        });
    }

    /// Writes a response's head, with a date where it does not have one. If the `length` of its body
    /// is known, that is told, whatever the node said: it may have answered another method.
    pub(super) fn write_head(
        &self,
        stream: &Stream,
        parts: &http::response::Parts,
        length: Option<u64>,
        ends: bool,
    ) {
        let date = self.worker.date();
        let length = length.filter(|_| !is_without_body(parts.status));
        let mut is_dated = false;
        self.write_section(stream, ends, |encoder, out| {
            encoder.status(parts.status, out);
            for (name, value) in &parts.headers {
                if is_of_connection(name) {
                    continue;
                }
                is_dated |= *name == header::DATE;
                if *name == header::CONTENT_LENGTH && length.is_some() {
                    continue;
                }
                encoder.field(name, value, out);
            }
            if !is_dated {
                encoder.field(&header::DATE, &date, out);
            }
            if let Some(length) = length {
                encoder.field(&header::CONTENT_LENGTH, &length.into(), out);
            }
        });
    }

    /// Writes the trailers with which a response ends.
    pub(super) fn write_trailers(&self, stream: &Stream, trailers: &HeaderMap) {
        self.write_section(stream, true, |encoder, out| {
            for (name, value) in trailers {
                if !is_of_connection(name) {
                    encoder.field(name, value, out);
                }
            }
        });
    }

    /// Writes a header block.
    fn write_section(
        &self,
        stream: &Stream,
        ends: bool,
        write: impl FnOnce(&mut Encoder, &mut BytesMut),
    ) {
        let state = &mut *self.state.borrow_mut();
        self.make_room(state);
        let State { output, encoder, .. } = state;
        frame::write_headers(output.lines(), stream.id, ends, |out| {
            encoder.begin(out);
            write(encoder, out);
        });
        state.wake();
    }

    /// Writes as much of `data` as may be written now; the stream's task is woken when that may
    /// be more. The frame that takes the last of it ends the stream if it `ends`.
    pub(super) fn poll_write_data(
        &self,
        stream: &Rc<Stream>,
        data: &mut Bytes,
        ends: bool,
    ) -> Poll<()> {
        let state = &mut *self.state.borrow_mut();
        let mut wrote = false;
        // An end without data takes no window.
        while !data.is_empty() || (ends && !wrote) {
            let bytes = if data.is_empty() { 0 } else { state.take_turn(stream, data.len()) };
            if bytes == 0 && !data.is_empty() {
                return Poll::Pending;
            }
            let piece = data.split_to(bytes);
            let is_last = ends && data.is_empty();
            frame::write_data_head(self.lines(state), stream.id, bytes, is_last);
            state.output.data(piece);
            state.sent += bytes as u64;
            state.wake();
            wrote = true;
        }
        Poll::Ready(())
    }

    /// How much data has been written.
    pub(super) fn sent(&self) -> u64 {
        self.state.borrow().sent
    }

    /// How long a client may take nothing of a response.
    pub(super) fn patience(&self) -> Patience {
        Patience::new(self.worker.settings.send_timeout)
    }

    /// Whether so much waits to be written that nothing should be read that asks for more.
    pub(super) fn is_full(&self) -> bool {
        self.state.borrow().output.len() >= FULL_BYTES
    }

    fn release_to(&self, state: &mut State, bytes: u32) {
        if bytes > 0
            && let Some(told) = state.receiving.release(bytes)
        {
            frame::write_window_update(self.lines(state), 0, told);
            state.wake();
        }
    }

    /// Has frames written to the worker's buffer, where the connection has none of its own.
    fn make_room(&self, state: &mut State) {
        let lines = state.output.lines();
        if lines.capacity() == 0 {
            *lines = self.worker.buffers.lines();
        }
    }

    /// Where frames are written to.
    fn lines<'a>(&self, state: &'a mut State) -> &'a mut BytesMut {
        self.make_room(state);
        state.output.lines()
    }

    /// Writes what there is.
    ///
    /// # Errors
    /// What the stream says.
    pub(super) fn poll_flush(
        &self,
        io: &mut (impl AsyncWrite + Unpin),
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        let state = &mut *self.state.borrow_mut();
        let before = state.output.len();
        let written = state.output.poll_write(io, cx);
        if state.output.len() < before {
            self.slot.moved();
            state.grant();
        }
        self.slot.set_stuck(written.is_pending());
        if written.is_ready() {
            self.worker.buffers.give_back(mem::take(state.output.lines()));
        }
        written
    }
}

// === impl State ===

impl State {
    fn find(&self, id: u32) -> Option<usize> {
        self.streams.binary_search_by_key(&id, |stream| stream.id).ok()
    }

    /// Has the connection's task look at what there is.
    fn wake(&mut self) {
        if !mem::replace(&mut self.is_woken, true)
            && let Some(waker) = &self.waker
        {
            waker.wake_by_ref();
        }
    }

    /// Whether another frame may be written, besides those whose turn it is.
    fn has_room(&self) -> bool {
        let kept = self.granted * LARGEST_BYTES;
        self.window.bytes() > kept && self.output.len() + kept < FULL_BYTES
    }

    /// Gives turns to those that wait, as many as there is room for.
    fn grant(&mut self) {
        while self.has_room()
            && let Some(stream) = self.waiting.pop_front()
        {
            stream.queued.set(false);
            stream.granted.set(true);
            self.granted += 1;
            stream.wake();
        }
    }

    /// Takes as much of both windows as may be written of `bytes` now: nothing where the stream has
    /// to wait.
    fn take_turn(&mut self, stream: &Rc<Stream>, bytes: usize) -> usize {
        let is_granted = stream.granted.take();
        if is_granted {
            self.granted -= 1;
        }
        let mut window = stream.window.get();
        if window.bytes() == 0 {
            // Its own window is told to its task; its turn is another's.
            self.grant();
            return 0;
        }
        // For who has the turn there is room, in the window too: it was kept.
        let is_alone = self.granted == 0 && self.waiting.is_empty();
        let is_next = is_granted || (is_alone && self.has_room());
        if !is_next {
            if !stream.queued.replace(true) {
                self.waiting.push_back(stream.clone());
            }
            // Its turn may come before anything leaves.
            self.grant();
            return 0;
        }
        let bytes = bytes.min(window.bytes()).min(self.window.bytes()).min(LARGEST_BYTES);
        window.take(bytes);
        stream.window.set(window);
        self.window.take(bytes);
        bytes
    }
}

#[cfg(test)]
mod tests;
