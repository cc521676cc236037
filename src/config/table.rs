//! The table of known keys: path, what may stand there, default, meaning.
//!
//! One row a key, in the order of the example file. Below `[]` stand the keys of a list's items,
//! below `*` those of a mapping with free names. Defaults are APISIX's unless the row says so.
//! Long, because it is a table.

use serde_json::Value;

use super::kind::{Form, Kind};

/// A key of the config file.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) path: &'static str,
    pub(super) kind: Kind,
    /// As it would stand in the file; `null` where there is none.
    pub(super) default: &'static str,
    /// What could stand in the file, for rows without a default.
    pub(super) example: &'static str,
    /// What it means, for an operator; for unused keys the reason.
    pub(super) doc: &'static str,
}

const PORT: Kind = Kind::Int(1, 65_535);
const SECOND: Kind = Kind::Time(1000);
const NETS: Kind = Kind::List(&Kind::Net, Form::Plain);
const TEXTS: Kind = Kind::List(&Kind::Text, Form::Plain);
const COUNT: Kind = Kind::Int(0, u32::MAX as u64);
const ANY_TIME: Kind = Kind::Time(0);

const NO_LUA: &str = "Lua functions have no modules, timers or shared memory";
const NO_NGINX: &str = "there is no nginx underneath";
const NOT_SERVED: &str = "not served by this version";

