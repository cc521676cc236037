//! The calendar of a process in the hands of a test: libfaketime, preloaded, reads from a file how
//! far it is off. The monotonic clock of the process, and everybody else's calendar, go on.

use std::path::PathBuf;

use tempfile::TempDir;

/// A calendar for one process or several.
pub struct Calendar {
    dir: TempDir,
}

// === impl Calendar ===

impl Calendar {
    /// One that is right.
    pub fn new() -> Self {
        let calendar = Self { dir: tempfile::tempdir().unwrap() };
        calendar.set("+0");
        calendar
    }

    /// Sets it so far from the true date: `+1d`, `-1d`, `+1y`; `+0` is right.
    pub fn set(&self, offset: &str) {
        let file = self.file();
        let new = file.with_extension("new");
        std::fs::write(&new, offset).unwrap();
        std::fs::rename(new, file).unwrap();
    }

    /// The environment that has a process go by it.
    pub fn env(&self) -> [(&'static str, String); 5] {
        [
            ("LD_PRELOAD", library().display().to_string()),
            ("FAKETIME_TIMESTAMP_FILE", self.file().display().to_string()),
            ("FAKETIME_NO_CACHE", "1".to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
            // Dates of files are left as they are.
            ("NO_FAKE_STAT", "1".to_owned()),
        ]
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("offset")
    }
}

/// libfaketime for programs of several threads, which distributions keep below `/usr/lib`.
fn library() -> PathBuf {
    let folders = std::fs::read_dir("/usr/lib").unwrap().map(|entry| entry.unwrap().path());
    let mut places = folders.map(|folder| folder.join("faketime/libfaketimeMT.so.1"));
    let found = places.find(|place| place.exists());
    found.expect("libfaketimeMT.so.1 is not there; `make test` installs it (apt: faketime)")
}
