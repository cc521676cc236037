//! The grammar of references: `$secret://vault/{id}/{path}/{field}[?version={n}]` and
//! `$env://{name}[/{key}]`.

use std::fmt;
use std::sync::Arc;

const SECRET: &str = "$secret://";
const ENV: &str = "$env://";

/// A parsed reference.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reference {
    /// An environment variable, or a field of the JSON object that it holds.
    Env { name: Arc<str>, key: Option<Arc<str>> },
    /// A field of what a manager holds at a path.
    Managed {
        /// `vault/quickstart`.
        manager: Arc<str>,
        /// Below the manager's prefix: `ssl`. Of `aws` all that follows the id, since names there
        /// may have slashes: only AWS knows where they end.
        path: Arc<str>,
        /// `None` where the manager's whole text is meant (`aws`, `gcp`).
        field: Option<Arc<str>>,
        /// The version that is meant, whatever comes after it; `None` for the newest.
        version: Option<u32>,
    },
}

/// What a reference lacks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    #[error("no secret manager; expected $secret://manager/id/path/field")]
    NoManager,
    #[error("no id of the secret manager; expected $secret://manager/id/path/field")]
    NoId,
    #[error("no path; expected $secret://manager/id/path/field")]
    NoPath,
    #[error("no field; expected $secret://manager/id/path/field")]
    NoField,
    #[error("?{0}; expected ?version= and a number from 1 on, or no `?` in the name of a field")]
    BadQuery(String),
    #[error("?version= for {0}; expected it for vault only")]
    NoVersions(String),
    #[error("no name; expected $env://name or $env://name/key")]
    NoName,
}

// === impl Reference ===

impl Reference {
    /// Parses `text`; `None` when it is not a reference at all but plain text.
    ///
    /// # Errors
    /// What is missing.
    pub fn parse(text: &str) -> Option<Result<Self, ReferenceError>> {
        if !text.starts_with('$') {
            return None;
        }
        // In any case: what looks like a reference must never pass for a value.
        let begins = |prefix: &str| {
            text.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
        };
        if begins(SECRET) {
            return Some(managed(&text[SECRET.len()..]));
        }
        begins(ENV).then(|| env(&text[ENV.len()..]))
    }
}

fn managed(rest: &str) -> Result<Reference, ReferenceError> {
    let (manager, rest) = rest.split_once('/').ok_or(ReferenceError::NoManager)?;
    let (id, rest) = rest.split_once('/').ok_or(ReferenceError::NoId)?;
    // Those that keep text rather than fields need none to be named.
    let keeps_text = matches!(manager, "aws" | "gcp");
    let (rest, version) = match rest.rfind('/') {
        // A `?` before the last part is a character of the path.
        Some(slash) => match rest[slash..].split_once('?') {
            Some((field, query)) if !keeps_text => {
                (&rest[..slash + field.len()], Some(version(query)?))
            }
            Some(_) => return Err(ReferenceError::NoVersions(manager.to_owned())),
            None => (rest, None),
        },
        None => (rest, None),
    };
    let (path, field) = match manager {
        "aws" if rest.starts_with('/') => ("", None),
        "aws" => match rest.strip_suffix('/') {
            Some(path) => (path, Some("")),
            None => (rest, None),
        },
        "gcp" => match rest.split_once('/') {
            Some((path, field)) => (path, Some(field)),
            None => (rest, None),
        },
        _ => {
            let (path, field) = rest.rsplit_once('/').ok_or(ReferenceError::NoPath)?;
            (path, Some(field))
        }
    };
    match () {
        () if manager.is_empty() => Err(ReferenceError::NoManager),
        () if id.is_empty() => Err(ReferenceError::NoId),
        () if path.is_empty() => Err(ReferenceError::NoPath),
        () if field == Some("") => Err(ReferenceError::NoField),
        () => Ok(Reference::Managed {
            manager: format!("{manager}/{id}").into(),
            path: path.into(),
            field: field.map(Arc::from),
            version,
        }),
    }
}

/// The number of `version=3`.
fn version(query: &str) -> Result<u32, ReferenceError> {
    let number = query.strip_prefix("version=").filter(|text| !text.starts_with('+'));
    match number.map(str::parse) {
        Some(Ok(number)) if number > 0 => Ok(number),
        _ => Err(ReferenceError::BadQuery(query.to_owned())),
    }
}

