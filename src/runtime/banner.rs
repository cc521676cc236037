//! What a newcomer is told once the node is ready: where it listens, and a first route.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::watch;

use super::{VERSION, stores};
use crate::config::{Config, Listen, Role};

/// Writes the text to stdout when the node is ready.
pub(super) async fn when_ready(
    mut ready: watch::Receiver<bool>,
    config: Arc<Config>,
    keys: Vec<PathBuf>,
) {
    if ready.wait_for(|ready| *ready).await.is_err() {
        return;
    }
    tracing::info!(version = VERSION, "ready");
    // Nobody may be reading; that is no reason to stop.
    let _ = std::io::stdout().lock().write_all(text(&config, &keys).as_bytes());
}

fn text(config: &Config, keys: &[PathBuf]) -> String {
    let provider = stores::name(config.deployment.provider);
    let mut text = format!("Sluice {VERSION} is ready (config: {provider}).\n");
    let mut line = |name: &str, value: &str| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  {name:<11} {value}");
    };
    let apisix = &config.apisix;
    if config.deployment.role != Role::ControlPlane {
        line("HTTP", &listeners(&apisix.node_listen));
        if apisix.ssl.enable {
            line("HTTPS", &listeners(&apisix.ssl.listen));
        }
    }
    let admin = SocketAddr::from(config.deployment.admin.admin_listen);
    let scheme = if config.deployment.admin.https_admin { "https" } else { "http" };
    if apisix.enable_admin {
        line("Admin API", &format!("{scheme}://{admin}/apisix/admin"));
    }
    if apisix.enable_control {
        line("control", &format!("http://{}/v1/status", SocketAddr::from(apisix.control)));
    }
    let prometheus = &config.plugin_attr.prometheus;
    if prometheus.enable_export_server {
        let addr = SocketAddr::from(prometheus.export_addr);
        line("metrics", &format!("http://{addr}{}", prometheus.export_uri));
    }
    if let Some(status) = apisix.status {
        line("status", &format!("http://{}/status/ready", SocketAddr::from(status)));
    }
    line("data", &config.sluice.data_dir.display().to_string());
    if let Some(key) = keys.first() {
        line("admin key", &format!("generated, kept in {}", key.display()));
    }
    if apisix.enable_admin && provider_takes_writes(provider) {
        let key = match keys.first() {
            Some(path) => format!("$(cat {})", path.display()),
            None => "YOUR-ADMIN-KEY".to_owned(),
        };
        let http = apisix.node_listen.first().map_or(0, |listen| listen.port);
        let _ = write!(
            text,
            "Create a first route, and use it:\n  \
             curl -s {scheme}://{admin}/apisix/admin/routes/1 -X PUT -H \"X-API-KEY: {key}\" \\\n    \
             -d '{{\"uri\": \"/*\", \"upstream\": {{\"type\": \"roundrobin\", \"nodes\": {{\"127.0.0.1:8000\": 1}}}}}}'\n  \
             curl -i http://127.0.0.1:{http}/\n"
        );
    }
    text
}

fn provider_takes_writes(provider: &str) -> bool {
    matches!(provider, "etcd" | "embedded")
}

/// The addresses, each port once where both families listen on it.
fn listeners(all: &[Listen]) -> String {
    let shown = all.iter().filter(|listen| !listen.implied);
    let all: Vec<String> = shown
        .map(|listen| match listen.ip {
            IpAddr::V4(ip) if ip.is_unspecified() => format!("port {}", listen.port),
            _ => SocketAddr::from(listen).to_string(),
        })
        .collect();
    all.join(", ")
}
