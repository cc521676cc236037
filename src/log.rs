//! Logs: what the gateway says about itself ([`init`]) and about each exchange ([`access`]).
//!
//! The error log is structured (fields, not sentences with numbers in them), levelled and in UTC.
//! The access log is buffered by worker and written by a thread of its own. *Invariant:* nothing
//! here makes a request wait for a disk, and no line is torn by another worker's.

pub mod access;
mod file;

use std::io::{self, Write};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use self::file::LogFile;

/// Why a log could not be set up. Names the file or the word.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error("log file {}: {source}", path.display())]
    Open { path: PathBuf, source: io::Error },
    #[error(
        "error_log_level: expected one of debug, info, notice, warn, error, crit, alert, emerg, \
         got {0}"
    )]
    Level(String),
    #[error("the log is already set up")]
    Twice,
}

/// How the error log is written.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    pub level: Level,
    pub format: Format,
    pub target: Target,
}

/// From which level on events are logged: the words of nginx's `error_log`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Level {
    Debug,
    Info,
    #[default]
    Warn,
    Error,
}

/// What a line looks like.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Format {
    /// `2026-01-31T12:00:00.123456Z  WARN sluice::store: message field=value`
    #[default]
    Text,
    /// One JSON object a line: `timestamp`, `level`, `target`, `message` and the fields.
    Json,
}

/// Where the lines go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Target {
    #[default]
    Stderr,
    /// Appended to; opened again by [`ErrorLog::reopen`]. `/dev/stderr` and `/dev/stdout` are the
    /// process's own streams.
    File(PathBuf),
}

/// The error log, to be opened again after its file was moved away. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ErrorLog(Option<Arc<LogFile>>);

/// Sets up the error log for the whole process; `log` records of libraries go the same way.
pub fn init(settings: &Settings) -> Result<ErrorLog, LogError> {
    let file = match &settings.target {
        Target::Stderr => None,
        Target::File(path) => Some(Arc::new(LogFile::open(path)?)),
    };
    let log = ErrorLog(file);
    let registry = tracing_subscriber::registry().with(settings.level.filter());
    let lines = tracing_subscriber::fmt::layer().with_writer(log.clone()).with_ansi(false);
    match settings.format {
        Format::Text => registry.with(lines).try_init(),
        Format::Json => registry.with(lines.json().flatten_event(true)).try_init(),
    }
    .map_err(|_| LogError::Twice)?;
    Ok(log)
}

// === impl ErrorLog ===

impl ErrorLog {
    /// Opens the file again, so that lines go to a new one after a rotation. On an error lines go
    /// on to the old one. Nothing to do for stderr.
    pub fn reopen(&self) -> Result<(), LogError> {
        self.0.as_ref().map_or(Ok(()), |file| file.reopen())
    }
}

impl<'a> MakeWriter<'a> for ErrorLog {
    type Writer = Box<dyn Write>;

    fn make_writer(&'a self) -> Self::Writer {
        match &self.0 {
            None => Box::new(io::stderr()),
            // One write a line, appended: lines of several threads do not mix.
            Some(file) => Box::new(file.current()),
        }
    }
}

// === impl Level ===

impl Level {
    /// Events of the gateway from this level on. At `debug`, libraries are held at `info`: their
    /// frames and handshakes would bury what was looked for.
    fn filter(self) -> EnvFilter {
        EnvFilter::new(match self {
            Self::Debug => "info,sluice=debug",
            Self::Info => "warn,sluice=info",
            Self::Warn => "warn",
            Self::Error => "error",
        })
    }
}

impl FromStr for Level {
    type Err = LogError;

    /// Reads nginx's words. There is no level above error here: `crit`, `alert` and `emerg` are
    /// that; `notice` is info.
    fn from_str(word: &str) -> Result<Self, LogError> {
        Ok(match word {
            "debug" => Self::Debug,
            "info" | "notice" => Self::Info,
            "warn" => Self::Warn,
            "error" | "crit" | "alert" | "emerg" => Self::Error,
            _ => return Err(LogError::Level(word.into())),
        })
    }
}

#[cfg(test)]
mod tests;
