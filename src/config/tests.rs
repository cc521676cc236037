//! What a config file may hold, what it gives, and what its author is told.

#![allow(clippy::unwrap_used, clippy::expect_used)]

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

// The table.

#[test]
fn the_table_is_whole() {
    let mut seen = BTreeSet::new();
    for row in ROWS {
        assert!(seen.insert(row.path), "{} stands twice", row.path);
        assert!(!row.doc.is_empty(), "{} has no meaning", row.path);
        yaml(row.default).unwrap_or_else(|error| panic!("{}: {error}", row.path));
        let parent = row.path.rsplit_once('.').map(|(parent, _)| parent);
        if let Some(parent) = parent {
            let parent = parent.trim_end_matches("[]").trim_end_matches(".*");
            assert!(table::row(parent).is_some(), "{} has no parent", row.path);
        }
        if row.default == "null" && !row.example.is_empty() && !matches!(row.kind, Kind::Optional) {
            let example = yaml(row.example).unwrap();
            assert!(
                matches!(row.kind.read(&example), Outcome::Good(_)),
                "{}",
                row.path
            );
        }
    }
}

#[test]
fn the_example_is_what_the_table_says() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("conf/config.yaml.example");
    let text = Config::example();
    if std::env::var_os("UPDATE_EXAMPLE").is_some() {
        std::fs::write(&file, &text).unwrap();
    }
    assert!(
        std::fs::read_to_string(&file).unwrap() == text,
        "conf/config.yaml.example is not what the table says: run with UPDATE_EXAMPLE=1"
    );
    for line in text.lines().filter(|line| line.starts_with('#')) {
        assert!(line.len() <= 120, "{line}");
    }
}

#[test]
fn the_example_holds_every_key_and_changes_none() {
    let loaded = parse(&Config::example()).unwrap();
    assert_eq!(loaded.warnings, []);
    assert_eq!(loaded.config, good(""));
    for row in ROWS.iter().filter(|row| !matches!(row.kind, Kind::Json)) {
        let name = row.path.rsplit_once('.').map_or(row.path, |(_, name)| name);
        assert!(
            Config::example().contains(&format!("{name}:")),
            "{}",
            row.path
        );
    }
}

#[test]
fn what_the_example_comments_out_can_be_commented_in() {
    let mut text = String::new();
    for row in ROWS
        .iter()
        .filter(|row| !row.example.is_empty() && !row.path.contains(['[', '*']))
    {
        // One mapping a line: each key on its own, so that every one is tried.
        let (mut open, mut close) = (String::new(), String::new());
        for part in row.path.split('.') {
            open.push_str(&format!("{{{part}: "));
            close.push('}');
        }
        text.push_str(&format!("{}|{open}{}{close}\n", row.path, row.example));
    }
    for (path, yaml) in text.lines().map(|line| line.split_once('|').unwrap()) {
        // User and password, certificate and key come in pairs.
        let alone: Vec<String> = match parse(yaml) {
            Ok(_) => continue,
            Err(error) => error
                .problems()
                .iter()
                .map(|one| one.expected.clone())
                .collect(),
        };
        assert!(
            alone.iter().all(|one| one.starts_with("a value, as")),
            "{path}: {alone:?}"
        );
    }
}

#[test]
fn the_shipped_config_is_one_node_on_loopback() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("conf/config.yaml");
    let loaded = Config::load(&file).unwrap();
    assert_eq!(loaded.warnings, []);
    let config = loaded.config;
    assert_eq!(config.deployment.provider, Provider::Embedded);
    assert_eq!(config.apisix.node_listen[0].port, 9080);
    assert_eq!(config.apisix.ssl.listen[0].port, 9443);
    let address = |address: Address| SocketAddr::from(address).to_string();
    assert_eq!(
        address(config.deployment.admin.admin_listen),
        "127.0.0.1:9180"
    );
    assert_eq!(address(config.apisix.control), "127.0.0.1:9090");
    assert_eq!(address(config.apisix.status.unwrap()), "127.0.0.1:7085");
    assert_eq!(
        address(config.plugin_attr.prometheus.export_addr),
        "127.0.0.1:9091"
    );
    assert!(config.deployment.admin.admin_key[0].key.is_empty());
    assert_eq!(config.home, Path::new(env!("CARGO_MANIFEST_DIR")));
    assert_eq!(config.sluice.data_dir, config.home.join("data"));
}

// Defaults.

