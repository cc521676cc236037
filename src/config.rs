//! `conf/config.yaml` as one typed, checked value.
//!
//! A file takes four steps: YAML to JSON, `${{VAR}}` filled in ([`env`]), every key read by the
//! table of known keys ([`table`], [`kind`], [`read`]: defaults filled, wrong types named, unknown
//! keys warned about), and what follows from several keys together ([`settle`], [`check`]). All
//! problems of a file are found in one go. The table also writes `conf/config.yaml.example`, and a
//! test decodes its defaults into the structs below, so that neither can drift from the code.
//!
//! Keys, defaults and meaning are those of Apache APISIX 3.18 (`conf/config.yaml.example`,
//! `apisix/cli/config.lua`); Sluice's own stand under `sluice`. Nothing here is read per request:
//! the rooms take what they need when they start.

mod apisix;
mod check;
mod decode;
mod deployment;
mod env;
mod example;
mod hidden;
mod kind;
mod nginx;
mod plugin_attr;
mod problem;
mod read;
mod settle;
mod table;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

pub use self::apisix::{
    Address, Apisix, DataEncryption, HttpRouter, Listen, Lru, LruSecret, ProxyMode, Router, Ssl,
    TlsVersion,
};
pub use self::deployment::{
    Admin, AdminApiMtls, AdminKey, AdminRole, Deployment, Etcd, EtcdTls, Provider, Role,
    RoleProvider,
};
pub use self::hidden::Hidden;
pub use self::nginx::{Escape, Http, LogLevel, LogTarget, NginxConfig, UpstreamKeepalive};
pub use self::plugin_attr::{Attrs, ExtraLabel, Metric, PluginAttr, Prometheus};
pub use self::problem::{LoadError, Problem, Warning};

/// The whole of `conf/config.yaml`, every key present: what the file leaves out has its default.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The folder that relative paths start from: the parent of `conf/`.
    #[serde(skip)]
    pub home: PathBuf,
    pub apisix: Apisix,
    pub nginx_config: NginxConfig,
    /// Names of the HTTP plugins that may be used, in no particular order.
    pub plugins: Vec<String>,
    /// Names of the stream plugins that may be used.
    pub stream_plugins: Vec<String>,
    pub plugin_attr: PluginAttr,
    pub deployment: Deployment,
    pub graphql: Graphql,
    pub sluice: Sluice,
}

/// `graphql`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Graphql {
    /// How large a request's body may be, in bytes, to be looked into.
    pub max_size: u64,
}

/// Sluice's own keys.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sluice {
    /// Absolute path of the folder for the embedded store, the generated admin key, the pid file
    /// and the last good copy of the config.
    pub data_dir: PathBuf,
    pub log: Log,
    pub history: History,
    pub lua: Lua,
    /// Whether the kernel may write the process's memory, secrets with it, to a file when it dies.
    pub core_dumps: bool,
    pub http3: Http3,
    /// Most series a node keeps over all its metrics; what would go beyond is counted and dropped.
    pub max_series: usize,
}

/// How Sluice writes its own log.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    pub format: LogFormat,
}

/// Which versions of resources the store keeps.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct History {
    /// How many of each resource; none turns it off.
    pub keep: usize,
}

/// What a call of a Lua function may take of a worker.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lua {
    #[serde(deserialize_with = "decode::millis")]
    pub timeout: Duration,
    /// Bytes that the Lua state of a worker may hold.
    pub memory: u64,
}

/// How HTTP/3 is offered.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Http3 {
    /// Whether responses over TLS tell of it.
    pub alt_svc: bool,
}

/// The form of a line of the error log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    Text,
    Json,
}

/// A config that can be used, and what its author should know about it.
#[derive(Debug, Clone)]
pub struct Loaded {
    pub config: Config,
    /// In the order of the file's keys; never fatal.
    pub warnings: Vec<Warning>,
}

// === impl Config ===

