//! The keys under `deployment`: role, where the resources come from, the Admin API, etcd.

use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use serde::Deserialize;

use super::decode::millis;
use super::{Address, Hidden};

/// `deployment`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deployment {
    pub role: Role,
    pub role_traditional: RoleProvider,
    pub role_control_plane: RoleProvider,
    pub role_data_plane: RoleProvider,
    /// The provider that the role's own key names.
    #[serde(skip)]
    pub provider: Provider,
    pub admin: Admin,
    pub etcd: Etcd,
}

/// What a node does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Proxies and serves the Admin API as `apisix.enable_admin` says.
    Traditional,
    /// Serves the Admin API.
    ControlPlane,
    /// Proxies only.
    DataPlane,
}

/// Where the resources come from, for one role.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoleProvider {
    pub config_provider: Provider,
}

/// Where the resources come from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Provider {
    #[default]
    Etcd,
    /// A store in `sluice.data_dir`, for one node.
    Embedded,
    /// `conf/apisix.yaml`.
    Yaml,
    /// `conf/apisix.json`.
    Json,
}

/// `deployment.admin`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Admin {
    /// Whether a key must be shown at all.
    pub admin_key_required: bool,
    /// At least one where keys are required and the Admin API is served.
    pub admin_key: Vec<AdminKey>,
    pub enable_admin_cors: bool,
    /// Peers that may use the Admin API; empty means all.
    pub allow_admin: Vec<IpNet>,
    pub admin_listen: Address,
    /// Whether the Admin API speaks TLS, with the certificate of `admin_api_mtls`.
    pub https_admin: bool,
    pub admin_api_mtls: AdminApiMtls,
    /// Always `v3`.
    pub admin_api_version: String,
}

/// `deployment.admin.admin_key[]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdminKey {
    pub name: String,
    /// Empty only for the role `admin`, where it means that one is to be generated.
    pub key: Hidden,
    pub role: AdminRole,
}

/// What the holder of a key may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AdminRole {
    Admin,
    /// Reads only.
    Viewer,
}

/// `deployment.admin.admin_api_mtls`; certificate and key are set when `https_admin` is.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdminApiMtls {
    pub admin_ssl_cert: Option<PathBuf>,
    pub admin_ssl_cert_key: Option<PathBuf>,
    /// When set, clients must show a certificate signed by it.
    pub admin_ssl_ca_cert: Option<PathBuf>,
}

/// `deployment.etcd`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Etcd {
    /// URLs `http://host:port`, or all `https`; no slash at the end; at least one where etcd is
    /// the provider.
    pub host: Vec<String>,
    pub prefix: String,
    /// Limit of a call, and of connecting.
    #[serde(deserialize_with = "millis")]
    pub timeout: Duration,
    /// How long a watch may be silent before its connection is doubted.
    #[serde(deserialize_with = "millis")]
    pub watch_timeout: Duration,
    /// How often the first connection is tried again before the node goes on without it.
    pub startup_retry: u32,
    pub user: Option<String>,
    pub password: Option<Hidden>,
    pub tls: EtcdTls,
}

/// `deployment.etcd.tls`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EtcdTls {
    /// The client's certificate; set together with `key`.
    pub cert: Option<PathBuf>,
    pub key: Option<PathBuf>,
    /// What the members' certificates are checked against; unless written,
    /// `apisix.ssl.ssl_trusted_certificate`. `None` means the system's.
    pub ca: Option<PathBuf>,
    pub verify: bool,
    /// `None` means the host of the URL.
    pub sni: Option<String>,
}

// === impl Provider ===

impl Provider {
    /// Whether the resources come from a file.
    pub const fn is_file(self) -> bool {
        matches!(self, Self::Yaml | Self::Json)
    }
}
