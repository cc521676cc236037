//! What the author of a file is told: errors and warnings.

use super::*;

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
        ("apisix: {node_listen: [9080, {port: 70000}]}", "apisix.node_listen[1].port", "got 70000"),
        ("apisix: {node_listen: ['9080']}", "apisix.node_listen[0]", "a port, or a mapping"),
        ("apisix: {ssl: {listen: 9443}}", "apisix.ssl.listen", "a list of mappings, got a number"),
        ("apisix: {ssl: {ssl_protocols: TLSv9}}", "apisix.ssl.ssl_protocols", "TLSv1.2 or TLSv1.3"),
        ("apisix: {ssl: {ssl_protocols: TLSv1}}", "apisix.ssl.ssl_protocols", "got none"),
        ("apisix: 5", "apisix", "a mapping, got a number"),
        ("apisix: {status: true}", "apisix.status", "a mapping, got true"),
        ("apisix: {lru: {secret: {ttl: -1}}}", "apisix.lru.secret.ttl", "got -1"),
        ("apisix: {dns_resolver: [dns.example]}", "apisix.dns_resolver[0]", "an IP address"),
        ("nginx_config: {worker_processes: 0}", "nginx_config.worker_processes", "auto, or"),
        (
            "nginx_config: {http: {client_max_body_size: 10mb}}",
            "nginx_config.http.client_max_body_size",
            "a size",
        ),
        ("deployment: {etcd: {host: []}}", "deployment.etcd.host", "at least one URL"),
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
        ("deployment: {etcd: {timeout: 0}}", "deployment.etcd.timeout", "at least 1000ms"),
        ("deployment: {admin: {admin_key: []}}", "deployment.admin.admin_key", "at least one key"),
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
    refused("apisix: {control: {port: 9180}}", "apisix.control", "got 127.0.0.1:9180");
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
    refused("apisix: {node_listen: 9090, control: {port: x}}", "apisix.control.port", "got \"x\"");
}

#[test]
fn what_is_not_yaml_is_told_with_its_place_and_without_its_text() {
    let text = "deployment:\n  admin:\n    admin_key:\n      - key: 5ecret5ecret\n     role: [\n";
    let error = parse(text).unwrap_err();
    assert!(matches!(error, LoadError::NotYaml { .. }));
    let error = error.to_string();
    assert!(error.starts_with("config.yaml: "), "{error}");
    assert!(error.contains("line 5"), "{error}");
    assert!(!error.contains("5ecret") && !error.contains('\n'), "{error}");
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
    assert!(!shown.contains(SECRET) && shown.contains("(hidden)"), "{shown}");

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
        assert!(!found.is_empty() && !found.concat().contains(SECRET), "{found:?}");
    }
}

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
            "apisix.extra_lua_path: has no effect: Lua functions have no modules, timers or shared memory",
            "nginx_config.http.charset: has no effect: responses keep the Content-Type that the upstream gave them",
            "nginx_config.http.lua_shared_dict: has no effect: Lua functions have no modules, timers or shared memory",
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
        ("deployment: {admin: {admin_key_required: false}}", "need no key"),
        ("deployment: {admin: {allow_admin: ~, admin_listen: {ip: 0.0.0.0}}}", "any address"),
        ("apisix: {proxy_mode: stream}", "HTTP only"),
        (
            "apisix: {ssl: {ssl_protocols: TLSv1.2, listen: [{port: 9443, enable_http3: true}]}}",
            "HTTP/3",
        ),
        ("apisix: {ssl: {ssl_protocols: TLSv1.1 TLSv1.2}}", "older versions"),
        ("apisix: {node_listen: [9080, 9080]}", "twice"),
    ] {
        let warned = warnings(text);
        assert!(warned.len() == 1 && warned[0].contains(part), "{text}: {warned:?}");
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
    assert_eq!(config.apisix.dns_resolver, ["10.0.0.10:53".parse().unwrap()]);
    assert_eq!(config.apisix.node_listen.len(), 3);
    assert_eq!(config.deployment.admin.admin_key[1].role, AdminRole::Viewer);
    assert_eq!(config.deployment.etcd.host.len(), 2);
    assert_eq!(config.plugins.len(), 2);
}
