//! What the Admin API says: the shapes of its answers, and which error is which status.
//!
//! Reads carry `createdIndex` and `modifiedIndex`, writes do not, as in APISIX; the revision of a
//! write stands in the header `X-Sluice-Revision`.

use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use http_body_util::Full;
use serde_json::{Value, json};

use crate::resource::Invalid;
use crate::store::StoreError;

/// What every key begins with in answers.
const PREFIX: &str = "/apisix";

/// An answer has so many warnings at most: clients bound the head that they read.
const MOST_WARNINGS: usize = 20;

const REVISION: HeaderName = HeaderName::from_static("x-sluice-revision");

/// An answer, good or bad.
#[derive(Debug)]
pub(super) struct Answer {
    status: StatusCode,
    body: Body,
    /// Of the write that was done.
    revision: Option<i64>,
    /// Besides those that every answer has.
    headers: Vec<(HeaderName, HeaderValue)>,
}

/// An answer, or the refusal that stands in for it.
pub(super) type Answered = Result<Answer, Answer>;

#[derive(Debug)]
enum Body {
    None,
    Json(Value),
    Text(&'static str),
    Yaml(String),
}

// === impl Answer ===

impl Answer {
    /// A status without a body.
    pub(super) fn empty(status: StatusCode) -> Self {
        Self { status, body: Body::None, revision: None, headers: Vec::new() }
    }

    /// 200 with `body`.
    pub(super) fn json(body: Value) -> Self {
        Self { body: Body::Json(body), ..Self::empty(StatusCode::OK) }
    }

    /// 200 with a body of YAML.
    pub(super) fn yaml(body: String) -> Self {
        Self { body: Body::Yaml(body), ..Self::empty(StatusCode::OK) }
    }

    /// 400 with a plain text, where APISIX has no JSON either.
    pub(super) fn text(text: &'static str) -> Self {
        Self { body: Body::Text(text), ..Self::empty(StatusCode::BAD_REQUEST) }
    }

    /// The same with another status.
    pub(super) fn with_status(self, status: StatusCode) -> Self {
        Self { status, ..self }
    }

    /// The same with a header more.
    #[must_use]
    pub(super) fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// The same with what its reader should know beside it, a `Warning` each.
    ///
    /// Source: RFC 7234, section 5.5, 299 "Miscellaneous Persistent Warning".
    #[must_use]
    pub(super) fn warning(self, warnings: &[String]) -> Self {
        let more = warnings.len().saturating_sub(MOST_WARNINGS);
        let more = (more > 0).then(|| format!("and {more} more"));
        warnings.iter().take(MOST_WARNINGS).chain(&more).fold(self, |answer, text| {
            let quoted: String = text
                .chars()
                .map(|char| match char {
                    '"' | '\\' => '\'',
                    ' '..='~' => char,
                    _ => '?',
                })
                .collect();
            match HeaderValue::try_from(format!("299 - \"{quoted}\"")) {
                Ok(value) => answer.header(header::WARNING, value),
                Err(_) => answer,
            }
        })
    }

    /// The same as the answer to a write at `revision`.
    #[must_use]
    pub(super) fn at(self, revision: i64) -> Self {
        Self { revision: Some(revision), ..self }
    }

    /// `status` with `{"error_msg": message}`.
    pub(super) fn error(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, ..Self::json(json!({ "error_msg": message.into() })) }
    }

    /// 400 with `{"error_msg": message}`.
    pub(super) fn bad(message: impl Into<String>) -> Self {
        Self::error(StatusCode::BAD_REQUEST, message)
    }

    /// 400 that names everything that is wrong.
    pub(super) fn invalid(wrong: &[Invalid]) -> Self {
        Self::bad(introduced(wrong))
    }

    /// 401 that says why.
    pub(super) fn unauthorized(reason: &str) -> Self {
        Self {
            status: StatusCode::UNAUTHORIZED,
            ..Self::json(json!({ "error_msg": "failed to check token", "description": reason }))
        }
    }

