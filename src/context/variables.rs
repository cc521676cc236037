//! What each variable is in an exchange.

use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt::{Display, Write as _};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{HeaderMap, HeaderName, Version, header};
use percent_encoding::percent_decode_str;

use super::{Attempt, Ctx};
use crate::expr::{Variable, Variables};

impl Variables for Ctx {
    fn get(&self, name: &Variable) -> Option<Cow<'_, str>> {
        use Variable as V;
        match name {
            V::Uri => borrowed(self.path()),
            V::RequestUri => {
                let target = self.request.uri.path_and_query();
                borrowed(target.map_or("/", |target| target.as_str()))
            }
            V::Args => self.query().map(Cow::Borrowed),
            V::IsArgs => borrowed(if self.query().is_some() { "?" } else { "" }),
            V::Arg(name) => argument(self.query()?, name),
            V::Header(name) => request_field(&self.request.headers, name),
            V::SentHeader(name) => field(&self.response.headers, name),
            V::Cookie(name) => cookie(&self.request.headers, name),
            V::Request => {
                let (method, target) = (self.request.method.as_str(), self.get(&V::RequestUri)?);
                let protocol = protocol(self.request.version);
                let mut line = String::with_capacity(method.len() + target.len() + 10);
                for part in [method, " ", &target, " ", protocol] {
                    line.push_str(part);
                }
                Some(Cow::Owned(line))
            }
            V::RequestMethod => borrowed(self.request.method.as_str()),
            V::Scheme => borrowed(self.client.scheme),
            V::Host => Some(lower_case(self.request.host.as_deref()?)),
            V::Hostname => std::env::var("HOSTNAME").ok().map(Cow::Owned),
            V::ServerName => borrowed("_"),
            V::ServerProtocol => borrowed(protocol(self.request.version)),
            V::UpstreamScheme => borrowed(self.outgoing.scheme),
            V::UpstreamHost => match &self.outgoing.host {
                Some(host) => host.to_str().ok().map(Cow::Borrowed),
                None => field(&self.request.headers, &header::HOST),
            },
            V::UpstreamUri => match &self.outgoing.path_and_query {
                Some(target) => borrowed(target),
                None => self.get(&V::RequestUri),
            },
            V::SslServerName => self.client.sni.as_deref().map(Cow::Borrowed),
            V::SslProtocol => self.client.tls_protocol.map(Cow::Borrowed),
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
            V::Unknown(name) => {
                let kept = self.kept.borrow().clone()?;
                kept.variable(self, name).map(Cow::Owned)
            }
            V::RemoteUser => None,
            made_up => {
                let mut text = String::new();
                self.append(made_up, &mut text).then_some(Cow::Owned(text))
            }
        }
    }

    fn append(&self, name: &Variable, out: &mut String) -> bool {
        use Variable as V;
        match name {
            V::RequestLength => put(self.bytes_received, out),
            V::RequestTime => seconds(self.elapsed(), out),
            V::ServerAddr => put(self.client.local.ip(), out),
            V::ServerPort => put(self.client.local.port(), out),
            V::RemoteAddr if self.remote == self.client.peer => {
                out.push_str(&self.client.peer_ip);
                true
            }
            V::RemoteAddr => put(self.remote_ip(), out),
            V::RemotePort => put(self.remote.port(), out),
            V::PeerAddr => put(self.client.peer.ip(), out),
            V::Status => {
                out.push_str(self.response.status.as_str());
                true
            }
            V::BodyBytesSent => put(self.body_bytes_sent, out),
            V::BytesSent => put(self.bytes_sent(), out),
            V::UpstreamAddr => self.each_attempt(out, |attempt, out| put(attempt.addr, out)),
            V::UpstreamStatus => self.each_attempt(out, |attempt, out| {
                attempt.status.is_some_and(|status| put(status, out))
            }),
            V::UpstreamResponseTime => self.each_time(out, |attempt| attempt.response),
            V::UpstreamConnectTime => self.each_time(out, |attempt| attempt.connect),
            V::UpstreamHeaderTime => self.each_time(out, |attempt| attempt.header),
            V::BalancerPort => {
                self.attempts.last().is_some_and(|attempt| put(attempt.addr.port(), out))
            }
            V::TimeLocal => this_second(&LOCAL, time_local, out),
            V::TimeIso8601 => this_second(&ISO, time_iso8601, out),
            V::Msec => {
                let since = SystemTime::now().duration_since(UNIX_EPOCH);
                since.is_ok_and(|since| seconds(since, out))
            }
            _ => false,
        }
    }
}

impl Ctx {
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
    let millis = (duration.as_micros() + 500) / 1000;
    put(format_args!("{}.{:03}", millis / 1000, millis % 1000), out)
}

fn lower_case(host: &str) -> Cow<'_, str> {
    if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(host.to_ascii_lowercase())
    } else {
        Cow::Borrowed(host)
    }
}

