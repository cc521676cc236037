//! What a node makes up once and keeps in its data folder: admin keys, its own id.

use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::config::{Config, Hidden};

/// Fills in the admin keys that the config leaves empty; returns where they are kept.
pub(super) fn admin_keys(config: &mut Config) -> anyhow::Result<Vec<PathBuf>> {
    let data_dir = config.sluice.data_dir.clone();
    let needed = config.apisix.enable_admin && config.deployment.admin.admin_key_required;
    let mut places = Vec::new();
    let empty = config.deployment.admin.admin_key.iter_mut().filter(|key| key.key.is_empty());
    for (number, key) in empty.enumerate().filter(|_| needed) {
        let name = match number {
            0 => "admin.key".to_owned(),
            more => format!("admin-{}.key", more + 1),
        };
        let path = data_dir.join(name);
        let kept = keep(&path, || random_hex(32))
            .with_context(|| format!("the admin key {}", path.display()))?;
        key.key = Hidden::from(kept);
        places.push(path);
    }
    Ok(places)
}

/// The id of this node: the configured one, or one that is made up once.
pub(super) fn node_id(config: &Config) -> anyhow::Result<String> {
    match &config.apisix.id {
        Some(id) => Ok(id.clone()),
        None => {
            let path = config.sluice.data_dir.join("node.id");
            keep(&path, || random_hex(32)).with_context(|| path.display().to_string())
        }
    }
}

/// What the file at `path` holds; when there is none, it is made to hold what `make` gives.
fn keep(path: &Path, make: impl FnOnce() -> String) -> io::Result<String> {
    let read = || -> io::Result<String> { Ok(std::fs::read_to_string(path)?.trim().to_owned()) };
    match read() {
        Ok(kept) if !kept.is_empty() => return Ok(kept),
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let made = make();
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(format!("{made}\n").as_bytes())?;
    file.sync_all()?;
    Ok(made)
}

/// So many hexadecimal digits from the system's random source.
fn random_hex(digits: usize) -> String {
    use std::fmt::Write as _;
    let mut bytes = vec![0; digits / 2];
    // The source is the kernel's; when it fails nothing on this host can be trusted.
    #[expect(clippy::expect_used, reason = "start-up")]
    aws_lc_rs::rand::fill(&mut bytes).expect("the system's random source");
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn makes_something_up_once_and_keeps_it_to_itself() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.key");
        let made = keep(&path, || random_hex(32)).unwrap();
        assert_eq!(made.len(), 32);
        assert_eq!(keep(&path, || "other".to_owned()).unwrap(), made);
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
