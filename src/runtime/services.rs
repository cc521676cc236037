//! The node's own services: bound first, started when their parts are there.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::{VERSION, generated, settings, stop_of, stores};
use crate::admin::{self, Admin};
use crate::cluster::tickets::TicketKeys;
use crate::cluster::{Cluster, Node};
use crate::config::{AdminRole, Config, Provider};
use crate::control::{self, Control};
use crate::metrics::{self, Metrics};
use crate::secret::Secrets;
use crate::serve::Endpoint;
use crate::snapshot::Published;
use crate::snapshot::publish::{Shared, refresh_gauges};
use crate::store::ConfigStore;
use crate::tls::tickets::Tickets;
use crate::{proxy, resource};

/// Listeners of the services that the config turns on.
pub(super) struct Services {
    admin: Option<Endpoint>,
    control: Option<Endpoint>,
    status: Option<Endpoint>,
    metrics: Option<Endpoint>,
}

/// What the services tell of.
pub(super) struct Parts {
    pub(super) config: Arc<Config>,
    pub(super) compiler: Shared,
    pub(super) published: Published,
    pub(super) proxy_settings: Arc<proxy::Settings>,
    pub(super) secrets: Secrets,
    pub(super) store: Arc<dyn ConfigStore>,
    pub(super) metrics: Arc<Metrics>,
    /// The session tickets, where there are any.
    pub(super) tickets: Option<Arc<Tickets>>,
    pub(super) ready: watch::Receiver<bool>,
    pub(super) applied: watch::Receiver<i64>,
    pub(super) stopped: watch::Receiver<bool>,
}

// === impl Services ===

impl Services {
    /// Binds what the config turns on.
    ///
    /// # Errors
    /// A port that cannot be had; a certificate of the Admin API that cannot be used.
    pub(super) async fn bind(config: &Config) -> anyhow::Result<Self> {
        let apisix = &config.apisix;
        let admin = &config.deployment.admin;
        let prometheus = &config.plugin_attr.prometheus;
        let mut services = Self { admin: None, control: None, status: None, metrics: None };
        if apisix.enable_admin {
            let mut endpoint = bind("admin", admin.admin_listen.into()).await?;
            if admin.https_admin {
                endpoint.tls = Some(admin_tls(config)?);
            }
            services.admin = Some(endpoint);
        }
        if apisix.enable_control {
            services.control = Some(bind("control", apisix.control.into()).await?);
        }
        if let Some(status) = apisix.status {
            services.status = Some(bind("status", status.into()).await?);
        }
        if prometheus.enable_export_server {
            services.metrics = Some(bind("metrics", prometheus.export_addr.into()).await?);
        }
        Ok(services)
    }

