//! Text as queries and forms write it: `%41` and `+`.
//!
//! Source: the URL standard, section 5.1; nginx's `decode_args`.

use std::borrow::Cow;

use percent_encoding::percent_decode;

/// Whether there is anything to decode in `text`.
pub(super) fn is_coded(text: &[u8]) -> bool {
    text.iter().any(|byte| matches!(byte, b'%' | b'+'))
}

/// The text that a name or a value stands for. Bytes that are no UTF-8 become U+FFFD.
pub fn decoded(text: &[u8]) -> Cow<'_, str> {
    if !is_coded(text) {
        return String::from_utf8_lossy(text);
    }
    let spaced: Vec<u8> =
        text.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect();
    Cow::Owned(percent_decode(&spaced).decode_utf8_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decodes_and_copies_only_what_is_coded() {
        for (text, expected) in
            [("", ""), ("a b", "a b"), ("a+b%20c%2B", "a b c+"), ("%zz%", "%zz%")]
        {
            assert_eq!(decoded(text.as_bytes()), expected, "{text}");
        }
        assert!(matches!(decoded(b"plain"), Cow::Borrowed("plain")));
        assert_eq!(decoded(b"\xff%ff"), "\u{fffd}\u{fffd}");
    }
}
