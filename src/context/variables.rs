//! What each variable is in an exchange.

mod head;
mod time;

use std::borrow::Cow;
use std::fmt::{Display, Write as _};
use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{Version, header};

pub(super) use self::head::argument;
use self::head::{
    cookie, field, is_bare_argument, is_repeated, request_field, text, underscored, user,
};
use self::time::{this_second_iso, this_second_local};
use super::{Attempt, Ctx};
use crate::clock;
use crate::expr::{Datum, Escape, TlsVariable, Variable, Variables};
use crate::router;

impl Variables for Ctx {
    fn get(&self, name: &Variable) -> Option<Cow<'_, str>> {
        use Variable as V;
        match name {
            V::Request if let Some(line) = self.request.unread.as_deref() => borrowed(line),
            V::RequestMethod
            | V::Uri
            | V::CurrentUri
            | V::RequestUri
            | V::RealRequestUri
            | V::UpstreamUri
            | V::ServerProtocol
                if self.request.unread.is_some() =>
            {
                None
            }
            V::Uri => borrowed(self.path()),
            V::CurrentUri => borrowed(self.current_path()),
            V::RequestUri => match (&self.request.normalized_path, self.query()) {
                (None, _) => borrowed(self.target()),
                (Some(path), None) => borrowed(path),
                (Some(path), Some(query)) => Some(Cow::Owned(format!("{path}?{query}"))),
            },
            V::RealRequestUri => borrowed(self.target()),
            V::Args => self.query().map(Cow::Borrowed),
            V::IsArgs => borrowed(if self.query().is_some() { "?" } else { "" }),
            V::Arg(name) => argument(self.query()?, name),
            V::Header(name) => request_field(&self.request.headers, name),
            V::SentHeader(name) => match self.response.waiting(name) {
                Some(value) => Some(text(value)),
                None => field(&self.response.headers, name),
            },
            V::UpstreamHeader(name) if self.response.from_upstream => {
                field(&self.response.headers, name)
            }
            V::Cookie(name) => cookie(&self.request.headers, name),
            V::UriParam(name) => {
                self.uri_params.get(name, self.request.target().path).map(Cow::Borrowed)
            }
            V::Request => {
                let (method, target) = (self.request.method.as_str(), self.target());
                let protocol = protocol(self.request.version);
                let mut line = String::with_capacity(method.len() + target.len() + 10);
                for part in [method, " ", target, " ", protocol] {
                    line.push_str(part);
                }
                Some(Cow::Owned(line))
            }
            V::RequestMethod => borrowed(self.request.method.as_str()),
            V::RemoteUser => user(&self.request.headers).map(Cow::Owned),
            V::Body(name) => self.payload.text(name, &self.request),
            V::Scheme => borrowed(self.client.scheme),
            V::Https => borrowed(if self.client.tls.is_some() { "on" } else { "" }),
            V::Http2 => borrowed(match (self.request.version, &self.client.tls) {
                (Version::HTTP_2, Some(_)) => "h2",
                (Version::HTTP_2, None) => "h2c",
                _ => "",
            }),
            V::Http3 => borrowed(if self.request.version == Version::HTTP_3 { "h3" } else { "" }),
            V::Host => Some(router::lower_case(self.request.host.as_deref()?)),
            V::ServerProtocol => borrowed(protocol(self.request.version)),
            V::UpstreamScheme => borrowed(self.outgoing.scheme),
            V::UpstreamHost => match &self.outgoing.host {
                Some(host) => host.to_str().ok().map(Cow::Borrowed),
                None => field(&self.request.headers, &header::HOST),
            },
            V::UpstreamUri => borrowed(self.upstream_uri()),
            V::UpstreamUnresolvedHost => {
                let attempt = self.attempts.last()?;
                Some(Cow::Borrowed(attempt.host.as_deref().unwrap_or(&attempt.node)))
            }
            V::Tls(TlsVariable::ServerName) => self.client.sni.as_deref().map(Cow::Borrowed),
            V::RouteId => filled(&self.route.id),
            V::RouteName => filled(&self.route.name),
            V::ServiceId => filled(&self.route.service_id),
            V::ServiceName => filled(&self.route.service_name),
            V::ConsumerName => Some(Cow::Borrowed(&*self.consumer.as_ref()?.name)),
            V::ConsumerGroupId => self.consumer.as_ref()?.group_id.as_deref().map(Cow::Borrowed),
            V::BalancerIp => Some(Cow::Borrowed(&*self.attempts.last()?.node)),
            V::RequestId => borrowed(self.request_id()),
            V::Capture(group) => {
                self.outgoing.captures.get(*group).map(|text| Cow::Borrowed(text.as_str()))
            }
            V::Fixed(value) => borrowed(value),
            V::Unknown(name) => {
                let kept = self.kept.borrow().clone()?;
                kept.variable(self, name).map(Cow::Owned)
            }
            V::UpstreamHeader(_) => None,
            made_up => {
                let mut value = String::new();
                self.make_up(made_up, &mut value).then_some(Cow::Owned(value))
            }
        }
    }

    fn datum(&self, name: &Variable) -> Option<Datum<'_>> {
        match name {
            Variable::Body(name) => self.payload.datum(name, &self.request),
            // An argument without a value is `true` in Lua.
            Variable::Arg(name) if is_bare_argument(self.query()?, name) => Some(Datum::Bool(true)),
            _ => self.get(name).map(Datum::Text),
        }
    }

    fn write(&self, name: &Variable, escape: Escape, out: &mut String) -> bool {
        use Variable as V;
        let headers = &self.request.headers;
        let put = |value: &[u8], out: &mut String| {
            escape.write(value, out);
            !value.is_empty()
        };
        match name {
            V::Header(name) if !is_repeated(headers) => {
                let value = headers.get(name).or_else(|| headers.get(underscored(headers, name)?));
                value.is_some_and(|value| put(value.as_bytes(), out))
            }
            V::UpstreamHost
                if self.outgoing.host.is_none()
                    && let Some(value) = headers.get(header::HOST) =>
            {
                put(value.as_bytes(), out)
            }
            V::RequestId => {
                out.push_str(self.request_id());
                true
            }
            V::UpstreamScheme => put(self.outgoing.scheme.as_bytes(), out),
            V::UpstreamUri if self.request.unread.is_none() => {
                put(self.upstream_uri().as_bytes(), out)
            }
            V::Request if self.request.unread.is_none() => {
                out.push_str(self.request.method.as_str());
                out.push(' ');
                escape.write(self.target().as_bytes(), out);
                out.push(' ');
                out.push_str(protocol(self.request.version));
                true
            }
            name if self.make_up(name, out) => true,
            name => put(self.get(name).unwrap_or_default().as_bytes(), out),
        }
    }
}

