//! Names of variables, parsed once.
//!
//! Source: nginx's variable index; APISIX `docs/en/latest/apisix-variable.md`, `core/ctx.lua`,
//! `cli/ngx_tpl.lua`.

use std::sync::LazyLock;

use http::HeaderName;

use super::body::BodyVariable;

/// A variable's name, ready to be looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Variable {
    /// `uri`: the normalised path.
    Uri,
    /// `uri` where nginx is asked: the path as plugins have left it.
    CurrentUri,
    /// `request_uri`: the normalised path, and the query as sent. A rule about it cannot be got
    /// round by writing the path in another way.
    RequestUri,
    /// `real_request_uri`: path and query as sent.
    RealRequestUri,
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
    /// `request`, `request_line`.
    Request,
    RequestMethod,
    /// `request_length`, in bytes.
    RequestLength,
    /// `request_time`, in seconds with milliseconds.
    RequestTime,
    /// A variable of the request's body.
    Body(BodyVariable),
    Scheme,
    /// `https`: `on` over TLS, else empty.
    Https,
    /// `http2`: `h2` over TLS, `h2c` without, empty for HTTP/1.1.
    Http2,
    /// `http3`: `h3`, empty for older versions.
    Http3,
    /// `host`: lower case, without its port.
    Host,
    ServerAddr,
    ServerPort,
    /// `server_protocol`: `HTTP/1.1`.
    ServerProtocol,
    RemoteAddr,
    RemotePort,
    /// `remote_user`: the name in the credentials of Basic authentication.
    RemoteUser,
    /// `realip_remote_addr`: the peer's address.
    PeerAddr,
    /// `realip_remote_port`.
    PeerPort,
    /// `connection`: the connection's number.
    Connection,
    /// `connection_requests`: the requests of this connection so far.
    ConnectionRequests,
    /// `connection_time`: its age in seconds with milliseconds.
    ConnectionTime,
    Status,
    BodyBytesSent,
    BytesSent,
    UpstreamAddr,
    UpstreamStatus,
    UpstreamResponseTime,
    UpstreamConnectTime,
    UpstreamHeaderTime,
    /// `upstream_response_length`: bytes of the nodes' bodies.
    UpstreamResponseLength,
    /// `upstream_http_NAME`: a header of the node's answer.
    UpstreamHeader(HeaderName),
    UpstreamScheme,
    UpstreamHost,
    /// `upstream_unresolved_host`: the node's host as the config has it.
    UpstreamUnresolvedHost,
    UpstreamUri,
    /// A variable of the client's TLS handshake.
    Tls(TlsVariable),
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
    /// A variable that is the same in every exchange: its value.
    Fixed(&'static str),
    /// A name that has no value here.
    Unknown(Box<str>),
}

/// `ssl_NAME`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsVariable {
    ServerName,
    /// `TLSv1.3`.
    Protocol,
    /// As OpenSSL calls it.
    Cipher,
    Curve,
    AlpnProtocol,
    /// `r` when the session was resumed, else `.`.
    SessionReused,
    /// `SUCCESS`, or `NONE` when the client showed no certificate. Others do not get this far.
    ClientVerify,
    /// The client's certificate, PEM, its lines but for the first after a tab.
    ClientCert,
    ClientRawCert,
    /// PEM, percent-encoded.
    ClientEscapedCert,
    /// SHA-1, hexadecimal.
    ClientFingerprint,
    ClientSerial,
    /// RFC 2253.
    ClientSubject,
    ClientIssuer,
    /// `/C=…/CN=…`.
    ClientSubjectLegacy,
    ClientIssuerLegacy,
    ClientStart,
    ClientEnd,
    /// Days until the end.
    ClientRemain,
}

/// What the system calls this host.
static HOSTNAME: LazyLock<String> = LazyLock::new(|| {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().to_owned()
});

static PID: LazyLock<String> = LazyLock::new(|| std::process::id().to_string());

// === impl Variable ===

impl Variable {
    /// Parses a name without its `$`. What has no value here is [`Variable::Unknown`].
    pub fn parse(name: &str) -> Self {
        Self::read(name).unwrap_or_else(|_| Self::Unknown(name.into()))
    }

