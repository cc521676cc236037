//! What a peer announces of itself.
//!
//! Source: RFC 9113, section 6.5.

use super::frame::{LARGEST_BYTES, LAST_STREAM};
use super::{Code, Fault};

pub const HEADER_TABLE_SIZE: u16 = 1;
pub const ENABLE_PUSH: u16 = 2;
pub const MAX_CONCURRENT_STREAMS: u16 = 3;
pub const INITIAL_WINDOW_SIZE: u16 = 4;
pub const MAX_FRAME_SIZE: u16 = 5;
pub const MAX_HEADER_LIST_SIZE: u16 = 6;

/// The window that streams and connections have before something else is said.
pub const FIRST_WINDOW_BYTES: u32 = 65_535;

/// A setting that matters to a server. The largest frame does not: none is written that is larger
/// than every peer takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Setting {
    /// How large the table may be that header blocks refer to.
    TableBytes(u32),
    /// The window that streams begin with.
    Window(u32),
}

/// Reads the payload of a frame of settings.
///
/// # Errors
/// A [`Fault`] for a value that its setting cannot have.
pub fn read(payload: &[u8]) -> impl Iterator<Item = Result<Setting, Fault>> {
    payload.as_chunks::<6>().0.iter().filter_map(|[a, b, value @ ..]| {
        let value = u32::from_be_bytes(*value);
        match u16::from_be_bytes([*a, *b]) {
            HEADER_TABLE_SIZE => Some(Ok(Setting::TableBytes(value))),
            ENABLE_PUSH if value > 1 => {
                Some(Err(Code::PROTOCOL_ERROR.because("ENABLE_PUSH is neither 0 nor 1")))
            }
            INITIAL_WINDOW_SIZE if value > LAST_STREAM => Some(Err(
                Code::FLOW_CONTROL_ERROR.because("INITIAL_WINDOW_SIZE is larger than a window")
            )),
            INITIAL_WINDOW_SIZE => Some(Ok(Setting::Window(value))),
            MAX_FRAME_SIZE if !(LARGEST_BYTES as u32..1 << 24).contains(&value) => {
                Some(Err(Code::PROTOCOL_ERROR.because("MAX_FRAME_SIZE is out of its range")))
            }
            _ => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: u16, value: u32) -> Result<Option<Setting>, Code> {
        let mut payload = name.to_be_bytes().to_vec();
        payload.extend(value.to_be_bytes());
        read(&payload).next().transpose().map_err(|fault| fault.code)
    }

    #[test]
    fn reads_what_matters_and_refuses_what_cannot_be() {
        assert_eq!(check(HEADER_TABLE_SIZE, 7), Ok(Some(Setting::TableBytes(7))));
        assert_eq!(check(INITIAL_WINDOW_SIZE, 7), Ok(Some(Setting::Window(7))));
        assert_eq!(check(INITIAL_WINDOW_SIZE, 1 << 31), Err(Code::FLOW_CONTROL_ERROR));
        assert_eq!(check(ENABLE_PUSH, 1), Ok(None));
        assert_eq!(check(ENABLE_PUSH, 2), Err(Code::PROTOCOL_ERROR));
        assert_eq!(check(MAX_FRAME_SIZE, 16_383), Err(Code::PROTOCOL_ERROR));
        assert_eq!(check(MAX_FRAME_SIZE, 16_384), Ok(None));
        assert_eq!(check(MAX_FRAME_SIZE, 1 << 24), Err(Code::PROTOCOL_ERROR));
        assert_eq!(check(0xabcd, u32::MAX), Ok(None));
    }
}
