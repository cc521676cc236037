//! What a config file may hold, what it gives, and what its author is told.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod example;
mod told;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use super::kind::{Kind, Outcome};
use super::table::{self, ROWS};
use super::*;

fn env(name: &str) -> Option<String> {
    let value = match name {
        "PORT" => "9081",
        "HOST" => "etcd.example.com",
        "NAME" => "jwt-auth",
        "OFF" => "false",
        "DIGITS" => "007",
        "EMPTY" => "",
        "RATIO" => "0.5",
        _ => return None,
    };
    Some(value.to_owned())
}

fn parse(text: &str) -> Result<Loaded, LoadError> {
    Config::from_yaml(text, Path::new("/srv/sluice"), &env)
}

fn good(text: &str) -> Config {
    parse(text).unwrap_or_else(|error| panic!("{error}")).config
}

/// Path and whole line of each problem.
fn problems(text: &str) -> Vec<String> {
    let error = parse(text).map(|loaded| loaded.config).expect_err("usable");
    error.problems().iter().map(ToString::to_string).collect()
}

fn warnings(text: &str) -> Vec<String> {
    let warnings = match parse(text) {
        Ok(loaded) => loaded.warnings,
        Err(error) => error.warnings().to_vec(),
    };
    warnings.iter().map(ToString::to_string).collect()
}

/// That `text` has exactly one problem, at `path`, whose line holds `part`.
fn refused(text: &str, path: &str, part: &str) {
    let found = problems(text);
    let [line] = found.as_slice() else {
        panic!("{text}: {found:#?}");
    };
    assert!(line.starts_with(&format!("{path}: expected ")), "{line}");
    assert!(line.contains(part), "{line}");
}

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

// Defaults.

#[test]
fn defaults_are_those_of_apisix() {
    for text in ["", "# only a comment\n", "apisix:\ndeployment:\n", "{}"] {
        let loaded = parse(text).unwrap();
        assert_eq!(loaded.warnings, []);
        let Config { apisix, nginx_config, deployment, plugin_attr, .. } = loaded.config;

        let listens: Vec<_> = apisix.node_listen.iter().map(SocketAddr::from).collect();
        assert_eq!(listens, ["0.0.0.0:9080".parse().unwrap(), "[::]:9080".parse().unwrap()]);
        assert!(!apisix.node_listen[0].implied && apisix.node_listen[1].implied);
        assert!(apisix.node_listen[0].http2);
        assert_eq!(apisix.ssl.listen[0].port, 9443);
        assert_eq!(apisix.ssl.ssl_protocols, [TlsVersion::Tls12, TlsVersion::Tls13]);
        assert_eq!(apisix.ssl.ssl_ciphers.len(), 8);
        assert_eq!(apisix.ssl.ssl_trusted_certificate, None);
        assert!(apisix.ssl.enable && !apisix.ssl.ssl_session_tickets);
        assert!(apisix.enable_admin && apisix.enable_control && apisix.enable_reuseport);
        assert!(apisix.enable_server_tokens && !apisix.delete_uri_tail_slash);
        assert!(apisix.data_encryption.enable_encrypt_fields);
        let keys: Vec<_> = apisix.data_encryption.keyring.iter().map(Hidden::reveal).collect();
        assert_eq!(keys, ["qeddd145sfvddff3", "edd1c9f0985e76a2"]);
        assert_eq!(apisix.lru.secret.ttl, seconds(300));
        assert_eq!(apisix.lru.secret.neg_ttl, seconds(60));
        assert_eq!((apisix.lru.secret.count, apisix.lru.secret.neg_count), (512, 512));
        assert_eq!(apisix.status, None);
        assert_eq!(SocketAddr::from(apisix.control).to_string(), "127.0.0.1:9090");
        assert_eq!(apisix.router.http, HttpRouter::HostUri);
        assert_eq!(apisix.resolver_timeout, seconds(5));
        assert!(apisix.dns_resolver.is_empty() && apisix.dns_resolver_valid.is_none());

        assert_eq!(nginx_config.worker_processes, None);
        assert_eq!(nginx_config.worker_shutdown_timeout, seconds(240));
        assert_eq!(nginx_config.error_log, LogTarget::File("/srv/sluice/logs/error.log".into()));
        assert_eq!(nginx_config.error_log_level, LogLevel::Warn);
        let http = nginx_config.http;
        assert_eq!(http.keepalive_timeout, seconds(60));
        assert_eq!(http.send_timeout, seconds(10));
        assert_eq!((http.client_max_body_size, http.access_log_buffer), (0, 128 * 1024));
        assert!(http.access_log_format.starts_with("$remote_addr - $remote_user [$time_local] "));
        assert!(http.access_log_format.ends_with(" \"$apisix_request_id\""));
        assert!(http.underscores_in_headers && !http.real_ip_recursive);
        assert_eq!(http.real_ip_from, ["127.0.0.1/32".parse().unwrap()]);
        assert_eq!(http.upstream.keepalive, 320);
        assert_eq!(http.upstream.keepalive_requests, 1000);

        assert_eq!(deployment.role, Role::Traditional);
        assert_eq!(deployment.provider, Provider::Etcd);
        assert_eq!(deployment.etcd.host, ["http://127.0.0.1:2379"]);
        assert_eq!(deployment.etcd.prefix, "/apisix");
        assert_eq!(deployment.etcd.timeout, seconds(30));
        assert_eq!(deployment.etcd.watch_timeout, seconds(50));
        assert!(deployment.etcd.tls.verify);
        assert_eq!(deployment.admin.allow_admin, ["127.0.0.0/24".parse().unwrap()]);
        assert!(deployment.admin.admin_key_required && !deployment.admin.https_admin);
        let [key] = deployment.admin.admin_key.as_slice() else { panic!() };
        assert_eq!((key.name.as_str(), key.role), ("admin", AdminRole::Admin));
        // The one default that is not APISIX's, which listens on every address.
        assert!(deployment.admin.admin_listen.ip.is_loopback());

        let prometheus = plugin_attr.prometheus;
        assert_eq!(prometheus.export_uri, "/apisix/prometheus/metrics");
        assert_eq!(prometheus.default_buckets.len(), 15);
        assert!(prometheus.enable_export_server && prometheus.metrics.is_empty());
    }
}