    /// As [`Variable::parse`], for names that people may have got wrong.
    ///
    /// # Errors
    /// What the name should be instead, where it is one of a kind that has a grammar.
    pub(super) fn read(name: &str) -> Result<Self, String> {
        if let Some(variable) = Self::plain(name) {
            return Ok(variable);
        }
        if let Some(variable) = BodyVariable::read(name)? {
            return Ok(Self::Body(variable));
        }
        Ok(Self::prefixed(name).unwrap_or_else(|| {
            // nginx knows its variables in any case.
            Self::plain(&name.to_ascii_lowercase()).unwrap_or_else(|| Self::Unknown(name.into()))
        }))
    }

    /// As an access log's format and `ngx.var` have it: there nginx is asked, not APISIX.
    pub fn of_nginx(name: &str) -> Self {
        match Self::parse(name) {
            Self::Uri => Self::CurrentUri,
            Self::RequestUri => Self::RealRequestUri,
            other => other,
        }
    }

    /// Whether the request's head and its connection tell the value, the same whenever it is asked
    /// for and at little cost.
    pub(super) fn is_of_head(&self) -> bool {
        matches!(
            self,
            Self::Uri
                | Self::RequestUri
                | Self::RealRequestUri
                | Self::Args
                | Self::Arg(_)
                | Self::Header(_)
                | Self::Cookie(_)
                | Self::RequestMethod
                | Self::Scheme
                | Self::Host
                | Self::ServerPort
                | Self::RemoteAddr
        )
    }

    fn plain(name: &str) -> Option<Self> {
        Some(match name {
            "uri" | "document_uri" => Self::Uri,
            "request_uri" => Self::RequestUri,
            "real_request_uri" => Self::RealRequestUri,
            "args" | "query_string" => Self::Args,
            "is_args" => Self::IsArgs,
            "request" | "request_line" => Self::Request,
            "request_method" | "method" => Self::RequestMethod,
            "request_length" => Self::RequestLength,
            "request_time" => Self::RequestTime,
            "content_length" => Self::Header(http::header::CONTENT_LENGTH),
            "content_type" => Self::Header(http::header::CONTENT_TYPE),
            "scheme" => Self::Scheme,
            "https" => Self::Https,
            "http2" => Self::Http2,
            "http3" => Self::Http3,
            "host" => Self::Host,
            "hostname" => Self::Fixed(&HOSTNAME),
            "server_name" => Self::Fixed("_"),
            "server_addr" => Self::ServerAddr,
            "server_port" => Self::ServerPort,
            "server_protocol" => Self::ServerProtocol,
            "remote_addr" => Self::RemoteAddr,
            "remote_port" => Self::RemotePort,
            "remote_user" => Self::RemoteUser,
            "realip_remote_addr" => Self::PeerAddr,
            "realip_remote_port" => Self::PeerPort,
            "connection" => Self::Connection,
            "connection_requests" => Self::ConnectionRequests,
            "connection_time" => Self::ConnectionTime,
            "status" => Self::Status,
            "body_bytes_sent" => Self::BodyBytesSent,
            "bytes_sent" => Self::BytesSent,
            "upstream_addr" => Self::UpstreamAddr,
            "upstream_status" => Self::UpstreamStatus,
            "upstream_response_time" | "apisix_upstream_response_time" => {
                Self::UpstreamResponseTime
            }
            "upstream_connect_time" => Self::UpstreamConnectTime,
            "upstream_header_time" => Self::UpstreamHeaderTime,
            "upstream_response_length" => Self::UpstreamResponseLength,
            "upstream_scheme" => Self::UpstreamScheme,
            "upstream_host" => Self::UpstreamHost,
            "upstream_unresolved_host" => Self::UpstreamUnresolvedHost,
            "upstream_uri" => Self::UpstreamUri,
            "upstream_upgrade" => Self::Header(http::header::UPGRADE),
            "upstream_connection" => Self::Header(http::header::CONNECTION),
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
            // The rest of a pipelined request is not looked ahead at.
            "pipe" => Self::Fixed("."),
            "pid" => Self::Fixed(&PID),
            "nginx_version" => Self::Fixed(env!("CARGO_PKG_VERSION")),
            "limit_rate" => Self::Fixed("0"),
            // What APISIX sets before a plugin knows better.
            "request_type" => Self::Fixed("traditional_http"),
            "llm_stream" | "llm_has_tool_calls" => Self::Fixed("false"),
            "llm_time_to_first_token"
            | "llm_prompt_tokens"
            | "llm_completion_tokens"
            | "llm_total_tokens"
            | "llm_tool_count"
            | "llm_cache_read_input_tokens"
            | "llm_cache_creation_input_tokens"
            | "llm_reasoning_tokens" => Self::Fixed("0"),
            _ => return name.strip_prefix("ssl_").and_then(TlsVariable::of).map(Self::Tls),
        })
    }

