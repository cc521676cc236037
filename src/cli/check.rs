//! `test`: whether a node could start with a config, and serve the resources of its file.

use std::io::Write as _;
use std::path::Path;

use super::say;
use crate::config::Config;
use crate::runtime;
use crate::store::{StoreError, file};

/// Checks the config file, and for the providers `yaml` and `json` every resource.
pub(super) fn check(path: &Path) -> anyhow::Result<()> {
    let loaded = match Config::load(path) {
        Ok(loaded) => loaded,
        Err(error) => {
            for warning in error.warnings() {
                warn(path, &warning.to_string())?;
            }
            return Err(refused(path, &[error.to_string()]));
        }
    };
    for warning in &loaded.warnings {
        warn(path, &warning.to_string())?;
    }
    for (key, reason) in runtime::without_effect(&loaded.config) {
        warn(path, &format!("{key}: {reason}"))?;
    }
    runtime::check_settings(&loaded.config)
        .map_err(|error| refused(path, &[format!("{}: {error:#}", path.display())]))?;
    say(&format!("{}: ok", path.display()))?;
    match loaded.config.resource_file() {
        Some(resources) => check_resources(&loaded.config, &resources),
        None => Ok(()),
    }
}

fn check_resources(config: &Config, path: &Path) -> anyhow::Result<()> {
    let listing = match file::read(path) {
        Ok(listing) => listing,
        // Its reason begins with the file, as the other lines do.
        Err(StoreError::Broken { reason, .. }) => return Err(refused(path, &[reason])),
        Err(error) => return Err(error.into()),
    };
    let count = listing.entries.len();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let _entered = runtime.enter();
    let mut compiler = runtime::dry_compiler(config, runtime.handle().clone())?;
    compiler.load(listing.revision, listing.entries);
    for key in compiler.ignored() {
        warn(path, &format!("{key}: resources of this kind are not served by this version"))?;
    }
    for (id, warning) in compiler.warnings() {
        warn(path, &format!("ssls/{id}: {warning}"))?;
    }
    let mut wrong = Vec::new();
    for (kind, id, why) in compiler.rejected() {
        for reason in &why.reasons {
            wrong.push(format!("{}: {}/{id}: {reason}", path.display(), kind.dir()));
        }
    }
    if !wrong.is_empty() {
        return Err(refused(path, &wrong));
    }
    say(&format!("{}: ok ({count} resources)", path.display()))
}

/// Tells what is wrong, each line beginning with the file as editors and scripts like it, and
/// gives back the end of it.
fn refused(path: &Path, wrong: &[String]) -> anyhow::Error {
    let mut out = std::io::stderr().lock();
    for lines in wrong {
        // Nobody may be reading; the exit code says it too.
        let _ = writeln!(out, "{lines}");
    }
    anyhow::anyhow!("{} cannot be used", path.display())
}

fn warn(path: &Path, text: &str) -> anyhow::Result<()> {
    Ok(writeln!(std::io::stderr(), "{}: warning: {text}", path.display())?)
}