#[test]
fn defaults_are_those_of_apisix() {
    for text in ["", "# only a comment\n", "apisix:\ndeployment:\n", "{}"] {
        let loaded = parse(text).unwrap();
        assert_eq!(loaded.warnings, []);
        let Config {
            apisix,
            nginx_config,
            deployment,
            plugin_attr,
            ..
        } = loaded.config;

        let listens: Vec<_> = apisix.node_listen.iter().map(SocketAddr::from).collect();
        assert_eq!(
            listens,
            [
                "0.0.0.0:9080".parse().unwrap(),
                "[::]:9080".parse().unwrap()
            ]
        );
        assert!(!apisix.node_listen[0].implied && apisix.node_listen[1].implied);
        assert!(apisix.node_listen[0].http2);
        assert_eq!(apisix.ssl.listen[0].port, 9443);
        assert_eq!(
            apisix.ssl.ssl_protocols,
            [TlsVersion::Tls12, TlsVersion::Tls13]
        );
        assert_eq!(apisix.ssl.ssl_ciphers.len(), 8);
        assert_eq!(apisix.ssl.ssl_trusted_certificate, None);
        assert!(apisix.ssl.enable && !apisix.ssl.ssl_session_tickets);
        assert!(apisix.enable_admin && apisix.enable_control && apisix.enable_reuseport);
        assert!(apisix.enable_server_tokens && !apisix.delete_uri_tail_slash);
        assert!(apisix.data_encryption.enable_encrypt_fields);
        let keys: Vec<_> = apisix
            .data_encryption
            .keyring
            .iter()
            .map(Hidden::reveal)
            .collect();
        assert_eq!(keys, ["qeddd145sfvddff3", "edd1c9f0985e76a2"]);
        assert_eq!(apisix.lru.secret.ttl, seconds(300));
        assert_eq!(apisix.lru.secret.neg_ttl, seconds(60));
        assert_eq!(
            (apisix.lru.secret.count, apisix.lru.secret.neg_count),
            (512, 512)
        );
        assert_eq!(apisix.status, None);
        assert_eq!(
            SocketAddr::from(apisix.control).to_string(),
            "127.0.0.1:9090"
        );
        assert_eq!(apisix.router.http, HttpRouter::HostUri);
        assert_eq!(apisix.resolver_timeout, seconds(5));
        assert!(apisix.dns_resolver.is_empty() && apisix.dns_resolver_valid.is_none());

        assert_eq!(nginx_config.worker_processes, None);
        assert_eq!(nginx_config.worker_shutdown_timeout, seconds(240));
        assert_eq!(
            nginx_config.error_log,
            LogTarget::File("/srv/sluice/logs/error.log".into())
        );
        assert_eq!(nginx_config.error_log_level, LogLevel::Warn);
        let http = nginx_config.http;
        assert_eq!(http.keepalive_timeout, seconds(60));
        assert_eq!(http.send_timeout, seconds(10));
        assert_eq!(
            (http.client_max_body_size, http.access_log_buffer),
            (0, 16_384)
        );
        assert!(
            http.access_log_format
                .starts_with("$remote_addr - $remote_user [$time_local] ")
        );
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
        assert_eq!(
            deployment.admin.allow_admin,
            ["127.0.0.0/24".parse().unwrap()]
        );
        assert!(deployment.admin.admin_key_required && !deployment.admin.https_admin);
        let [key] = deployment.admin.admin_key.as_slice() else {
            panic!()
        };
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
        let config = good(&format!(
            "apisix: {{enable_ipv6: false, node_listen: {written}}}"
        ));
        config
            .apisix
            .node_listen
            .iter()
            .map(|one| SocketAddr::from(one).to_string())
            .collect()
    };
    assert_eq!(listens("9088"), ["0.0.0.0:9088"]);
    assert_eq!(listens("[9088, 9089]"), ["0.0.0.0:9088", "0.0.0.0:9089"]);
    assert_eq!(
        listens("[9088, {ip: 127.0.0.2, port: 9089}, {ip: '[::1]', port: 9089}, {ip: 127.0.0.3}]"),
        [
            "0.0.0.0:9088",
            "127.0.0.2:9089",
            "[::1]:9089",
            "127.0.0.3:9080"
        ]
    );
    assert_eq!(listens("[9088, 9088]"), ["0.0.0.0:9088"]);
    assert!(listens("[]").is_empty());

    let config = good(
        "apisix: {enable_http2: false, node_listen: [9088, {port: 9089, enable_http2: true}]}",
    );
    let http2: Vec<_> = config
        .apisix
        .node_listen
        .iter()
        .map(|one| one.http2)
        .collect();
    assert_eq!(http2, [false, false, true, true]);
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
    let keyring = |written: &str| {
        good(&format!(
            "apisix: {{data_encryption: {{keyring: {written}}}}}"
        ))
    };
    let keys = |config: Config| config.apisix.data_encryption.keyring.len();
    assert_eq!(keys(keyring("qeddd145sfvddff3")), 1);
    assert_eq!(
        keys(keyring(
            "[qeddd145sfvddff3, edd1c9f0985e76a2edd1c9f0985e76a2]"
        )),
        2
    );
    assert_eq!(keys(keyring("'1234567890123456'")), 1);
    assert_eq!(keys(keyring("1234567890123456")), 1);
    assert_eq!(keys(keyring("~")), 0);
    let warned = warnings("apisix: {data_encryption: {keyring: ~}}");
    assert!(
        warned[0].starts_with("apisix.data_encryption.keyring: without a key"),
        "{warned:?}"
    );
}

