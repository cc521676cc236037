//! Cases of bytes that a client sends, and what the gateway has to make of each.

use crate::proxy::catch_all;
use crate::support::PATIENCE;
use crate::support::gateway::Gateway;
use crate::support::h2::{
    ACK, Connection, END_HEADERS, END_STREAM, FLOW_CONTROL_ERROR, FRAME_SIZE_ERROR, Frame, GOAWAY,
    HEADERS, PING, PROTOCOL_ERROR, RST_STREAM, SETTINGS, WINDOW_UPDATE, block, code, frame,
    request, settings_payload,
};
use crate::support::origin::Origin;

pub(super) const PROTOCOL: Demand = Demand::Connection(&[PROTOCOL_ERROR]);
pub(super) const SIZE: Demand = Demand::Connection(&[FRAME_SIZE_ERROR]);
/// Where one may say that a frame is too short for what it must hold, or that it is nonsense.
pub(super) const SIZE_OR_PROTOCOL: Demand = Demand::Connection(&[FRAME_SIZE_ERROR, PROTOCOL_ERROR]);
pub(super) const FLOW: Demand = Demand::Connection(&[FLOW_CONTROL_ERROR]);

/// A kind of frames that there is not.
pub(super) const UNKNOWN: u8 = 0xfe;

/// What is asked behind every case, to see whether the connection goes on.
const PROBE: u32 = 0x10_0001;

/// A gateway in front of an origin, and everything that was not as it should be.
pub(super) struct Judge {
    pub(super) gateway: Gateway,
    pub(super) origin: Origin,
    wrong: Vec<String>,
}

