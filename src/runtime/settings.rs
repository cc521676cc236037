//! From the config to what each room needs of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use http::{HeaderName, HeaderValue};

use super::{SecretSettings, VERSION};
use crate::clock;
use crate::config::{self, Config, Escape, HttpRouter, LogFormat, LogLevel, LogTarget, TlsVersion};
use crate::context::Limits;
use crate::proxy::{AccessLine, PathRules, RealIp, Trust};
use crate::resource::Keyring;
use crate::tls::Terms;
use crate::tls::certificate::authorities;
use crate::tls::ciphers::Ciphers;
use crate::tls::staple::Staples;
use crate::tls::tickets::{KeySet, Tickets};
use crate::upstream::{Keepalive, dns};
use crate::{expr, log, lua, metrics, proxy, router, snapshot};

pub(super) fn error_log(config: &Config) -> log::Settings {
    let nginx = &config.nginx_config;
    log::Settings {
        level: match nginx.error_log_level {
            LogLevel::Debug => log::Level::Debug,
            LogLevel::Info | LogLevel::Notice => log::Level::Info,
            LogLevel::Warn => log::Level::Warn,
            LogLevel::Error | LogLevel::Crit | LogLevel::Alert | LogLevel::Emerg => {
                log::Level::Error
            }
        },
        format: match config.sluice.log.format {
            LogFormat::Text => log::Format::Text,
            LogFormat::Json => log::Format::Json,
        },
        target: match &nginx.error_log {
            LogTarget::Stdout => log::Target::File("/dev/stdout".into()),
            LogTarget::Stderr => log::Target::Stderr,
            LogTarget::File(path) => log::Target::File(path.clone()),
        },
    }
}

/// Lets the process have as many descriptors open as the config says, as far as the system lets.
pub(super) fn raise_descriptors(wanted: u64) {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else {
        return;
    };
    let wanted = wanted.max(soft);
    // Beyond the hard limit only for root; less is better than nothing.
    let raised = setrlimit(Resource::RLIMIT_NOFILE, wanted, hard.max(wanted))
        .or_else(|_| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        tracing::warn!(wanted, soft, %error, "the limit of open files could not be raised");
    }
}

/// Keeps the kernel from writing the process's memory, private keys with it, to a file when it
/// dies. Nobody but root can attach a debugger then, or read `/proc/{pid}/mem`.
pub(super) fn forbid_core_dumps() {
    use nix::sys::resource::{Resource, setrlimit};
    // Both: the limit holds for what is written to files, the flag also for a pipe of
    // `core_pattern`, which limits do not bind.
    let limited = setrlimit(Resource::RLIMIT_CORE, 0, 0);
    if let Err(error) = limited.and_then(|()| nix::sys::prctl::set_dumpable(false)) {
        tracing::warn!(%error, "core dumps could not be turned off");
    }
}

pub(super) fn metrics(config: &Config) -> metrics::Settings {
    let prometheus = &config.plugin_attr.prometheus;
    let expire = |name: &str| {
        let expire = prometheus.metrics.get(name).map(|metric| metric.expire);
        expire.filter(|expire| *expire > Duration::ZERO)
    };
    for (name, metric) in &prometheus.metrics {
        if !metric.extra_labels.is_empty() {
            let key = format!("plugin_attr.prometheus.metrics.{name}.extra_labels");
            tracing::warn!(key, "config: extra labels are not there yet and are left out");
        }
    }
    metrics::Settings {
        prefix: prometheus.metric_prefix.clone(),
        buckets: prometheus.default_buckets.clone(),
        max_series: config.sluice.max_series,
        hostname: hostname(),
        version: VERSION.to_owned(),
        expire: metrics::Expire {
            http_status: expire("http_status"),
            http_latency: expire("http_latency"),
            bandwidth: expire("bandwidth"),
        },
    }
}

/// The name of this host, empty when the system does not tell.
pub(super) fn hostname() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().to_owned()
}

pub(super) fn dns(config: &Config) -> dns::Settings {
    let apisix = &config.apisix;
    dns::Settings {
        servers: apisix.dns_resolver.clone(),
        valid: apisix.dns_resolver_valid,
        timeout: apisix.resolver_timeout,
        search: apisix.enable_resolv_search_opt,
    }
}

pub(super) fn secrets(config: &Config) -> SecretSettings {
    let lru = &config.apisix.lru.secret;
    let trusted = config.apisix.ssl.ssl_trusted_certificate.clone();
    SecretSettings { ttl: lru.ttl, neg_ttl: lru.neg_ttl, trusted }
}

/// The authorities that servers are verified by instead of the system's, PEM.
fn trusted(config: &Config) -> anyhow::Result<Option<String>> {
    let Some(path) = &config.apisix.ssl.ssl_trusted_certificate else {
        return Ok(None);
    };
    let pem = std::fs::read_to_string(path);
    let named = || format!("apisix.ssl.ssl_trusted_certificate: {}", path.display());
    Ok(Some(pem.with_context(named)?))
}

/// The cipher suites that clients are offered.
///
/// # Errors
/// TLS 1.2 is to be offered, and none of its suites is left.
fn ciphers(config: &Config) -> anyhow::Result<Ciphers> {
    let ssl = &config.apisix.ssl;
    let ciphers = Ciphers::new(&ssl.ssl_ciphers);
    let is_asked = ssl.enable && ssl.ssl_protocols.contains(&TlsVersion::Tls12);
    if is_asked && !ciphers.has_tls12 {
        anyhow::bail!(
            "apisix.ssl.ssl_ciphers is {:?}, expected at least one TLS 1.2 cipher suite that this \
             build has, such as ECDHE-ECDSA-AES128-GCM-SHA256 and ECDHE-RSA-AES128-GCM-SHA256",
            ssl.ssl_ciphers.join(":")
        );
    }
    Ok(ciphers)
}