    fn prefixed(name: &str) -> Option<Self> {
        let header = |name: &str| HeaderName::try_from(name.replace('_', "-")).ok();
        if let Some(arg) = name.strip_prefix("arg_") {
            Some(Self::Arg(arg.into()))
        } else if let Some(cookie) = name.strip_prefix("cookie_") {
            Some(Self::Cookie(cookie.into()))
        } else if let Some(param) = name.strip_prefix("uri_param_") {
            Some(Self::UriParam(param.into()))
        } else if let Some(sent) = name.strip_prefix("sent_http_") {
            header(sent).map(Self::SentHeader)
        } else if let Some(answered) = name.strip_prefix("upstream_http_") {
            header(answered).map(Self::UpstreamHeader)
        } else if let Some(field) = name.strip_prefix("http_") {
            header(field).map(Self::Header)
        } else {
            name.parse().ok().filter(|group| *group < 100).map(Self::Capture)
        }
    }
}

// === impl TlsVariable ===

impl TlsVariable {
    /// By what follows `ssl_`.
    fn of(name: &str) -> Option<Self> {
        Some(match name {
            "server_name" => Self::ServerName,
            "protocol" => Self::Protocol,
            "cipher" => Self::Cipher,
            "curve" => Self::Curve,
            "alpn_protocol" => Self::AlpnProtocol,
            "session_reused" => Self::SessionReused,
            "client_verify" => Self::ClientVerify,
            "client_cert" => Self::ClientCert,
            "client_raw_cert" => Self::ClientRawCert,
            "client_escaped_cert" => Self::ClientEscapedCert,
            "client_fingerprint" => Self::ClientFingerprint,
            "client_serial" => Self::ClientSerial,
            "client_s_dn" => Self::ClientSubject,
            "client_i_dn" => Self::ClientIssuer,
            "client_s_dn_legacy" => Self::ClientSubjectLegacy,
            "client_i_dn_legacy" => Self::ClientIssuerLegacy,
            "client_v_start" => Self::ClientStart,
            "client_v_end" => Self::ClientEnd,
            "client_v_remain" => Self::ClientRemain,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_names_as_nginx_and_apisix_do() {
        for (name, expected) in [
            ("document_uri", Variable::Uri),
            ("Request_URI", Variable::RequestUri),
            ("arg_a-B", Variable::Arg("a-B".into())),
            ("http_X-Foo", Variable::Header(HeaderName::from_static("x-foo"))),
            ("content_type", Variable::Header(http::header::CONTENT_TYPE)),
            ("upstream_http_etag", Variable::UpstreamHeader(http::header::ETAG)),
            ("ssl_cipher", Variable::Tls(TlsVariable::Cipher)),
            ("post_arg_k", Variable::Body(BodyVariable::Field("k".into()))),
            ("7", Variable::Capture(7)),
            ("pipe", Variable::Fixed(".")),
        ] {
            assert_eq!(Variable::parse(name), expected, "{name}");
        }
        for name in ["", "nothing", "http_", "ssl_", "post_arg.", "post_arg.a[", "graphql_x"] {
            assert_eq!(Variable::parse(name), Variable::Unknown(name.into()));
        }
        assert_eq!(Variable::of_nginx("request_uri"), Variable::RealRequestUri);
        assert_eq!(Variable::of_nginx("document_uri"), Variable::CurrentUri);
    }

    #[test]
    fn variables_of_the_process_have_their_values_at_once() {
        for name in ["hostname", "pid", "nginx_version"] {
            assert!(matches!(Variable::parse(name), Variable::Fixed(value) if !value.is_empty()));
        }
    }
}