/// Every key, in the order of the example file.
#[rustfmt::skip]
pub(super) const ROWS: &[Row] = &[
    section("apisix", "The gateway itself."),
    key("apisix.node_listen", Kind::Listens, "[9080]", "Where plain HTTP is served: a port, or a list of ports and {ip, port}."),
    optional("apisix.node_listen[].ip", Kind::Ip, "127.0.0.2", "Address; without one 0.0.0.0, and [::] too if enable_ipv6 is true."),
    key("apisix.node_listen[].port", PORT, "9080", "Port."),
    optional("apisix.node_listen[].enable_http2", Kind::Bool, "true", "Overrules apisix.enable_http2 for this listener."),
    unused("apisix.node_listen[].enable_http3", "HTTP/3 needs TLS: see apisix.ssl.listen"),
    key("apisix.enable_admin", Kind::Bool, "true", "Serves the Admin API. The role control_plane always does, data_plane never."),
    key("apisix.enable_dev_mode", Kind::Bool, "false", "One worker without SO_REUSEPORT, for development."),
    key("apisix.enable_reuseport", Kind::Bool, "true", "Gives every worker its own listening socket (SO_REUSEPORT)."),
    key("apisix.show_upstream_status_in_response_header", Kind::Bool, "false", "Tells the status of the upstream in X-APISIX-Upstream-Status on every response; otherwise only when it is 5xx."),
    key("apisix.enable_ipv6", Kind::Bool, "true", "Listens on IPv6 where no address is given, and asks DNS for AAAA records."),
    key("apisix.enable_http2", Kind::Bool, "true", "Speaks HTTP/2 to clients: by ALPN with TLS, by prior knowledge (h2c) without."),
    key("apisix.enable_server_tokens", Kind::Bool, "true", "Puts the version into the Server header."),
    key("apisix.delete_uri_tail_slash", Kind::Bool, "false", "Drops a slash at the end of the path before routes are matched."),
    key("apisix.normalize_uri_like_servlet", Kind::Bool, "false", "Normalises paths by the rules of Java servlets before routes are matched."),
    key("apisix.match_uri_encoded_slash", Kind::Bool, "false", "Keeps %2F as it is when routes are matched, instead of taking it for a slash."),

    section("apisix.router", "How requests find their route."),
    key("apisix.router.http", Kind::Choice(&["radixtree_host_uri", "radixtree_uri", "radixtree_uri_with_parameter"]), "radixtree_host_uri", "radixtree_host_uri: by host, then path. radixtree_uri: by path, then host. radixtree_uri_with_parameter: the same, with parameters in paths."),
    key("apisix.router.ssl", Kind::Choice(&["radixtree_sni"]), "radixtree_sni", "How certificates are found; there is one way."),
    key("apisix.proxy_mode", Kind::Choice(&["http", "stream", "http&stream"]), "http", "What is proxied: http, stream, or http&stream."),

    key("apisix.dns_resolver", Kind::List(&Kind::Resolver, Form::Plain), "[]", "DNS servers such as 1.1.1.1, with a port if it is not 53. Without them those of /etc/resolv.conf."),
    optional("apisix.dns_resolver_valid", SECOND, "30", "How long an answer of DNS is used; without it as long as the answer says."),
    key("apisix.resolver_timeout", SECOND, "5", "How long an answer of DNS is waited for."),
    key("apisix.enable_resolv_search_opt", Kind::Bool, "true", "Honours the search line of /etc/resolv.conf."),

    section("apisix.ssl", "TLS with clients. Certificates are ssls objects, not files named here."),
    key("apisix.ssl.enable", Kind::Bool, "true", "Opens the TLS listeners."),
    key("apisix.ssl.listen", Kind::Items, "[{port: 9443}]", "Where TLS is served."),
    optional("apisix.ssl.listen[].ip", Kind::Ip, "127.0.0.3", "Address; without one 0.0.0.0, and [::] too if enable_ipv6 is true."),
    key("apisix.ssl.listen[].port", PORT, "9443", "Port."),
    optional("apisix.ssl.listen[].enable_http2", Kind::Bool, "true", "Overrules apisix.enable_http2 for this listener."),
    key("apisix.ssl.listen[].enable_http3", Kind::Bool, "false", "Speaks HTTP/3 too, over QUIC on the same port of UDP. Names whose clients have to show a certificate are not served over it."),
    key("apisix.ssl.ssl_protocols", Kind::List(&Kind::TlsVersion, Form::Split(' ')), "TLSv1.2 TLSv1.3", "Versions of TLS offered to clients."),
    key("apisix.ssl.ssl_ciphers", Kind::List(&Kind::Text, Form::Split(':')), "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305:DHE-RSA-AES128-GCM-SHA256:DHE-RSA-AES256-GCM-SHA384", "Cipher suites of TLS 1.2 by their OpenSSL names, the preferred first; groups such as HIGH and !aNULL are read too. The suites of TLS 1.3 are always offered. Suites other than ECDHE with AES-GCM or ChaCha20 do not exist here: they are skipped with a warning, but for the two DHE ones of this default."),
    key("apisix.ssl.ssl_session_tickets", Kind::Bool, "false", "Lets clients resume by ticket, which weakens forward secrecy. The keys change every 12 hours; nodes share them through the store, sealed by data_encryption.keyring. Without a keyring, or with config from files, each node has its own."),
    key("apisix.ssl.ssl_trusted_certificate", Kind::Path, "system", "File with the CA certificates (PEM) that nodes (where tls.verify says so), etcd and Vault are checked against, unless they name their own; system takes those of the machine."),
    optional("apisix.ssl.fallback_sni", Kind::Text, "www.example.com", "The SNI assumed for clients that send none."),

    key("apisix.enable_control", Kind::Bool, "true", "Serves the control API."),
    section("apisix.control", "Where the control API listens. It has no authentication: keep it local."),
    key("apisix.control.ip", Kind::Ip, "127.0.0.1", "Address."),
    key("apisix.control.port", PORT, "9090", "Port."),

    optional("apisix.status", Kind::Optional, "{}", "Serves /status (200 while the node runs) and /status/ready (200 once it has its config), if given."),
    key("apisix.status.ip", Kind::Ip, "127.0.0.1", "Address."),
    key("apisix.status.port", PORT, "7085", "Port."),

    section("apisix.data_encryption", "Encryption of private keys and of marked plugin fields in the store."),
    key("apisix.data_encryption.enable_encrypt_fields", Kind::Bool, "true", "Encrypts the plugin fields that are marked so."),
    key("apisix.data_encryption.keyring", Kind::List(&Kind::CryptKey, Form::OrOne), "[qeddd145sfvddff3, edd1c9f0985e76a2]", "Keys of 16 (AES-128) or 32 bytes (AES-256). The first encrypts, all decrypt: put a new one first and keep the old ones. These defaults are public; set your own. None stores plain text."),

    section("apisix.lru", "Caches."),
    section("apisix.lru.secret", "Secrets fetched from managers such as Vault."),
    key("apisix.lru.secret.ttl", ANY_TIME, "300", "How long a value is used before it is fetched again."),
    key("apisix.lru.secret.count", COUNT, "512", "How many values are kept."),
    key("apisix.lru.secret.neg_ttl", ANY_TIME, "60", "How long a failure is remembered before it is tried again."),
    key("apisix.lru.secret.neg_count", COUNT, "512", "How many failures are remembered."),

    key("apisix.trusted_addresses", NETS, "[]", "Peers whose X-Forwarded-Proto, -Host and -Port are believed. X-Forwarded-For of other peers is dropped once this is set."),
    key("apisix.max_post_args_readable_size", Kind::Int(0, 1 << 30), "64", "The largest body of a request, in MiB, that conditions and templates can look into by post_arg and request_body; 0 sets no limit."),
    optional("apisix.id", Kind::Text, "gateway-1", "Name of this node; without one it makes one up and keeps it."),

    unused("apisix.proxy_protocol", NOT_SERVED),
    unused("apisix.stream_proxy", NOT_SERVED),
    unused("apisix.proxy_cache", NOT_SERVED),
    unused("apisix.tracing", NOT_SERVED),
    unused("apisix.disable_upstream_healthcheck", NOT_SERVED),
    unused("apisix.extra_lua_path", NO_LUA),
    unused("apisix.extra_lua_cpath", NO_LUA),
    unused("apisix.lua_module_hook", NO_LUA),
    unused("apisix.disable_sync_configuration_during_start", "a node always waits for its config before it is ready"),
    unused("apisix.worker_startup_time_threshold", "workers are threads and do not start again by themselves"),

    section("nginx_config", "Workers, limits, timeouts and logs, by the names that nginx gave them."),
    key("nginx_config.error_log", Kind::Target, "logs/error.log", "Where Sluice's own log goes: a file, /dev/stdout or /dev/stderr."),
    key("nginx_config.error_log_level", Kind::Choice(&["debug", "info", "notice", "warn", "error", "crit", "alert", "emerg"]), "warn", "The least severe lines to log: debug, info, notice, warn, error, crit, alert or emerg."),
    key("nginx_config.worker_processes", Kind::Workers, "auto", "How many workers (threads): a number, or auto for one a core. APISIX_WORKER_PROCESSES in the environment overrules it."),
    key("nginx_config.worker_rlimit_nofile", Kind::Int(1, u64::MAX), "20480", "How many files and sockets the process may have open, for each worker."),
    key("nginx_config.worker_shutdown_timeout", ANY_TIME, "240s", "How long a graceful stop waits for what is in flight."),
    section("nginx_config.http", "HTTP with clients."),
    key("nginx_config.http.enable_access_log", Kind::Bool, "true", "Writes a line for each exchange."),
    key("nginx_config.http.access_log", Kind::Target, "logs/access.log", "Where: a file, /dev/stdout or /dev/stderr."),
    key("nginx_config.http.access_log_buffer", Kind::Size, "128k", "How much a worker gathers before it is written; what there is is written once a second. 0 writes each line at once."),
    key("nginx_config.http.access_log_format", Kind::Text, r#"'$remote_addr - $remote_user [$time_local] $http_host "$request" $status $body_bytes_sent $request_time "$http_referer" "$http_user_agent" $upstream_addr $upstream_status $upstream_response_time "$upstream_scheme://$upstream_host$upstream_uri" "$apisix_request_id"'"#, "A line, with variables."),
    key("nginx_config.http.access_log_format_escape", Kind::Choice(&["default", "json", "none"]), "default", "How values are escaped: default, json or none."),
    key("nginx_config.http.keepalive_timeout", ANY_TIME, "60s", "How long an idle connection of a client is kept."),
    key("nginx_config.http.client_header_timeout", ANY_TIME, "60s", "How long the head of a request may take."),
    key("nginx_config.http.client_body_timeout", ANY_TIME, "60s", "How long the body of a request may pause."),
    key("nginx_config.http.client_max_body_size", Kind::Size, "0", "The largest body of a request, answered with 413 beyond; 0 sets no limit."),
    key("nginx_config.http.send_timeout", ANY_TIME, "10s", "How long a client may pause in taking a response."),
    key("nginx_config.http.underscores_in_headers", Kind::Switch, "\"on\"", "Keeps request headers with an underscore in their name."),
    key("nginx_config.http.real_ip_header", Kind::Text, "X-Real-IP", "The header in which a peer of real_ip_from tells the client's address."),
    key("nginx_config.http.real_ip_recursive", Kind::Switch, "\"off\"", "Takes the last address in the header that is not in real_ip_from, instead of the last."),
    key("nginx_config.http.real_ip_from", NETS, "[127.0.0.1, \"unix:\"]", "Peers whose real_ip_header is believed. There are no unix sockets here; unix: is skipped."),
    key("nginx_config.http.proxy_ssl_server_name", Kind::Bool, "true", "Sends the host as SNI to TLS upstreams."),
    section("nginx_config.http.upstream", "Idle connections to upstreams that have no keepalive_pool of their own."),
    key("nginx_config.http.upstream.keepalive", COUNT, "320", "How many a worker keeps."),
    key("nginx_config.http.upstream.keepalive_requests", Kind::Int(1, u64::MAX), "1000", "How many requests one carries before it is closed."),
    key("nginx_config.http.upstream.keepalive_timeout", ANY_TIME, "60s", "How long an idle one is kept."),

    unused("nginx_config.user", "the process keeps the user that started it"),
    unused("nginx_config.enable_cpu_affinity", "the kernel places the workers"),
    unused("nginx_config.max_pending_timers", NO_LUA),
    unused("nginx_config.max_running_timers", NO_LUA),
    unused("nginx_config.event", "worker_rlimit_nofile alone limits connections"),
    unused("nginx_config.envs", "all of the process sees the whole environment"),
    unused("nginx_config.meta", NO_LUA),
    unused("nginx_config.stream", NOT_SERVED),
    unused("nginx_config.main_configuration_snippet", NO_NGINX),
    unused("nginx_config.http_configuration_snippet", NO_NGINX),
    unused("nginx_config.http_server_configuration_snippet", NO_NGINX),
    unused("nginx_config.http_server_location_configuration_snippet", NO_NGINX),
    unused("nginx_config.http_admin_configuration_snippet", NO_NGINX),
    unused("nginx_config.http_end_configuration_snippet", NO_NGINX),
    unused("nginx_config.stream_configuration_snippet", NO_NGINX),
    unused("nginx_config.http.charset", "responses keep the Content-Type that the upstream gave them"),
    unused("nginx_config.http.variables_hash_max_size", NO_NGINX),
    unused("nginx_config.http.lua_shared_dict", NO_LUA),
    unused("nginx_config.http.custom_lua_shared_dict", NO_LUA),

    key("plugins", TEXTS, "[real-ip, ai, client-control, proxy-buffering, proxy-control, request-id, zipkin, ext-plugin-pre-req, fault-injection, mocking, serverless-pre-function, cors, ip-restriction, ua-restriction, referer-restriction, csrf, uri-blocker, request-validation, chaitin-waf, multi-auth, openid-connect, saml-auth, cas-auth, authz-casbin, authz-casdoor, wolf-rbac, ldap-auth-advanced, ldap-auth, hmac-auth, basic-auth, jwt-auth, jwe-decrypt, key-auth, dingtalk-auth, feishu-auth, acl, consumer-restriction, attach-consumer-label, forward-auth, opa, authz-keycloak, data-mask, proxy-cache, body-transformer, ai-prompt-template, ai-prompt-decorator, ai-prompt-guard, ai-rag, ai-rate-limiting, ai-proxy-multi, ai-proxy, ai-cache, ai-aws-content-moderation, ai-aliyun-content-moderation, ai-lakera-guard, proxy-mirror, graphql-proxy-cache, proxy-rewrite, workflow, api-breaker, graphql-limit-count, limit-conn, limit-count, limit-req, gzip, traffic-label, traffic-split, redirect, response-rewrite, oas-validator, mcp-bridge, degraphql, kafka-proxy, grpc-transcode, grpc-web, http-dubbo, public-api, prometheus, datadog, lago, loki-logger, elasticsearch-logger, echo, loggly, http-logger, splunk-hec-logging, skywalking-logger, google-cloud-logging, sls-logger, tcp-logger, kafka-logger, rocketmq-logger, syslog, udp-logger, file-logger, clickhouse-logger, tencent-cloud-cls, inspect, example-plugin, aws-lambda, azure-functions, openwhisk, openfunction, serverless-post-function, ext-plugin-post-req, ext-plugin-post-resp, ai-request-rewrite]", "Plugins that may be used; what is not in the list is refused. Names without a plugin in this version have no effect. A list replaces this one."),
    key("stream_plugins", TEXTS, "[ip-restriction, limit-conn, mqtt-proxy, syslog, traffic-split]", "The same for stream routes."),

    section("plugin_attr", "Settings of plugins that hold for the whole node, by plugin name."),
    section("plugin_attr.prometheus", "The metrics."),
    key("plugin_attr.prometheus.export_uri", Kind::UriPath, "/apisix/prometheus/metrics", "The path at which they are served."),
    key("plugin_attr.prometheus.metric_prefix", Kind::Text, "apisix_", "What every name begins with."),
    key("plugin_attr.prometheus.enable_export_server", Kind::Bool, "true", "Serves them at export_addr."),
    section("plugin_attr.prometheus.export_addr", "Where they are served."),
    key("plugin_attr.prometheus.export_addr.ip", Kind::Ip, "127.0.0.1", "Address."),
    key("plugin_attr.prometheus.export_addr.port", PORT, "9091", "Port."),
    key("plugin_attr.prometheus.refresh_interval", SECOND, "15", "How old the served figures may be."),
    key("plugin_attr.prometheus.metrics", Kind::Entries, "{}", "Settings of single metrics, by name: http_status, http_latency, bandwidth, upstream_status."),
    key("plugin_attr.prometheus.metrics.*.expire", ANY_TIME, "0", "How long a series without news is kept; 0 keeps it for ever."),
    key("plugin_attr.prometheus.metrics.*.extra_labels", Kind::List(&Kind::Label, Form::Plain), "[]", "More labels, each with its variable, such as [{upstream_addr: $upstream_addr}]."),
    key("plugin_attr.prometheus.default_buckets", Kind::List(&Kind::Bucket, Form::Plain), "[1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 30000, 60000]", "Upper bounds of the latency histogram's buckets, in milliseconds."),
    unused("plugin_attr.prometheus.llm_latency_buckets", NOT_SERVED),
    unused("plugin_attr.prometheus.llm_prompt_tokens_buckets", NOT_SERVED),
    unused("plugin_attr.prometheus.llm_completion_tokens_buckets", NOT_SERVED),
    unused("plugin_attr.prometheus.ai_cache_embedding_latency_buckets", NOT_SERVED),
    optional("plugin_attr.*", Kind::Json, "{}", "Settings of any other plugin, as that plugin describes them."),

    section("deployment", "What this node is, and where its resources come from."),
    key("deployment.role", Kind::Choice(&["traditional", "control_plane", "data_plane"]), "traditional", "traditional: proxy and Admin API. control_plane: Admin API. data_plane: proxy."),
    section("deployment.role_traditional", "Counts if the role is traditional."),
    key("deployment.role_traditional.config_provider", Kind::Choice(&["etcd", "embedded", "yaml", "json"]), "etcd", "etcd: the cluster. embedded: a store of this node's own, in sluice.data_dir. yaml: all of it is pushed to /apisix/admin/configs, or with apisix.enable_admin off read from conf/apisix.yaml. json: the file conf/apisix.json."),
    section("deployment.role_control_plane", "Counts if the role is control_plane."),
    key("deployment.role_control_plane.config_provider", Kind::Choice(&["etcd"]), "etcd", "There is one."),
    section("deployment.role_data_plane", "Counts if the role is data_plane."),
    key("deployment.role_data_plane.config_provider", Kind::Choice(&["etcd", "yaml", "json"]), "etcd", "etcd: the cluster. yaml, json: the file conf/apisix.yaml or conf/apisix.json."),
    unused("deployment.config_provider", "the key of the role decides, such as deployment.role_traditional.config_provider"),

    section("deployment.admin", "The Admin API."),
    key("deployment.admin.admin_key_required", Kind::Bool, "true", "Asks every caller for a key. Without it anybody whom allow_admin lets through is an administrator."),
    key("deployment.admin.admin_key", Kind::Items, "[{name: admin, key: \"\", role: admin}]", "Who may call."),
    key("deployment.admin.admin_key[].name", Kind::Text, "\"\"", "A name for people."),
    key("deployment.admin.admin_key[].key", Kind::Secret, "\"\"", "What the caller sends as X-API-KEY. An empty key of an admin is generated once and kept in sluice.data_dir."),
    key("deployment.admin.admin_key[].role", Kind::Choice(&["admin", "viewer"]), "admin", "admin: reads and writes. viewer: reads."),
    key("deployment.admin.enable_admin_cors", Kind::Bool, "true", "Lets pages of any origin read the answers."),
    key("deployment.admin.allow_admin", NETS, "[127.0.0.0/24]", "Peers that may call; an empty list lets everyone."),
    section("deployment.admin.admin_listen", "Where it listens. On loopback unless told otherwise, unlike APISIX, which takes 0.0.0.0."),
    key("deployment.admin.admin_listen.ip", Kind::Ip, "127.0.0.1", "Address."),
    key("deployment.admin.admin_listen.port", PORT, "9180", "Port."),
    key("deployment.admin.https_admin", Kind::Bool, "false", "Speaks TLS there, with the certificate of admin_api_mtls."),
    section("deployment.admin.admin_api_mtls", "TLS of the Admin API."),
    optional("deployment.admin.admin_api_mtls.admin_ssl_cert", Kind::Path, "conf/admin.crt", "File with the certificate."),
    optional("deployment.admin.admin_api_mtls.admin_ssl_cert_key", Kind::Path, "conf/admin.key", "File with its private key."),
    optional("deployment.admin.admin_api_mtls.admin_ssl_ca_cert", Kind::Path, "conf/admin-ca.crt", "File with the CA that must have signed the certificates of callers; without it they need none."),
    key("deployment.admin.admin_api_version", Kind::Choice(&["v3"]), "v3", "The version of the API; there is one."),
    unused("deployment.admin.enable_admin_ui", NOT_SERVED),

    section("deployment.etcd", "The etcd cluster, if it is the provider."),
    key("deployment.etcd.host", Kind::List(&Kind::Url, Form::Plain), "[\"http://127.0.0.1:2379\"]", "Its members, all http or all https. APISIX_DEPLOYMENT_ETCD_HOST in the environment (a JSON list) overrules it."),
    key("deployment.etcd.prefix", Kind::Text, "/apisix", "What every key begins with."),
    key("deployment.etcd.timeout", SECOND, "30", "Limit of connecting and of a call."),
    key("deployment.etcd.watch_timeout", SECOND, "50", "How long a watch may be silent before its connection is doubted."),
    key("deployment.etcd.startup_retry", COUNT, "2", "How often a node tries again at start before it goes on with what it has."),
    optional("deployment.etcd.user", Kind::Text, "root", "User, together with password."),
    optional("deployment.etcd.password", Kind::Secret, "secret", "Password."),
    section("deployment.etcd.tls", "TLS with etcd, for https members."),
    optional("deployment.etcd.tls.cert", Kind::Path, "conf/etcd-client.crt", "File with the certificate that this node shows, together with key."),
    optional("deployment.etcd.tls.key", Kind::Path, "conf/etcd-client.key", "File with its private key."),
    optional("deployment.etcd.tls.ca", Kind::Path, "conf/etcd-ca.crt", "File with the CA of the members; without it apisix.ssl.ssl_trusted_certificate. Sluice's own key."),
    key("deployment.etcd.tls.verify", Kind::Bool, "true", "Checks the certificates of the members."),
    optional("deployment.etcd.tls.sni", Kind::Text, "etcd.example.com", "The name to ask for and to check; without it the host of the URL."),
    unused("deployment.etcd.resync_delay", "reconnecting waits by itself, longer after each failure"),
    unused("deployment.etcd.health_check_timeout", "a member is left as soon as it fails, and tried again"),

    section("graphql", "GraphQL in requests."),
    key("graphql.max_size", Kind::Int(1, 1 << 40), "1048576", "The largest body of a request, in bytes, that conditions and templates can look into by graphql_operation, graphql_name and graphql_root_fields."),

    section("sluice", "What APISIX has no key for."),
    key("sluice.data_dir", Kind::Path, "data", "Folder for the embedded store, the generated admin key, the pid file and the last good copy of the config. Relative to the folder that holds conf/."),
    section("sluice.log", "Sluice's own log."),
    key("sluice.log.format", Kind::Choice(&["text", "json"]), "text", "text or json."),
    section("sluice.history", "Earlier versions of resources, for /history and /rollback of the Admin API."),
    key("sluice.history.keep", Kind::Int(0, 100), "10", "How many versions of each resource the store keeps; 0 keeps none."),
    section("sluice.lua", "What a call of a Lua function (filter_func, _meta.pre_function, the serverless plugins) may take of a worker."),
    key("sluice.lua.timeout", Kind::Time(1), "100ms", "How long it may run. One that runs for longer is ended and has failed; a worker serves nobody else meanwhile."),
    key("sluice.lua.memory", Kind::Size, "64m", "How much memory the Lua functions of a worker may hold together."),
    key("sluice.core_dumps", Kind::Bool, "false", "Whether the kernel may write the memory of the process to a file when it dies. Secrets and private keys are in it. Where off, a debugger can be attached by root alone."),
    section("sluice.http3", "HTTP/3, where apisix.ssl.listen[].enable_http3 is true."),
    key("sluice.http3.alt_svc", Kind::Bool, "true", "Tells clients of it: Alt-Svc on responses over TLS of a listener that speaks HTTP/3, unless the response has one."),
    key("sluice.max_series", Kind::Int(1, u32::MAX as u64), "50000", "How many series of metrics a node keeps; what would go beyond is counted and dropped."),

    unused("discovery", NOT_SERVED),
    unused("wasm", NOT_SERVED),
    unused("xrpc", NOT_SERVED),
    unused("ext-plugin", NOT_SERVED),
    unused("http", NO_NGINX),
    unused("etcd", "it stands under deployment.etcd"),
];

/// The row at `path`.
pub(super) fn row(path: &str) -> Option<&'static Row> {
    ROWS.iter().find(|row| row.path == path)
}