#[test]
fn the_role_decides_provider_and_admin_api() {
    let config = good("deployment: {role: data_plane, role_data_plane: {config_provider: yaml}}");
    assert_eq!(config.deployment.provider, Provider::Yaml);
    assert!(!config.apisix.enable_admin);
    assert_eq!(
        config.resource_file().unwrap(),
        Path::new("/srv/sluice/conf/apisix.yaml")
    );

    let config = good("{deployment: {role: control_plane}, apisix: {enable_admin: false}}");
    assert_eq!(config.deployment.provider, Provider::Etcd);
    assert!(config.apisix.enable_admin);
    assert_eq!(config.resource_file(), None);

    let config = good("deployment: {role_traditional: {config_provider: json}}");
    assert_eq!(
        config.resource_file().unwrap(),
        Path::new("/srv/sluice/conf/apisix.json")
    );
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
    assert_eq!(
        prometheus.metrics["http_status"].extra_labels[0].variable,
        "upstream_addr"
    );
    assert_eq!(prometheus.metrics["bandwidth"].expire, seconds(3600));
    assert_eq!(config.plugin_attr.others.0["redirect"]["https_port"], 8443);
    assert!(!config.plugin_attr.others.0.contains_key("prometheus"));
}

#[test]
fn an_empty_status_section_turns_status_on() {
    assert_eq!(
        good("apisix: {status: {}}").apisix.status.unwrap().port,
        7085
    );
    assert_eq!(
        good("apisix: {status: {port: 7086}}")
            .apisix
            .status
            .unwrap()
            .port,
        7086
    );
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
    assert_eq!(
        own.deployment.etcd.tls.ca.unwrap(),
        Path::new("/srv/sluice/etcd.crt")
    );
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
    assert_eq!(
        config.deployment.etcd.host,
        ["http://etcd.example.com:2379"]
    );
    // A text stays the text it was; elsewhere it becomes what it looks like.
    assert_eq!(config.deployment.admin.admin_key[0].key.reveal(), "007");
    let attr = &config.plugin_attr.others.0["jwt-auth"];
    assert_eq!(attr["ratio"], 0.5);
    assert_eq!(attr["port"], 9081);
    assert_eq!(attr["plain"], "$ {{PORT}}");
    // Set but empty is set.
    assert_eq!(
        good("deployment: {etcd: {prefix: '/a${{EMPTY:=b}}'}}")
            .deployment
            .etcd
            .prefix,
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
    refused(
        "apisix: {node_listen: '${{NOPE}}'}",
        "apisix.node_listen",
        "NOPE",
    );
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
    let config = Config::from_yaml(text, Path::new("/"), &env)
        .unwrap()
        .config;
    assert_eq!(config.nginx_config.worker_processes, Some(3));
    assert_eq!(config.deployment.etcd.host, ["http://10.0.0.1:2379"]);

    let alone = |name: &str| (name == "APISIX_STAND_ALONE").then(|| "true".to_owned());
    let error = Config::from_yaml("", Path::new("/"), &alone)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("deployment.role_traditional.config_provider: expected yaml or json"),
        "{error}"
    );
}

// Errors.

