//! Who the client is, and what nodes are told about it: `X-Real-IP` and `X-Forwarded-*`.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, HeaderName, HeaderValue};
use ipnet::IpNet;

use super::host;

pub(super) const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
pub(super) const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
pub(super) const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
pub(super) const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
pub(super) const X_FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");

/// Where the client's address comes from (`nginx_config.http.real_ip_*`).
///
/// Source: nginx, `ngx_http_realip_module`.
#[derive(Debug, Clone)]
pub struct RealIp {
    pub header: HeaderName,
    /// Peers that are believed; none means that nobody is.
    pub from: Vec<IpNet>,
    /// Whether believed addresses in the list are passed over too.
    pub recursive: bool,
}

/// Whose `X-Forwarded-*` are passed on (`apisix.trusted_addresses`).
#[derive(Debug, Clone, Default)]
pub struct Trust(pub Vec<IpNet>);

/// How far a peer is trusted with `X-Forwarded-*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trusted {
    /// Nobody was configured: the chain of `X-Forwarded-For` is passed on, the rest is not.
    Unknown,
    Yes,
    No,
}

// === impl RealIp ===

impl Default for RealIp {
    fn default() -> Self {
        Self { header: X_REAL_IP, from: Vec::new(), recursive: false }
    }
}

impl RealIp {
    /// The client's address: `peer`, or what a believed peer says.
    pub(super) fn of(&self, peer: SocketAddr, headers: &HeaderMap) -> SocketAddr {
        // Most say nothing, which is seen sooner than who they are.
        if !headers.keys().any(|name| *name == self.header) || !self.believes(peer.ip()) {
            return peer;
        }
        let lists = headers.get_all(&self.header).iter().rev();
        let items = lists.filter_map(|value| value.to_str().ok()).flat_map(|list| list.rsplit(','));
        let mut found = peer;
        for item in items {
            let Some(address) = address(item.trim()) else {
                break;
            };
            found = address;
            if !(self.recursive && self.believes(address.ip())) {
                break;
            }
        }
        found
    }

    fn believes(&self, ip: IpAddr) -> bool {
        contains(&self.from, ip)
    }
}

/// An address with or without a port, IPv6 with or without brackets.
fn address(text: &str) -> Option<SocketAddr> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    match bare.parse::<IpAddr>() {
        Ok(ip) => Some(SocketAddr::new(ip, 0)),
        Err(_) => text.parse().ok(),
    }
}

fn contains(networks: &[IpNet], ip: IpAddr) -> bool {
    let ip = ip.to_canonical();
    networks.iter().any(|network| network.contains(&ip))
}

// === impl Trust ===

impl Trust {
    pub(super) fn of(&self, peer: IpAddr) -> Trusted {
        match self.0.as_slice() {
            [] => Trusted::Unknown,
            networks if contains(networks, peer) => Trusted::Yes,
            _ => Trusted::No,
        }
    }
}

/// The port that a `Host` names.
pub(super) fn port_of(host: &HeaderValue) -> Option<&str> {
    let (_, port) = host::split_port(host.to_str().ok()?);
    (!port.is_empty()).then_some(port)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(recursive: bool, header: &[&str], peer: &str) -> String {
        let real_ip = RealIp {
            header: X_FORWARDED_FOR,
            from: vec!["10.0.0.0/8".parse().unwrap(), "127.0.0.1/32".parse().unwrap()],
            recursive,
        };
        let mut headers = HeaderMap::new();
        for value in header {
            headers.append(X_FORWARDED_FOR, value.parse().unwrap());
        }
        real_ip.of(peer.parse().unwrap(), &headers).to_string()
    }

    #[test]
    fn believes_only_whom_it_was_told_to() {
        assert_eq!(check(false, &["1.1.1.1"], "9.9.9.9:5"), "9.9.9.9:5");
        assert_eq!(check(false, &["1.1.1.1"], "127.0.0.1:5"), "1.1.1.1:0");
        assert_eq!(check(false, &[], "127.0.0.1:5"), "127.0.0.1:5");
        assert_eq!(check(false, &["nonsense"], "127.0.0.1:5"), "127.0.0.1:5");
        assert_eq!(check(false, &["1.1.1.1, 2.2.2.2"], "127.0.0.1:5"), "2.2.2.2:0");
        assert_eq!(check(true, &["1.1.1.1, 10.0.0.2"], "127.0.0.1:5"), "1.1.1.1:0");
        assert_eq!(check(true, &["1.1.1.1", "10.0.0.2"], "127.0.0.1:5"), "1.1.1.1:0");
        assert_eq!(check(true, &["10.0.0.3, 10.0.0.2"], "127.0.0.1:5"), "10.0.0.3:0");
        assert_eq!(check(false, &["[::1]:80"], "127.0.0.1:5"), "[::1]:80");
    }

    #[test]
    fn tells_a_port_from_the_end_of_an_address() {
        let port = |host: &str| port_of(&host.parse().unwrap()).map(str::to_owned);
        assert_eq!(port("a.com:81").as_deref(), Some("81"));
        assert_eq!(port("[::1]:81").as_deref(), Some("81"));
        for host in ["a.com", "[::1]", "::1", "a.com:", "a.com:x"] {
            assert_eq!(port(host), None, "{host}");
        }
    }
}
