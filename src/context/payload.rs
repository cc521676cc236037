//! The request's body as variables see it: read only when one of them is asked for, parsed once.
//!
//! A variable that is asked for before the body has been read has no value, and the wish is noted;
//! whoever runs the exchange reads the body then and asks again. Larger bodies than the limits
//! have no variables; they are not read to their end, and go on to the node like any other.
//!
//! Source: APISIX `core/ctx.lua`, `core/request.lua`.

mod form;
mod graphql;
mod multipart;

use std::borrow::Cow;
use std::cell::{Cell, OnceCell};

use bytes::Bytes;
use http::{HeaderMap, Method, header};
use serde_json::Value;

use self::graphql::Graphql;
use super::Request;
use crate::expr::{BodyVariable, Datum, Need, PostPath};

/// The body of a request.
#[derive(Default)]
pub struct Payload {
    /// What it was asked for in vain.
    missed: Cell<Option<Need>>,
    read: Option<Box<Read>>,
    graphql: OnceCell<Option<Box<Graphql>>>,
}

/// How large a body may be, in bytes, for its variables to have values; 0 is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// For `graphql_*` (`graphql.max_size`).
    pub graphql: u64,
    /// For the others (`apisix.max_post_args_readable_size`).
    pub post_args: u64,
}

/// What was read.
struct Read {
    for_: Need,
    limits: Limits,
    /// `None` where it is larger than the limit.
    bytes: Option<Bytes>,
    /// The fields of a form, or JSON.
    fields: OnceCell<Option<Value>>,
}

// === impl Payload ===

impl Payload {
    /// Whether a variable has been asked for that needs more than was read.
    pub fn is_missed(&self) -> bool {
        self.missed.get().is_some()
    }

    /// What was asked for in vain; nothing the next time.
    pub fn take_missed(&self) -> Option<Need> {
        self.missed.take()
    }

    /// Whether there is no more to read for `need`.
    pub fn serves(&self, need: Need) -> bool {
        self.read.as_ref().is_some_and(|read| read.for_ >= need)
    }

    /// The whole body, empty where there is none. `None` where it is larger than the limit; also where
    /// it was not read, and then the wish is noted.
    pub fn whole(&self) -> Option<&Bytes> {
        let read = self.read(Need::Any)?;
        read.up_to(read.limits.post_args)
    }

    /// Notes what was read for `need`: the whole body, or nothing where it is too large.
    pub fn fill(&mut self, need: Need, limits: Limits, bytes: Option<Bytes>) {
        // Nothing more can be read of what is whole.
        let for_ = if bytes.is_some() { Need::Any } else { need };
        self.missed.set(None);
        self.read = Some(Box::new(Read { for_, limits, bytes, fields: OnceCell::new() }));
    }