impl Ctx {
    /// Appends the value of a variable that is made up of numbers, of times, or of other things
    /// that no line of a log escapes. Whether it is one, and has a value.
    fn make_up(&self, name: &Variable, out: &mut String) -> bool {
        use Variable as V;
        match name {
            V::RequestLength => number(self.bytes_received, out),
            V::RequestTime => seconds(self.elapsed(), out),
            V::ServerAddr => put(self.client.local.ip().to_canonical(), out),
            V::ServerPort => number(self.client.local.port(), out),
            V::RemoteAddr if self.remote == self.client.peer => {
                out.push_str(&self.client.peer_ip);
                true
            }
            V::RemoteAddr => put(self.remote_ip().to_canonical(), out),
            V::RemotePort => number(self.remote.port(), out),
            V::PeerAddr => {
                out.push_str(&self.client.peer_ip);
                true
            }
            V::PeerPort => number(self.client.peer.port(), out),
            V::Connection => number(self.client.serial, out),
            V::ConnectionRequests => number(self.client.requests.get(), out),
            V::ConnectionTime => {
                seconds(clock::now().saturating_duration_since(self.client.since), out)
            }
            V::Status => {
                out.push_str(self.response.status.as_str());
                true
            }
            V::BodyBytesSent => number(self.body_bytes_sent, out),
            V::BytesSent => number(self.bytes_sent(), out),
            V::UpstreamAddr => self.each_attempt(out, address),
            V::UpstreamStatus => self.each_attempt(out, |attempt, out| {
                attempt.status.is_some_and(|status| number(status, out))
            }),
            V::UpstreamResponseTime => self.each_time(out, |attempt| attempt.response),
            V::UpstreamResponseLength => self.each_length(out),
            V::UpstreamConnectTime => self.each_time(out, |attempt| attempt.connect),
            V::UpstreamHeaderTime => self.each_time(out, |attempt| attempt.header),
            V::BalancerPort => {
                self.attempts.last().is_some_and(|attempt| number(attempt.addr.port(), out))
            }
            V::Tls(name) => self.client.tls.as_ref().is_some_and(|tls| tls.append(*name, out)),
            V::TimeLocal => this_second_local(out),
            V::TimeIso8601 => this_second_iso(out),
            V::Msec => {
                let since = SystemTime::now().duration_since(UNIX_EPOCH);
                since.is_ok_and(|since| seconds(since, out))
            }
            _ => false,
        }
    }

    /// What `put` writes for each try, a dash where it writes nothing.
    fn each_attempt(&self, out: &mut String, put: impl Fn(&Attempt, &mut String) -> bool) -> bool {
        for (index, attempt) in self.attempts.iter().enumerate() {
            if index > 0 {
                out.push_str(", ");
            }
            if !put(attempt, out) {
                out.push('-');
            }
        }
        !self.attempts.is_empty()
    }

