//! The pid file: who runs, told by a lock and not by a number that may be stale.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

/// How often, and how far apart, a lock is tried that another process has: whoever reads the file
/// holds the lock for a moment too, and must not keep a node from starting.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(5);

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
    #[error("{}: locked by a process that it does not name", path.display())]
    Nameless { path: PathBuf },
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
        let failed = |source| failed(path, source);
        let open =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
        let mut file = open.map_err(failed)?;
        for _ in 0..TRIES {
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(file) => {
                    let mut held = Self { file };
                    held.write(std::process::id()).map_err(failed)?;
                    return Ok(held);
                }
                Err((held, Errno::EWOULDBLOCK)) => file = held,
                Err((_, errno)) => return Err(failed(errno.into())),
            }
            #[expect(clippy::disallowed_methods, reason = "a node that starts serves nobody yet")]
            std::thread::sleep(PAUSE);
        }
        let pid = pid_in(&mut file, path)?;
        let path = path.to_owned();
        Err(PidError::Running { path, pid })
    }

    /// The process that runs; `None` when there is none, whatever the file says.
    ///
    /// # Errors
    /// The file is there and cannot be read, or is locked and names no process.
    pub fn read(path: &Path) -> Result<Option<i32>, PidError> {
        let failed = |source| failed(path, source);
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        match Flock::lock(file, FlockArg::LockSharedNonblock) {
            Ok(_) => Ok(None),
            Err((mut file, Errno::EWOULDBLOCK)) => pid_in(&mut file, path).map(Some),
            Err((_, errno)) => Err(failed(errno.into())),
        }
    }

    fn write(&mut self, pid: u32) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.rewind()?;
        self.file.write_all(format!("{pid}\n").as_bytes())
    }
}

/// The process that the file names. Never 0 or less, which for a signal means whole groups of
/// processes.
fn pid_in(file: &mut File, path: &Path) -> Result<i32, PidError> {
    let mut text = String::new();
    file.read_to_string(&mut text).map_err(|source| failed(path, source))?;
    let pid = text.trim().parse().ok().filter(|pid| *pid > 0);
    pid.ok_or_else(|| PidError::Nameless { path: path.to_owned() })
}

fn failed(path: &Path, source: io::Error) -> PidError {
    PidError::Io { path: path.to_owned(), source }
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

    #[test]
    fn names_no_process_group_to_signal() {
        let folder = tempfile::tempdir().unwrap();
        let path = PidFile::path(folder.path());
        let _held = PidFile::acquire(&path).unwrap();
        for text in ["", "0", "-1", "x", "99999999999"] {
            std::fs::write(&path, text).unwrap();
            assert!(matches!(PidFile::read(&path), Err(PidError::Nameless { .. })), "{text}");
        }
    }
}
