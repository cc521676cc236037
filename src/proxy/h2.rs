//! HTTP/2 with a client.
//!
//! The connection's task ([`Serving`]) reads frames and writes what there is to write; each request
//! is a task of its own on the same thread ([`answer`]) that runs the pipeline and leaves its frames
//! on the [`wire`], so that the responses which become ready in one turn of the loop leave in one
//! write. Bodies come and go by [`stream`]s and [`upload`]s, within the windows of both sides.
//!
//! Source: RFC 9113.

mod answer;
mod stream;
mod upload;
mod wire;

use std::future::poll_fn;
use std::mem;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use http::{Method, Request, StatusCode, Version};

pub(super) use self::upload::Upload;

use self::answer::Answering;
use self::stream::{Stream, Unfit};
use self::wire::Wire;
use super::connection::{Downstream, End, close};
use super::exchange::Incoming;
use super::streams::{PARTING, STREAM_WINDOW_BYTES, STREAMS, Tally};
use super::{Worker, pipeline};
use crate::clock;
use crate::http1::framing::READ_BYTES;
use crate::http1::request::LONGEST_BYTES;
use crate::http2::frame::{self, Frame, LAST_STREAM};
use crate::http2::head::{Head, LastAuthority, Refused, Section};
use crate::http2::hpack::Decoder;
use crate::http2::{Code, Fault, preface, settings};
use crate::tls;

/// The table that clients' header blocks may refer to (RFC 7541, section 4.2): what they take it to
/// be before something else is said.
const TABLE_BYTES: usize = 4096;

/// A header block may come in so many frames, and be so long; encoded, a list of fields is hardly
/// ever longer than its reckoned size.
const MOST_FRAMES: u32 = 64;
const LONGEST_BLOCK_BYTES: usize = LONGEST_BYTES + 16 * 1024;

/// So much may come that is neither a request nor its body: after that it is a flood. A byte of a
/// body, either way, and of what a request's head takes at least, makes up for several of it: there
/// are clients that open their windows again for every few bytes (nginx's bounds).
const IDLE_TALK_BYTES: u64 = 1024 * 1024;
const MADE_UP_FOR: u64 = 8;

/// What a client that is told to go answers when it knows that.
const FAREWELL: [u8; 8] = *b"farewell";

/// A connection.
struct Serving {
    io: tls::stream::Stream,
    /// Read, but not yet taken.
    input: BytesMut,
    wire: Rc<Wire>,
    decoder: Decoder,
    authority: LastAuthority,
    has_greeted: bool,
    /// A header block that has begun to come.
    block: Option<Block>,
    /// The highest stream that the client has opened.
    last: u32,
    idle_talk: u64,
    /// How much data of responses that has been made up by.
    sent: u64,
    /// When the client was told to go, and whether it knows.
    told: Option<Instant>,
    knows: bool,
    tally: Rc<Tally>,
    worker: Rc<Worker>,
    downstream: Rc<Downstream>,
}

struct Block {
    stream: u32,
    ends: bool,
    bytes: Vec<u8>,
    frames: u32,
}

/// Serves the connection to its end.
pub(super) async fn serve(
    worker: &Rc<Worker>,
    downstream: Rc<Downstream>,
    stream: tls::stream::Stream,
) -> Result<(), End> {
    let wire = Wire::new(worker.clone(), downstream.slot.clone());
    wire.greet();
    let mut serving = Serving {
        io: stream,
        input: BytesMut::new(),
        wire,
        decoder: Decoder::new(TABLE_BYTES),
        authority: LastAuthority::default(),
        has_greeted: false,
        block: None,
        last: 0,
        idle_talk: 0,
        sent: 0,
        told: None,
        knows: false,
        tally: Rc::default(),
        worker: worker.clone(),
        downstream,
    };
    let served = poll_fn(|cx| serving.poll(cx)).await;
    serving.wire.remove_all();
    let lingers = match &served {
        // It may still send what nobody wants any more; where it has ended its side, that is known
        // at once.
        Ok(()) => true,
        Err(End::Http2(fault)) => {
            serving.wire.write(|out| frame::write_go_away(out, serving.last, fault.code));
            // Who sends too much is not listened to.
            fault.code != Code::ENHANCE_YOUR_CALM
        }
        Err(_) => return served,
    };
    let flushed = poll_fn(|cx| serving.wire.poll_flush(&mut serving.io, cx));
    tokio::time::timeout(PARTING, flushed).await.map_err(|_| End::Overdue)??;
    Box::pin(close(worker, serving.io, lingers)).await?;
    served
}

