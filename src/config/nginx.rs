//! The keys under `nginx_config` that mean something without nginx: workers, limits, timeouts, logs.

use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use serde::Deserialize;

use super::decode::millis;

/// `nginx_config`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NginxConfig {
    pub error_log: LogTarget,
    pub error_log_level: LogLevel,
    /// How many workers; `None` means one for each core that the process may use.
    pub worker_processes: Option<usize>,
    /// How many files and sockets the process may have open, for each worker.
    pub worker_rlimit_nofile: u64,
    /// How long a stop waits for exchanges in flight.
    #[serde(deserialize_with = "millis")]
    pub worker_shutdown_timeout: Duration,
    pub http: Http,
}

/// `nginx_config.http`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Http {
    pub enable_access_log: bool,
    pub access_log: LogTarget,
    /// The template of a line, in nginx's `$variable` notation.
    pub access_log_format: String,
    pub access_log_format_escape: Escape,
    /// Bytes gathered before they are written.
    pub access_log_buffer: u64,
    /// How long an idle connection of a client is kept; zero closes it after each response.
    #[serde(deserialize_with = "millis")]
    pub keepalive_timeout: Duration,
    #[serde(deserialize_with = "millis")]
    pub client_header_timeout: Duration,
    /// The longest pause between two reads of a request's body.
    #[serde(deserialize_with = "millis")]
    pub client_body_timeout: Duration,
    /// Bytes of the largest request body; 0 means no limit.
    pub client_max_body_size: u64,
    /// The longest pause between two writes of a response.
    #[serde(deserialize_with = "millis")]
    pub send_timeout: Duration,
    /// Whether headers with an underscore in their name are kept.
    pub underscores_in_headers: bool,
    pub real_ip_header: String,
    pub real_ip_recursive: bool,
    /// Peers whose `real_ip_header` is believed.
    pub real_ip_from: Vec<IpNet>,
    /// Whether the SNI is sent to TLS upstreams.
    pub proxy_ssl_server_name: bool,
    pub upstream: UpstreamKeepalive,
}

/// `nginx_config.http.upstream`: idle connections to upstream nodes, where an upstream object has
/// no `keepalive_pool` of its own.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpstreamKeepalive {
    /// Most idle connections a worker keeps.
    pub keepalive: usize,
    /// Most requests that one connection carries.
    pub keepalive_requests: u64,
    #[serde(deserialize_with = "millis")]
    pub keepalive_timeout: Duration,
}

/// Where a log goes.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "String")]
pub enum LogTarget {
    Stdout,
    Stderr,
    /// Absolute path; its folder may not exist yet.
    File(PathBuf),
}

/// nginx's severities, least severe first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    Debug,
    Info,
    Notice,
    Warn,
    Error,
    Crit,
    Alert,
    Emerg,
}

/// How values are escaped in the access log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Escape {
    Default,
    Json,
    None,
}

// === impl LogTarget ===

impl From<String> for LogTarget {
    fn from(text: String) -> Self {
        match text.as_str() {
            "/dev/stdout" => Self::Stdout,
            "stderr" | "/dev/stderr" => Self::Stderr,
            _ => Self::File(text.into()),
        }
    }
}

impl LogTarget {
    /// Makes a file's path absolute.
    pub(super) fn settle(&mut self, home: &Path) {
        if let Self::File(path) = self {
            *path = home.join(&*path);
        }
    }
}

// === impl LogLevel ===

impl LogLevel {
    /// The level of `tracing` that lets the same lines through.
    pub const fn as_tracing(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info | Self::Notice => "info",
            Self::Warn => "warn",
            Self::Error | Self::Crit | Self::Alert | Self::Emerg => "error",
        }
    }
}
