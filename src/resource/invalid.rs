//! What is wrong with something that a user wrote, and how it is said.
//!
//! One sentence serves the Admin API, `sluice test`, `/v1/rejected` and the log. Where APISIX says
//! as much in its own words these are used, since clients and scripts look for them; where it says
//! less, its words come first and what was expected follows.
//!
//! Source: the `jsonschema` library of APISIX, and its `admin/*.lua`.

use std::fmt;

/// One thing a user wrote that cannot be used, named so that the user can mend it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid {
    /// JSON pointer to the offending value (RFC 6901), empty for the whole document.
    pub path: String,
    /// What stands there, shortened; never a secret.
    pub value: String,
    /// What should stand there, as a noun phrase: "an integer of at least 1".
    pub expected: String,
    /// In whose words.
    pub said: Said,
}

/// In whose words a problem is told.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Said {
    /// In ours: the property, what was expected, what stands there.
    #[default]
    Own,
    /// A rule that what stands at the path breaks: "expected 0 to be at least 1".
    Rule(String),
    /// Nothing stands at the path, and something has to.
    Missing,
    /// Something stands at the path where nothing may; the names of all such properties.
    Surplus(String),
    /// A sentence that needs no path.
    Whole(String),
}

/// What a plugin's config stands below.
const PLUGINS: &str = "/plugins/";

// === impl Invalid ===

impl Invalid {
    /// Names a problem at `path`; `value` is what stands there, `expected` what should.
    pub fn new(
        path: impl Into<String>,
        value: impl fmt::Display,
        expected: impl Into<String>,
    ) -> Self {
        let (path, value, expected) = (path.into(), value.to_string(), expected.into());
        Self { path, value, expected, said: Said::Own }
    }

    /// The same problem in other words.
    #[must_use]
    pub fn saying(self, said: Said) -> Self {
        Self { said, ..self }
    }

    /// The same problem seen from a document in which this one stands at `prefix`.
    #[must_use]
    pub fn under(mut self, prefix: &str) -> Self {
        self.path.insert_str(0, prefix);
        self
    }

    /// Whether it is told in a sentence that needs no introduction.
    pub fn is_whole(&self) -> bool {
        matches!(self.said, Said::Whole(_)) || self.path.starts_with(PLUGINS)
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut path = self.path.as_str();
        if let Said::Whole(text) = &self.said {
            return f.write_str(text);
        }
        if let Some(rest) = path.strip_prefix(PLUGINS) {
            let (plugin, _) = rest.split_once('/').unwrap_or((rest, ""));
            write!(f, "failed to check the configuration of plugin {plugin} err: ")?;
            path = &rest[plugin.len()..];
        }
        let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
        match &self.said {
            Said::Rule(rule) => write!(f, "{}{rule}", Steps(path)),
            Said::Missing => {
                let name = path.rsplit('/').next().unwrap_or_default();
                write!(f, "{}property \"{name}\" is required", Steps(parent))
            }
            Said::Surplus(names) => {
                write!(f, "{}additional properties forbidden, found {names}", Steps(parent))
            }
            Said::Own | Said::Whole(_) => {
                let Self { value, expected, .. } = self;
                match path.trim_start_matches('/') {
                    "" => write!(f, "expected {expected}, got {value}"),
                    path => write!(f, "property \"{path}\": expected {expected}, got {value}"),
                }
            }
        }
    }
}

impl std::error::Error for Invalid {}

/// A pointer as a way down the schema, each step a few words.
struct Steps<'p>(&'p str);

impl fmt::Display for Steps<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parent = "";
        for step in self.0.split('/').skip(1) {
            let name = step.replace("~1", "/").replace("~0", "~");
            match step.parse::<usize>() {
                _ if parent == "labels" => {
                    write!(f, "failed to validate {name} (matching \".*\"): ")?
                }
                // Lua counts from one.
                Ok(index) => write!(f, "failed to validate item {}: ", index + 1)?,
                Err(_) => write!(f, "property \"{name}\" validation failed: ")?,
            }
            parent = step;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &str, said: Said, expected: &str) {
        let invalid = Invalid::new(path, "5", "a string").saying(said);
        assert_eq!(invalid.to_string(), expected);
    }

    #[test]
    fn says_it_as_apisix_does_where_that_says_as_much() {
        let rule = || Said::Rule("expected 0 to be at least 1".to_owned());
        check("", rule(), "expected 0 to be at least 1");
        check("/a", rule(), "property \"a\" validation failed: expected 0 to be at least 1");
        check(
            "/a~1b/0",
            rule(),
            "property \"a/b\" validation failed: failed to validate item 1: expected 0 to be at least 1",
        );
        check(
            "/labels/env",
            rule(),
            "property \"labels\" validation failed: failed to validate env (matching \".*\"): expected 0 to be at least 1",
        );
        check(
            "/a/b",
            Said::Missing,
            "property \"a\" validation failed: property \"b\" is required",
        );
        check(
            "/b",
            Said::Surplus("b, c".to_owned()),
            "additional properties forbidden, found b, c",
        );
        check("/a/b", Said::Own, "property \"a/b\": expected a string, got 5");
        check("", Said::Own, "expected a string, got 5");
        check("/x", Said::Whole("unknown plugin [x]".to_owned()), "unknown plugin [x]");
    }

    #[test]
    fn names_the_plugin_whose_config_is_wrong() {
        let begins = "failed to check the configuration of plugin limit-count err:";
        let path = "/plugins/limit-count/count";
        check(path, Said::Missing, &format!("{begins} property \"count\" is required"));
        check(path, Said::Own, &format!("{begins} property \"count\": expected a string, got 5"));
        check("/plugins/limit-count", Said::Own, &format!("{begins} expected a string, got 5"));
        assert!(Invalid::new(path, "", "").is_whole());
        assert!(!Invalid::new("/plugins", "", "").is_whole());
    }
}