// === impl Serving ===

impl Serving {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), End>> {
        self.wire.woken_by(cx.waker());
        self.part()?;
        loop {
            let took_all = self.take_frames()?;
            let flushed = self.wire.poll_flush(&mut self.io, cx)?;
            if self.knows && self.wire.streams() == 0 {
                return flushed.map(|()| Ok(()));
            }
            if !took_all {
                // What is read now would ask for more than the client takes.
                ready!(flushed);
                continue;
            }
            if ready!(self.poll_fill(cx))? == 0 {
                return Poll::Ready(if self.wire.streams() == 0 { Ok(()) } else { Err(End::Gone) });
            }
        }
    }

    /// Tells the client to go, where it has to; what is under way is finished.
    ///
    /// Twice, as it may have asked for more before it knows (RFC 9113, section 6.8): what it asks
    /// for until it has answered a ping is served too.
    fn part(&mut self) -> Result<(), End> {
        let overdue = self.downstream.slot.is_overdue();
        match self.told {
            None if overdue || self.worker.roster.is_draining() => {
                self.told = Some(Instant::now());
                self.wire.write(|out| {
                    frame::write_go_away(out, LAST_STREAM, Code::NO_ERROR);
                    frame::write_ping(out, FAREWELL);
                });
                Ok(())
            }
            Some(at) if at.elapsed() > PARTING => {
                // It has had the time to say so.
                self.take_leave();
                if overdue { Err(End::Overdue) } else { Ok(()) }
            }
            _ => Ok(()),
        }
    }

    /// The client knows that it is to go: what it has not asked for by now is not served any more.
    fn take_leave(&mut self) {
        if !mem::replace(&mut self.knows, true) {
            self.wire.write(|out| frame::write_go_away(out, self.last, Code::NO_ERROR));
        }
    }

    /// Reads what there is behind what is there already.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Result<usize>> {
        let slot = &self.downstream.slot;
        if self.input.is_empty() {
            if self.block.is_some() {
                slot.reads_head();
            } else {
                slot.has_read();
            }
            // An empty rest would hold on to what it was a rest of.
            self.input = BytesMut::new();
            return self.worker.buffers.poll_fill(&mut self.io, &mut self.input, cx);
        }
        slot.reads_head();
        self.io.poll_fill(&mut self.input, READ_BYTES, cx)
    }

    /// Takes the frames that have come; whether those were all that could be taken.
    ///
    /// # Errors
    /// [`Fault`], which ends the connection.
    fn take_frames(&mut self) -> Result<bool, Fault> {
        if !self.has_greeted {
            self.has_greeted = preface::take(&mut self.input)?;
            if !self.has_greeted {
                return Ok(true);
            }
        }
        let sent = self.wire.sent();
        let more = sent - mem::replace(&mut self.sent, sent);
        self.make_up(more);
        while !self.wire.is_full() {
            let Some((frame, bytes)) = frame::take(&mut self.input)? else {
                return Ok(true);
            };
            self.handle(frame, bytes)?;
        }
        Ok(false)
    }

    fn handle(&mut self, frame: Frame, bytes: usize) -> Result<(), Fault> {
        if self.block.is_some() && !matches!(frame, Frame::Continuation { .. }) {
            return Err(Code::PROTOCOL_ERROR.because("a header block is interrupted"));
        }
        match frame {
            Frame::Data { stream, data, counted, ends } => {
                if data.is_empty() && !ends {
                    self.talk(bytes)?;
                }
                return self.data(stream, data, counted, ends);
            }
            Frame::Headers { stream, block, ends, is_whole: true } => {
                return self.section(stream, ends, &block);
            }
            Frame::Headers { stream, block, ends, is_whole: false } => {
                self.block = Some(Block { stream, ends, bytes: block.to_vec(), frames: 1 });
                return Ok(());
            }
            Frame::Continuation { stream, block, is_whole } => {
                return self.go_on(stream, &block, is_whole);
            }
            Frame::WindowUpdate { stream: 0, increment: 0 } => {
                return Err(Code::PROTOCOL_ERROR.because("a window is widened by nothing"));
            }
            Frame::WindowUpdate { stream: 0, increment } => self.wire.widen(increment)?,
            Frame::WindowUpdate { stream, increment } => {
                if let Some(stream) = self.known(stream)? {
                    self.widen(&stream, increment)?;
                }
            }
            Frame::Reset { stream } => {
                if let Some(stream) = self.known(stream)? {
                    self.wire.remove(&stream);
                    stream.end();
                    self.check_tally()?;
                }
            }
            Frame::Settings(payload) => {
                for setting in settings::read(&payload) {
                    self.wire.set(setting?)?;
                }
                self.wire.write(frame::write_settings_ack);
            }
            Frame::Ping(payload) => self.wire.write(|out| frame::write_pong(out, payload)),
            Frame::Pong(FAREWELL) if self.told.is_some() => self.take_leave(),
            Frame::Pong(_) | Frame::SettingsAck | Frame::Other => {}
        }
        self.talk(bytes)
    }

    /// A frame has come that brings nothing of a request.
    fn talk(&mut self, bytes: usize) -> Result<(), Fault> {
        self.idle_talk += bytes as u64;
        if self.idle_talk > IDLE_TALK_BYTES {
            return Err(Code::ENHANCE_YOUR_CALM.because("frames come and no requests"));
        }
        Ok(())
    }

    /// So much of a head or a body has come, or of a body was sent.
    fn make_up(&mut self, bytes: u64) {
        self.idle_talk = self.idle_talk.saturating_sub(MADE_UP_FOR * bytes);
    }

    /// What is left of a stream, if anything is.
    fn known(&self, id: u32) -> Result<Option<Rc<Stream>>, Fault> {
        if id > self.last || id.is_multiple_of(2) {
            return Err(Code::PROTOCOL_ERROR.because("a stream goes on that has not begun"));
        }
        Ok(self.wire.stream(id))
    }

    fn check_tally(&self) -> Result<(), Fault> {
        if self.tally.is_too_much() {
            return Err(Code::ENHANCE_YOUR_CALM.because("requests are taken back"));
        }
        Ok(())
    }

    /// Resets a stream for a fault of the client's.
    fn reset(&self, stream: &Stream, code: Code) -> Result<(), Fault> {
        self.wire.reset(stream, code);
        self.check_tally()
    }

    fn data(&mut self, id: u32, data: Bytes, counted: u32, ends: bool) -> Result<(), Fault> {
        self.wire.receive(counted)?;
        let Some(stream) = self.known(id)? else {
            self.wire.release(counted);
            return self.wire.ignore(frame::HEAD_BYTES + counted as usize);
        };
        self.make_up(data.len() as u64);
        match stream.receive(data, counted, ends) {
            Ok(0) => Ok(()),
            Ok(unused) => {
                self.wire.release_of(&stream, unused);
                Ok(())
            }
            Err(unfit) => {
                self.wire.release(counted);
                self.reset(&stream, code_of(unfit))
            }
        }
    }

    fn widen(&self, stream: &Stream, increment: u32) -> Result<(), Fault> {
        match stream.widen(i64::from(increment)) {
            _ if increment == 0 => self.reset(stream, Code::PROTOCOL_ERROR),
            Ok(()) => Ok(()),
            Err(_) => self.reset(stream, Code::FLOW_CONTROL_ERROR),
        }
    }

    /// A header block goes on.
    fn go_on(&mut self, stream: u32, block: &[u8], is_whole: bool) -> Result<(), Fault> {
        let begun = self.block.as_mut().filter(|begun| begun.stream == stream);
        let Some(begun) = begun else {
            return Err(Code::PROTOCOL_ERROR.because("a header block goes on that has not begun"));
        };
        begun.bytes.extend_from_slice(block);
        begun.frames += 1;
        if begun.frames > MOST_FRAMES || begun.bytes.len() > LONGEST_BLOCK_BYTES {
            return Err(Code::ENHANCE_YOUR_CALM.because("a header block has no end"));
        }
        if is_whole && let Some(Block { stream, ends, bytes, .. }) = self.block.take() {
            return self.section(stream, ends, &bytes);
        }
        Ok(())
    }

    /// A header block has come: a request's head, or trailers.
    fn section(&mut self, id: u32, ends: bool, block: &[u8]) -> Result<(), Fault> {
        let mut section = Section::of(block.len());
        self.decoder
            .decode(block, |field, bytes| section.add(field, bytes))
            .map_err(|_| Code::COMPRESSION_ERROR.because("a header block cannot be read"))?;
        if id > self.last {
            return self.open(id, ends, section, block.len());
        }
        let Some(stream) = self.known(id)? else {
            return self.wire.ignore(frame::HEAD_BYTES + block.len());
        };
        let trailers = section.into_trailers();
        match trailers {
            _ if stream.has_ended() => self.reset(&stream, Code::STREAM_CLOSED),
            Ok(trailers) if ends => match stream.finish(trailers) {
                Ok(()) => Ok(()),
                Err(unfit) => self.reset(&stream, code_of(unfit)),
            },
            Err(Refused::TooLarge) => self.reset(&stream, Code::ENHANCE_YOUR_CALM),
            _ => self.reset(&stream, Code::PROTOCOL_ERROR),
        }
    }

    /// A request has come.
    fn open(&mut self, id: u32, ends: bool, section: Section, bytes: usize) -> Result<(), Fault> {
        if id.is_multiple_of(2) {
            return Err(Code::PROTOCOL_ERROR.because("a client opens a server's stream"));
        }
        self.last = id;
        let coming = if ends { 0 } else { STREAM_WINDOW_BYTES };
        // As the farewell says, and the settings; the client may ask again.
        if self.knows || self.wire.streams() >= STREAMS as usize {
            self.wire.refuse(id, Code::REFUSED_STREAM, coming);
            return self.talk(frame::HEAD_BYTES + bytes);
        }
        let asked = self.tally.asked();
        let head = match section.into_head(&mut self.authority, ends) {
            Ok(head) => Some(head),
            Err(Refused::TooLarge) => None,
            Err(Refused::Malformed) => {
                drop(asked);
                self.wire.refuse(id, Code::PROTOCOL_ERROR, coming);
                return self.check_tally();
            }
        };
        self.make_up(frame::HEAD_BYTES as u64);
        let length = head.as_ref().and_then(|head| head.length);
        let stream = Rc::new(Stream::new(id, self.wire.stream_window(), asked, length, ends));
        self.wire.add(stream.clone());
        self.answer(stream, head, ends);
        Ok(())
    }

    /// Has a task answer a request; one without a head had too large a one.
    fn answer(&self, stream: Rc<Stream>, head: Option<Head>, ends: bool) {
        let (worker, downstream) = (self.worker.clone(), self.downstream.clone());
        let is_head = head.as_ref().is_some_and(|head| head.method == Method::HEAD);
        let wire = self.wire.clone();
        let answering = Answering { wire: wire.clone(), stream: stream.clone(), is_head };
        let Some(head) = head else {
            let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
            let response = pipeline::refuse(worker, downstream, Box::default(), status);
            tokio::task::spawn_local(clock::timed(answering.run(std::future::ready(response))));
            return;
        };
        let (mut parts, ()) = Request::new(()).into_parts();
        (parts.method, parts.uri, parts.headers) = (head.method, head.uri, head.headers);
        parts.version = Version::HTTP_2;
        let incoming = if ends {
            Incoming::None
        } else {
            Incoming::H2(Upload::new(wire, stream, head.expects_continue))
        };
        let running = pipeline::run(worker, downstream, parts, incoming);
        tokio::task::spawn_local(clock::timed(answering.run(running)));
    }
}

/// What the client is told of a piece of a body that cannot be.
fn code_of(unfit: Unfit) -> Code {
    match unfit {
        Unfit::Late => Code::STREAM_CLOSED,
        Unfit::TooMuch => Code::FLOW_CONTROL_ERROR,
        Unfit::OfAnotherLength => Code::PROTOCOL_ERROR,
    }
}
