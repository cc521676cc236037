//! What a client begins with: 24 bytes, and then its settings.
//!
//! Source: RFC 9113, section 3.4.

use bytes::{Buf as _, BytesMut};

use super::frame::{self, HEAD_BYTES};
use super::{Code, Fault};

const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Takes the preface off the front of `input`; whether it was there as a whole. Its settings are
/// left, to be read as any are: the head of their frame has come.
///
/// # Errors
/// A [`Fault`] as soon as it is known that no preface comes.
pub fn take(input: &mut BytesMut) -> Result<bool, Fault> {
    let length = input.len().min(PREFACE.len());
    if input[..length] != PREFACE[..length] {
        return Err(Code::PROTOCOL_ERROR.because("a client begins with something else"));
    }
    let Some(head) = input[length..].first_chunk::<HEAD_BYTES>() else {
        return Ok(false);
    };
    if !frame::announces_settings(head) {
        return Err(Code::PROTOCOL_ERROR.because("a client's first frame is not its settings"));
    }
    input.advance(length);
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bytes: &[u8]) -> Result<bool, Code> {
        let mut input = BytesMut::from(bytes);
        let taken = take(&mut input).map_err(|fault| fault.code)?;
        assert_eq!(input.len(), bytes.len() - if taken { PREFACE.len() } else { 0 });
        Ok(taken)
    }

    #[test]
    fn a_client_begins_with_its_settings() {
        let with = |head: [u8; HEAD_BYTES]| [&PREFACE[..], &head].concat();
        let whole = with([0, 0, 6, 4, 0, 0, 0, 0, 0]);
        for length in 0..whole.len() {
            assert_eq!(check(&whole[..length]), Ok(false), "{length} bytes");
        }
        assert_eq!(check(&[&whole[..], b"\0\x03"].concat()), Ok(true));
        for bad in [
            b"GET / HTTP/1.1\r\n".to_vec(),
            b"PRI * HTTP/2.0\r\n\r\nSX".to_vec(),
            // A ping, and settings that acknowledge.
            with([0, 0, 8, 6, 0, 0, 0, 0, 0]),
            with([0, 0, 0, 4, 1, 0, 0, 0, 0]),
        ] {
            assert_eq!(check(&bad), Err(Code::PROTOCOL_ERROR), "{bad:?}");
        }
    }
}