#[test]
fn every_plugin_of_this_version_is_in_the_default_list() {
    let plugins = good("").plugins;
    for name in ["key-auth", "limit-count", "proxy-rewrite", "prometheus"] {
        assert!(plugins.iter().any(|plugin| plugin == name), "{name}");
    }
    assert_eq!(good("plugins: [key-auth]").plugins, ["key-auth"]);
    assert!(good("plugins: ~").plugins.is_empty());
}

// Forms.

#[test]
fn listeners_are_a_port_or_a_list() {
    let listens = |written: &str| -> Vec<String> {
        let config = good(&format!("apisix: {{enable_ipv6: false, node_listen: {written}}}"));
        config.apisix.node_listen.iter().map(|one| SocketAddr::from(one).to_string()).collect()
    };
    assert_eq!(listens("9088"), ["0.0.0.0:9088"]);
    assert_eq!(listens("[9088, 9089]"), ["0.0.0.0:9088", "0.0.0.0:9089"]);
    assert_eq!(
        listens("[9088, {ip: 127.0.0.2, port: 9089}, {ip: '[::1]', port: 9089}, {ip: 127.0.0.3}]"),
        ["0.0.0.0:9088", "127.0.0.2:9089", "[::1]:9089", "127.0.0.3:9080"]
    );
    assert_eq!(listens("[9088, 9088]"), ["0.0.0.0:9088"]);
    assert!(listens("[]").is_empty());

    let config = good(
        "apisix: {enable_http2: false, node_listen: [9088, {port: 9089, enable_http2: true}]}",
    );
    let http2: Vec<_> = config.apisix.node_listen.iter().map(|one| one.http2).collect();
    assert_eq!(http2, [false, false, true, true]);
    let config = good("apisix: {ssl: {listen: [{port: 9443}, {port: 9444, enable_http3: true}]}}");
    let http3: Vec<_> = config.apisix.ssl.listen.iter().map(|one| one.http3).collect();
    assert_eq!(http3, [false, false, true, true]);
}

