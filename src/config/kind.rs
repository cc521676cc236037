//! What may stand at a key, and what becomes of it.
//!
//! A kind turns a written value into one plain form: times become milliseconds, sizes bytes,
//! nginx's `on` and `off` booleans. Kinds know nothing of paths, defaults or other keys.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use serde_json::{Value, json};

/// What may stand at a key.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    /// A mapping with rows of its own.
    Section,
    /// A mapping with rows of its own that may be left out as a whole.
    Optional,
    /// A list of mappings, whose rows stand at `path[]`.
    Items,
    /// The same, where a bare port stands for `{port: …}`.
    Listens,
    /// One of them.
    Listen,
    /// A mapping of free names to mappings, whose rows stand at `path.*`.
    Entries,
    /// Anything.
    Json,
    /// A key of APISIX without effect here; its row says why.
    Unused,
    List(&'static Kind, Form),

    Bool,
    /// nginx's `on` and `off`.
    Switch,
    /// An integer from the first to the second number.
    Int(u64, u64),
    /// A time in nginx's notation, of at least so many milliseconds.
    Time(u64),
    /// A size in nginx's notation.
    Size,
    Text,
    Secret,
    Path,
    /// Where a log goes.
    Target,
    UriPath,
    Choice(&'static [&'static str]),
    Ip,
    /// `auto` or a count.
    Workers,
    /// An address or a network.
    Net,
    /// An etcd endpoint.
    Url,
    /// An address, perhaps with a port.
    Resolver,
    /// The upper bound of a histogram's bucket.
    Bucket,
    /// `{name: $variable}`.
    Label,
    TlsVersion,
    /// A key for encryption at rest.
    CryptKey,
}

/// How a list may be written.
#[derive(Debug, Clone, Copy)]
pub(super) enum Form {
    Plain,
    /// A single item may stand for the list.
    OrOne,
    /// As one text, its items parted by this character, or as a list.
    Split(char),
}

/// What became of a value.
#[derive(Debug, PartialEq)]
pub(super) enum Outcome {
    Good(Value),
    /// Rightly written, but of no use here; with a reason when its author should know.
    Dropped(Option<&'static str>),
    Wrong,
}

/// Largest number of seconds that a time may last: a hundred years.
const MOST_SECONDS: f64 = 3_155_760_000.0;

// === impl Kind ===

impl Kind {
    /// What should stand there, as a noun phrase.
    pub(super) fn expected(self) -> String {
        match self {
            Self::Section | Self::Optional => "a mapping".into(),
            Self::Items => "a list of mappings".into(),
            Self::Listens => "a port, or a list of ports and {ip, port}".into(),
            Self::Listen => "a port, or a mapping with ip and port".into(),
            Self::Entries => "a mapping of names to mappings".into(),
            Self::Json | Self::Unused => "anything".into(),
            Self::List(item, Form::Plain) => format!("a list, each item {}", item.expected()),
            Self::List(item, Form::OrOne) => {
                format!("{0}, or a list, each item {0}", item.expected())
            }
            Self::List(item, Form::Split(' ')) => {
                format!("a text of words, each {}", item.expected())
            }
            Self::List(item, Form::Split(by)) => {
                format!("a text parted by \"{by}\", each part {}", item.expected())
            }
            Self::Bool => "true or false".into(),
            Self::Switch => "on or off".into(),
            Self::Int(1, 65_535) => "a port from 1 to 65535".into(),
            Self::Int(least, u64::MAX) => format!("an integer of at least {least}"),
            Self::Int(least, most) => format!("an integer from {least} to {most}"),
            Self::Time(0) => "a time such as 60s, 1m or 500ms (a number counts seconds)".into(),
            Self::Time(least) => {
                format!("a time such as 60s or 1m (a number counts seconds), at least {least}ms")
            }
            Self::Size => "a size such as 0, 16384, 64k or 10m".into(),
            Self::Text => "a text".into(),
            Self::Secret => "a text (in quotes where it looks like a number)".into(),
            Self::Path => "the path of a file".into(),
            Self::Target => "the path of a file, /dev/stdout or /dev/stderr".into(),
            Self::UriPath => "a URI path, beginning with a slash".into(),
            Self::Choice(one_of) => match one_of {
                [only] => format!("\"{only}\""),
                _ => format!("one of {}", one_of.join(", ")),
            },
            Self::Ip => "an IP address".into(),
            Self::Workers => "auto, or an integer of at least 1".into(),
            Self::Net => "an IP address or a CIDR such as 10.0.0.0/8".into(),
            Self::Url => "a URL http://host:port or https://host:port, without a user".into(),
            Self::Resolver => "an IP address, perhaps with a port, such as 1.1.1.1:53".into(),
            Self::Bucket => "a number above 0".into(),
            Self::Label => {
                "a label with its variable, such as upstream_addr: $upstream_addr".into()
            }
            Self::TlsVersion => "TLSv1.2 or TLSv1.3".into(),
            Self::CryptKey => "a key of 16 or 32 bytes".into(),
        }
    }