/// By what every ssl object is served; staples are fetched on `runtime`.
///
/// # Errors
/// There is no cipher suite to offer, or no randomness for keys.
pub(super) fn terms(config: &Config, runtime: tokio::runtime::Handle) -> anyhow::Result<Terms> {
    let tickets = config.apisix.ssl.ssl_session_tickets;
    Ok(Terms {
        provider: ciphers(config)?.provider,
        tickets: match tickets {
            true => Some(Tickets::new(KeySet::fresh(clock::unix().cast_unsigned())?)),
            false => None,
        },
        staples: Some(Staples::new(runtime)),
    })
}

pub(super) fn keyring(config: &Config) -> anyhow::Result<Keyring> {
    let keys = config.apisix.data_encryption.keyring.iter().map(config::Hidden::reveal);
    Ok(Keyring::new(keys)?)
}

/// What is the same for every compile, serving by `terms`.
///
/// # Errors
/// The authorities that nodes are verified by cannot be read.
pub(super) fn compiler(
    config: &Config,
    terms: Terms,
) -> anyhow::Result<snapshot::compile::Settings> {
    let keepalive = &config.nginx_config.http.upstream;
    let ssl = &config.apisix.ssl;
    let trusted = trusted(config)?.map(|pem| authorities(&pem).map(Arc::new)).transpose();
    Ok(snapshot::compile::Settings {
        terms,
        trusted: trusted.context("apisix.ssl.ssl_trusted_certificate")?,
        keepalive: Keepalive {
            size: keepalive.keepalive,
            idle: keepalive.keepalive_timeout,
            requests: u32::try_from(keepalive.keepalive_requests).unwrap_or(u32::MAX),
        },
        protocols: ssl
            .ssl_protocols
            .iter()
            .map(|version| match version {
                TlsVersion::Tls12 => "TLSv1.2".to_owned(),
                TlsVersion::Tls13 => "TLSv1.3".to_owned(),
            })
            .collect(),
        http2: ssl.listen.iter().any(|listen| listen.http2),
        fallback_sni: ssl.fallback_sni.clone(),
        router: match config.apisix.router.http {
            HttpRouter::HostUri => router::Kind::HostUri,
            HttpRouter::Uri => router::Kind::Uri,
            HttpRouter::UriWithParameter => router::Kind::UriWithParameter,
        },
        encrypt_fields: config.apisix.data_encryption.enable_encrypt_fields,
        plugins: enabled_plugins(config),
        lua: lua::Limits {
            timeout: config.sluice.lua.timeout,
            memory_bytes: usize::try_from(config.sluice.lua.memory).unwrap_or(usize::MAX),
        },
    })
}

/// The plugins that may be used, in no particular order.
pub(super) fn enabled_plugins(config: &Config) -> Option<Vec<String>> {
    Some(config.plugins.clone())
}

pub(super) fn proxy(config: &Config) -> proxy::Settings {
    let http = &config.nginx_config.http;
    let apisix = &config.apisix;
    let header = HeaderName::try_from(http.real_ip_header.as_str());
    let mut settings = proxy::Settings {
        server: HeaderValue::try_from(format!("Sluice/{VERSION}"))
            .ok()
            .filter(|_| apisix.enable_server_tokens)
            .unwrap_or(HeaderValue::from_static("Sluice")),
        max_body_bytes: http.client_max_body_size,
        keepalive_timeout: http.keepalive_timeout,
        header_timeout: http.client_header_timeout,
        body_timeout: http.client_body_timeout,
        send_timeout: http.send_timeout,
        underscores: http.underscores_in_headers,
        payload: Limits {
            graphql: config.graphql.max_size,
            post_args: apisix.max_post_args_readable_size.saturating_mul(1024 * 1024),
        },
        real_ip: RealIp {
            // `proxy_protocol` and other words that are no header name believe nobody.
            from: if header.is_ok() { http.real_ip_from.clone() } else { Vec::new() },
            header: header.unwrap_or(HeaderName::from_static("x-real-ip")),
            recursive: http.real_ip_recursive,
        },
        trust: Trust(apisix.trusted_addresses.clone()),
        paths: PathRules {
            delete_tail_slash: apisix.delete_uri_tail_slash,
            like_servlet: apisix.normalize_uri_like_servlet,
            keep_encoded_slash: apisix.match_uri_encoded_slash,
        },
        show_upstream_status: apisix.show_upstream_status_in_response_header,
        ..proxy::Settings::default()
    };
    if http.enable_access_log {
        let escape = match http.access_log_format_escape {
            Escape::Default => expr::Escape::Default,
            Escape::Json => expr::Escape::Json,
            Escape::None => expr::Escape::None,
        };
        settings.access_line = Some(AccessLine::new(&http.access_log_format, escape));
    }
    settings
}

/// What this version reads and has no use for, by key.
pub fn without_effect(config: &Config) -> BTreeMap<&'static str, String> {
    let mut found = BTreeMap::new();
    let unknown = Ciphers::new(&config.apisix.ssl.ssl_ciphers).unknown;
    if !unknown.is_empty() {
        let reason =
            format!("skipped, since this build does not have them: {}", unknown.join(", "));
        found.insert("apisix.ssl.ssl_ciphers", reason);
    }
    found
}

/// Whether ciphers, keyring and authorities can be made of `config`.
///
/// # Errors
/// What cannot.
pub(super) fn check(config: &Config) -> anyhow::Result<()> {
    ciphers(config)?;
    keyring(config)?;
    compiler(config, Terms::default()).map(drop)
}