    /// Starts answering.
    ///
    /// # Errors
    /// The data folder cannot be written to.
    pub(super) fn start(self, parts: Parts) -> anyhow::Result<()> {
        let Parts {
            config,
            compiler,
            published,
            proxy_settings,
            secrets,
            store,
            metrics,
            tickets,
            ready,
            applied,
            stopped,
        } = parts;
        for (key, reason) in settings::without_effect(&config) {
            tracing::warn!(key, "config: {reason}");
        }
        let node_id = generated::node_id(&config)?;
        let me = Node {
            id: node_id.clone(),
            hostname: settings::hostname(),
            version: VERSION.to_owned(),
            revision: 0,
            reported: 0,
        };
        let is_shared = config.deployment.provider == Provider::Etcd;
        let cluster = Cluster::new(store.clone(), me, applied, is_shared);
        if let Some(tickets) = tickets {
            let keeps = is_shared || config.deployment.provider == Provider::Embedded;
            let keeping = keeps.then(|| store.clone());
            let keys = TicketKeys::new(keeping, settings::keyring(&config)?, tickets);
            tokio::spawn(keys.keep(stop_of(&stopped)));
        }
        tokio::spawn(cluster.clone().report(stop_of(&stopped)));
        if let Some(endpoint) = self.admin {
            let admin = Admin::new(
                admin_settings(&config),
                store.clone(),
                compiler.clone(),
                cluster.clone(),
            );
            tokio::spawn(admin.serve(endpoint, stop_of(&stopped)));
        }
        let control = Control::new(control::Parts {
            compiler: compiler.clone(),
            published,
            proxy_settings,
            secrets,
            store: store.clone(),
            ready,
            version: VERSION,
            node_id,
            cluster,
            provider: stores::name(config.deployment.provider),
        });
        if let Some(endpoint) = self.control {
            tokio::spawn(control.clone().serve(endpoint, stop_of(&stopped)));
        }
        if let Some(endpoint) = self.status {
            tokio::spawn(control.serve_status(endpoint, stop_of(&stopped)));
        }
        if let Some(endpoint) = self.metrics {
            let path = config.plugin_attr.prometheus.export_uri.clone();
            let is_etcd = config.deployment.provider == Provider::Etcd;
            let fresh = metrics.clone();
            let refresh = move || {
                refresh_gauges(&compiler, &fresh);
                if is_etcd {
                    fresh.set_etcd_reachable(store.is_reachable());
                }
            };
            tokio::spawn(metrics::serve(endpoint, path, refresh, metrics, stop_of(&stopped)));
        }
        Ok(())
    }
}

async fn bind(name: &'static str, addr: SocketAddr) -> anyhow::Result<Endpoint> {
    let listener = TcpListener::bind(addr)
        .await
        .with_context(|| format!("cannot listen on {addr} ({name})"))?;
    Ok(Endpoint { name, listener, tls: None })
}

fn admin_settings(config: &Config) -> admin::Settings {
    let admin = &config.deployment.admin;
    let keys = admin.admin_key.iter().map(|key| admin::Key {
        name: key.name.clone(),
        key: resource::hidden::Hidden(key.key.reveal().to_owned()),
        role: match key.role {
            AdminRole::Admin => admin::Role::Admin,
            AdminRole::Viewer => admin::Role::Viewer,
        },
    });
    admin::Settings {
        keys: keys.collect(),
        key_required: admin.admin_key_required,
        allow: admin.allow_admin.clone(),
        cors: admin.enable_admin_cors,
        history: config.sluice.history.keep,
        enabled_plugins: settings::enabled_plugins(config),
        is_pushed: config.is_pushed(),
        version: VERSION,
    }
}

/// nginx's `ssl_verify_depth` where nothing sets it.
const DEPTH: u32 = 1;

fn admin_tls(config: &Config) -> anyhow::Result<Arc<rustls::ServerConfig>> {
    let mtls = &config.deployment.admin.admin_api_mtls;
    let read = |path: &Option<std::path::PathBuf>| -> anyhow::Result<String> {
        let path = path.as_deref().context("https_admin needs a certificate and its key")?;
        std::fs::read_to_string(path).with_context(|| path.display().to_string())
    };
    let (cert, key) = (read(&mtls.admin_ssl_cert)?, read(&mtls.admin_ssl_cert_key)?);
    let ca = match &mtls.admin_ssl_ca_cert {
        Some(_) => Some(read(&mtls.admin_ssl_ca_cert)?),
        None => None,
    };
    let protocols = ["TLSv1.2".to_owned(), "TLSv1.3".to_owned()];
    let served = crate::tls::Served::new(&crate::tls::ServerSpec {
        ssl: "admin".into(),
        pairs: vec![(&cert, &key)],
        protocols: &protocols,
        clients: ca.as_deref().map(|ca| crate::tls::verify::Asked {
            ca,
            depth: DEPTH,
            exempt: Vec::new(),
        }),
        http2: false,
        stapling: None,
        terms: &crate::tls::Terms::default(),
    })
    .context("deployment.admin.admin_api_mtls")?;
    Ok(served.config)
}
