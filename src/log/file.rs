//! A log file: appended to, and opened again on request.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;

use super::LogError;

/// An open file and its path.
#[derive(Debug)]
pub(super) struct LogFile {
    path: PathBuf,
    file: ArcSwap<File>,
}

// === impl LogFile ===

impl LogFile {
    /// Opens `path` for appending; makes it, and the folders above it, where they are missing.
    pub(super) fn open(path: &Path) -> Result<Self, LogError> {
        let file = append(path)?;
        Ok(Self { path: path.into(), file: ArcSwap::from_pointee(file) })
    }

    pub(super) fn reopen(&self) -> Result<(), LogError> {
        self.file.store(Arc::new(append(&self.path)?));
        Ok(())
    }

    /// The file to write to now.
    pub(super) fn current(&self) -> Arc<File> {
        self.file.load_full()
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the file has been deleted under us, so that lines would vanish.
    pub(super) fn is_lost(&self) -> bool {
        self.file.load().metadata().is_ok_and(|metadata| metadata.nlink() == 0)
    }
}

fn append(path: &Path) -> Result<File, LogError> {
    let open = || -> io::Result<File> {
        // Opening these by name fails where they are sockets, as under systemd.
        match path.to_str() {
            Some("/dev/stdout") => return Ok(io::stdout().as_fd().try_clone_to_owned()?.into()),
            Some("/dev/stderr") => return Ok(io::stderr().as_fd().try_clone_to_owned()?.into()),
            _ => {}
        }
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        OpenOptions::new().create(true).append(true).open(path)
    };
    open().map_err(|source| LogError::Open { path: path.into(), source })
}