impl Config {
    /// Reads the file at `path`, with the process's environment.
    ///
    /// Relative paths in it start from its home: the parent of the file's folder when that folder
    /// is called `conf`, else the file's own folder. Certificate and key files that it names must
    /// exist. An empty file is all defaults.
    pub fn load(path: &Path) -> Result<Loaded, LoadError> {
        let unreadable = |source| LoadError::Unreadable { file: path.to_owned(), source };
        let text = std::fs::read_to_string(path).map_err(unreadable)?;
        let home = home_of(&std::path::absolute(path).map_err(unreadable)?);
        let loaded = parse(path, &text, &home, &|name| std::env::var(name).ok())?;
        let problems = check::files(&loaded.config);
        if problems.is_empty() {
            Ok(loaded)
        } else {
            Err(LoadError::Invalid { file: path.to_owned(), problems, warnings: loaded.warnings })
        }
    }

    /// The same for `text`, touching neither files nor the process's environment.
    ///
    /// `home` should be absolute; `env` looks an environment variable up.
    pub fn from_yaml(
        text: &str,
        home: &Path,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Loaded, LoadError> {
        parse(Path::new("config.yaml"), text, home, env)
    }

    /// The annotated list of every key with its default: the text of `conf/config.yaml.example`.
    pub fn example() -> String {
        example::text()
    }

    /// The file with the resources when they stand in one (provider `yaml` or `json`), else `None`.
    pub fn resource_file(&self) -> Option<PathBuf> {
        let name = match self.deployment.provider {
            _ if self.is_pushed() => return None,
            Provider::Yaml => "conf/apisix.yaml",
            Provider::Json => "conf/apisix.json",
            Provider::Etcd | Provider::Embedded => return None,
        };
        Some(self.home.join(name))
    }

    /// Whether the resources are pushed as a whole to `/apisix/admin/configs`: with the provider
    /// `yaml` in the role that has an Admin API to push to, as in APISIX.
    pub fn is_pushed(&self) -> bool {
        self.deployment.provider == Provider::Yaml
            && self.deployment.role == Role::Traditional
            && self.apisix.enable_admin
    }
}

/// The home that belongs to the config file at the absolute path `file`.
fn home_of(file: &Path) -> PathBuf {
    let folder = file.parent().unwrap_or(Path::new("/"));
    match folder.parent() {
        Some(home) if folder.ends_with("conf") => home.to_owned(),
        _ => folder.to_owned(),
    }
}

fn parse(
    file: &Path,
    text: &str,
    home: &Path,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Loaded, LoadError> {
    let mut written =
        yaml(text).map_err(|reason| LoadError::NotYaml { file: file.to_owned(), reason })?;
    let variables = env::fill(&mut written, env);
    let mut reader = read::Reader::new(variables);
    env::overrides(&mut written, env, &mut reader.warnings);

    let mut values = reader.document(&written);
    settle::listeners(&mut values, &mut reader.warnings);
    let config = match serde_json::from_value::<Config>(values) {
        Ok(mut config) => {
            settle::config(&mut config, home);
            check::together(&config, env, &mut reader.problems, &mut reader.warnings);
            Some(config)
        }
        // The table and the structs disagree, which a test rules out for the defaults.
        Err(error) => {
            let expected = format!("a config that this version can hold ({error})");
            reader.problems.push(Problem::new("", "another", expected));
            None
        }
    };
    match config {
        Some(config) if reader.problems.is_empty() => {
            Ok(Loaded { config, warnings: reader.warnings })
        }
        _ => Err(LoadError::Invalid {
            file: file.to_owned(),
            problems: reader.problems,
            warnings: reader.warnings,
        }),
    }
}

/// Parses YAML as APISIX's reader does: `yes`, `no`, `on` and `off` are booleans.
fn yaml(text: &str) -> Result<Value, String> {
    let options = serde_saphyr::options! {
        // A snippet of the text could show an admin key.
        with_snippet: false,
        // A key such as 007 must not lose its zeros before the table says that it is a text.
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
    };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| error.to_string())
}