    /// 429 for a peer that has guessed too often.
    pub(super) fn too_many_logins(peer: IpAddr, pause: Duration) -> Self {
        let seconds = pause.as_secs() + 1;
        let said = format!("too many failed logins from {peer}: try again in {seconds} s");
        let refused = Self::error(StatusCode::TOO_MANY_REQUESTS, said);
        refused.header(header::RETRY_AFTER, seconds.into())
    }

    /// 404 for a kind that is none.
    pub(super) fn unknown_kind(name: &str) -> Self {
        Self::error(StatusCode::NOT_FOUND, format!("Unsupported resource type: {name}"))
    }

    /// 404 for a method that a path does not have.
    pub(super) fn no_such_method() -> Self {
        Self::error(StatusCode::NOT_FOUND, "not found")
    }

    /// 404 for a key that is not there.
    pub(super) fn key_not_found() -> Self {
        Self { status: StatusCode::NOT_FOUND, ..Self::json(json!({ "message": "Key not found" })) }
    }

    /// A write that was done.
    pub(super) fn written(status: StatusCode, key: &str, value: Value, revision: i64) -> Self {
        Self {
            status,
            revision: Some(revision),
            ..Self::json(json!({ "key": full_key(key), "value": value }))
        }
    }

    /// A deletion that was done.
    pub(super) fn deleted(key: &str, revision: i64) -> Self {
        Self {
            revision: Some(revision),
            ..Self::json(json!({ "deleted": "1", "key": full_key(key) }))
        }
    }

    /// A write of several resources that was done.
    pub(super) fn done(body: Value, revision: i64) -> Self {
        Self { revision: Some(revision), ..Self::json(body) }
    }

    /// `status` with more than a message.
    pub(super) fn with(status: StatusCode, body: Value) -> Self {
        Self { status, ..Self::json(body) }
    }

    /// The revision of the write that was done.
    pub(super) fn revision(&self) -> Option<i64> {
        self.revision
    }

    /// The same write, of which something is told that came after it.
    #[must_use]
    pub(super) fn but(mut self, status: StatusCode, more: Value) -> Self {
        self.status = status;
        if let (Body::Json(Value::Object(fields)), Value::Object(more)) = (&mut self.body, more) {
            fields.extend(more);
        }
        self
    }

    /// What is said to a person.
    pub(super) fn message(&self) -> &str {
        match &self.body {
            Body::Json(body) => body["error_msg"].as_str().unwrap_or_default(),
            Body::Text(text) => text,
            Body::Yaml(_) | Body::None => "",
        }
    }

    /// The answer over HTTP; JSON ends with a line feed, as APISIX writes it.
    pub(super) fn into_response(self) -> Response<Full<Bytes>> {
        let (kind, body) = match self.body {
            Body::None => ("application/json", Bytes::new()),
            Body::Json(value) => ("application/json", format!("{value}\n").into()),
            Body::Text(text) => ("text/plain", Bytes::from_static(text.as_bytes())),
            Body::Yaml(text) => ("application/yaml", text.into()),
        };
        let mut response = Response::new(Full::new(body));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        if let Some(revision) = self.revision {
            headers.insert(REVISION, revision.into());
        }
        for (name, value) in self.headers {
            headers.append(name, value);
        }
        response
    }
}

impl From<StoreError> for Answer {
    fn from(error: StoreError) -> Self {
        let status = match error {
            StoreError::ReadOnly { .. } => StatusCode::METHOD_NOT_ALLOWED,
            StoreError::TooMany { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            _ => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self::error(status, error.to_string())
    }
}

/// The store key as answers show it: `/apisix/routes/1`.
pub(super) fn full_key(key: &str) -> String {
    format!("{PREFIX}/{key}")
}

/// Every problem in one line, which begins as APISIX's do.
pub(super) fn introduced(wrong: &[Invalid]) -> String {
    let is_whole = wrong.first().is_some_and(Invalid::is_whole);
    let begin = if is_whole { "" } else { "invalid configuration: " };
    format!("{begin}{}", joined(wrong))
}

/// Every problem in one line.
pub(super) fn joined(wrong: &[Invalid]) -> String {
    let all: Vec<String> = wrong.iter().map(ToString::to_string).collect();
    all.join("; ")
}
