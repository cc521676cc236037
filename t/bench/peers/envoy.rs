//! Envoy as a reverse proxy.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Result;
use serde_json::{Value, json};

use super::Ports;
use crate::load::handshakes::Sessions;
use crate::process::{self, Seat, find};
use crate::site::Site;

/// One worker thread, no request ids, no admin port.
pub(super) fn command(
    site: &Site,
    folder: &Path,
    ports: Ports,
    sessions: Sessions,
) -> Result<Option<Command>> {
    let Some(envoy) = find("envoy") else {
        return Ok(None);
    };
    let tls = json!([{
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
            "disable_stateless_session_resumption": sessions == Sessions::Forgotten,
            "disable_stateful_session_resumption": true,
            "common_tls_context": {
                "alpn_protocols": ["h2", "http/1.1"],
                "tls_params": {
                    "tls_minimum_protocol_version": "TLSv1_3",
                    "tls_maximum_protocol_version": "TLSv1_3",
                },
                "tls_certificates": [{
                    "certificate_chain": { "inline_string": site.certificate.pem },
                    "private_key": { "inline_string": site.certificate.key_pem },
                }],
            },
        },
    }]);
    let mut secure = chain();
    secure["transport_socket"] = tls[0].clone();
    let config = json!({
        "static_resources": {
            "listeners": [
                listener("http", ports.http, chain()),
                listener("https", ports.https, secure),
            ],
            "clusters": [{
                "name": "origin",
                "type": "STATIC",
                "connect_timeout": "5s",
                "load_assignment": {
                    "cluster_name": "origin",
                    "endpoints": [{ "lb_endpoints": [
                        { "endpoint": { "address": address(site.origin) } },
                    ] }],
                },
            }],
        },
    });
    let file = folder.join("envoy.json");
    fs::write(&file, config.to_string())?;
    let mut command = process::command(&envoy, Seat::Proxy);
    command
        .args(["--concurrency", "1", "--log-level", "warning", "--disable-hot-restart"])
        .arg("--config-path")
        .arg(file);
    Ok(Some(command))
}

fn listener(name: &str, port: u16, chain: Value) -> Value {
    json!({ "name": name, "address": address(port), "filter_chains": [chain] })
}

fn address(port: u16) -> Value {
    json!({ "socket_address": { "address": "127.0.0.1", "port_value": port } })
}

fn chain() -> Value {
    json!({ "filters": [{
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": "all",
            "codec_type": "AUTO",
            "generate_request_id": false,
            "route_config": {
                "virtual_hosts": [{
                    "name": "all",
                    "domains": ["*"],
                    "routes": [{ "match": { "prefix": "/" }, "route": { "cluster": "origin" } }],
                }],
            },
            "http_filters": [{
                "name": "envoy.filters.http.router",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
                },
            }],
        },
    }] })
}
