//! What a single key cannot show to be wrong: listeners in each other's way, halves of a pair.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use super::{AdminRole, Config, Problem, Provider, ProxyMode, Role, TlsVersion, Warning};

/// Checks keys that depend on each other.
///
/// A key that is named in `problems` already stands at its default and is not judged again.
pub(super) fn together(
    config: &Config,
    env: &dyn Fn(&str) -> Option<String>,
    problems: &mut Vec<Problem>,
    warnings: &mut Vec<Warning>,
) {
    let mut found = Vec::new();
    listeners(config, &mut found);
    admin(config, &mut found, warnings);
    provider(config, env, &mut found);
    encryption(config, &mut found, warnings);
    metrics(config, &mut found);
    if config.apisix.proxy_mode != ProxyMode::Http {
        let reason = "this version proxies HTTP only; stream routes are not served";
        warnings.push(Warning::new("apisix.proxy_mode", reason));
    }
    let ssl = &config.apisix.ssl;
    let speaks_http3 = ssl.enable && ssl.listen.iter().any(|listen| listen.http3);
    if speaks_http3 && !ssl.ssl_protocols.contains(&TlsVersion::Tls13) {
        let reason = "HTTP/3 needs TLSv1.3: only ssl objects that allow it themselves are served";
        warnings.push(Warning::new("apisix.ssl.ssl_protocols", reason));
    }

    let judged = |path: &str| problems.iter().any(|problem| problem.path.starts_with(path));
    found.retain(|(paths, _): &Found| !paths.iter().any(|path| judged(path)));
    problems.extend(found.into_iter().map(|(_, problem)| problem));
}

/// Checks that the certificate and key files which the config needs are there.
pub(super) fn files(config: &Config) -> Vec<Problem> {
    let tls = &config.deployment.etcd.tls;
    let mtls = &config.deployment.admin.admin_api_mtls;
    let etcd = config.deployment.provider == Provider::Etcd;
    let admin = config.apisix.enable_admin && config.deployment.admin.https_admin;
    let trusted = &config.apisix.ssl.ssl_trusted_certificate;
    let own_ca = tls.ca != *trusted;
    let needed: [(bool, &str, &Option<PathBuf>); 7] = [
        (true, "apisix.ssl.ssl_trusted_certificate", trusted),
        (etcd, "deployment.etcd.tls.cert", &tls.cert),
        (etcd, "deployment.etcd.tls.key", &tls.key),
        (etcd && own_ca, "deployment.etcd.tls.ca", &tls.ca),
        (admin, "deployment.admin.admin_api_mtls.admin_ssl_cert", &mtls.admin_ssl_cert),
        (admin, "deployment.admin.admin_api_mtls.admin_ssl_cert_key", &mtls.admin_ssl_cert_key),
        (admin, "deployment.admin.admin_api_mtls.admin_ssl_ca_cert", &mtls.admin_ssl_ca_cert),
    ];
    needed
        .into_iter()
        .filter(|(needed, ..)| *needed)
        .filter_map(|(_, path, file)| Some((path, file.as_deref()?)))
        .filter(|(_, file): &(&str, &Path)| !file.is_file())
        .map(|(path, file)| Problem::new(path, format!("{file:?}"), "a file that exists"))
        .collect()
}

