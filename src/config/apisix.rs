//! The keys under `apisix`: listeners, TLS, routing, name resolution, encryption at rest.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use serde::Deserialize;

use super::Hidden;
use super::decode::{millis, optional_millis, path_or_system};

/// `apisix`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Apisix {
    /// The name of this node for others; `None` means one is made up.
    pub id: Option<String>,
    /// Plain HTTP listeners, without repetition; may be empty.
    pub node_listen: Vec<Listen>,
    /// Whether the Admin API is served; settled by the role too.
    pub enable_admin: bool,
    /// One worker, one socket a port.
    pub enable_dev_mode: bool,
    /// Whether every worker has a listening socket of its own.
    pub enable_reuseport: bool,
    pub show_upstream_status_in_response_header: bool,
    /// Whether names resolve to IPv6 addresses; already applied to the listeners.
    pub enable_ipv6: bool,
    /// Whether HTTP/2 is spoken to clients; already applied to the listeners.
    pub enable_http2: bool,
    /// Whether the `Server` header tells the version.
    pub enable_server_tokens: bool,
    pub delete_uri_tail_slash: bool,
    pub normalize_uri_like_servlet: bool,
    pub match_uri_encoded_slash: bool,
    pub router: Router,
    pub proxy_mode: ProxyMode,
    /// DNS servers; empty means those of `/etc/resolv.conf`.
    pub dns_resolver: Vec<SocketAddr>,
    /// How long an answer of DNS is used, instead of its own TTL.
    #[serde(deserialize_with = "optional_millis")]
    pub dns_resolver_valid: Option<Duration>,
    #[serde(deserialize_with = "millis")]
    pub resolver_timeout: Duration,
    /// Whether the `search` line of `/etc/resolv.conf` applies.
    pub enable_resolv_search_opt: bool,
    pub ssl: Ssl,
    pub enable_control: bool,
    /// Where the control API listens.
    pub control: Address,
    /// Where status and readiness are served; `None` means nowhere.
    pub status: Option<Address>,
    pub data_encryption: DataEncryption,
    pub lru: Lru,
    /// Peers whose `X-Forwarded-*` are believed; empty means that none was configured.
    pub trusted_addresses: Vec<IpNet>,
    /// How large a request's body may be, in MiB, to be looked into by variables; 0 is no limit.
    pub max_post_args_readable_size: u64,
}

/// One address and port on which clients are accepted.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listen {
    pub ip: IpAddr,
    /// 1 to 65535.
    pub port: u16,
    /// Whether HTTP/2 is spoken: by ALPN on TLS, by prior knowledge (h2c) without.
    pub http2: bool,
    /// Whether HTTP/3 is spoken, on the same port of UDP; never without TLS.
    pub http3: bool,
    /// Whether this is the `[::]` that `enable_ipv6` adds to a listener without an address: to be
    /// bound for IPv6 only, and done without on a host that has no IPv6.
    pub implied: bool,
}

/// An address and port of a service of the node itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Address {
    pub ip: IpAddr,
    /// 1 to 65535.
    pub port: u16,
}

/// `apisix.router`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Router {
    pub http: HttpRouter,
    /// Always `radixtree_sni`.
    pub ssl: String,
}

/// How routes are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum HttpRouter {
    /// By host, then path.
    #[serde(rename = "radixtree_host_uri")]
    HostUri,
    /// By path, then host.
    #[serde(rename = "radixtree_uri")]
    Uri,
    /// By path with parameters (`/user/:name`), then host.
    #[serde(rename = "radixtree_uri_with_parameter")]
    UriWithParameter,
}

/// What the node proxies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum ProxyMode {
    #[serde(rename = "http")]
    Http,
    #[serde(rename = "stream")]
    Stream,
    #[serde(rename = "http&stream")]
    HttpAndStream,
}

/// `apisix.ssl`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ssl {
    /// Whether the TLS listeners are opened.
    pub enable: bool,
    /// TLS listeners, without repetition.
    pub listen: Vec<Listen>,
    /// Versions offered to clients; an `ssls` object may narrow them.
    pub ssl_protocols: Vec<TlsVersion>,
    /// OpenSSL names of the TLS 1.2 cipher suites; those that this build lacks are skipped.
    pub ssl_ciphers: Vec<String>,
    pub ssl_session_tickets: bool,
    /// CA certificates that upstreams, Vault and etcd are checked against; `None` means those of
    /// the system.
    #[serde(deserialize_with = "path_or_system")]
    pub ssl_trusted_certificate: Option<PathBuf>,
    /// The SNI assumed for a client that sends none, in lower case.
    pub fallback_sni: Option<String>,
}

/// A version of TLS that Sluice speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum TlsVersion {
    #[serde(rename = "TLSv1.2")]
    Tls12,
    #[serde(rename = "TLSv1.3")]
    Tls13,
}

/// `apisix.data_encryption`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataEncryption {
    /// Whether plugin fields that are marked so are encrypted in the store.
    pub enable_encrypt_fields: bool,
    /// Keys of 16 (AES-128-CBC) or 32 bytes (AES-256-CBC), each its own IV. The first encrypts,
    /// all are tried for decryption; empty means nothing is encrypted.
    pub keyring: Vec<Hidden>,
}

/// `apisix.lru`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lru {
    pub secret: LruSecret,
}

/// `apisix.lru.secret`: how long resolved secrets are used, and how many are kept.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LruSecret {
    #[serde(deserialize_with = "millis")]
    pub ttl: Duration,
    pub count: usize,
    /// How long a failure to resolve is remembered.
    #[serde(deserialize_with = "millis")]
    pub neg_ttl: Duration,
    pub neg_count: usize,
}

// === impl Address ===

impl From<Address> for SocketAddr {
    fn from(address: Address) -> Self {
        Self::new(address.ip, address.port)
    }
}

// === impl Listen ===

impl From<&Listen> for SocketAddr {
    fn from(listen: &Listen) -> Self {
        Self::new(listen.ip, listen.port)
    }
}
