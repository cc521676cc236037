//! `/v1/explain`: which route a request would get, why, and what would happen to it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, StatusCode, Uri, Version, header};
use serde_json::{Value, json};

use super::{Answer, Control};
use crate::proxy::explain::{self, Caller};

/// Where explanations are asked for.
pub(super) const PATH: &str = "/v1/explain";

/// What a caller of the control API tells of a request.
#[derive(Debug)]
struct Question {
    head: http::request::Parts,
    caller: Caller,
    consumer: Option<String>,
}

// === impl Control ===

impl Control {
    /// Explains the request that `query` tells of: `uri`, and where they matter `method`, `host`,
    /// `header` (`Name: value`, several times), `remote_addr`, `sni`, `consumer`; its `body`, if it
    /// is told.
    pub(super) fn explain(&self, query: &str, body: Option<Bytes>) -> Answer {
        let question = match Question::parse(query) {
            Ok(question) => question,
            Err(said) => return refused(&said),
        };
        let Question { mut head, caller, consumer } = question;
        let settings = &self.parts.proxy_settings;
        let length = body.as_ref().map(|body| body.len() as u64);
        if let Some(length) = length {
            head.headers.entry(header::CONTENT_LENGTH).or_insert_with(|| length.into());
        }
        let asked = json!({ "method": head.method.as_str(), "uri": head.uri.to_string() });
        // A snapshot of its own: a route's function may take its time, and the config road does
        // not wait for it.
        let snapshot = self.parts.compiler.lock().snapshot().clone();
        let context = explain::context(head, body, &caller, &snapshot, settings);
        let ctx = match context {
            Ok(ctx) => ctx,
            Err(status) => {
                let notes =
                    [format!("the request is refused with {status} before any route is asked")];
                let told = json!({ "request": asked, "status": status.as_u16(), "notes": notes });
                return (StatusCode::OK, told);
            }
        };
        let asked_routes = snapshot.ask(&ctx);
        let explained =
            self.parts.compiler.lock().explain(&ctx, &asked_routes, consumer.as_deref());
        let explanation = match explained {
            Ok(explanation) => explanation,
            Err(said) => return refused(&format!("consumer: {said}")),
        };
        let mut told = json!(explanation);
        let most = settings.max_body_bytes;
        if let (Value::Array(notes), Some(_)) =
            (&mut told["notes"], length.filter(|length| most > 0 && *length > most))
        {
            let note = format!("its body is larger than {most} bytes: it is refused with 413");
            notes.push(Value::from(note));
        }
        told["request"] = json!({
            "method": ctx.request.method.as_str(),
            "host": ctx.request.host,
            // What routes are matched by: decoded, slashes merged, dot segments resolved.
            "path": ctx.request.target().path,
            "uri": asked["uri"],
            "remote_addr": ctx.remote_ip().to_string(),
        });
        if let Value::Object(fields) = &mut told
            && explanation.route.is_none()
        {
            fields.insert("status".to_owned(), json!(StatusCode::NOT_FOUND.as_u16()));
        }
        (StatusCode::OK, told)
    }
}

fn refused(said: &str) -> Answer {
    (StatusCode::BAD_REQUEST, json!({ "error_msg": said }))
}

// === impl Question ===

impl Question {
    fn parse(query: &str) -> Result<Self, String> {
        let mut method = Method::GET;
        let mut uri: Option<Uri> = None;
        let mut host = None;
        let mut headers = Vec::new();
        let mut peer = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let mut sni = None;
        let mut consumer = None;
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let wrong = |expected: &str| format!("{name}: expected {expected}, got {value:?}");
            match &*name {
                "method" => method = value.parse().map_err(|_| wrong("a method"))?,
                "uri" => {
                    let parsed = value.parse::<Uri>().ok();
                    let parsed = parsed.filter(|uri| uri.path().starts_with('/'));
                    uri = Some(parsed.ok_or_else(|| wrong("a path such as /a?b=1, or a URL"))?);
                }
                "host" => {
                    host = Some(HeaderValue::try_from(&*value).map_err(|_| wrong("a host"))?);
                }
                "header" => {
                    headers.push(field(&value).ok_or_else(|| wrong("Name: value"))?);
                }
                "remote_addr" => {
                    let ip = value.parse::<IpAddr>().map(|ip| (ip, 0).into());
                    peer = ip.or_else(|_| value.parse()).map_err(|_| wrong("an IP address"))?;
                }
                "sni" => sni = Some(value.into_owned()),
                "consumer" => consumer = Some(value.into_owned()),
                _ => {
                    let known = "method, uri, host, header, remote_addr, sni and consumer";
                    return Err(format!("{name}: expected only {known}"));
                }
            }
        }
        let uri = uri.ok_or("uri: expected a path such as /a?b=1, or a URL; it is missing")?;
        let is_secure = uri.scheme_str() == Some("https");
        let sni = sni.or_else(|| uri.host().filter(|_| is_secure).map(str::to_owned));
        let (mut head, ()) = Request::new(()).into_parts();
        head.method = method;
        head.version = Version::HTTP_11;
        head.headers.extend(headers);
        if let Some(host) = host {
            head.headers.insert(header::HOST, host);
        }
        head.uri = uri;
        if head.uri.authority().is_none() && !head.headers.contains_key(header::HOST) {
            // One that no route is meant for in particular.
            head.headers.insert(header::HOST, HeaderValue::from_static("localhost"));
        }
        let local = SocketAddr::from((Ipv4Addr::LOCALHOST, if sni.is_some() { 443 } else { 80 }));
        Ok(Self { head, caller: Caller { peer, local, sni }, consumer })
    }
}

fn field(text: &str) -> Option<(HeaderName, HeaderValue)> {
    let (name, value) = text.split_once(':')?;
    Some((name.trim().parse().ok()?, value.trim().parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_is_asked() {
        let question = Question::parse(
            "uri=https://A.com/x%3Fy=1&method=POST&header=X-A:+b&header=X-A:c&remote_addr=::1&consumer=jack",
        )
        .unwrap();
        let head = &question.head;
        assert_eq!((head.method.as_str(), head.uri.path()), ("POST", "/x"));
        assert_eq!(head.uri.query(), Some("y=1"));
        assert_eq!(head.headers.get_all("x-a").iter().collect::<Vec<_>>(), ["b", "c"]);
        assert_eq!(question.caller.sni.as_deref(), Some("A.com"));
        assert_eq!(question.caller.peer.ip().to_string(), "::1");
        assert_eq!(question.consumer.as_deref(), Some("jack"));
    }

    #[test]
    fn names_what_is_wrong() {
        for (query, said) in [
            ("", "uri: expected a path such as /a?b=1, or a URL; it is missing"),
            ("uri=x", "uri: expected a path such as /a?b=1, or a URL, got \"x\""),
            ("uri=/&header=x", "header: expected Name: value, got \"x\""),
            ("uri=/&remote_addr=x", "remote_addr: expected an IP address, got \"x\""),
            ("uri=/&method=a b", "method: expected a method, got \"a b\""),
            (
                "uri=/&path=/",
                "path: expected only method, uri, host, header, remote_addr, sni and consumer",
            ),
        ] {
            assert_eq!(Question::parse(query).unwrap_err(), said);
        }
    }
}