fn field<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<Cow<'h, str>> {
    let mut values = headers.get_all(name).iter();
    let first = String::from_utf8_lossy(values.next()?.as_bytes());
    // nginx joins repeated fields with a comma in `$http_name`.
    Some(values.fold(first, |all, one| {
        Cow::Owned(format!("{all}, {}", String::from_utf8_lossy(one.as_bytes())))
    }))
}

/// A header of the request by its variable's name, where `_` stands for `-` or, as in nginx, for
/// itself.
fn request_field<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<Cow<'h, str>> {
    field(headers, name).or_else(|| {
        let name = name.as_str();
        let is_meant = |sent: &&HeaderName| {
            let sent = sent.as_str();
            let mut pairs = sent.bytes().zip(name.bytes());
            sent.len() == name.len() && pairs.all(|(s, n)| s == n || (s == b'_' && n == b'-'))
        };
        let sent = name.contains('-').then(|| headers.keys().find(is_meant))??;
        field(headers, sent)
    })
}

fn argument<'q>(query: &'q str, name: &str) -> Option<Cow<'q, str>> {
    let mut pairs = query.split('&');
    let value = pairs.find_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (key == name).then_some(value)
    })?;
    if value.contains(['%', '+']) {
        let spaced = value.replace('+', " ");
        let decoded = percent_decode_str(&spaced).decode_utf8_lossy().into_owned();
        return Some(Cow::Owned(decoded));
    }
    Some(Cow::Borrowed(value))
}

fn cookie<'h>(headers: &'h HeaderMap, name: &str) -> Option<Cow<'h, str>> {
    let fields = headers.get_all(header::COOKIE).iter();
    let texts = fields.filter_map(|value| value.to_str().ok());
    texts
        .flat_map(|text| text.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(key, _)| *key == name)
        .map(|(_, value)| Cow::Borrowed(value))
}

/// A second since 1970 and how it is written.
type Second = RefCell<(u64, String)>;

// Written once a second and worker, not once a line.
thread_local! {
    static LOCAL: Second = RefCell::default();
    static ISO: Second = RefCell::default();
}

fn this_second(
    cache: &'static std::thread::LocalKey<Second>,
    write: fn(SystemTime) -> String,
    out: &mut String,
) -> bool {
    let now = SystemTime::now();
    let second = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    cache.with_borrow_mut(|(at, text)| {
        if *at != second || text.is_empty() {
            *at = second;
            *text = write(now);
        }
        out.push_str(text);
    });
    true
}

/// `24/Nov/2026:02:00:00 +0000`: the local time of a gateway is UTC.
fn time_local(at: SystemTime) -> String {
    // `Tue, 24 Nov 2026 02:00:00 GMT` has every part that is needed.
    let date = httpdate::fmt_http_date(at);
    let mut parts = date.split(' ').skip(1);
    let mut next = || parts.next().unwrap_or_default();
    let (day, month, year, time) = (next(), next(), next(), next());
    format!("{day}/{month}/{year}:{time} +0000")
}

/// `2026-11-24T02:00:00+00:00`.
fn time_iso8601(at: SystemTime) -> String {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let date = httpdate::fmt_http_date(at);
    let mut parts = date.split(' ').skip(1);
    let mut next = || parts.next().unwrap_or_default();
    let (day, month, year, time) = (next(), next(), next(), next());
    let month = MONTHS.iter().position(|name| *name == month).unwrap_or(0) + 1;
    format!("{year}-{month:02}-{day}T{time}+00:00")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_times_as_nginx_does() {
        let at = UNIX_EPOCH + Duration::from_secs(1_795_485_600);
        assert_eq!(time_local(at), "24/Nov/2026:02:00:00 +0000");
        assert_eq!(time_iso8601(at), "2026-11-24T02:00:00+00:00");
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

    #[test]
    fn finds_headers_written_with_underscores() {
        let mut headers = HeaderMap::new();
        headers.insert("time_window", "2".parse().unwrap());
        headers.insert("x_a-b", "3".parse().unwrap());
        let get = |name: &'static str| request_field(&headers, &HeaderName::from_static(name));
        assert_eq!(get("time-window").unwrap(), "2");
        assert_eq!(get("x-a-b").unwrap(), "3");
        assert!(get("x-a").is_none() && get("time-windows").is_none());
        // Of the two spellings the usual one counts.
        headers.insert("time-window", "4".parse().unwrap());
        let name = HeaderName::from_static("time-window");
        assert_eq!(request_field(&headers, &name).unwrap(), "4");
    }

    #[test]
    fn takes_arguments_apart() {
        assert_eq!(argument("a=1&b=x%20y+z&c", "b").unwrap(), "x y z");
        assert_eq!(argument("a=1&c", "c").unwrap(), "");
        assert!(argument("ab=1", "a").is_none());
    }
}
