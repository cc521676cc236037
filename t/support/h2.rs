//! HTTP/2 by hand: frames out, frames in, nothing checked on the way out.
//!
//! Header blocks are written as literals without indexing, so that any bytes can be sent. What the
//! gateway sends is held to RFC 9113 in every test: windows, sizes of frames, header blocks, and
//! silence on streams that have ended.

mod frame;
mod answer;

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub use self::answer::{Answer, Outcome};
pub use self::frame::*;

use self::answer::status;
use super::PATIENCE;
use super::hpack::{Decoder, Fields};

/// The longest frame that this client takes.
const LONGEST_FRAME: usize = 16_384;

/// When a gateway that takes nothing is taken to have stopped reading.
const STANDSTILL: Duration = Duration::from_secs(3);

/// A connection by prior knowledge.
pub struct Connection {
    socket: TcpStream,
    received: BytesMut,
    /// Frames that were read in passing, while something was sent.
    aside: VecDeque<Frame>,
    decoder: Decoder,
    /// Whether windows are opened again by what comes.
    takes: bool,
    /// What the gateway may send, on the connection and on each stream that it has begun.
    window: i64,
    windows: HashMap<u32, i64>,
    initial_window: i64,
    /// The initial window as it was announced last.
    told_window: i64,
    /// What the gateway lets this client send, in the same way.
    lent: i64,
    lent_to: HashMap<u32, i64>,
    lent_at_first: i64,
    /// Streams that the gateway has ended.
    ended: HashSet<u32>,
    /// What waits for the gateway to acknowledge it.
    announced: VecDeque<Announced>,
    settings: HashMap<u16, u32>,
}

/// Settings of this client that the gateway need not keep to before it has seen them.
struct Announced {
    table: Option<usize>,
    /// How much smaller windows are.
    smaller: i64,
}

/// How far a flood got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flood {
    /// The gateway took all of it.
    Taken,
    /// The gateway reads no more.
    Stands,
    /// The gateway has ended the connection.
    Ended,
}

// === impl Connection ===

impl Connection {
    pub async fn open(port: u16) -> Self {
        Self::with(port, &[]).await
    }

    /// A connection whose client announces `settings`.
    pub async fn with(port: u16, settings: &[(u16, u32)]) -> Self {
        let mut connection = Self::silent(port).await;
        assert!(connection.write(PREFACE).await);
        assert!(connection.announce(settings).await);
        connection
    }

    /// A connection whose client has said nothing yet.
    pub async fn silent(port: u16) -> Self {
        let socket = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        socket.set_nodelay(true).unwrap();
        Self {
            socket,
            received: BytesMut::new(),
            aside: VecDeque::new(),
            decoder: Decoder::new(),
            takes: false,
            window: WINDOW_BYTES,
            windows: HashMap::new(),
            initial_window: WINDOW_BYTES,
            told_window: WINDOW_BYTES,
            lent: WINDOW_BYTES,
            lent_to: HashMap::new(),
            lent_at_first: WINDOW_BYTES,
            ended: HashSet::new(),
            announced: VecDeque::new(),
            settings: HashMap::new(),
        }
    }

    /// From now on windows are opened again by what comes.
    pub fn taking(mut self) -> Self {
        self.takes = true;
        self
    }

    // What is sent. Each says whether the gateway still took it.

    /// Sends bytes as they are.
    pub async fn write(&mut self, bytes: &[u8]) -> bool {
        let sent = tokio::time::timeout(PATIENCE, self.socket.write_all(bytes)).await;
        matches!(sent, Ok(Ok(())))
    }

