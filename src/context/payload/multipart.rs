//! Multipart forms: fields between boundaries, each with a head of its own.
//!
//! Lines may end without a carriage return, as APISIX lets them.
//!
//! Source: RFC 7578; RFC 2046, section 5.1.

use memchr::memmem;
use serde_json::{Map, Value};

/// The media type of such forms.
pub(super) const TYPE: &str = "multipart/form-data";

/// Longest boundary (RFC 2046).
const LONGEST: usize = 70;

/// The fields by name; of those with the same name the last. `None` where `content_type` names no
/// boundary, or the body has none in it.
pub(super) fn parse(content_type: &str, body: &[u8]) -> Option<Value> {
    let boundary = parameter(content_type, "boundary")?;
    if boundary.is_empty() || boundary.len() > LONGEST {
        return None;
    }
    let delimiter = format!("--{boundary}");
    let finder = memmem::Finder::new(delimiter.as_bytes());
    // A boundary counts at the beginning of a line only.
    let mut starts = finder.find_iter(body).filter(|at| *at == 0 || body[at - 1] == b'\n');
    let mut start = starts.next()?;
    let mut fields = Map::new();
    for end in starts.chain([body.len()]) {
        let part = &body[start + delimiter.len()..end];
        if part.starts_with(b"--") {
            break;
        }
        if let Some((name, value)) = field(part) {
            fields.insert(name, Value::String(String::from_utf8_lossy(value).into_owned()));
        }
        start = end;
    }
    Some(Value::Object(fields))
}

/// Name and content of a part, from what follows its boundary to the next one.
fn field(part: &[u8]) -> Option<(String, &[u8])> {
    let mut rest = after_line(part)?;
    let mut name = None;
    loop {
        let next = after_line(rest)?;
        let line = trim_end(&rest[..rest.len() - next.len()]);
        rest = next;
        if line.is_empty() {
            break;
        }
        let line = String::from_utf8_lossy(line);
        if let Some((field, value)) = line.split_once(':')
            && field.trim().eq_ignore_ascii_case("content-disposition")
        {
            name = parameter(value, "name");
        }
    }
    Some((name?, trim_end(rest)))
}

fn after_line(text: &[u8]) -> Option<&[u8]> {
    memchr::memchr(b'\n', text).map(|at| &text[at + 1..])
}

/// Without the end of its last line, which belongs to the boundary.
fn trim_end(text: &[u8]) -> &[u8] {
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    text.strip_suffix(b"\r").unwrap_or(text)
}

/// A parameter of a header: `form-data; name="x"`.
fn parameter(header: &str, name: &str) -> Option<String> {
    let mut rest = header;
    // What stands in quotes may have a semicolon in it.
    while let Some((_, after)) = rest.split_once(';') {
        let (key, value) = after.split_once('=')?;
        let is_meant = key.trim().eq_ignore_ascii_case(name);
        let (text, after) = value_of(value);
        if is_meant {
            return Some(text);
        }
        rest = after;
    }
    None
}

/// A token or a quoted text at the front of `text`, and what follows it.
fn value_of(text: &str) -> (String, &str) {
    let text = text.trim_start();
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(';').unwrap_or(text.len());
        return (text[..end].trim_end().to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, char)) = chars.next() {
        match char {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => value.extend(chars.next().map(|(_, char)| char)),
            char => value.push(char),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const TYPED: &str = "multipart/form-data; boundary=xx";

    fn check(body: &str, expected: &Value) {
        assert_eq!(parse(TYPED, body.as_bytes()).unwrap(), *expected, "{body}");
        // The same with bare line ends.
        let bare = body.replace("\r\n", "\n");
        let expected: Value =
            serde_json::from_str(&expected.to_string().replace("\\r\\n", "\\n")).unwrap();
        assert_eq!(parse(TYPED, bare.as_bytes()).unwrap(), expected, "{bare}");
    }

    #[test]
    fn takes_forms_apart() {
        check(
            "--xx\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nopenai\r\n--xx--\r\n",
            &json!({ "model": "openai" }),
        );
        check(
            "preamble\r\n--xx\r\ncontent-type: text/plain\r\ncontent-disposition: form-data; \
             filename=\"a;name=b\"; name=\"f\"\r\n\r\none\r\n\r\ntwo --xx\r\n--xx\r\n\
             Content-Disposition: form-data; name=token\r\n\r\n\r\n--xx--\r\nepilogue",
            &json!({ "f": "one\r\n\r\ntwo --xx", "token": "" }),
        );
        check(
            "--xx\r\nContent-Disposition: form-data; name=\"k\"\r\n\r\n1\r\n--xx\r\n\
             Content-Disposition: form-data; name=\"k\"\r\n\r\n2\r\n--xx--",
            &json!({ "k": "2" }),
        );
        // No name, no end of the head, cut off: nothing, or what there is.
        check("--xx\r\nX: y\r\n\r\n1\r\n--xx--", &json!({}));
        check("--xx\r\nContent-Disposition: form-data; name=\"k\"", &json!({}));
        check("--xx\r\nContent-Disposition: form-data; name=\"k\"\r\n\r\n1", &json!({ "k": "1" }));
    }

    #[test]
    fn needs_a_boundary() {
        let body = b"--xx\r\nContent-Disposition: form-data; name=\"k\"\r\n\r\n1\r\n--xx--";
        for content_type in [
            "multipart/form-data",
            "multipart/form-data; boundary=",
            "multipart/form-data; boundary=yy",
        ] {
            assert_eq!(parse(content_type, body), None, "{content_type}");
        }
        let quoted = "multipart/form-data; charset=utf-8; BOUNDARY=\"xx\"";
        assert_eq!(parse(quoted, body), Some(json!({ "k": "1" })));
    }

    proptest::proptest! {
        #[test]
        fn takes_any_bytes(body in "(--xx|\r\n|\n|--|:|;|\"|=|name|content-disposition|[a-z ]){0,40}") {
            parse(TYPED, body.as_bytes());
        }
    }
}
