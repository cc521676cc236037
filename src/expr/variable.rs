//! Names of variables, parsed once.
//!
//! Source: nginx's variable index and APISIX `docs/en/latest/apisix-variable.md`.

use http::HeaderName;

/// A variable's name, ready to be looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Variable {
    /// `uri`: the normalised path.
    Uri,
    /// `request_uri`: path and query as sent.
    RequestUri,
    /// `args`, `query_string`.
    Args,
    /// `is_args`: `?` when there is a query.
    IsArgs,
    /// `arg_NAME`.
    Arg(Box<str>),
    /// `http_NAME`.
    Header(HeaderName),
    /// `sent_http_NAME`.
    SentHeader(HeaderName),
    /// `cookie_NAME`.
    Cookie(Box<str>),
    /// `uri_param_NAME`: what a parameter of the route's path stands for.
    UriParam(Box<str>),
    /// `request`: the request line.
    Request,
    RequestMethod,
    /// `request_length`, in bytes.
    RequestLength,
    /// `request_time`, in seconds with milliseconds.
    RequestTime,
    Scheme,
    /// `host`: lower case, without its port.
    Host,
    Hostname,
    ServerName,
    ServerAddr,
    ServerPort,
    /// `server_protocol`: `HTTP/1.1`.
    ServerProtocol,
    RemoteAddr,
    RemotePort,
    RemoteUser,
    /// `realip_remote_addr`: the peer's address.
    PeerAddr,
    Status,
    BodyBytesSent,
    BytesSent,
    UpstreamAddr,
    UpstreamStatus,
    UpstreamResponseTime,
    UpstreamConnectTime,
    UpstreamHeaderTime,
    UpstreamScheme,
    UpstreamHost,
    UpstreamUri,
    /// `ssl_server_name`.
    SslServerName,
    /// `ssl_protocol`.
    SslProtocol,
    RouteId,
    RouteName,
    ServiceId,
    ServiceName,
    ConsumerName,
    ConsumerGroupId,
    BalancerIp,
    BalancerPort,
    /// `apisix_request_id`, `request_id`: 32 hexadecimal digits that are this exchange's own.
    RequestId,
    /// `time_local`: `24/Nov/2026:02:00:00 +0000`.
    TimeLocal,
    /// `time_iso8601`.
    TimeIso8601,
    /// `msec`: seconds since 1970 with milliseconds.
    Msec,
    /// `$1` to `$9`: a group of the expression that rewrote the path.
    Capture(usize),
    /// A name that has no value here.
    Unknown(Box<str>),
}

// === impl Variable ===

impl Variable {
    /// Parses a name without its `$`.
    pub fn parse(name: &str) -> Self {
        match name {
            "uri" | "document_uri" => Self::Uri,
            "request_uri" => Self::RequestUri,
            "args" | "query_string" => Self::Args,
            "is_args" => Self::IsArgs,
            "request" => Self::Request,
            "request_method" | "method" => Self::RequestMethod,
            "request_length" => Self::RequestLength,
            "request_time" => Self::RequestTime,
            "scheme" => Self::Scheme,
            "host" => Self::Host,
            "hostname" => Self::Hostname,
            "server_name" => Self::ServerName,
            "server_addr" => Self::ServerAddr,
            "server_port" => Self::ServerPort,
            "server_protocol" => Self::ServerProtocol,
            "remote_addr" => Self::RemoteAddr,
            "remote_port" => Self::RemotePort,
            "remote_user" => Self::RemoteUser,
            "realip_remote_addr" => Self::PeerAddr,
            "status" => Self::Status,
            "body_bytes_sent" => Self::BodyBytesSent,
            "bytes_sent" => Self::BytesSent,
            "upstream_addr" => Self::UpstreamAddr,
            "upstream_status" => Self::UpstreamStatus,
            "upstream_response_time" => Self::UpstreamResponseTime,
            "upstream_connect_time" => Self::UpstreamConnectTime,
            "upstream_header_time" => Self::UpstreamHeaderTime,
            "upstream_scheme" => Self::UpstreamScheme,
            "upstream_host" => Self::UpstreamHost,
            "upstream_uri" => Self::UpstreamUri,
            "ssl_server_name" => Self::SslServerName,
            "ssl_protocol" => Self::SslProtocol,
            "route_id" => Self::RouteId,
            "route_name" => Self::RouteName,
            "service_id" => Self::ServiceId,
            "service_name" => Self::ServiceName,
            "consumer_name" => Self::ConsumerName,
            "consumer_group_id" => Self::ConsumerGroupId,
            "balancer_ip" => Self::BalancerIp,
            "balancer_port" => Self::BalancerPort,
            "apisix_request_id" | "request_id" => Self::RequestId,
            "time_local" => Self::TimeLocal,
            "time_iso8601" => Self::TimeIso8601,
            "msec" => Self::Msec,
            _ => Self::prefixed(name),
        }
    }

    fn prefixed(name: &str) -> Self {
        let header = |name: &str| HeaderName::try_from(name.replace('_', "-")).ok();
        let parsed = if let Some(arg) = name.strip_prefix("arg_") {
            Some(Self::Arg(arg.into()))
        } else if let Some(cookie) = name.strip_prefix("cookie_") {
            Some(Self::Cookie(cookie.into()))
        } else if let Some(param) = name.strip_prefix("uri_param_") {
            Some(Self::UriParam(param.into()))
        } else if let Some(sent) = name.strip_prefix("sent_http_") {
            header(sent).map(Self::SentHeader)
        } else if let Some(field) = name.strip_prefix("http_") {
            header(field).map(Self::Header)
        } else {
            name.parse().ok().filter(|group| *group < 100).map(Self::Capture)
        };
        parsed.unwrap_or_else(|| Self::Unknown(name.into()))
    }
}
