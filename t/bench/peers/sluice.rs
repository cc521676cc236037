//! Sluice as a reverse proxy: the binary that this build made, or the one that `SLUICE_BIN` names.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use serde_json::{Value, json};

use super::{Kind, Peer, Ports};
use crate::load::handshakes::Sessions;
use crate::process::{self, Process, Seat, free_port};
use crate::site::{HOST, Site, wait_for};

/// What the bench's administrator shows.
pub const ADMIN_KEY: &str = "edd1c9f034335f136f87ad84b625c8f1";

/// The binary under test.
pub fn program() -> PathBuf {
    std::env::var_os("SLUICE_BIN")
        .map_or_else(|| env!("CARGO_BIN_EXE_sluice").into(), PathBuf::from)
}

/// What its node is configured with.
pub struct Node {
    ports: Ports,
    config: Value,
    /// What conf/apisix.yaml holds, in standalone mode.
    resources: Option<Value>,
}

// === impl Node ===

impl Node {
    /// A node with its resources in a file, one worker and no access log.
    pub fn standalone(ports: Ports, resources: Value) -> Result<Self> {
        let mut node = Self::new(ports)?;
        node.config["deployment"] = json!({
            "role": "data_plane",
            "role_data_plane": { "config_provider": "yaml" },
        });
        node.resources = Some(resources);
        Ok(node)
    }

    /// A node with a store of its own and an Admin API at `admin`.
    pub fn embedded(ports: Ports, admin: u16) -> Result<Self> {
        let mut node = Self::new(ports)?;
        node.config["deployment"] = json!({
            "role": "traditional",
            "role_traditional": { "config_provider": "embedded" },
            "admin": {
                "admin_key": [{ "name": "admin", "key": ADMIN_KEY, "role": "admin" }],
                "allow_admin": ["127.0.0.0/24"],
                "admin_listen": { "ip": "127.0.0.1", "port": admin },
            },
        });
        Ok(node)
    }

    /// The same with etcd at `port` for its store.
    pub fn etcd(mut self, port: u16) -> Self {
        let deployment = &mut self.config["deployment"];
        deployment["role_traditional"]["config_provider"] = json!("etcd");
        deployment["etcd"] = json!({ "host": [format!("http://127.0.0.1:{port}")],
            "prefix": "/apisix" });
        self
    }

    fn new(ports: Ports) -> Result<Self> {
        let at = |port: u16| json!({ "ip": "127.0.0.1", "port": port });
        let config = json!({
            "apisix": {
                "node_listen": [at(ports.http)],
                "ssl": { "enable": true, "listen": [at(ports.https)] },
                "enable_control": false,
            },
            "nginx_config": {
                "worker_processes": 1,
                "worker_rlimit_nofile": 16384,
                "error_log": "/dev/stderr",
                "error_log_level": "error",
                "http": {
                    "enable_access_log": false,
                    "keepalive_timeout": "600s",
                    "upstream": { "keepalive_requests": 1_000_000_000 },
                },
            },
            "plugin_attr": { "prometheus": { "export_addr": at(free_port()?) } },
        });
        Ok(Self { ports, config, resources: None })
    }

    /// Turns the access log on.
    pub fn access_log(mut self) -> Self {
        self.config["nginx_config"]["http"]["enable_access_log"] = json!(true);
        self
    }

    /// Writes the files and gives the command that starts the node.
    pub fn command(mut self, folder: &Path, seat: impl Fn(&Path) -> Command) -> Result<Command> {
        self.config["sluice"] = json!({ "data_dir": folder.join("data") });
        let conf = folder.join("conf");
        fs::create_dir_all(&conf)?;
        fs::create_dir_all(folder.join("logs"))?;
        // JSON is YAML.
        let file = conf.join("config.yaml");
        fs::write(&file, serde_json::to_string_pretty(&self.config)?)?;
        if let Some(resources) = self.resources {
            let text = serde_json::to_string_pretty(&resources)?;
            fs::write(conf.join("apisix.yaml"), format!("{text}\n#END\n"))?;
        }
        let mut command = seat(&program());
        command.args(["start", "-c"]).arg(file).current_dir(folder);
        Ok(command)
    }

    /// Starts the node on the proxy's core; `path` tells when it is ready, if given.
    pub async fn start(self, site: &Site, path: Option<&str>) -> Result<Peer> {
        let ports = self.ports;
        let folder = site.folder("sluice")?;
        let command = self.command(&folder, on_its_core)?;
        let process = Process::start("sluice", command, &folder.join("output.log"))?;
        let mut peer = Peer { kind: Kind::Sluice, ports, process };
        if let Some(path) = path {
            wait_for(&mut peer.process, ports.http, path).await?;
        }
        Ok(peer)
    }
}

/// One route that takes everything to the origin, and the certificate.
pub fn resources(site: &Site) -> Value {
    json!({
        "routes": [{ "id": "1", "uri": "/*", "upstream": upstream(site) }],
        "ssls": [{
            "id": "1",
            "snis": [HOST],
            "cert": site.certificate.pem,
            "key": site.certificate.key_pem,
        }],
    })
}

/// The origin as an upstream.
pub fn upstream(site: &Site) -> Value {
    json!({ "type": "roundrobin", "nodes": { (format!("127.0.0.1:{}", site.origin)): 1 } })
}

pub(super) fn plain(
    site: &Site,
    folder: &Path,
    ports: Ports,
    sessions: Sessions,
) -> Result<Command> {
    let mut node = Node::standalone(ports, resources(site))?;
    node.config["apisix"]["ssl"]["ssl_session_tickets"] = json!(sessions == Sessions::Resumed);
    node.command(folder, on_its_core)
}

fn on_its_core(program: &Path) -> Command {
    process::command(program, Seat::Proxy)
}
