//! What managers share: clients, answers that do not stay in memory, reasons in plain words, clocks
//! that differ.

use std::ops::Deref;
use std::time::{Duration, UNIX_EPOCH};

use reqwest::header::{DATE, HeaderMap};
use reqwest::{Client, StatusCode};
use serde_json::Value;
use zeroize::{Zeroize, Zeroizing};

use super::{Secret, SecretError};
use crate::{call, clock};

/// How long one answer may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// An answer that is longer is no secret's: Vault's are 1 MiB at most, others' less, and JSON may
/// double them.
pub(super) const LONGEST_ANSWER_BYTES: usize = 4 << 20;

/// How much of a server's words is repeated.
const LONGEST_REASON: usize = 300;

/// From how many seconds on clocks that differ are worth a word.
const NOTABLE_SKEW: i64 = 60;

/// A client that follows nobody elsewhere: signed requests and tokens are for one server.
pub(super) fn client(ssl_verify: bool) -> Result<Client, String> {
    Client::builder()
        .timeout(TIMEOUT)
        .connect_timeout(TIMEOUT)
        .redirect(reqwest::redirect::Policy::none())
        .tls_danger_accept_invalid_certs(!ssl_verify)
        .build()
        .map_err(|error| call::reason(&error))
}

/// Sends `request` to `url`; status, headers and body of the answer.
///
/// # Errors
/// [`SecretError::Unreachable`] where there is none.
pub(super) async fn send(
    url: &str,
    request: reqwest::RequestBuilder,
) -> Result<(StatusCode, HeaderMap, Zeroizing<Vec<u8>>), SecretError> {
    let unreachable = |reason: String| SecretError::Unreachable { url: url.to_owned(), reason };
    let response = request.send().await.map_err(|error| unreachable(call::reason(&error)))?;
    let (status, headers) = (response.status(), response.headers().clone());
    let body = call::body(response, LONGEST_ANSWER_BYTES).await;
    Ok((status, headers, body.map_err(|error| unreachable(error.to_string()))?))
}

/// The field of a JSON object as text; nothing where there is none, or null.
pub(super) fn field(value: &Value, name: &str) -> Option<Secret> {
    match value.get(name)? {
        Value::Null => None,
        Value::String(text) => Some(Secret::new(text.as_str())),
        other => Some(Secret::new(other.to_string())),
    }
}

/// What a server has answered; overwritten when nobody needs it any more.
#[derive(Default)]
pub(crate) struct Answer(Value);

// === impl Answer ===

impl From<Value> for Answer {
    fn from(value: Value) -> Self {
        Self(value)
    }
}

impl Deref for Answer {
    type Target = Value;

    fn deref(&self) -> &Value {
        &self.0
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        scrub(&mut self.0);
    }
}

/// Overwrites every text of a value.
pub(super) fn scrub(value: &mut Value) {
    match value {
        Value::String(text) => text.zeroize(),
        Value::Array(items) => items.iter_mut().for_each(scrub),
        Value::Object(fields) => fields.values_mut().for_each(scrub),
        _ => {}
    }
}

/// A server's own words, fit for a log: the first line of them, cut, without what we sent it in
/// confidence. (AWS repeats all signed headers, the session token with them, where a signature is
/// wrong.)
pub(super) fn words(said: &str, confidential: &[&str]) -> String {
    let mut words = said.lines().next().unwrap_or_default().trim().to_owned();
    for secret in confidential.iter().filter(|secret| !secret.is_empty()) {
        words = words.replace(secret, "(hidden)");
    }
    if let Some((cut, _)) = words.char_indices().nth(LONGEST_REASON) {
        words.truncate(cut);
        words.push('…');
    }
    words
}

/// Says how far this node's clock is from the one of the server that sent `headers`, if it is far.
pub(super) fn skew(headers: &HeaderMap) -> Option<String> {
    let date = headers.get(DATE)?.to_str().ok()?;
    let theirs = httpdate::parse_http_date(date).ok()?;
    let theirs = i64::try_from(theirs.duration_since(UNIX_EPOCH).ok()?.as_secs()).ok()?;
    let ahead = clock::unix() - theirs;
    let way = if ahead > 0 { "ahead of" } else { "behind" };
    (ahead.abs() >= NOTABLE_SKEW)
        .then(|| format!("this node's clock is {} s {way} the server's", ahead.abs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeats_one_line_of_what_a_server_says_and_no_secret() {
        let said = "bad signature of planted-token\nhost:a\nx-amz-security-token:planted-token";
        assert_eq!(words(said, &["planted-token", ""]), "bad signature of (hidden)");
        assert_eq!(words(&"ä".repeat(400), &[]).chars().count(), LONGEST_REASON + 1);
    }

    #[test]
    fn tells_how_far_clocks_are_apart() {
        let at = |seconds: i64| {
            let at =
                UNIX_EPOCH + Duration::from_secs(u64::try_from(clock::unix() + seconds).unwrap());
            let date = httpdate::fmt_http_date(at);
            skew(&HeaderMap::from_iter([(DATE, date.parse().unwrap())]))
        };
        assert_eq!(at(0), None);
        assert!(at(-600).unwrap().contains("ahead of"));
        assert!(at(600).unwrap().contains("behind"));
        assert_eq!(skew(&HeaderMap::new()), None);
    }

    #[test]
    fn overwrites_every_text() {
        let mut value = serde_json::json!({ "a": ["planted", { "b": "planted" }], "c": 1 });
        scrub(&mut value);
        assert_eq!(value, serde_json::json!({ "a": ["", { "b": "" }], "c": 1 }));
    }
}