    /// Whether a value that came from an environment variable is taken as the text it was.
    pub(super) fn is_text(self) -> bool {
        !matches!(
            self,
            Self::Bool | Self::Switch | Self::Int(..) | Self::Bucket | Self::Json | Self::Unused
        )
    }

    /// Whether what stands there must not be shown.
    pub(super) fn is_secret(self) -> bool {
        match self {
            Self::Secret | Self::CryptKey | Self::Json => true,
            Self::List(item, _) => item.is_secret(),
            _ => false,
        }
    }

    /// Whether it is a mapping or a list of mappings: what stands there instead may be anything.
    pub(super) fn is_compound(self) -> bool {
        matches!(self, Self::Section | Self::Optional | Self::Items | Self::Listens | Self::Entries)
    }

    /// Reads one value, of a kind that has no rows of its own.
    pub(super) fn read(self, value: &Value) -> Outcome {
        match (self, value) {
            (Self::TlsVersion, Value::String(text)) => tls_version(text),
            // A resolver's zone and a unix socket as peer mean something to nginx only.
            (Self::Net, Value::String(text)) if text == "unix:" => Outcome::Dropped(None),
            (Self::Resolver, Value::String(text)) if text.contains('%') => {
                Outcome::Dropped(Some("an address with a zone cannot be asked and is left out"))
            }
            _ => self.plain(value).map_or(Outcome::Wrong, Outcome::Good),
        }
    }

    fn plain(self, value: &Value) -> Option<Value> {
        match (self, value) {
            (Self::Json, any) => Some(any.clone()),
            (Self::Bool | Self::Switch, Value::Bool(_)) => Some(value.clone()),
            (Self::Switch, Value::String(text)) => match text.as_str() {
                "on" => Some(json!(true)),
                "off" => Some(json!(false)),
                _ => None,
            },
            (Self::Int(least, most), Value::Number(number)) => {
                let number = number.as_u64()?;
                (least..=most).contains(&number).then(|| json!(number))
            }
            (Self::Time(least), _) => {
                let millis = match value {
                    Value::Number(number) => seconds(number.as_f64()?)?,
                    Value::String(text) => time(text)?,
                    _ => return None,
                };
                (millis >= least).then(|| json!(millis))
            }
            (Self::Size, Value::Number(number)) => number.as_u64().map(Value::from),
            (Self::Size, Value::String(text)) => size(text).map(Value::from),
            (Self::Text | Self::Secret, Value::String(_)) => Some(value.clone()),
            // Digits that YAML takes for a number are a key all the same.
            (Self::Secret, Value::Number(number)) if number.is_u64() => {
                Some(json!(number.to_string()))
            }
            (Self::Path, Value::String(text)) => (!text.is_empty()).then(|| value.clone()),
            (Self::Target, Value::String(text)) => {
                (!text.is_empty() && !text.starts_with("syslog:")).then(|| value.clone())
            }
            (Self::UriPath, Value::String(text)) => {
                let plain = text.starts_with('/') && !text.contains(['?', '#', ' ']);
                plain.then(|| value.clone())
            }
            (Self::Choice(one_of), Value::String(text)) => {
                one_of.contains(&text.as_str()).then(|| value.clone())
            }
            (Self::Ip, Value::String(text)) => {
                bare(text).parse::<IpAddr>().ok().map(|ip| json!(ip))
            }
            (Self::Workers, Value::String(text)) => match text.as_str() {
                "auto" => Some(Value::Null),
                count => Self::Int(1, 1024).plain(&json!(count.parse::<u64>().ok()?)),
            },
            (Self::Workers, number) => Self::Int(1, 1024).plain(number),
            (Self::Net, Value::String(text)) => {
                let net = text
                    .parse::<IpNet>()
                    .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
                    .ok()?;
                Some(json!(net.trunc().to_string()))
            }
            (Self::Url, Value::String(text)) => url(text).map(Value::from),
            (Self::Resolver, Value::String(text)) => {
                let address = text
                    .parse::<SocketAddr>()
                    .or_else(|_| bare(text).parse::<IpAddr>().map(|ip| SocketAddr::new(ip, 53)))
                    .ok()?;
                (address.port() != 0).then(|| json!(address))
            }
            (Self::Bucket, Value::Number(number)) => {
                let bound = number.as_f64()?;
                (bound > 0.0).then(|| json!(bound))
            }
            (Self::Label, Value::Object(map)) => label(map),
            (Self::CryptKey, Value::String(text)) => {
                matches!(text.len(), 16 | 32).then(|| value.clone())
            }
            (Self::CryptKey, Value::Number(number)) if number.is_u64() => {
                self.plain(&json!(number.to_string()))
            }
            _ => None,
        }
    }
}

/// The address without the brackets that nginx wants around IPv6.
fn bare(text: &str) -> &str {
    text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text)
}

