//! What becomes of a request.

use super::frame::{DATA, END_STREAM, Frame, HEADERS, RST_STREAM, code};
use crate::support::hpack::Fields;

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Status(u16),
    /// The stream was reset, with this code.
    Reset(u32),
    /// The connection was ended, with this code.
    GoAway(u32),
    /// The connection was ended without a word.
    Closed,
}

/// A response as it came.
#[derive(Debug, Default)]
pub struct Answer {
    pub interim: Vec<u16>,
    /// 0 as long as none has come.
    pub status: u16,
    pub fields: Fields,
    pub body: Vec<u8>,
    pub trailers: Fields,
    /// How it ended, if not properly.
    pub broken: Option<Outcome>,
    pub(super) over: bool,
}

// === impl Answer ===

impl Answer {
    pub(super) fn add(&mut self, frame: Frame) {
        match frame.kind {
            HEADERS if self.status != 0 => self.trailers = frame.fields,
            HEADERS if status(&frame.fields) < 200 => {
                assert_eq!(frame.flags & END_STREAM, 0, "an interim response ends nothing");
                self.interim.push(status(&frame.fields));
            }
            HEADERS => {
                self.status = status(&frame.fields);
                self.fields = frame.fields;
            }
            DATA => self.body.extend(frame.payload),
            RST_STREAM => return self.breaks(Outcome::Reset(code(&frame.payload))),
            _ => return,
        }
        self.over |= frame.flags & END_STREAM != 0;
    }

    pub(super) fn breaks(&mut self, end: Outcome) {
        if !self.over {
            self.broken = Some(end);
            self.over = true;
        }
    }

    /// The value of a field that there is once.
    pub fn field(&self, name: &str) -> Option<&str> {
        let mut values = self.fields.iter().filter(|field| field.0 == name);
        let value = values.next()?.1.as_str();
        assert!(values.next().is_none(), "{name} twice");
        Some(value)
    }

    /// Whether it is a 200 that ended properly.
    pub fn is_ok(&self) -> bool {
        self.status == 200 && self.broken.is_none()
    }

    /// What became of the request.
    pub fn outcome(&self) -> Outcome {
        match self.broken {
            Some(end) if self.status == 0 => end,
            _ => Outcome::Status(self.status),
        }
    }
}

/// The status that a header block begins with.
pub(super) fn status(fields: &Fields) -> u16 {
    let (name, status) = fields.first().expect("fields");
    assert!(name == ":status" && status.len() == 3, "{fields:?}");
    status.parse().unwrap()
}