    /// Only the last try has a body that was passed on.
    fn each_length(&self, out: &mut String) -> bool {
        let last = self.attempts.len().saturating_sub(1);
        for index in 0..self.attempts.len() {
            if index > 0 {
                out.push_str(", ");
            }
            let is_answer = index == last && self.response.from_upstream;
            number(if is_answer { self.body_bytes_sent } else { 0 }, out);
        }
        !self.attempts.is_empty()
    }

    /// Path and query as sent.
    fn target(&self) -> &str {
        self.request.uri.path_and_query().map_or("/", |target| target.as_str())
    }

    /// Path and query as the node is asked for them.
    fn upstream_uri(&self) -> &str {
        self.outgoing.path_and_query.as_deref().unwrap_or_else(|| self.target())
    }

    /// The path as plugins have left it.
    fn current_path(&self) -> &str {
        self.outgoing.renamed.as_deref().unwrap_or_else(|| self.path())
    }

    fn each_time(&self, out: &mut String, time: impl Fn(&Attempt) -> Option<Duration>) -> bool {
        self.each_attempt(out, |attempt, out| time(attempt).is_some_and(|time| seconds(time, out)))
    }
}

fn borrowed(text: &str) -> Option<Cow<'_, str>> {
    Some(Cow::Borrowed(text))
}

/// Writes a value that there always is.
fn put(value: impl Display, out: &mut String) -> bool {
    // Writing to a string cannot fail.
    write!(out, "{value}").is_ok()
}

/// Writes a whole number: there are many in a line of the access log, and formatting is slow.
fn number(value: impl itoa::Integer, out: &mut String) -> bool {
    out.push_str(itoa::Buffer::new().format(value));
    true
}

/// Writes the address of a try; `node` is its IP already.
fn address(attempt: &Attempt, out: &mut String) -> bool {
    match attempt.addr {
        SocketAddr::V4(addr) => {
            out.push_str(&attempt.node);
            out.push(':');
            number(addr.port(), out)
        }
        addr @ SocketAddr::V6(_) => put(addr, out),
    }
}

/// As the request line has it.
fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2.0",
        Version::HTTP_3 => "HTTP/3.0",
        _ => "HTTP/1.1",
    }
}

fn filled(text: &str) -> Option<Cow<'_, str>> {
    (!text.is_empty()).then_some(Cow::Borrowed(text))
}

/// Seconds with three decimals.
fn seconds(duration: Duration, out: &mut String) -> bool {
    let millis = (u64::from(duration.subsec_micros()) + 500) / 1000;
    number(duration.as_secs() + millis / 1000, out);
    let millis = millis % 1000;
    out.push('.');
    for digit in [millis / 100, millis / 10 % 10, millis % 10] {
        out.push(char::from(b'0' + digit as u8));
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::rig::exchange;

    /// `write` has roads of its own, which must lead where `get` does.
    #[test]
    fn a_line_has_of_each_variable_what_others_get() {
        let mut sent = exchange("/{\"a\"}?c=\\d");
        sent.request.headers.insert("x_odd", "\"odd\"".parse().unwrap());
        sent.request.headers.insert("x-empty", "".parse().unwrap());
        sent.outgoing.scheme = "http";
        let mut repeated = exchange("/");
        repeated.request.headers.append("x-odd", "1".parse().unwrap());
        repeated.request.headers.append("x-odd", "2".parse().unwrap());
        repeated.outgoing.host = Some("b.com".parse().unwrap());
        repeated.outgoing.path_and_query = Some("/other".into());
        let mut unread = exchange("/");
        unread.request.unread = Some("GET \"".into());
        for ctx in [sent, repeated, unread] {
            for name in [
                "http_host",
                "http_x_odd",
                "http_x_empty",
                "http_referer",
                "request",
                "request_id",
                "request_uri",
                "upstream_host",
                "upstream_scheme",
                "upstream_uri",
                "args",
                "status",
                "remote_addr",
                "remote_user",
                "upstream_addr",
                "bytes_sent",
                "nothing",
            ] {
                let variable = Variable::parse(name);
                let (mut got, mut written) = (String::new(), String::new());
                let value = ctx.get(&variable).unwrap_or_default();
                Escape::Default.write(value.as_bytes(), &mut got);
                let is_there = ctx.write(&variable, Escape::Default, &mut written);
                assert_eq!((written, is_there), (got, !value.is_empty()), "{name}");
            }
        }
    }

    #[test]
    fn writes_seconds_with_three_decimals() {
        let text = |micros| {
            let mut out = String::new();
            seconds(Duration::from_micros(micros), &mut out);
            out
        };
        assert_eq!([text(0), text(1_499), text(12_345_678)], ["0.000", "0.001", "12.346"]);
    }
}