#[test]
fn all_errors_of_a_file_are_told_at_once() {
    let error = parse(
        "apisix: {node_listen: 0, enable_admin: 'yes', control: {port: high}, router: {http: r3}}
nginx_config: {http: {keepalive_timeout: soon}}
deployment: {role: boss, etcd: {host: [tcp://etcd:2379]}, admin: {allow_admin: [127.0.0.0/33]}}
plugins: key-auth",
    )
    .unwrap_err();
    assert_eq!(
        error.to_string(),
        "config.yaml: apisix.node_listen: expected a port from 1 to 65535, got 0
config.yaml: apisix.enable_admin: expected true or false, got \"yes\"
config.yaml: apisix.router.http: expected one of radixtree_host_uri, radixtree_uri, radixtree_uri_with_parameter, got \"r3\"
config.yaml: apisix.control.port: expected a port from 1 to 65535, got \"high\"
config.yaml: nginx_config.http.keepalive_timeout: expected a time such as 60s, 1m or 500ms (a number counts seconds), got \"soon\"
config.yaml: plugins: expected a list, each item a text, got \"key-auth\"
config.yaml: deployment.role: expected one of traditional, control_plane, data_plane, got \"boss\"
config.yaml: deployment.admin.allow_admin[0]: expected an IP address or a CIDR such as 10.0.0.0/8, got \"127.0.0.0/33\"
config.yaml: deployment.etcd.host[0]: expected a URL http://host:port or https://host:port, without a user, got \"tcp://etcd:2379\""
    );
}

#[test]
fn a_wrong_value_is_named_with_path_and_expectation() {
    for (text, path, part) in [
        (
            "apisix: {node_listen: [9080, {port: 70000}]}",
            "apisix.node_listen[1].port",
            "got 70000",
        ),
        (
            "apisix: {node_listen: ['9080']}",
            "apisix.node_listen[0]",
            "a port, or a mapping",
        ),
        (
            "apisix: {ssl: {listen: 9443}}",
            "apisix.ssl.listen",
            "a list of mappings, got a number",
        ),
        (
            "apisix: {ssl: {ssl_protocols: TLSv9}}",
            "apisix.ssl.ssl_protocols",
            "TLSv1.2 or TLSv1.3",
        ),
        (
            "apisix: {ssl: {ssl_protocols: TLSv1}}",
            "apisix.ssl.ssl_protocols",
            "got none",
        ),
        ("apisix: 5", "apisix", "a mapping, got a number"),
        (
            "apisix: {status: true}",
            "apisix.status",
            "a mapping, got true",
        ),
        (
            "apisix: {lru: {secret: {ttl: -1}}}",
            "apisix.lru.secret.ttl",
            "got -1",
        ),
        (
            "apisix: {dns_resolver: [dns.example]}",
            "apisix.dns_resolver[0]",
            "an IP address",
        ),
        (
            "nginx_config: {worker_processes: 0}",
            "nginx_config.worker_processes",
            "auto, or",
        ),
        (
            "nginx_config: {http: {client_max_body_size: 10mb}}",
            "nginx_config.http.client_max_body_size",
            "a size",
        ),
        (
            "deployment: {etcd: {host: []}}",
            "deployment.etcd.host",
            "at least one URL",
        ),
        (
            "deployment: {etcd: {host: ['http://a:1', 'https://b:1']}}",
            "deployment.etcd.host",
            "all https",
        ),
        (
            "deployment: {etcd: {user: root}}",
            "deployment.etcd.password",
            "as deployment.etcd.user is set",
        ),
        (
            "deployment: {etcd: {tls: {key: a.key}}}",
            "deployment.etcd.tls.cert",
            "as deployment.etcd.tls.key is set",
        ),
        (
            "deployment: {etcd: {timeout: 0}}",
            "deployment.etcd.timeout",
            "at least 1000ms",
        ),
        (
            "deployment: {admin: {admin_key: []}}",
            "deployment.admin.admin_key",
            "at least one key",
        ),
        (
            "deployment: {admin: {admin_key: [{role: viewer}]}}",
            "deployment.admin.admin_key[0].key",
            "a key, as",
        ),
        (
            "deployment: {role_traditional: {config_provider: xds}}",
            "deployment.role_traditional.config_provider",
            "embedded",
        ),
        (
            "plugin_attr: {prometheus: {metric_prefix: 9a}}",
            "plugin_attr.prometheus.metric_prefix",
            "letters",
        ),
        (
            "plugin_attr: {prometheus: {default_buckets: [2, 1]}}",
            "plugin_attr.prometheus.default_buckets",
            "ascending",
        ),
        (
            "plugin_attr: {prometheus: {metrics: {http_status: {extra_labels: [a]}}}}",
            "plugin_attr.prometheus.metrics.http_status.extra_labels[0]",
            "a label",
        ),
        ("sluice: {max_series: 0}", "sluice.max_series", "from 1"),
    ] {
        refused(text, path, part);
    }
    let https = problems("deployment: {admin: {https_admin: true}}");
    assert_eq!(https.len(), 2, "{https:?}");
    assert_eq!(problems("[1]"), ["expected a mapping, got a list"]);
}

#[test]
fn two_services_cannot_listen_on_one_address() {
    refused(
        "apisix: {control: {port: 9180}}",
        "apisix.control",
        "got 127.0.0.1:9180",
    );
    refused(
        "apisix: {node_listen: 9443}",
        "apisix.ssl.listen",
        "that apisix.node_listen has not taken",
    );
    refused(
        "apisix: {node_listen: [{ip: 127.0.0.1, port: 9091}]}",
        "plugin_attr.prometheus.export_addr",
        "got 127.0.0.1:9091",
    );
    // What is switched off takes no address, nor do addresses that differ.
    good("apisix: {enable_control: false, node_listen: 9090}");
    good("apisix: {node_listen: [{ip: 127.0.0.2, port: 9090}]}");
    good("apisix: {ssl: {enable: false}, node_listen: 9443}");
    // A wrong port stands at its default for the sake of the rest, and is not judged a second time.
    refused(
        "apisix: {node_listen: 9090, control: {port: x}}",
        "apisix.control.port",
        "got \"x\"",
    );
}

#[test]
fn what_is_not_yaml_is_told_with_its_place_and_without_its_text() {
    let text = "deployment:\n  admin:\n    admin_key:\n      - key: 5ecret5ecret\n     role: [\n";
    let error = parse(text).unwrap_err();
    assert!(matches!(error, LoadError::NotYaml { .. }));
    let error = error.to_string();
    assert!(error.starts_with("config.yaml: "), "{error}");
    assert!(error.contains("line 5"), "{error}");
    assert!(
        !error.contains("5ecret") && !error.contains('\n'),
        "{error}"
    );
    let twice = parse("apisix: {}\napisix: {}").unwrap_err().to_string();
    assert!(twice.contains("apisix"), "{twice}");
}

#[test]
fn no_secret_is_shown() {
    const SECRET: &str = "5ecret5ecret";
    let config = good(
        "{deployment: {admin: {admin_key: [{key: 5ecret5ecret}]}, etcd: {user: root, password: 5ecret5ecret}},
          apisix: {data_encryption: {keyring: 5ecret5ecret0000}},
          plugin_attr: {opentelemetry: {collector: {request_headers: {Authorization: 5ecret5ecret}}}}}",
    );
    let shown = format!("{config:#?}");
    assert!(
        !shown.contains(SECRET) && shown.contains("(hidden)"),
        "{shown}"
    );

    for text in [
        "deployment: {admin: {admin_key: 5ecret5ecret}}",
        "deployment: {admin: {admin_key: [5ecret5ecret]}}",
        "deployment: {admin: {admin_key: [{key: {a: 5ecret5ecret}}]}}",
        "deployment: {admin: {admin_key: [{key: 5ecret5ecret}, {key: 5ecret5ecret}]}}",
        "deployment: {etcd: {user: root, password: [5ecret5ecret]}}",
        "deployment: {etcd: {host: ['http://root:5ecret5ecret@etcd:2379']}}",
        "apisix: {data_encryption: {keyring: 5ecret5ecret}}",
        "apisix: {data_encryption: {keyring: [5ecret5ecret]}}",
        "plugin_attr: 5ecret5ecret",
    ] {
        let found = problems(text);
        assert!(
            !found.is_empty() && !found.concat().contains(SECRET),
            "{found:?}"
        );
    }
}

// Warnings.

#[test]
fn keys_without_effect_are_warned_about_and_nothing_more() {
    assert_eq!(
        warnings(
            "apisix: {node_lisen: 1, extra_lua_path: '', colour: red, tracing: ~}
nginx_config: {http_configuration_snippet: 'x', http: {lua_shared_dict: {a: 1m}, charset: utf-8}}
deployment: {admin: {admin_key: [{nmae: a, key: b}]}}
discovery: {dns: {servers: []}}
foo: 1",
        ),
        [
            "foo: unknown key, ignored",
            "apisix.colour: unknown key, ignored",
            "apisix.node_lisen: unknown key, ignored; did you mean node_listen?",
            "apisix.extra_lua_path: has no effect: Sluice runs no Lua",
            "nginx_config.http.charset: has no effect: responses keep the Content-Type that the upstream gave them",
            "nginx_config.http.lua_shared_dict: has no effect: Sluice runs no Lua",
            "nginx_config.http_configuration_snippet: has no effect: there is no nginx underneath",
            "deployment.admin.admin_key[0].nmae: unknown key, ignored; did you mean name?",
            "discovery: has no effect: not served by this version",
        ]
        .map(str::to_owned)
        .as_slice()
    );
}

#[test]
fn doubtful_settings_are_warned_about() {
    for (text, part) in [
        (
            "deployment: {admin: {admin_key_required: false}}",
            "need no key",
        ),
        (
            "deployment: {admin: {allow_admin: ~, admin_listen: {ip: 0.0.0.0}}}",
            "any address",
        ),
        ("apisix: {proxy_mode: stream}", "HTTP only"),
        (
            "apisix: {ssl: {listen: [{port: 9443, enable_http3: true}]}}",
            "HTTP/3",
        ),
        (
            "apisix: {ssl: {ssl_protocols: TLSv1.1 TLSv1.2}}",
            "older versions",
        ),
        ("apisix: {node_listen: [9080, 9080]}", "twice"),
    ] {
        let warned = warnings(text);
        assert!(
            warned.len() == 1 && warned[0].contains(part),
            "{text}: {warned:?}"
        );
    }
}

/// In the shape of APISIX's own file, as its docs and charts write it.
#[test]
fn a_config_written_for_apisix_loads() {
    let loaded = parse(
        r#"
apisix:
  node_listen:
    - 9080
    - ip: 127.0.0.2
      port: 9081
  enable_admin: true
  enable_dev_mode: false
  enable_reuseport: true
  enable_ipv6: true
  enable_server_tokens: true
  extra_lua_path: ""
  proxy_cache:
    cache_ttl: 10s
    zones:
      - name: disk_cache_one
        memory_size: 50m
  delete_uri_tail_slash: false
  router:
    http: radixtree_host_uri
    ssl: radixtree_sni
  proxy_mode: "http&stream"
  stream_proxy:
    tcp: [9100]
  dns_resolver: [10.0.0.10]
  dns_resolver_valid: 30
  ssl:
    enable: true
    listen:
      - port: 9443
        enable_http3: false
    ssl_protocols: TLSv1.2 TLSv1.3
    ssl_ciphers: ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256
  status:
    ip: 127.0.0.1
    port: 7085
nginx_config:
  error_log: logs/error.log
  error_log_level: warn
  worker_processes: auto
  enable_cpu_affinity: true
  worker_shutdown_timeout: 240s
  event:
    worker_connections: 10620
  http_configuration_snippet: |
    # nothing
  http:
    access_log: /dev/stdout
    access_log_format: |
      "$remote_addr [$time_local] $status"
    client_max_body_size: 0
    underscores_in_headers: "on"
    real_ip_from:
      - 127.0.0.1
      - "unix:"
    lua_shared_dict:
      plugin-limit-count: 10m
plugins:
  - key-auth
  - prometheus
plugin_attr:
  prometheus:
    export_addr:
      ip: 0.0.0.0
      port: 9091
  log-rotate:
    interval: 3600
deployment:
  role: traditional
  role_traditional:
    config_provider: etcd
  admin:
    allow_admin:
      - 0.0.0.0/0
      - "::/0"
    admin_listen:
      ip: 0.0.0.0
      port: 9180
    admin_key:
      - name: admin
        key: edd1c9f034335f136f87ad84b625c8f1
        role: admin
      - name: viewer
        key: 4054f7cf07e344346cd3f287985e76a2
        role: viewer
  etcd:
    host:
      - "http://etcd-0:2379"
      - "http://etcd-1:2379"
    prefix: /apisix
    timeout: 30
"#,
    )
    .unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(loaded.warnings.len(), 8, "{:#?}", loaded.warnings);
    let config = loaded.config;
    assert_eq!(
        config.apisix.dns_resolver,
        ["10.0.0.10:53".parse().unwrap()]
    );
    assert_eq!(config.apisix.node_listen.len(), 3);
    assert_eq!(config.deployment.admin.admin_key[1].role, AdminRole::Viewer);
    assert_eq!(config.deployment.etcd.host.len(), 2);
    assert_eq!(config.plugins.len(), 2);
}