fn seconds(number: f64) -> Option<u64> {
    // Rounded to whole milliseconds; the bound keeps the cast exact.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    (0.0..=MOST_SECONDS).contains(&number).then(|| (number * 1000.0).round() as u64)
}

/// Milliseconds of a time in nginx's notation: numbers with units, largest first, the last perhaps
/// without one, which means seconds: `1h 30m`, `90`, `500ms`.
///
/// Source: nginx, "Configuration file measurement units".
fn time(text: &str) -> Option<u64> {
    const UNITS: [(&str, u64); 8] = [
        ("y", 31_536_000_000),
        ("M", 2_592_000_000),
        ("w", 604_800_000),
        ("d", 86_400_000),
        ("h", 3_600_000),
        ("m", 60_000),
        ("s", 1000),
        ("ms", 1),
    ];
    let mut rest = text.trim();
    let mut total = 0_u64;
    let mut allowed = 0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let number: u64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let letters = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
        let (index, scale) = match &rest[..letters] {
            "" if rest.is_empty() => (6, 1000),
            unit => {
                let index = UNITS.iter().position(|(name, _)| *name == unit)?;
                (index, UNITS[index].1)
            }
        };
        if index < allowed {
            return None;
        }
        allowed = index + 1;
        total = total.checked_add(number.checked_mul(scale)?)?;
        rest = rest[letters..].trim_start();
    }
    #[allow(clippy::cast_precision_loss)]
    ((total as f64) <= MOST_SECONDS * 1000.0).then_some(total)
}

/// Bytes of a size in nginx's notation: `16384`, `64k`, `10m`, `1g`.
fn size(text: &str) -> Option<u64> {
    let text = text.trim();
    let (digits, scale) = match text.char_indices().last()? {
        (end, 'k' | 'K') => (&text[..end], 1 << 10),
        (end, 'm' | 'M') => (&text[..end], 1 << 20),
        (end, 'g' | 'G') => (&text[..end], 1 << 30),
        _ => (text, 1),
    };
    let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    plain.then(|| digits.parse::<u64>().ok()?.checked_mul(scale))?
}

/// The endpoint without a slash at its end.
fn url(text: &str) -> Option<String> {
    let uri: http::Uri = text.parse().ok()?;
    let scheme = uri.scheme_str()?;
    let authority = uri.authority()?;
    let usable = matches!(scheme, "http" | "https")
        && !authority.host().is_empty()
        && !authority.as_str().contains('@')
        // `port_u16` says nothing for a port that is too large, just as for none.
        && authority.as_str().len()
            == authority.host().len()
                + authority.port_u16().map_or(0, |port| 1 + port.to_string().len())
        && authority.port_u16() != Some(0)
        && uri.path() == "/"
        && uri.query().is_none();
    usable.then(|| format!("{scheme}://{authority}"))
}

fn label(map: &serde_json::Map<String, Value>) -> Option<Value> {
    let (name, variable) = map.iter().next()?;
    let variable = variable.as_str()?.strip_prefix('$')?;
    let is_name = |text: &str| {
        text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
    };
    (map.len() == 1 && is_name(name) && is_name(variable))
        .then(|| json!({ "name": name, "variable": variable }))
}

