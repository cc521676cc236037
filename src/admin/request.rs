//! What a caller sends besides the path: query arguments, conditions, a JSON body.

use std::fmt::Display;

use bytes::Buf;
use http::{HeaderMap, StatusCode, header};
use http_body::Body;
use http_body_util::BodyExt;
use percent_encoding::percent_decode_str;
use serde_json::Value;

use super::answer::Answer;
use crate::store::Entry;

/// The longest body taken: 1.5 MiB, as in APISIX.
pub(super) const LONGEST_BODY_BYTES: usize = 1_572_864;

/// The longest configuration that can be pushed as a whole; APISIX has no limit there.
pub(super) const LONGEST_PUSH_BYTES: usize = 128 * 1024 * 1024;

/// A longer body is read to its end and thrown away up to here: who still sends when the
/// connection closes sees a reset instead of the refusal.
const LONGEST_DRAINED_BYTES: usize = 8 * LONGEST_BODY_BYTES;

/// The query's arguments, decoded, in the order sent.
#[derive(Debug, Default)]
pub(super) struct Args(Vec<(String, String)>);

/// What `If-Match` asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Condition {
    None,
    /// `*`: the resource is there.
    Exists,
    /// Its `modifiedIndex` is this.
    Revision(i64),
}

// === impl Args ===

impl Args {
    /// Reads a query such as `page=1&label=`; an argument without `=` is empty.
    pub(super) fn parse(query: &str) -> Self {
        Self(form_urlencoded::parse(query.as_bytes()).into_owned().collect())
    }

    /// The first argument of that name.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.iter().find(|(given, _)| *given == name).map(|(_, value)| value)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// `ttl`: seconds after which what is written disappears.
    ///
    /// # Errors
    /// It is no number of seconds.
    pub(super) fn ttl(&self) -> Result<Option<i64>, Answer> {
        let Some(text) = self.get("ttl") else {
            return Ok(None);
        };
        let number: f64 =
            text.parse().map_err(|_| Answer::bad("invalid argument ttl: should be a number"))?;
        if !(1.0..=1e9).contains(&number) {
            let message = "invalid argument ttl: should be a number from 1 to 1000000000";
            return Err(Answer::bad(message));
        }
        #[allow(clippy::cast_possible_truncation)] // Within the bounds just checked.
        let seconds = number as i64;
        Ok(Some(seconds))
    }
}

// === impl Condition ===

impl Condition {
    /// Reads `If-Match`: a `modifiedIndex`, in quotes or not.
    ///
    /// # Errors
    /// 400: it is something else.
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, Answer> {
        let Some(value) = headers.get(header::IF_MATCH) else {
            return Ok(Self::None);
        };
        let text = value.to_str().unwrap_or_default().trim();
        if text == "*" {
            return Ok(Self::Exists);
        }
        let revision = text.trim_matches('"').parse();
        revision
            .map(Self::Revision)
            .map_err(|_| Answer::bad("invalid header If-Match: expected a modifiedIndex or *"))
    }

    /// # Errors
    /// 412: `current` is not what the caller has in mind.
    pub(super) fn check(self, current: Option<&Entry>) -> Result<(), Answer> {
        let is = match (self, current) {
            (Self::None, _) | (Self::Exists, Some(_)) => return Ok(()),
            (Self::Revision(wanted), Some(entry)) if entry.mod_revision == wanted => return Ok(()),
            (_, None) => "the resource is not there".to_owned(),
            (_, Some(entry)) => format!("modifiedIndex is {}", entry.mod_revision),
        };
        let message = format!("If-Match does not hold: {is}");
        Err(Answer::error(StatusCode::PRECONDITION_FAILED, message))
    }
}

/// Reads a body of JSON, or of YAML where it says so, of `longest` bytes at most; `None` when there
/// is none.
///
/// # Errors
/// 400: too long, broken off, or no JSON. The body is not repeated: it may hold keys.
pub(super) async fn body<B>(
    headers: &HeaderMap,
    mut body: B,
    longest: usize,
) -> Result<Option<Value>, Answer>
where
    B: Body + Unpin,
    B::Error: Display,
{
    let declared = headers.get(header::CONTENT_LENGTH);
    let declared: Option<usize> = declared.and_then(|value| value.to_str().ok()?.parse().ok());
    let declared = declared.unwrap_or_default();
    let longest_drained = longest.max(LONGEST_DRAINED_BYTES);
    if declared > longest_drained {
        return Err(too_long(declared, longest));
    }
    let mut bytes = Vec::new();
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| unusable(&error))?;
        if let Ok(mut data) = frame.into_data() {
            length += data.remaining();
            if length > longest_drained {
                return Err(too_long(length, longest));
            }
            if declared.max(length) > longest {
                continue;
            }
            while data.has_remaining() {
                let chunk = data.chunk();
                bytes.extend_from_slice(chunk);
                let taken = chunk.len();
                data.advance(taken);
            }
        }
    }
    if length > longest {
        return Err(too_long(length, longest));
    }
    if bytes.is_empty() {
        return Ok(None);
    }
    let is_yaml = |kind: &str| kind.starts_with("application/yaml");
    if headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).is_some_and(is_yaml) {
        return yaml(&bytes).map(Some);
    }
    let strict = serde_json::from_slice(&bytes);
    let value = strict.or_else(|error| serde_json::from_slice(&escaped(&bytes)).map_err(|_| error));
    value.map(Some).map_err(|error| {
        // The error's own text may quote what it found.
        unusable(&format!("expected JSON at line {}, column {}", error.line(), error.column()))
    })
}

fn yaml(bytes: &[u8]) -> Result<Value, Answer> {
    // Neither a snippet nor the error's own text is repeated: they may quote a key.
    let options = serde_saphyr::options! { with_snippet: false };
    let text = std::str::from_utf8(bytes).map_err(|error| unusable(&error))?;
    serde_saphyr::from_str_with_options(text, options).map_err(|_| unusable(&"expected YAML"))
}

/// The same JSON with the line feeds and other control characters inside its strings escaped.
///
/// APISIX's parser takes them as they are, and its users rely on that: its documentation writes
/// certificates as `"cert": "'"$(cat server.crt)"'"`.
fn escaped(json: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(json.len() + json.len() / 16);
    let mut in_string = false;
    let mut after_backslash = false;
    for &byte in json {
        if in_string && byte < 0x20 {
            out.extend_from_slice(format!("\\u{byte:04x}").as_bytes());
            after_backslash = false;
            continue;
        }
        out.push(byte);
        match byte {
            _ if after_backslash => after_backslash = false,
            b'\\' => after_backslash = in_string,
            b'"' => in_string = !in_string,
            _ => {}
        }
    }
    out
}

/// Percent-decodes a path.
pub(super) fn decoded_path(path: &str) -> String {
    percent_decode_str(path).decode_utf8_lossy().into_owned()
}

fn too_long(length: usize, longest: usize) -> Answer {
    unusable(&format!("request size {length} is greater than the maximum size {longest} allowed"))
}

fn unusable(reason: &dyn Display) -> Answer {
    Answer::bad(format!("invalid request body: {reason}"))
}
