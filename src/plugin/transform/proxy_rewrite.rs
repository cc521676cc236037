//! proxy-rewrite: changes the request before it goes to the upstream.
//!
//! Source: APISIX `docs/en/latest/plugins/proxy-rewrite.md`.

use std::collections::BTreeMap;

use http::{HeaderName, HeaderValue, Method, StatusCode};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use regex::Regex;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::context::{Ctx, Reply};
use crate::expr::Template;
use crate::plugin::{Build, Flow, Phases, Plugin, Spec};
use crate::resource::Invalid;

/// What nginx escapes in a path (`ngx_escape_uri`, type 0): controls, space, `"#%?` and bytes
/// above ASCII.
const PATH: &AsciiSet = &CONTROLS.add(b' ').add(b'#').add(b'%').add(b'?');

/// What must not stand in a query that a template wrote.
const QUERY: &AsciiSet = &CONTROLS.add(b' ');

/// Settings of `proxy-rewrite`.
#[derive(Deserialize, JsonSchema)]
#[schemars(extend("minProperties" = 1))]
pub struct Config {
    /// New path and query, a template: `/test/$arg_name`. The query of the request is appended.
    #[schemars(length(min = 1, max = 4096), regex(pattern = r"^\/.*"))]
    uri: Option<String>,
    /// New method.
    method: Option<RewriteMethod>,
    /// Pairs of a regular expression and what its first match becomes; the first pair that
    /// matches the path counts. Ignored when `uri` is set.
    #[schemars(length(min = 2))]
    regex_uri: Option<Vec<String>>,
    /// New `Host`.
    #[schemars(regex(pattern = r"^[0-9a-zA-Z-.]+(:\d{1,5})?$"))]
    host: Option<String>,
    /// Changes of the request's headers: `add`, `set` and `remove`, or names with the values to
    /// set. Values are templates and know `$1` and so on of `regex_uri`.
    headers: Option<Value>,
    /// Whether to start from the target as the client sent it, neither decoded nor normalised.
    #[serde(default)]
    use_real_request_uri_unsafe: bool,
}

/// Methods that a request can be given.
#[derive(Deserialize, JsonSchema, Clone, Copy, Debug)]
#[serde(rename_all = "UPPERCASE")]
enum RewriteMethod {
    Get,
    Post,
    Put,
    Head,
    Delete,
    Options,
    Mkcol,
    Copy,
    Move,
    Propfind,
    Lock,
    Unlock,
    Patch,
    Trace,
}

