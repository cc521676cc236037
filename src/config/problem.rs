//! What is wrong with a config file, in words that let its author mend it.

use std::fmt;
use std::path::{Path, PathBuf};

/// One value that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where it stands: keys joined by dots, list items as `[0]`; empty for the whole file.
    pub path: String,
    /// What stands there, shortened; `(hidden)` for secrets.
    pub value: String,
    /// What should stand there, as a noun phrase.
    pub expected: String,
}

/// One key that has no effect, or a setting that is probably not meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// Where it stands, written as in [`Problem`].
    pub path: String,
    pub reason: String,
}

/// Why a config file cannot be used; prints one line a problem, each with the file's name.
#[derive(Debug)]
pub enum LoadError {
    /// The file cannot be read at all.
    Unreadable { file: PathBuf, source: std::io::Error },
    /// Its text is not YAML; the reason names line and column.
    NotYaml { file: PathBuf, reason: String },
    /// It is YAML, but these values cannot be used. At least one problem.
    Invalid { file: PathBuf, problems: Vec<Problem>, warnings: Vec<Warning> },
}

// === impl Problem ===

impl Problem {
    pub(crate) fn new(
        path: impl Into<String>,
        value: impl Into<String>,
        expected: impl Into<String>,
    ) -> Self {
        Self { path: path.into(), value: value.into(), expected: expected.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        write!(f, "expected {}, got {}", self.expected, self.value)
    }
}

// === impl Warning ===

impl Warning {
    pub(crate) fn new(path: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { path: path.into(), reason: reason.into() }
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.reason)
    }
}

// === impl LoadError ===

impl LoadError {
    /// The config file.
    pub fn file(&self) -> &Path {
        match self {
            Self::Unreadable { file, .. }
            | Self::NotYaml { file, .. }
            | Self::Invalid { file, .. } => file,
        }
    }

    /// The values that cannot be used; empty when the file could not be read as YAML.
    pub fn problems(&self) -> &[Problem] {
        match self {
            Self::Invalid { problems, .. } => problems,
            _ => &[],
        }
    }

    /// What else its author should know.
    pub fn warnings(&self) -> &[Warning] {
        match self {
            Self::Invalid { warnings, .. } => warnings,
            _ => &[],
        }
    }
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { file, source } => write!(f, "{}: {source}", file.display()),
            Self::NotYaml { file, reason } => write!(f, "{}: {reason}", file.display()),
            Self::Invalid { file, problems, .. } => {
                for (index, problem) in problems.iter().enumerate() {
                    let end = if index + 1 < problems.len() { "\n" } else { "" };
                    write!(f, "{}: {problem}{end}", file.display())?;
                }
                Ok(())
            }
        }
    }
}

// The message of `Unreadable` already holds its source's, so that one line says it all.
impl std::error::Error for LoadError {}
