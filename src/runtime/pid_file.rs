//! The pid file: who runs, told by a lock and not by a number that may be stale.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

/// The file of a node that runs; locked for as long as this lives.
pub struct PidFile {
    file: Flock<File>,
}

/// The pid file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PidError {
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("a node already runs with this data folder: process {pid} ({})", path.display())]
    Running { path: PathBuf, pid: i32 },
}

// === impl PidFile ===

impl PidFile {
    /// Where the file of a data folder is.
    pub fn path(data_dir: &Path) -> PathBuf {
        data_dir.join("sluice.pid")
    }

    /// Writes this process down.
    ///
    /// # Errors
    /// [`PidError::Running`] when another process has it.
    pub fn acquire(path: &Path) -> Result<Self, PidError> {
        let failed = |source| PidError::Io {
            path: path.to_owned(),
            source,
        };
        let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
        match Flock::lock(open.map_err(failed)?, FlockArg::LockExclusiveNonblock) {
            Ok(file) => {
                let mut held = Self { file };
                held.write(std::process::id()).map_err(failed)?;
                Ok(held)
            }
            Err((mut file, Errno::EWOULDBLOCK)) => Err(PidError::Running {
                path: path.to_owned(),
                pid: pid_in(&mut file),
            }),
            Err((_, errno)) => Err(failed(errno.into())),
        }
    }

    /// The process that runs; `None` when there is none, whatever the file says.
    ///
    /// # Errors
    /// The file is there and cannot be read.
    pub fn read(path: &Path) -> Result<Option<i32>, PidError> {
        let failed = |source| PidError::Io {
            path: path.to_owned(),
            source,
        };
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        match Flock::lock(file, FlockArg::LockSharedNonblock) {
            Ok(_) => Ok(None),
            Err((mut file, Errno::EWOULDBLOCK)) => Ok(Some(pid_in(&mut file))),
            Err((_, errno)) => Err(failed(errno.into())),
        }
    }

    fn write(&mut self, pid: u32) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.rewind()?;
        self.file.write_all(format!("{pid}\n").as_bytes())
    }
}

/// The number in the file, 0 while it is being written.
fn pid_in(file: &mut File) -> i32 {
    let mut text = String::new();
    let _ = file.read_to_string(&mut text);
    text.trim().parse().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_who_runs_and_is_not_fooled_by_an_old_number() {
        let folder = tempfile::tempdir().unwrap();
        let path = PidFile::path(folder.path());
        assert_eq!(PidFile::read(&path).unwrap(), None);
        let held = PidFile::acquire(&path).unwrap();
        let own = i32::try_from(std::process::id()).unwrap();
        assert_eq!(PidFile::read(&path).unwrap(), Some(own));
        let again = PidFile::acquire(&path).err().unwrap().to_string();
        assert!(again.contains(&own.to_string()), "{again}");
        drop(held);
        assert_eq!(PidFile::read(&path).unwrap(), None);
        assert!(PidFile::acquire(&path).is_ok());
    }
}
