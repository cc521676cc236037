//! What follows from several keys together: listeners' addresses, the role, absolute paths.

use std::path::Path;

use serde_json::{Value, json};

use super::{Config, Role, Warning};

/// Gives every listener an address and its HTTP/2 and HTTP/3, adds `[::]` where `enable_ipv6` asks for it, and
/// drops repetitions, as APISIX does. Works on what [`read`](super::read) left.
pub(super) fn listeners(values: &mut Value, warnings: &mut Vec<Warning>) {
    let apisix = &mut values["apisix"];
    let ipv6 = apisix["enable_ipv6"] == true;
    let http2 = apisix["enable_http2"].clone();
    let mut settle = |list: &mut Value, path: &str| {
        let mut settled: Vec<Value> = Vec::new();
        for listen in list.as_array().into_iter().flatten() {
            let http2 = match &listen["enable_http2"] {
                Value::Null => &http2,
                own => own,
            };
            let http3 = listen["enable_http3"] == true;
            let mut add = |ip: &Value, implied: bool| {
                let port = &listen["port"];
                let known = |one: &Value| one["ip"] == *ip && one["port"] == *port;
                if !settled.iter().any(known) {
                    settled.push(json!({
                        "ip": ip, "port": port, "http2": http2, "http3": http3, "implied": implied,
                    }));
                } else if !implied {
                    let ip = ip.as_str().unwrap_or_default();
                    warnings
                        .push(Warning::new(path, format!("{ip} port {port} stands here twice")));
                }
            };
            match &listen["ip"] {
                Value::Null => {
                    add(&json!("0.0.0.0"), false);
                    if ipv6 {
                        add(&json!("::"), true);
                    }
                }
                ip => add(ip, false),
            }
        }
        *list = Value::Array(settled);
    };
    settle(&mut apisix["node_listen"], "apisix.node_listen");
    settle(&mut apisix["ssl"]["listen"], "apisix.ssl.listen");
}

/// Settles what the role, the development mode and the home decide.
pub(super) fn config(config: &mut Config, home: &Path) {
    config.home = home.to_owned();

    let deployment = &mut config.deployment;
    let apisix = &mut config.apisix;
    deployment.provider = match deployment.role {
        Role::Traditional => deployment.role_traditional.config_provider,
        Role::ControlPlane => deployment.role_control_plane.config_provider,
        Role::DataPlane => deployment.role_data_plane.config_provider,
    };
    match deployment.role {
        Role::Traditional => {}
        Role::ControlPlane => apisix.enable_admin = true,
        Role::DataPlane => apisix.enable_admin = false,
    }
    if apisix.enable_dev_mode {
        config.nginx_config.worker_processes = Some(1);
        apisix.enable_reuseport = false;
    }
    if let Some(sni) = &mut apisix.ssl.fallback_sni {
        sni.make_ascii_lowercase();
    }

    let tls = &mut deployment.etcd.tls;
    tls.ca = tls.ca.take().or_else(|| apisix.ssl.ssl_trusted_certificate.clone());
    let mtls = &mut deployment.admin.admin_api_mtls;
    for path in [
        &mut apisix.ssl.ssl_trusted_certificate,
        &mut tls.cert,
        &mut tls.key,
        &mut tls.ca,
        &mut mtls.admin_ssl_cert,
        &mut mtls.admin_ssl_cert_key,
        &mut mtls.admin_ssl_ca_cert,
    ]
    .into_iter()
    .flatten()
    {
        *path = home.join(&*path);
    }
    config.sluice.data_dir = home.join(&config.sluice.data_dir);
    config.nginx_config.error_log.settle(home);
    config.nginx_config.http.access_log.settle(home);
}