    /// Sends batches until `batch` has no more of them, the gateway has ended the connection, or it
    /// takes no more; reads, and throws away, what comes meanwhile if it `reads`.
    pub async fn flood(
        &mut self,
        reads: bool,
        mut batch: impl FnMut(u32) -> Option<Vec<u8>>,
    ) -> Flood {
        let (mut reader, mut writer) = self.socket.split();
        let mut sink = vec![0; 64 * 1024];
        let mut count = 0;
        while let Some(bytes) = batch(count) {
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                tokio::select! {
                    written = writer.write(rest) => match written {
                        Ok(written) => rest = &rest[written..],
                        Err(_) => return Flood::Ended,
                    },
                    read = reader.read(&mut sink), if reads => match read {
                        Ok(1..) => {}
                        _ => return Flood::Ended,
                    },
                    () = tokio::time::sleep(STANDSTILL) => return Flood::Stands,
                }
            }
            count += 1;
        }
        Flood::Taken
    }

    /// Says that nothing more will be sent.
    pub async fn half_close(&mut self) {
        // The gateway may have gone.
        let _ = self.socket.shutdown().await;
    }

    /// Breaks the connection off, with a reset of TCP.
    pub fn break_off(self) {
        self.socket.set_zero_linger().unwrap();
    }

    pub async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> bool {
        self.write(&frame(kind, flags, stream, payload)).await
    }

    pub async fn announce(&mut self, settings: &[(u16, u32)]) -> bool {
        let value = |wanted| settings.iter().rfind(|(name, _)| *name == wanted).map(|last| last.1);
        let window = value(INITIAL_WINDOW_SIZE).map_or(self.told_window, i64::from);
        let more = window - std::mem::replace(&mut self.told_window, window);
        self.widen(more.max(0));
        let table = value(HEADER_TABLE_SIZE).map(|size| size as usize);
        self.announced.push_back(Announced { table, smaller: more.min(0) });
        self.send(SETTINGS, 0, 0, &settings_payload(settings)).await
    }

    fn widen(&mut self, more: i64) {
        self.initial_window += more;
        self.windows.values_mut().for_each(|window| *window += more);
    }

    /// Sends a whole header block.
    pub async fn headers(&mut self, stream: u32, fields: &[Field<'_>], ends: bool) -> bool {
        let flags = END_HEADERS | if ends { END_STREAM } else { 0 };
        self.send(HEADERS, flags, stream, &block(fields)).await
    }

    /// Asks for `path` of host `a`.
    pub async fn get(&mut self, stream: u32, path: &str) -> bool {
        self.headers(stream, &request("GET", path), true).await
    }

    pub async fn data(&mut self, stream: u32, bytes: &[u8], ends: bool) -> bool {
        self.lend(stream, bytes.len());
        self.send(DATA, if ends { END_STREAM } else { 0 }, stream, bytes).await
    }

    /// Sends a body in frames, as the windows let it, and puts what comes meanwhile aside.
    pub async fn upload(&mut self, stream: u32, mut bytes: &[u8], ends: bool) -> bool {
        loop {
            let may = self.may_send(stream).min(LONGEST_FRAME).min(bytes.len());
            if may == 0 && !bytes.is_empty() {
                let Some(frame) = self.read_in_time().await else {
                    return false;
                };
                self.aside.push_back(frame);
                continue;
            }
            let (part, rest) = bytes.split_at(may);
            if !self.data(stream, part, ends && rest.is_empty()).await {
                return false;
            }
            bytes = rest;
            if bytes.is_empty() {
                return true;
            }
        }
    }

    /// Sends a frame of a body with `padding` bytes behind it, as the windows let it.
    pub async fn padded(&mut self, stream: u32, bytes: &[u8], padding: u8) -> bool {
        let payload = [&[padding], bytes, &vec![0; padding.into()]].concat();
        while self.may_send(stream) < payload.len() {
            let Some(frame) = self.read_in_time().await else {
                return false;
            };
            self.aside.push_back(frame);
        }
        self.lend(stream, payload.len());
        self.send(DATA, PADDED, stream, &payload).await
    }

    /// How much the gateway lets be sent on a stream.
    pub fn may_send(&self, stream: u32) -> usize {
        let window = self.lent_to.get(&stream).copied().unwrap_or(self.lent_at_first);
        window.min(self.lent).max(0) as usize
    }

    fn lend(&mut self, stream: u32, count: usize) {
        self.lent -= count as i64;
        *self.lent_to.entry(stream).or_insert(self.lent_at_first) -= count as i64;
    }

    /// Lets the gateway send more; stream 0 is the connection.
    pub async fn update(&mut self, stream: u32, count: u32) -> bool {
        if stream == 0 {
            self.window += i64::from(count);
        } else {
            *self.windows.entry(stream).or_insert(self.initial_window) += i64::from(count);
        }
        self.send(WINDOW_UPDATE, 0, stream, &count.to_be_bytes()).await
    }

    // What comes.

    /// A setting of the gateway's, once its first SETTINGS have come.
    pub async fn setting(&mut self, name: u16) -> Option<u32> {
        while self.settings.is_empty() {
            let frame = self.read_in_time().await.expect("SETTINGS");
            self.aside.push_back(frame);
        }
        self.settings.get(&name).copied()
    }

    /// The next frame; `None` at the connection's end. Answers pings and settings, as every client
    /// has to.
    pub async fn next(&mut self) -> Option<Frame> {
        match self.aside.pop_front() {
            Some(frame) => Some(frame),
            None => self.read_in_time().await,
        }
    }

    async fn read_in_time(&mut self) -> Option<Frame> {
        let next = tokio::time::timeout(PATIENCE, self.read()).await;
        next.expect("a frame, or the connection's end")
    }

    async fn read(&mut self) -> Option<Frame> {
        let mut frame = self.read_raw().await?;
        assert!(frame.kind == SETTINGS || !self.settings.is_empty(), "{frame:?} comes first");
        while frame.kind == HEADERS && frame.flags & END_HEADERS == 0 {
            let more = self.read_raw().await?;
            assert_eq!((more.kind, more.stream), (CONTINUATION, frame.stream));
            frame.flags |= more.flags & END_HEADERS;
            frame.payload.extend(more.payload);
        }
        match frame.kind {
            HEADERS => frame.fields = self.decoder.decode(&frame.payload),
            DATA => self.pay(&frame).await,
            PING if frame.flags & ACK == 0 => _ = self.send(PING, ACK, 0, &frame.payload).await,
            SETTINGS if frame.flags & ACK == 0 => self.obey(&frame.payload).await,
            SETTINGS => {
                // Those that were sent as mere bytes are not noted.
                if let Some(announced) = self.announced.pop_front() {
                    self.widen(announced.smaller);
                    announced.table.into_iter().for_each(|table| self.decoder.allow(table));
                }
            }
            WINDOW_UPDATE => {
                let count = i64::from(code(&frame.payload));
                assert_ne!(count, 0, "an update of nothing");
                if frame.stream == 0 {
                    self.lent += count;
                } else {
                    *self.lent_to.entry(frame.stream).or_insert(self.lent_at_first) += count;
                }
            }
            PUSH_PROMISE | CONTINUATION => panic!("the gateway sent {frame:?}"),
            _ => {}
        }
        if matches!(frame.kind, HEADERS | DATA) {
            let is_new = frame.flags & END_STREAM == 0 || self.ended.insert(frame.stream);
            assert!(is_new && frame.stream != 0, "{frame:?} on a stream that has ended");
        }
        Some(frame)
    }

    async fn read_raw(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.whole() {
                return Some(frame);
            }
            self.received.reserve(64 * 1024);
            if !matches!(self.socket.read_buf(&mut self.received).await, Ok(1..)) {
                return None;
            }
        }
    }

    /// The first frame of what was received.
    fn whole(&mut self) -> Option<Frame> {
        let head: [u8; 9] = self.received.get(..9)?.try_into().unwrap();
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        assert!(length <= LONGEST_FRAME, "a frame of {length} bytes");
        if self.received.len() < 9 + length {
            return None;
        }
        let payload = self.received.split_to(9 + length)[9..].to_vec();
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]) & LARGEST_WINDOW;
        let frame = Frame { kind: head[3], flags: head[4], stream, payload, fields: Fields::new() };
        let is_padded = matches!(frame.kind, HEADERS | DATA) && frame.flags & PADDED != 0;
        assert!(!is_padded, "nobody pads what this client would have to strip: {frame:?}");
        let has_ended = matches!(frame.kind, HEADERS | DATA | CONTINUATION)
            && self.ended.contains(&frame.stream);
        assert!(!has_ended, "{frame:?} on a stream that has ended");
        Some(frame)
    }

    /// Takes DATA from the windows.
    async fn pay(&mut self, frame: &Frame) {
        let count = frame.payload.len() as i64;
        let window = self.windows.entry(frame.stream).or_insert(self.initial_window);
        *window -= count;
        self.window -= count;
        let is_within = count == 0 || *window >= 0 && self.window >= 0;
        assert!(is_within, "the window of {} is left at {} bytes", frame.stream, *window);
        if self.takes && count > 0 {
            let count = count as u32;
            // The gateway may have gone.
            self.update(0, count).await;
            if frame.flags & END_STREAM == 0 {
                self.update(frame.stream, count).await;
            }
        }
    }

    async fn obey(&mut self, payload: &[u8]) {
        for setting in payload.chunks_exact(6) {
            let name = u16::from_be_bytes([setting[0], setting[1]]);
            let value = code(&setting[2..]);
            if name == INITIAL_WINDOW_SIZE {
                let more = i64::from(value) - self.lent_at_first;
                self.lent_at_first += more;
                self.lent_to.values_mut().for_each(|window| *window += more);
            }
            self.settings.insert(name, value);
        }
        self.send(SETTINGS, ACK, 0, &[]).await;
    }

    /// Reads until the connection ends, whatever comes.
    pub async fn read_to_end(&mut self) {
        let end = async {
            while matches!(self.socket.read_buf(&mut self.received).await, Ok(1..)) {
                self.received.clear();
            }
        };
        tokio::time::timeout(PATIENCE, end).await.expect("the connection's end");
    }

    /// Whether the gateway speaks HTTP/1.1 with this client.
    pub async fn is_text(&mut self) -> bool {
        let has_come = async {
            while self.received.len() < 4
                && matches!(self.socket.read_buf(&mut self.received).await, Ok(1..))
            {}
        };
        tokio::time::timeout(PATIENCE, has_come).await.expect("an answer, or the end");
        self.received.starts_with(b"HTTP")
    }

    /// Reads until `wanted` says that a frame is the one; `None` when the connection ends before.
    pub async fn find(&mut self, wanted: impl Fn(&Frame) -> bool) -> Option<Frame> {
        loop {
            let frame = self.next().await?;
            if wanted(&frame) {
                return Some(frame);
            }
        }
    }

    /// Reads until it is clear what becomes of the request on `stream`.
    pub async fn outcome(&mut self, stream: u32) -> Outcome {
        let decides = |frame: &Frame| {
            frame.kind == GOAWAY
                || frame.stream == stream && matches!(frame.kind, HEADERS | RST_STREAM)
        };
        match self.find(decides).await {
            None => Outcome::Closed,
            Some(frame) if frame.kind == HEADERS => Outcome::Status(status(&frame.fields)),
            Some(frame) if frame.kind == GOAWAY => Outcome::GoAway(code(&frame.payload[4..])),
            Some(frame) => Outcome::Reset(code(&frame.payload)),
        }
    }

    /// Sends a PING and returns the frames that come before its answer; `None` when the connection
    /// ends before. What the gateway had to say to what was sent before is among them.
    pub async fn ping(&mut self) -> Option<Vec<Frame>> {
        let payload = *b"are you?";
        self.send(PING, 0, 0, &payload).await;
        let mut frames = Vec::new();
        loop {
            let frame = self.next().await?;
            if frame.kind == PING && frame.flags & ACK != 0 && frame.payload == payload {
                return Some(frames);
            }
            frames.push(frame);
        }
    }

    /// The response on `stream`; frames of other streams are passed over.
    pub async fn answer(&mut self, stream: u32) -> Answer {
        self.answers(&[stream]).await.remove(0)
    }

    /// The responses on these streams.
    pub async fn answers(&mut self, streams: &[u32]) -> Vec<Answer> {
        let mut answers: Vec<Answer> = streams.iter().map(|_| Answer::default()).collect();
        while answers.iter().any(|answer| !answer.over) {
            let Some(frame) = self.next().await else {
                answers.iter_mut().for_each(|answer| answer.breaks(Outcome::Closed));
                break;
            };
            if frame.kind == GOAWAY && code(&frame.payload[4..]) != NO_ERROR {
                let end = Outcome::GoAway(code(&frame.payload[4..]));
                answers.iter_mut().for_each(|answer| answer.breaks(end));
            } else if let Some(at) = streams.iter().position(|stream| *stream == frame.stream) {
                answers[at].add(frame);
            }
        }
        answers
    }
}