/// A problem, with the keys that it depends on.
type Found = (Vec<&'static str>, Problem);

/// A problem that depends on its own key only.
fn at(path: &'static str, value: impl Into<String>, expected: impl Into<String>) -> Found {
    (vec![path], Problem::new(path, value, expected))
}

fn listeners(config: &Config, found: &mut Vec<Found>) {
    let apisix = &config.apisix;
    let prometheus = &config.plugin_attr.prometheus;
    let mut open: Vec<(&'static str, SocketAddr)> = Vec::new();
    open.extend(apisix.node_listen.iter().map(|one| ("apisix.node_listen", one.into())));
    if apisix.ssl.enable {
        open.extend(apisix.ssl.listen.iter().map(|one| ("apisix.ssl.listen", one.into())));
    }
    if apisix.enable_admin {
        open.push(("deployment.admin.admin_listen", config.deployment.admin.admin_listen.into()));
    }
    if apisix.enable_control {
        open.push(("apisix.control", apisix.control.into()));
    }
    open.extend(apisix.status.map(|status| ("apisix.status", status.into())));
    if prometheus.enable_export_server {
        open.push(("plugin_attr.prometheus.export_addr", prometheus.export_addr.into()));
    }

    for (index, (path, address)) in open.iter().enumerate() {
        // Within one list a wildcard and an address of one port may stand together: the kernel
        // gives a connection to the closer match.
        let taken =
            open[..index].iter().find(|(other, taken)| other != path && overlap(*taken, *address));
        let named = |(_, problem): &Found| problem.path == *path;
        if let Some((other, _)) = taken
            && !found.iter().any(named)
        {
            let expected = format!("an address that {other} has not taken");
            found.push((vec![path, other], Problem::new(*path, address.to_string(), expected)));
        }
    }
}

/// Whether two sockets get in each other's way; `[::]` is bound for IPv6 only.
fn overlap(a: SocketAddr, b: SocketAddr) -> bool {
    let covers =
        |a: IpAddr, b: IpAddr| a == b || (a.is_unspecified() && a.is_ipv4() == b.is_ipv4());
    a.port() == b.port() && (covers(a.ip(), b.ip()) || covers(b.ip(), a.ip()))
}

fn admin(config: &Config, found: &mut Vec<Found>, warnings: &mut Vec<Warning>) {
    if !config.apisix.enable_admin {
        return;
    }
    let admin = &config.deployment.admin;
    if !admin.admin_key_required {
        let reason = "callers of the Admin API need no key: whoever reaches it is an administrator";
        warnings.push(Warning::new("deployment.admin.admin_key_required", reason));
    } else if admin.admin_key.is_empty() {
        let expected = "at least one key, or admin_key_required: false";
        found.push(at("deployment.admin.admin_key", "none", expected));
    }
    for (index, key) in admin.admin_key.iter().enumerate() {
        let path = format!("deployment.admin.admin_key[{index}].key");
        if key.role == AdminRole::Viewer && key.key.is_empty() {
            let expected = "a key, as one is generated for the role admin only";
            let problem = Problem::new(path, "an empty text", expected);
            found.push((vec!["deployment.admin.admin_key"], problem));
        } else if !key.key.is_empty()
            && admin.admin_key[..index].iter().any(|other| other.key == key.key)
        {
            let problem = Problem::new(path, "(hidden)", "a key that no other entry has");
            found.push((vec!["deployment.admin.admin_key"], problem));
        }
    }
    if admin.allow_admin.is_empty() && !admin.admin_listen.ip.is_loopback() {
        let reason = "the Admin API can be called from any address";
        warnings.push(Warning::new("deployment.admin.allow_admin", reason));
    }
    if admin.https_admin {
        let mtls = &admin.admin_api_mtls;
        for (path, file) in [
            ("deployment.admin.admin_api_mtls.admin_ssl_cert", &mtls.admin_ssl_cert),
            ("deployment.admin.admin_api_mtls.admin_ssl_cert_key", &mtls.admin_ssl_cert_key),
        ] {
            if file.is_none() {
                found.push(at(path, "none", "the path of a file, as https_admin is true"));
            }
        }
    }
}

fn provider(config: &Config, env: &dyn Fn(&str) -> Option<String>, found: &mut Vec<Found>) {
    let deployment = &config.deployment;
    let key = match deployment.role {
        Role::Traditional => "deployment.role_traditional.config_provider",
        Role::ControlPlane => "deployment.role_control_plane.config_provider",
        Role::DataPlane => "deployment.role_data_plane.config_provider",
    };
    let provider = deployment.provider;
    if env("APISIX_STAND_ALONE").as_deref() == Some("true") && !provider.is_file() {
        let expected = "yaml or json, as APISIX_STAND_ALONE is true in the environment";
        let value = format!("{provider:?}").to_ascii_lowercase();
        found.push((vec![key, "deployment.role"], Problem::new(key, value, expected)));
    }
    if provider != Provider::Etcd {
        return;
    }

    let etcd = &deployment.etcd;
    let host = "deployment.etcd.host";
    let secure = etcd.host.iter().filter(|url| url.starts_with("https:")).count();
    if etcd.host.is_empty() {
        found.push(at(host, "none", "at least one URL, as etcd is the provider"));
    } else if secure != 0 && secure != etcd.host.len() {
        found.push(at(host, "http and https", "all URLs http or all https"));
    }
    if etcd.prefix.is_empty() {
        found.push(at("deployment.etcd.prefix", "an empty text", "a prefix such as /apisix"));
    }
    let mut pair = |first: &'static str, second: &'static str, has: (bool, bool)| {
        let (missing, given) = match has {
            (true, false) => (second, first),
            (false, true) => (first, second),
            _ => return,
        };
        let problem = Problem::new(missing, "none", format!("a value, as {given} is set"));
        found.push((vec![missing, given], problem));
    };
    pair(
        "deployment.etcd.user",
        "deployment.etcd.password",
        (etcd.user.is_some(), etcd.password.is_some()),
    );
    pair(
        "deployment.etcd.tls.cert",
        "deployment.etcd.tls.key",
        (etcd.tls.cert.is_some(), etcd.tls.key.is_some()),
    );
}

fn encryption(config: &Config, found: &mut Vec<Found>, warnings: &mut Vec<Warning>) {
    let ssl = &config.apisix.ssl;
    if ssl.enable && ssl.ssl_protocols.is_empty() {
        found.push(at("apisix.ssl.ssl_protocols", "none", "TLSv1.2, TLSv1.3 or both"));
    }
    if config.apisix.data_encryption.keyring.is_empty() {
        let reason = "without a key, private keys and secrets of plugins are stored as plain text";
        warnings.push(Warning::new("apisix.data_encryption.keyring", reason));
    }
}

fn metrics(config: &Config, found: &mut Vec<Found>) {
    let prometheus = &config.plugin_attr.prometheus;
    let prefix = prometheus.metric_prefix.as_str();
    let is_name = !prefix.starts_with(|c: char| c.is_ascii_digit())
        && prefix.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b':'));
    if !is_name {
        let expected = "letters, digits, _ and :, not beginning with a digit";
        found.push(at("plugin_attr.prometheus.metric_prefix", format!("{prefix:?}"), expected));
    }
    let buckets = &prometheus.default_buckets;
    if buckets.is_empty() || !buckets.is_sorted_by(|a, b| a < b) {
        let expected = "at least one number, in ascending order";
        let value = format!("{} numbers", buckets.len());
        found.push(at("plugin_attr.prometheus.default_buckets", value, expected));
    }
}