fn env(rest: &str) -> Result<Reference, ReferenceError> {
    let (name, key) = match rest.split_once('/') {
        Some((name, key)) => (name, Some(Arc::from(key))),
        None => (rest, None),
    };
    if name.is_empty() {
        return Err(ReferenceError::NoName);
    }
    Ok(Reference::Env { name: name.into(), key })
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env { name, key: None } => write!(f, "{ENV}{name}"),
            Self::Env { name, key: Some(key) } => write!(f, "{ENV}{name}/{key}"),
            Self::Managed { manager, path, field, version } => {
                write!(f, "{SECRET}{manager}/{path}")?;
                if let Some(field) = field {
                    write!(f, "/{field}")?;
                }
                version.map_or(Ok(()), |version| write!(f, "?version={version}"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Option<Result<String, ReferenceError>> {
        Reference::parse(text).map(|parsed| parsed.map(|reference| reference.to_string()))
    }

    #[test]
    fn reads_references_and_leaves_plain_text_alone() {
        for text in [
            "$secret://vault/quickstart-secret-id/ssl/certificate",
            "$secret://vault/1/a/b/c/key",
            "$secret://vault/1/a?b/key",
            "$secret://vault/1/a/key?version=3",
            "$secret://aws/1/name",
            "$secret://aws/1/a/name/field",
            "$secret://gcp/1/name",
            "$secret://gcp/1/name/field",
            "$env://NAME",
            "$env://NAME/key",
        ] {
            assert_eq!(check(text), Some(Ok(text.to_owned())));
        }
        assert_eq!(check("$ENV://NAME"), Some(Ok("$env://NAME".to_owned())));
        assert_eq!(check("$SECRET://vault/1/a/b"), Some(Ok("$secret://vault/1/a/b".to_owned())));
        for text in ["", "plain", "$", "$remote_addr", "secret://vault/1/a/b"] {
            assert_eq!(check(text), None, "{text}");
        }
    }

    #[test]
    fn names_what_is_wrong_with_a_version() {
        for query in ["", "version", "version=", "version=0", "version=-1", "version=+1"] {
            let wrong = ReferenceError::BadQuery(query.to_owned());
            assert_eq!(check(&format!("$secret://vault/1/a/b?{query}")), Some(Err(wrong)));
        }
        for query in ["version=1.5", "version=99999999999", "version=1&x=2", "vresion=1", "?"] {
            let wrong = ReferenceError::BadQuery(query.to_owned());
            assert_eq!(check(&format!("$secret://vault/1/a/b?{query}")), Some(Err(wrong)));
        }
        let wrong = ReferenceError::NoVersions("aws".to_owned());
        assert_eq!(check("$secret://aws/1/a/b?version=1"), Some(Err(wrong)));
        assert_eq!(check("$secret://vault/1/a/?version=1"), Some(Err(ReferenceError::NoField)));
    }

    #[test]
    fn leaves_the_end_of_names_to_aws_and_begins_fields_of_gcp_at_once() {
        let parts = |text: &str| match Reference::parse(text) {
            Some(Ok(Reference::Managed { path, field, .. })) => {
                (path.to_string(), field.map(|field| field.to_string()))
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(parts("$secret://aws/1/a/b/c"), ("a/b/c".to_owned(), None));
        assert_eq!(parts("$secret://gcp/1/a/b/c"), ("a".to_owned(), Some("b/c".to_owned())));
        assert_eq!(parts("$secret://vault/1/a/b/c"), ("a/b".to_owned(), Some("c".to_owned())));
    }

    #[test]
    fn names_what_is_missing() {
        for (text, missing) in [
            ("$secret://", ReferenceError::NoManager),
            ("$secret:///1/a/b", ReferenceError::NoManager),
            ("$secret://vault", ReferenceError::NoManager),
            ("$secret://vault/1", ReferenceError::NoId),
            ("$secret://vault//a/b", ReferenceError::NoId),
            ("$secret://vault/1/a", ReferenceError::NoPath),
            ("$secret://vault/1//b", ReferenceError::NoPath),
            ("$secret://vault/1/a/", ReferenceError::NoField),
            ("$secret://aws/1/", ReferenceError::NoPath),
            ("$secret://aws/1//name", ReferenceError::NoPath),
            ("$secret://aws/1/name/", ReferenceError::NoField),
            ("$secret://gcp/1//name", ReferenceError::NoPath),
            ("$secret://gcp/1/name/", ReferenceError::NoField),
            ("$env://", ReferenceError::NoName),
        ] {
            assert_eq!(check(text), Some(Err(missing)), "{text}");
        }
    }
}
