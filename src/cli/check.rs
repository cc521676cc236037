//! `test`: whether a node could start with a config, and serve the resources of its file.

use std::io::Write as _;
use std::path::Path;

use anyhow::bail;

use super::say;
use crate::config::Config;
use crate::runtime;
use crate::store::file;

/// Checks the config file, and for the providers `yaml` and `json` every resource.
pub(super) fn check(path: &Path) -> anyhow::Result<()> {
    let loaded = match Config::load(path) {
        Ok(loaded) => loaded,
        Err(error) => {
            for warning in error.warnings() {
                warn(path, &warning.to_string())?;
            }
            bail!("{error}");
        }
    };
    for warning in &loaded.warnings {
        warn(path, &warning.to_string())?;
    }
    say(&format!("{}: ok", path.display()))?;
    match loaded.config.resource_file() {
        Some(resources) => check_resources(&loaded.config, &resources),
        None => Ok(()),
    }
}

fn check_resources(config: &Config, path: &Path) -> anyhow::Result<()> {
    let listing = file::read(path)?;
    let count = listing.entries.len();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let _entered = runtime.enter();
    let mut compiler = runtime::dry_compiler(config, runtime.handle().clone())?;
    compiler.load(listing.revision, listing.entries);
    for key in compiler.ignored() {
        warn(path, &format!("{key}: resources of this kind are not served by this version"))?;
    }
    let mut wrong = Vec::new();
    for (kind, id, why) in compiler.rejected() {
        for reason in &why.reasons {
            wrong.push(format!("{}: {}/{id}: {reason}", path.display(), kind.dir()));
        }
    }
    if !wrong.is_empty() {
        bail!("{}", wrong.join("\n"));
    }
    say(&format!("{}: ok ({count} resources)", path.display()))
}

fn warn(path: &Path, text: &str) -> anyhow::Result<()> {
    Ok(writeln!(std::io::stderr(), "{}: warning: {text}", path.display())?)
}