#[test]
fn times_sizes_and_switches_take_the_forms_of_nginx() {
    let config = good(
        "nginx_config:
           worker_processes: 4
           worker_rlimit_nofile: '4096'
           worker_shutdown_timeout: 1m
           http: {keepalive_timeout: 75, client_body_timeout: 500ms, client_max_body_size: 10m,
                  underscores_in_headers: off, real_ip_recursive: \"on\", access_log: /dev/stdout,
                  upstream: {keepalive_timeout: 1h 30m}}",
    );
    let nginx = config.nginx_config;
    assert_eq!(nginx.worker_processes, Some(4));
    assert_eq!(nginx.worker_rlimit_nofile, 4096);
    assert_eq!(nginx.worker_shutdown_timeout, seconds(60));
    assert_eq!(nginx.http.keepalive_timeout, seconds(75));
    assert_eq!(nginx.http.client_body_timeout, Duration::from_millis(500));
    assert_eq!(nginx.http.client_max_body_size, 10 << 20);
    assert!(!nginx.http.underscores_in_headers && nginx.http.real_ip_recursive);
    assert_eq!(nginx.http.access_log, LogTarget::Stdout);
    assert_eq!(nginx.http.upstream.keepalive_timeout, seconds(5400));
}

#[test]
fn a_keyring_is_one_key_or_several() {
    let keyring =
        |written: &str| good(&format!("apisix: {{data_encryption: {{keyring: {written}}}}}"));
    let keys = |config: Config| config.apisix.data_encryption.keyring.len();
    assert_eq!(keys(keyring("qeddd145sfvddff3")), 1);
    assert_eq!(keys(keyring("[qeddd145sfvddff3, edd1c9f0985e76a2edd1c9f0985e76a2]")), 2);
    assert_eq!(keys(keyring("'1234567890123456'")), 1);
    assert_eq!(keys(keyring("1234567890123456")), 1);
    assert_eq!(keys(keyring("~")), 0);
    let warned = warnings("apisix: {data_encryption: {keyring: ~}}");
    assert!(warned[0].starts_with("apisix.data_encryption.keyring: without a key"), "{warned:?}");
}

#[test]
fn the_role_decides_provider_and_admin_api() {
    let config = good("deployment: {role: data_plane, role_data_plane: {config_provider: yaml}}");
    assert_eq!(config.deployment.provider, Provider::Yaml);
    assert!(!config.apisix.enable_admin);
    assert_eq!(config.resource_file().unwrap(), Path::new("/srv/sluice/conf/apisix.yaml"));

    let config = good("{deployment: {role: control_plane}, apisix: {enable_admin: false}}");
    assert_eq!(config.deployment.provider, Provider::Etcd);
    assert!(config.apisix.enable_admin);
    assert_eq!(config.resource_file(), None);

    // Pushed, where there is an Admin API to push to.
    let yaml = "deployment: {role_traditional: {config_provider: yaml}}";
    let config = good(yaml);
    assert!(config.is_pushed() && config.resource_file().is_none());
    let config = good(&format!("{{{yaml}, apisix: {{enable_admin: false}}}}"));
    assert!(!config.is_pushed() && config.resource_file().is_some());

    let config = good("deployment: {role_traditional: {config_provider: json}}");
    assert_eq!(config.resource_file().unwrap(), Path::new("/srv/sluice/conf/apisix.json"));
}

#[test]
fn development_mode_is_one_worker() {
    let config = good("{apisix: {enable_dev_mode: true}, nginx_config: {worker_processes: 8}}");
    assert_eq!(config.nginx_config.worker_processes, Some(1));
    assert!(!config.apisix.enable_reuseport);
}

#[test]
fn plugin_attributes_are_typed_for_prometheus_and_kept_for_others() {
    let config = good(
        "plugin_attr:
           prometheus:
             metric_prefix: gw_
             default_buckets: [10, 50.5]
             metrics:
               http_status: {expire: 600, extra_labels: [{upstream_addr: $upstream_addr}]}
               bandwidth: {expire: 1h}
           redirect: {https_port: 8443}",
    );
    let prometheus = &config.plugin_attr.prometheus;
    assert_eq!(prometheus.default_buckets, [10.0, 50.5]);
    assert_eq!(prometheus.metrics["http_status"].expire, seconds(600));
    assert_eq!(prometheus.metrics["http_status"].extra_labels[0].variable, "upstream_addr");
    assert_eq!(prometheus.metrics["bandwidth"].expire, seconds(3600));
    assert_eq!(config.plugin_attr.others.0["redirect"]["https_port"], 8443);
    assert!(!config.plugin_attr.others.0.contains_key("prometheus"));
}

#[test]
fn an_empty_status_section_turns_status_on() {
    assert_eq!(good("apisix: {status: {}}").apisix.status.unwrap().port, 7085);
    assert_eq!(good("apisix: {status: {port: 7086}}").apisix.status.unwrap().port, 7086);
    assert_eq!(good("apisix: {status: ~}").apisix.status, None);
}