fn tls_version(text: &str) -> Outcome {
    match text {
        "TLSv1.2" | "TLSv1.3" => Outcome::Good(json!(text)),
        "TLSv1" | "TLSv1.1" | "SSLv3" | "SSLv2" => Outcome::Dropped(Some(
            "only TLSv1.2 and TLSv1.3 are spoken; older versions are left out",
        )),
        _ => Outcome::Wrong,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_read_as_nginx_reads_it() {
        for (text, millis) in [
            ("60s", 60_000),
            ("60", 60_000),
            ("1m", 60_000),
            ("500ms", 500),
            ("1h 30m", 5_400_000),
            ("1h30m", 5_400_000),
            ("1m 5", 65_000),
            ("2d", 172_800_000),
            ("0", 0),
        ] {
            assert_eq!(time(text), Some(millis), "{text}");
        }
        for text in ["", "s", "-1s", "1.5s", "1x", "1s 1m", "1m 1m", "99999999999999999999s", "1 m"]
        {
            assert_eq!(time(text), None, "{text}");
        }
        assert_eq!(Kind::Time(0).read(&json!(0.5)), Outcome::Good(json!(500)));
        assert_eq!(Kind::Time(0).read(&json!(-1)), Outcome::Wrong);
        assert_eq!(Kind::Time(1000).read(&json!("999ms")), Outcome::Wrong);
    }

    #[test]
    fn a_size_is_read_as_nginx_reads_it() {
        for (text, bytes) in [
            ("0", 0),
            ("16384", 16_384),
            ("64k", 65_536),
            ("10m", 10_485_760),
            ("10M", 10_485_760),
            ("1G", 1_073_741_824),
        ] {
            assert_eq!(size(text), Some(bytes), "{text}");
        }
        for text in ["", "m", "-1", "1.5m", "10mb", "+1", "99999999999999999999g"] {
            assert_eq!(size(text), None, "{text}");
        }
    }

    #[test]
    fn an_endpoint_is_a_plain_http_url() {
        for (text, read) in [
            ("http://127.0.0.1:2379", "http://127.0.0.1:2379"),
            ("https://etcd.example.com:2379/", "https://etcd.example.com:2379"),
            ("http://[::1]:2379", "http://[::1]:2379"),
            ("http://etcd", "http://etcd"),
        ] {
            assert_eq!(url(text).as_deref(), Some(read), "{text}");
        }
        for text in [
            "127.0.0.1:2379",
            "etcd",
            "tcp://etcd:2379",
            "http://",
            "http://etcd:70000",
            "http://etcd:0",
            "http://etcd:2379/v3",
            "http://root:secret@etcd:2379",
            "",
        ] {
            assert_eq!(url(text), None, "{text}");
        }
    }

    #[test]
    fn addresses_networks_and_resolvers_are_told_apart() {
        let good = |kind: Kind, text: &str| match kind.read(&json!(text)) {
            Outcome::Good(Value::String(read)) => read,
            other => panic!("{text}: {other:?}"),
        };
        assert_eq!(good(Kind::Net, "127.0.0.1"), "127.0.0.1/32");
        assert_eq!(good(Kind::Net, "127.0.0.1/24"), "127.0.0.0/24");
        assert_eq!(good(Kind::Net, "::/64"), "::/64");
        assert_eq!(good(Kind::Ip, "[::1]"), "::1");
        assert_eq!(good(Kind::Resolver, "1.1.1.1"), "1.1.1.1:53");
        assert_eq!(good(Kind::Resolver, "1.1.1.1:5353"), "1.1.1.1:5353");
        assert_eq!(good(Kind::Resolver, "[::1]:5353"), "[::1]:5353");
        assert_eq!(good(Kind::Resolver, "::1"), "[::1]:53");
        assert_eq!(Kind::Net.read(&json!("unix:")), Outcome::Dropped(None));
        for wrong in ["127.0.0.0/33", "localhost", "10.0.0", ""] {
            assert_eq!(Kind::Net.read(&json!(wrong)), Outcome::Wrong, "{wrong}");
        }
    }

    #[test]
    fn switches_workers_and_labels_have_their_forms() {
        for (written, read) in [(json!("on"), true), (json!("off"), false), (json!(true), true)] {
            assert_eq!(Kind::Switch.read(&written), Outcome::Good(json!(read)));
        }
        assert_eq!(Kind::Switch.read(&json!("maybe")), Outcome::Wrong);
        assert_eq!(Kind::Workers.read(&json!("auto")), Outcome::Good(Value::Null));
        assert_eq!(Kind::Workers.read(&json!(4)), Outcome::Good(json!(4)));
        assert_eq!(Kind::Workers.read(&json!("4")), Outcome::Good(json!(4)));
        for wrong in [json!(0), json!(-1), json!(1.5), json!("many")] {
            assert_eq!(Kind::Workers.read(&wrong), Outcome::Wrong, "{wrong}");
        }
        assert_eq!(
            Kind::Label.read(&json!({ "upstream": "$upstream_addr" })),
            Outcome::Good(json!({ "name": "upstream", "variable": "upstream_addr" }))
        );
        for wrong in [json!({ "a": "b" }), json!({ "a": "$b", "c": "$d" }), json!({ "1": "$b" })] {
            assert_eq!(Kind::Label.read(&wrong), Outcome::Wrong, "{wrong}");
        }
    }
}
