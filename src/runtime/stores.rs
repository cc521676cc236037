//! Opens the store that the config names.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;

use crate::config::{self, Config, Provider};
use crate::store::ConfigStore;
use crate::store::embedded::Embedded;
use crate::store::etcd::{Etcd, Options, Tls};
use crate::store::file::File;
use crate::store::last_good::WithLastGood;
use crate::store::pushed::Pushed;

/// The store, and for etcd the copy that stands in for it while it is away.
pub(super) fn open(config: &Config) -> anyhow::Result<Arc<dyn ConfigStore>> {
    let data_dir = &config.sluice.data_dir;
    Ok(match config.deployment.provider {
        Provider::Etcd => {
            let etcd = Etcd::new(etcd_options(&config.deployment.etcd)?);
            WithLastGood::new(etcd, &data_dir.join("last_good.json"))
        }
        Provider::Embedded => Embedded::open(&data_dir.join("config.redb"))?,
        Provider::Yaml if config.is_pushed() => Pushed::open(&data_dir.join("pushed.json")),
        Provider::Yaml | Provider::Json => {
            let file = config.resource_file().unwrap_or_default();
            File::new(&file)
        }
    })
}

/// How the provider is called in config and answers.
pub(super) fn name(provider: Provider) -> &'static str {
    match provider {
        Provider::Etcd => "etcd",
        Provider::Embedded => "embedded",
        Provider::Yaml => "yaml",
        Provider::Json => "json",
    }
}

fn etcd_options(etcd: &config::Etcd) -> anyhow::Result<Options> {
    let tls = &etcd.tls;
    let certificate = match (&tls.cert, &tls.key) {
        (Some(cert), Some(key)) => Some((read(cert)?, read(key)?)),
        _ => None,
    };
    let is_secure = etcd.host.iter().any(|host| host.starts_with("https:"));
    Ok(Options {
        endpoints: etcd.host.clone(),
        prefix: etcd.prefix.clone(),
        user: etcd
            .user
            .clone()
            .zip(etcd.password.as_ref().map(|password| password.reveal().to_owned())),
        tls: if is_secure {
            Some(Tls {
                ca: tls.ca.as_deref().map(read).transpose()?,
                certificate,
                server_name: tls.sni.clone(),
                verify: tls.verify,
            })
        } else {
            None
        },
        timeout: etcd.timeout,
        watch_timeout: etcd.watch_timeout,
    })
}

fn read(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| path.display().to_string())
}