#[test]
fn paths_start_from_the_home() {
    let config = good(
        "{apisix: {ssl: {ssl_trusted_certificate: conf/ca.crt}}, sluice: {data_dir: /var/sluice},
          deployment: {etcd: {tls: {cert: a.crt, key: /k/a.key}}}}",
    );
    let tls = config.deployment.etcd.tls;
    assert_eq!(tls.cert.unwrap(), Path::new("/srv/sluice/a.crt"));
    assert_eq!(tls.key.unwrap(), Path::new("/k/a.key"));
    assert_eq!(tls.ca.unwrap(), Path::new("/srv/sluice/conf/ca.crt"));
    assert_eq!(config.sluice.data_dir, Path::new("/var/sluice"));

    let own = good("deployment: {etcd: {tls: {ca: etcd.crt}}}");
    assert_eq!(own.deployment.etcd.tls.ca.unwrap(), Path::new("/srv/sluice/etcd.crt"));
}

// Variables.

#[test]
fn variables_fill_values_and_keys() {
    let config = good(
        "
         apisix:
           node_listen: ${{PORT}}
           enable_control: ${{OFF}}
         plugins: ['${{NAME}}', '${{ UNSET := key-auth }}']
         plugin_attr: {'${{NAME}}': {ratio: '${{RATIO}}', port: '${{PORT}}', plain: '$ {{PORT}}'}}
         deployment:
           etcd: {host: ['http://${{HOST}}:${{UNSET:=2379}}']}
           admin: {admin_key: [{name: a, key: '${{DIGITS}}'}]}",
    );
    assert_eq!(config.apisix.node_listen[0].port, 9081);
    assert!(!config.apisix.enable_control);
    assert_eq!(config.plugins, ["jwt-auth", "key-auth"]);
    assert_eq!(config.deployment.etcd.host, ["http://etcd.example.com:2379"]);
    // A text stays the text it was; elsewhere it becomes what it looks like.
    assert_eq!(config.deployment.admin.admin_key[0].key.reveal(), "007");
    let attr = &config.plugin_attr.others.0["jwt-auth"];
    assert_eq!(attr["ratio"], 0.5);
    assert_eq!(attr["port"], 9081);
    assert_eq!(attr["plain"], "$ {{PORT}}");
    // Set but empty is set.
    assert_eq!(
        good("deployment: {etcd: {prefix: '/a${{EMPTY:=b}}'}}").deployment.etcd.prefix,
        "/a"
    );
}

#[test]
fn an_unset_variable_is_named_once_with_its_path() {
    refused(
        "deployment: {etcd: {host: ['http://127.0.0.1:2379', 'http://${{ETCD_HOST}}:2379']}}",
        "deployment.etcd.host[1]",
        "environment variable ETCD_HOST, or a default: ${{ETCD_HOST:=value}}",
    );
    refused("apisix: {node_listen: '${{NOPE}}'}", "apisix.node_listen", "NOPE");
    refused("apisix: {'${{NOPE}}': 1}", "apisix.${{NOPE}}", "NOPE");
    refused(
        "nginx_config: {http: {lua_shared_dict: {a: '${{NOPE}}'}}}",
        "nginx_config.http.lua_shared_dict.a",
        "NOPE",
    );
}

#[test]
fn the_reserved_variables_of_apisix_overrule_the_file() {
    let env = |name: &str| match name {
        "APISIX_WORKER_PROCESSES" => Some("3".to_owned()),
        "APISIX_DEPLOYMENT_ETCD_HOST" => Some(r#"["http://10.0.0.1:2379"]"#.to_owned()),
        _ => None,
    };
    let text = "deployment: {etcd: {host: ['http://10.0.0.2:2379']}}";
    let config = Config::from_yaml(text, Path::new("/"), &env).unwrap().config;
    assert_eq!(config.nginx_config.worker_processes, Some(3));
    assert_eq!(config.deployment.etcd.host, ["http://10.0.0.1:2379"]);

    let alone = |name: &str| (name == "APISIX_STAND_ALONE").then(|| "true".to_owned());
    let error = Config::from_yaml("", Path::new("/"), &alone).unwrap_err().to_string();
    assert!(
        error.contains("deployment.role_traditional.config_provider: expected yaml or json"),
        "{error}"
    );
}