/// What a server has to do about a case. Codes are those of which any will do.
#[derive(Debug, Clone, Copy)]
pub(super) enum Demand {
    /// Go on as if nothing were amiss.
    GoOn,
    /// Reset the stream, or end the connection, which is always allowed instead (RFC 9113, section
    /// 5.4.1).
    Stream(&'static [u32]),
    /// Refuse the request as malformed: by a status, or as [`Demand::Stream`] (section 8.1.1).
    Malformed(&'static [u32]),
    /// End the connection, with a GOAWAY or without (section 5.4.1).
    Connection(&'static [u32]),
    /// One of these, or go on.
    Choice(&'static [u32]),
}

/// What a client saw.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Streams and codes.
    resets: Vec<(u32, u32)>,
    statuses: Vec<(u32, u16)>,
    goaway: Option<u32>,
    ended: bool,
    probe: Option<u16>,
}

// === impl Judge ===

impl Judge {
    pub(super) async fn start() -> Self {
        let origin = Origin::start().await;
        let gateway = Gateway::start().await;
        catch_all(&gateway, &origin).await;
        Self { gateway, origin, wrong: Vec::new() }
    }

    pub(super) async fn connect(&self) -> Connection {
        Connection::open(self.gateway.ports().http).await
    }

    /// Sends `bytes` on a connection of their own.
    pub(super) async fn check(&mut self, name: &str, bytes: &[u8], demand: Demand) {
        let mut client = self.connect().await;
        client.write(bytes).await;
        self.watch(name, client, demand).await;
    }

    /// Sees what becomes of a connection.
    pub(super) async fn watch(&mut self, name: &str, client: Connection, demand: Demand) {
        let mut seen = Seen::default();
        let in_time = tokio::time::timeout(PATIENCE, observe(client, &mut seen)).await.is_ok();
        if !in_time || !seen.satisfies(demand) {
            let late = if in_time { "" } else { " and then nothing more" };
            self.wrong.push(format!("{name}: {seen:?}{late}, not {demand:?}"));
        }
    }

    pub(super) fn wrong(&mut self, what: impl Into<String>) {
        self.wrong.push(what.into());
    }

    pub(super) fn end(self) {
        assert!(self.wrong.is_empty(), "\n{}", self.wrong.join("\n"));
    }
}

/// Sends the frames of each case on a connection of their own.
pub(super) async fn check(cases: Vec<(&str, Vec<Vec<u8>>, Demand)>) {
    let mut judge = Judge::start().await;
    for (name, frames, demand) in cases {
        judge.check(name, &frames.concat(), demand).await;
    }
    judge.end();
}

/// Asks whether anybody is there, and listens until that is answered or the connection has ended.
async fn observe(mut client: Connection, seen: &mut Seen) {
    let (payload, mut pongs) = (*b"are you?", 0);
    client.send(PING, 0, 0, &payload).await;
    while let Some(frame) = client.next().await {
        seen.note(&frame);
        if frame.kind == PING && frame.flags & ACK != 0 && frame.payload == payload {
            pongs += 1;
            // Behind the second answer everything has been said that the case made the gateway say.
            if pongs == 1 {
                client.send(PING, 0, 0, &payload).await;
            } else {
                client.get(PROBE, "/status/200").await;
            }
        }
        if frame.stream == PROBE && frame.flags & END_STREAM != 0 && seen.goaway.is_none() {
            return;
        }
    }
    seen.ended = true;
}

// === impl Seen ===

impl Seen {
    fn note(&mut self, frame: &Frame) {
        match frame.kind {
            RST_STREAM => self.resets.push((frame.stream, code(&frame.payload))),
            GOAWAY => self.goaway = Some(code(&frame.payload[4..])),
            HEADERS => {
                let status = frame.fields.iter().find(|field| field.0 == ":status");
                let status = status.and_then(|status| status.1.parse().ok());
                if frame.stream == PROBE {
                    self.probe = status;
                } else {
                    self.statuses.extend(status.map(|status| (frame.stream, status)));
                }
            }
            _ => {}
        }
    }

    fn satisfies(&self, demand: Demand) -> bool {
        let goes_on = self.probe == Some(200) && self.goaway.is_none() && !self.ended;
        let is_reset = |codes: &[u32]| {
            goes_on
                && !self.resets.is_empty()
                && self.resets.iter().all(|reset| codes.contains(&reset.1))
        };
        let is_told = |codes: &[u32]| self.goaway.is_some_and(|code| codes.contains(&code));
        let has_ended = |codes: &[u32]| self.ended && (self.goaway.is_none() || is_told(codes));
        match demand {
            Demand::GoOn => goes_on && self.resets.is_empty(),
            Demand::Stream(codes) => is_reset(codes) || self.ended && is_told(codes),
            Demand::Malformed(codes) => {
                let refused = self.statuses.iter().all(|status| (400..500).contains(&status.1));
                let is_refused = goes_on && refused && !self.statuses.is_empty();
                is_refused || self.satisfies(Demand::Stream(codes)) && self.statuses.is_empty()
            }
            Demand::Connection(codes) => has_ended(codes),
            Demand::Choice(codes) => {
                self.satisfies(Demand::GoOn) || is_reset(codes) || has_ended(codes)
            }
        }
    }
}

// What cases are made of.

/// The header block of a request that is answered at once.
pub(super) fn whole() -> Vec<u8> {
    block(&request("GET", "/status/200"))
}

/// A request that is answered at once.
pub(super) fn asks(stream: u32) -> Vec<u8> {
    head(stream, "GET", "/status/200", END_STREAM)
}

/// A request that is whole and not answered while a case lasts: its stream is half closed.
pub(super) fn held(stream: u32) -> Vec<u8> {
    head(stream, "GET", "/delay/60000", END_STREAM)
}

/// A request whose body is still to come, and its answer too: its stream is open.
pub(super) fn posts(stream: u32) -> Vec<u8> {
    head(stream, "POST", "/anything", 0)
}

fn head(stream: u32, method: &str, path: &str, flags: u8) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | flags, stream, &block(&request(method, path)))
}

pub(super) fn ping() -> Vec<u8> {
    frame(PING, 0, 0, b"12345678")
}

pub(super) fn settings(settings: &[(u16, u32)]) -> Vec<u8> {
    frame(SETTINGS, 0, 0, &settings_payload(settings))
}

pub(super) fn update(stream: u32, count: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, &count.to_be_bytes())
}

pub(super) fn reset(stream: u32, code: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &code.to_be_bytes())
}