/// The long form of `headers`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Changes {
    #[serde(default)]
    add: BTreeMap<String, Values>,
    #[serde(default)]
    set: BTreeMap<String, Values>,
    #[serde(default)]
    remove: Vec<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Values {
    One(Scalar),
    Many(Vec<Scalar>),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Scalar {
    Text(String),
    Number(serde_json::Number),
}

/// The compiled plugin.
pub struct ProxyRewrite {
    path: PathRewrite,
    method: Option<Method>,
    host: Option<HeaderValue>,
    as_sent: bool,
    add: Vec<(HeaderName, Vec<Template>)>,
    set: Vec<(HeaderName, Vec<Template>)>,
    remove: Vec<HeaderName>,
}

enum PathRewrite {
    Keep,
    Template(Template),
    Regex(Vec<(Regex, String)>),
}

// === impl ProxyRewrite ===

impl Spec for ProxyRewrite {
    const NAME: &'static str = "proxy-rewrite";
    const PRIORITY: i32 = 1008;
    const PHASES: Phases = Phases::REWRITE;
    const STATELESS: bool = true;
    type Config = Config;

    fn compile(config: Config, _: &Build<'_>) -> Result<Self, Invalid> {
        let path = match (&config.uri, &config.regex_uri) {
            (Some(uri), _) => PathRewrite::Template(Template::parse(uri)),
            (None, Some(pairs)) => PathRewrite::Regex(regexes(pairs)?),
            (None, None) => PathRewrite::Keep,
        };
        let changes = changes(config.headers)?;
        let method = match config.method {
            Some(method) => {
                let name = format!("{method:?}").to_uppercase();
                let parsed = Method::from_bytes(name.as_bytes());
                Some(parsed.map_err(|_| Invalid::new("/method", name, "a method"))?)
            }
            None => None,
        };
        let host = match &config.host {
            Some(host) => Some(
                HeaderValue::try_from(host)
                    .map_err(|_| Invalid::new("/host", host, "a host name"))?,
            ),
            None => None,
        };
        let removed = changes.remove.iter();
        Ok(Self {
            path,
            method,
            host,
            as_sent: config.use_real_request_uri_unsafe,
            add: templates(&changes.add, "/headers/add")?,
            set: templates(&changes.set, "/headers/set")?,
            remove: removed
                .map(|name| header_name(name, "/headers/remove"))
                .collect::<Result<_, _>>()?,
        })
    }
}

impl Plugin for ProxyRewrite {
    fn rewrite<'a>(&'a self, ctx: &'a mut Ctx) -> Flow<'a> {
        if let Some(host) = &self.host {
            ctx.outgoing.host = Some(host.clone());
        }
        if !matches!(self.path, PathRewrite::Keep) || self.as_sent {
            let target = self.target(ctx);
            // A path that did not begin with a slash would run into the host on some upstreams.
            if !target.starts_with('/') {
                let body = json!({ "error_msg": "proxy-rewrite gave a path without a leading /" });
                return Flow::respond(Reply::json(StatusCode::INTERNAL_SERVER_ERROR, &body));
            }
            if !self.as_sent {
                let path = target.split('?').next().unwrap_or_default();
                ctx.outgoing.renamed = Some(path.into());
            }
            ctx.outgoing.path_and_query = Some(target);
        }
        self.change_headers(ctx);
        if let Some(method) = &self.method {
            ctx.outgoing.method = Some(method.clone());
        }
        Flow::Next
    }
}

impl ProxyRewrite {
    /// The new path and query.
    fn target(&self, ctx: &mut Ctx) -> String {
        let sent = ctx.request.uri.path_and_query();
        let sent = sent.map_or("/", http::uri::PathAndQuery::as_str).to_owned();
        let (path, sent_query) = if self.as_sent {
            let (path, query) = sent.split_once('?').unwrap_or((&sent, ""));
            (path.to_owned(), query)
        } else {
            (ctx.path().to_owned(), ctx.query().unwrap_or_default())
        };
        let sent_query = sent_query.to_owned();
        let rewritten = match &self.path {
            PathRewrite::Keep => path,
            PathRewrite::Template(template) => {
                let mut rewritten = String::new();
                template
                    .render_escaped(ctx, &mut rewritten, |value| value.replace('?', "%3F").into());
                rewritten
            }
            PathRewrite::Regex(pairs) => {
                let matched = pairs
                    .iter()
                    .find_map(|(regex, new)| Some((regex.captures(&path)?, regex, new)));
                match matched {
                    Some((captures, regex, new)) => {
                        ctx.outgoing.captures = captures
                            .iter()
                            .map(|group| group.map_or("", |group| group.as_str()).to_owned())
                            .collect();
                        regex.replace(&path, new).into_owned()
                    }
                    None => path,
                }
            }
        };
        if self.as_sent {
            // Variables come decoded; a line end in one must not end the request line.
            return join_query(utf8_percent_encode(&rewritten, QUERY).to_string(), &sent_query);
        }
        // A `?` that the rewrite wrote begins a query; one that came decoded from the client's
        // path does not, and is escaped with the rest of the path.
        let from_client = matches!(self.path, PathRewrite::Regex(_)) && ctx.path().contains('?');
        let (path, query) = match rewritten.split_once('?') {
            Some((path, query)) if !from_client => (path, Some(query)),
            _ => (rewritten.as_str(), None),
        };
        let mut target = utf8_percent_encode(path, PATH).to_string();
        if let Some(query) = query {
            target.push('?');
            target.extend(utf8_percent_encode(query, QUERY));
        }
        join_query(target, &sent_query)
    }

    fn change_headers(&self, ctx: &mut Ctx) {
        for (name, values) in &self.add {
            for value in values {
                if let Some(value) = rendered(value, ctx) {
                    ctx.request.headers.append(name.clone(), value);
                }
            }
        }
        for (name, values) in &self.set {
            ctx.request.headers.remove(name);
            for value in values {
                if let Some(value) = rendered(value, ctx) {
                    ctx.request.headers.append(name.clone(), value);
                }
            }
        }
        for name in &self.remove {
            ctx.request.headers.remove(name);
        }
    }
}

/// The value of a header; an empty one means no header, as nginx has it.
fn rendered(template: &Template, ctx: &Ctx) -> Option<HeaderValue> {
    let mut value = String::new();
    template.render(ctx, &mut value);
    HeaderValue::try_from(value).ok().filter(|value| !value.is_empty())
}

fn join_query(mut target: String, query: &str) -> String {
    if !query.is_empty() {
        target.push(if target.contains('?') { '&' } else { '?' });
        target.push_str(query);
    }
    target
}

fn regexes(pairs: &[String]) -> Result<Vec<(Regex, String)>, Invalid> {
    if !pairs.len().is_multiple_of(2) {
        let expected = "pairs of a regular expression and its replacement";
        return Err(Invalid::new("/regex_uri", format!("{} items", pairs.len()), expected));
    }
    pairs
        .chunks_exact(2)
        .enumerate()
        .map(|(index, pair)| {
            let regex = Regex::new(&pair[0]).map_err(|error| {
                let path = format!("/regex_uri/{}", index * 2);
                Invalid::new(path, &pair[0], format!("a regular expression ({error})"))
            })?;
            let new = replacement(&pair[1]).ok_or_else(|| {
                let path = format!("/regex_uri/{}", index * 2 + 1);
                let expected = "a replacement in which `$` begins the number of a group";
                Invalid::new(path, &pair[1], expected)
            })?;
            Ok((regex, new))
        })
        .collect()
}

/// Rewrites `$1abc` (PCRE: group 1, then `abc`) as the `${1}abc` of the regex crate; `None` when
/// a dollar sign begins no group.
fn replacement(written: &str) -> Option<String> {
    let mut rewritten = String::new();
    let mut rest = written;
    while let Some(at) = rest.find('$') {
        rewritten.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        if digits > 0 {
            rewritten.push_str("${");
            rewritten.push_str(&rest[..digits]);
            rewritten.push('}');
            rest = &rest[digits..];
        } else if let Some(after) = rest.strip_prefix('$') {
            rewritten.push_str("$$");
            rest = after;
        } else {
            let (group, _) = rest.strip_prefix('{')?.split_once('}')?;
            group.parse::<u8>().ok()?;
            rewritten.push('$');
        }
    }
    rewritten.push_str(rest);
    Some(rewritten)
}

fn changes(headers: Option<Value>) -> Result<Changes, Invalid> {
    let Some(headers) = headers else {
        return Ok(Changes { add: BTreeMap::new(), set: BTreeMap::new(), remove: Vec::new() });
    };
    let expected = "add, set and remove, or header names with their values";
    let is_long =
        ["add", "set"].iter().any(|key| headers[key].is_object()) || headers["remove"].is_array();
    let long = if is_long { headers } else { json!({ "set": headers }) };
    serde_json::from_value(long).map_err(|error| Invalid::new("/headers", error, expected))
}

fn templates(
    headers: &BTreeMap<String, Values>,
    path: &str,
) -> Result<Vec<(HeaderName, Vec<Template>)>, Invalid> {
    headers
        .iter()
        .map(|(name, values)| {
            let values = match values {
                Values::One(value) => std::slice::from_ref(value),
                Values::Many(values) => values,
            };
            let parsed = values.iter().map(|value| match value {
                Scalar::Text(text) => header_value(text, &format!("{path}/{name}")),
                Scalar::Number(number) => Ok(Template::parse(&number.to_string())),
            });
            Ok((header_name(name, path)?, parsed.collect::<Result<_, _>>()?))
        })
        .collect()
}

fn header_value(text: &str, path: &str) -> Result<Template, Invalid> {
    HeaderValue::try_from(text).map(|_| Template::parse(text)).map_err(|_| {
        Invalid::new(path, format!("{text:?}"), "a header value: no control characters")
    })
}

fn header_name(name: &str, path: &str) -> Result<HeaderName, Invalid> {
    HeaderName::try_from(name).map_err(|_| Invalid::new(path, name, "a header name"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(written: &str) -> Option<String> {
        replacement(written)
    }

    #[test]
    fn reads_replacements_as_pcre_does() {
        assert_eq!(check("/$1abc").as_deref(), Some("/${1}abc"));
        assert_eq!(check("/${2}/$$").as_deref(), Some("/${2}/$$"));
        for none in ["/$`1", "/$a", "/${a}", "/$"] {
            assert_eq!(check(none), None, "{none}");
        }
    }

    #[test]
    fn refuses_a_header_value_that_would_end_the_line() {
        let wrong = changes(Some(json!({"x-a": "v2\r\n"}))).unwrap();
        let wrong = templates(&wrong.set, "/headers/set").err().unwrap();
        assert_eq!(wrong.path, "/headers/set/x-a");
        let fine = changes(Some(json!({"x-a": "v2 $host", "x-b": 1}))).unwrap();
        assert_eq!(templates(&fine.set, "/headers/set").unwrap().len(), 2);
    }
}