/// The rows directly below `prefix` (all top rows if it is empty), with their names there.
pub(super) fn children(prefix: &str) -> impl Iterator<Item = (&'static str, &'static Row)> {
    ROWS.iter().filter_map(move |row| {
        let name = match prefix {
            "" => row.path,
            _ => row.path.strip_prefix(prefix)?.strip_prefix('.')?,
        };
        (!name.contains('.')).then_some((name, row))
    })
}

// === impl Row ===

impl Row {
    /// The default, as written; `null` for rows without.
    pub(super) fn default(&self) -> Value {
        // That every default is YAML is tested.
        super::yaml(self.default).unwrap_or(Value::Null)
    }

    /// Whether the key has no effect here.
    pub(super) fn is_unused(&self) -> bool {
        matches!(self.kind, Kind::Unused)
    }
}

const fn key(path: &'static str, kind: Kind, default: &'static str, doc: &'static str) -> Row {
    Row { path, kind, default, example: "", doc }
}

const fn optional(path: &'static str, kind: Kind, example: &'static str, doc: &'static str) -> Row {
    Row { path, kind, default: "null", example, doc }
}

const fn section(path: &'static str, doc: &'static str) -> Row {
    key(path, Kind::Section, "null", doc)
}

const fn unused(path: &'static str, reason: &'static str) -> Row {
    key(path, Kind::Unused, "null", reason)
}
