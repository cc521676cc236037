//! Regular expressions of conditions.
//!
//! Users write them for PCRE. What the `regex` crate can do, which is linear in the length of the
//! text, it does; look-around and back-references are left to `fancy-regex`, which counts its
//! steps.

use regex::RegexBuilder;

/// Steps that a text may take: what nginx calls `pcre_match_limit`. A pattern that needs more does
/// not match.
const MOST_STEPS: usize = 100_000;

/// A compiled pattern.
#[derive(Debug, Clone)]
pub enum Pattern {
    Linear(regex::Regex),
    Backtracking(Box<fancy_regex::Regex>),
}

// === impl Pattern ===

impl Pattern {
    /// Compiles a pattern.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn new(pattern: &str, ignores_case: bool) -> Result<Self, String> {
        let linear = RegexBuilder::new(pattern).case_insensitive(ignores_case).build();
        let refused = match linear {
            Ok(regex) => return Ok(Self::Linear(regex)),
            Err(refused) => refused,
        };
        let mut builder = fancy_regex::RegexBuilder::new(pattern);
        match builder.case_insensitive(ignores_case).backtrack_limit(MOST_STEPS).build() {
            Ok(regex) => Ok(Self::Backtracking(Box::new(regex))),
            Err(_) => Err(refused.to_string()),
        }
    }

    /// Whether it is found in `text`.
    pub fn is_match(&self, text: &str) -> bool {
        match self {
            Self::Linear(regex) => regex.is_match(text),
            Self::Backtracking(regex) => regex.is_match(text).unwrap_or(false),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pattern: &str, text: &str) -> bool {
        Pattern::new(pattern, false).unwrap().is_match(text)
    }

    #[test]
    fn knows_what_users_of_pcre_write() {
        assert!(check("^/(?!admin)", "/shop") && !check("^/(?!admin)", "/admin"));
        assert!(check(r"(\w)\1", "aa") && !check(r"(\w)\1", "ab"));
        assert!(Pattern::new("JSON", true).unwrap().is_match("json"));
        assert!(Pattern::new("^(?=x)JSON|^xml", true).unwrap().is_match("XML"));
        assert!(Pattern::new("(", false).is_err());
    }

    #[test]
    fn gives_up_on_a_pattern_that_takes_too_long() {
        let text = "a".repeat(10_000);
        assert!(!check("^(a+)+(?=b)$", &text));
    }
}