    /// The value of a variable as text.
    pub(super) fn text<'p>(
        &'p self,
        name: &BodyVariable,
        request: &Request,
    ) -> Option<Cow<'p, str>> {
        match name {
            BodyVariable::Whole => {
                Some(String::from_utf8_lossy(self.read(Need::Any)?.within_post_args()?))
            }
            BodyVariable::Field(name) => match self.field(name, &request.headers)? {
                Value::Bool(true) => Some(Cow::Borrowed("")),
                value => Some(text(value)),
            },
            BodyVariable::Path(path @ PostPath::Query(_)) => {
                let found = self.found(path, request)?.into_iter().cloned();
                Some(Cow::Owned(Value::from_iter(found).to_string()))
            }
            BodyVariable::Path(path) => path.find(self.fields(&request.headers)?).map(text),
            BodyVariable::GraphqlOperation => Some(self.graphql(request)?.operation.into()),
            BodyVariable::GraphqlName => Some(Cow::Borrowed(&self.graphql(request)?.name)),
            BodyVariable::GraphqlRootFields => {
                let fields = &self.graphql(request)?.root_fields;
                Some(Cow::Owned(Value::from(fields.as_slice()).to_string()))
            }
        }
    }

    /// The value of a variable with its type.
    pub(super) fn datum<'p>(&'p self, name: &BodyVariable, request: &Request) -> Option<Datum<'p>> {
        match name {
            BodyVariable::Field(name) => self.field(name, &request.headers).map(Datum::from),
            BodyVariable::Path(path @ PostPath::Query(_)) => {
                Some(Datum::List(self.found(path, request)?.into_iter().map(Datum::from).collect()))
            }
            BodyVariable::Path(path) => path.find(self.fields(&request.headers)?).map(Datum::from),
            BodyVariable::GraphqlRootFields => {
                let names = self.graphql(request)?.root_fields.iter();
                Some(Datum::List(names.map(|name| Datum::Text(name.into())).collect()))
            }
            BodyVariable::Whole | BodyVariable::GraphqlOperation | BodyVariable::GraphqlName => {
                self.text(name, request).map(Datum::Text)
            }
        }
    }

    /// What was read for `need`; noted as missed where that is not all.
    fn read(&self, need: Need) -> Option<&Read> {
        let read = self.read.as_deref().filter(|read| read.for_ >= need);
        if read.is_none() {
            self.missed.set(self.missed.get().max(Some(need)));
        }
        read
    }

    /// The fields of a form, or what the body says in JSON.
    fn fields(&self, headers: &HeaderMap) -> Option<&Value> {
        let read = self.read(Need::Any)?;
        let bytes = read.within_post_args()?;
        read.fields.get_or_init(|| parse(content_type(headers), bytes)).as_ref()
    }

    /// A field of an urlencoded form; the first, where several have the name.
    fn field(&self, name: &str, headers: &HeaderMap) -> Option<&Value> {
        if !starts_with(content_type(headers), form::TYPE) {
            return None;
        }
        match self.fields(headers)?.get(name)? {
            Value::Array(values) => values.first(),
            value => Some(value),
        }
    }

    /// What a JSONPath finds; `None` where that is nothing.
    fn found(&self, path: &PostPath, request: &Request) -> Option<Vec<&Value>> {
        let found = path.find_all(self.fields(&request.headers)?);
        (!found.is_empty()).then_some(found)
    }

    fn graphql(&self, request: &Request) -> Option<&Graphql> {
        if request.method == Method::GET {
            let parsed = || {
                let query = super::variables::argument(request.uri.query()?, "query")?;
                Graphql::parse(&query)
            };
            return self.graphql.get_or_init(|| parsed().map(Box::new)).as_deref();
        }
        if request.method != Method::POST {
            return None;
        }
        let read = self.read(Need::Graphql)?;
        let parsed = || {
            let bytes = read.within(read.limits.graphql)?;
            if starts_with(content_type(&request.headers), JSON) {
                let body: Value = serde_json::from_slice(bytes).ok()?;
                return Graphql::parse(body.get("query")?.as_str()?);
            }
            Graphql::parse(std::str::from_utf8(bytes).ok()?)
        };
        self.graphql.get_or_init(|| parsed().map(Box::new)).as_deref()
    }
}

// === impl Read ===

impl Read {
    fn within_post_args(&self) -> Option<&Bytes> {
        self.within(self.limits.post_args)
    }

    /// The body, unless it is larger than `limit`, or there is none.
    fn within(&self, limit: u64) -> Option<&Bytes> {
        self.up_to(limit).filter(|bytes| !bytes.is_empty())
    }

    /// The body, unless it is larger than `limit`.
    fn up_to(&self, limit: u64) -> Option<&Bytes> {
        self.bytes.as_ref().filter(|bytes| admits(limit, bytes.len() as u64))
    }
}

// === impl Limits ===

impl Limits {
    /// How much of a body is read for `need`.
    pub fn of(&self, need: Need) -> u64 {
        match need {
            Need::Graphql => self.graphql,
            // One that is too large for them may yet be read for GraphQL.
            Need::Any if self.post_args == 0 || self.graphql == 0 => 0,
            Need::Any => self.post_args.max(self.graphql),
        }
    }

    /// Whether a body of `length` bytes is read for `need`.
    pub fn admits(&self, need: Need, length: u64) -> bool {
        admits(self.of(need), length)
    }
}

/// Whether `length` is within `limit`, of which 0 is none.
pub fn admits(limit: u64, length: u64) -> bool {
    limit == 0 || length <= limit
}

impl Default for Limits {
    fn default() -> Self {
        Self { graphql: 1024 * 1024, post_args: 64 * 1024 * 1024 }
    }
}

const JSON: &str = "application/json";

fn content_type(headers: &HeaderMap) -> &str {
    let value = headers.get(header::CONTENT_TYPE);
    value.and_then(|value| value.to_str().ok()).unwrap_or_default()
}

fn starts_with(text: &str, prefix: &str) -> bool {
    text.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

/// The fields of a body of this type; `None` where there are none.
fn parse(content_type: &str, body: &[u8]) -> Option<Value> {
    let parsed = if starts_with(content_type, JSON) {
        serde_json::from_slice(body).ok()
    } else if starts_with(content_type, form::TYPE) {
        Some(form::parse(body))
    } else if starts_with(content_type, multipart::TYPE) {
        multipart::parse(content_type, body)
    } else {
        None
    };
    if parsed.is_none() {
        tracing::debug!(content_type, "variables of the body have no value: it has no fields");
    }
    parsed
}

fn text(value: &Value) -> Cow<'_, str> {
    match value {
        Value::String(text) => Cow::Borrowed(text),
        other => Cow::Owned(other.to_string()),
    }
}

#[cfg(test)]
mod tests;
