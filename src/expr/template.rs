//! Templates: text with `$name` and `${name}` in it, split in parts once. `${name ?? text}` is
//! `text` where the variable has no value.
//!
//! There are two dialects. In templates of plugins `\$` is a plain dollar sign and names may have
//! dots in them (`$post_arg.user.name`), as in APISIX's `resolve_var`; in the access log's format
//! neither is so, as in nginx.

use std::borrow::Cow;
use std::fmt::Write as _;

use super::{Variable, Variables};

/// A template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    parts: Box<[Part]>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(Box<str>),
    Variable(Variable),
    /// A variable, and what stands in for it.
    Defaulted(Variable, Box<str>),
}

/// Who reads a template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dialect {
    Plugin,
    Log,
}

/// How values are written into an access log line (`access_log_format_escape`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Escape {
    /// `"`, `\` and everything outside printable ASCII as `\xXX`.
    #[default]
    Default,
    /// As in a JSON string.
    Json,
    None,
}

// === impl Template ===

impl Template {
    /// Splits `text` as plugins have it. Everything is a template; a lone `$` stands for itself.
    pub fn parse(text: &str) -> Self {
        Self::split(text, Dialect::Plugin)
    }

    /// Splits the format of the access log.
    pub fn of_log(format: &str) -> Self {
        Self::split(format, Dialect::Log)
    }

    fn split(text: &str, dialect: Dialect) -> Self {
        let mut parts = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(at) = rest.find('$') {
            if dialect == Dialect::Plugin && rest[..at].ends_with('\\') {
                plain.push_str(&rest[..at - 1]);
                plain.push('$');
                rest = &rest[at + 1..];
                continue;
            }
            plain.push_str(&rest[..at]);
            rest = &rest[at + 1..];
            let Some((name, after)) = name(rest, dialect) else {
                plain.push('$');
                continue;
            };
            if !plain.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut plain).into()));
            }
            parts.push(Part::of(name, dialect));
            rest = after;
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            parts.push(Part::Text(plain.into()));
        }
        Self { parts: parts.into() }
    }

    /// The text, when there is no variable in it.
    pub fn as_literal(&self) -> Option<&str> {
        match &*self.parts {
            [] => Some(""),
            [Part::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// Whether any variable is one that `is` says.
    pub fn uses(&self, is: impl Fn(&Variable) -> bool) -> bool {
        self.parts.iter().any(|part| match part {
            Part::Text(_) => false,
            Part::Variable(name) | Part::Defaulted(name, _) => is(name),
        })
    }

    /// Appends the text with values in place, absent ones empty. Returns how many had a value or
    /// a default.
    pub fn render(&self, variables: &dyn Variables, out: &mut String) -> usize {
        self.render_escaped(variables, out, |value| value)
    }

    /// As [`Template::render`], each value passed through `escape` first.
    pub fn render_escaped<'v>(
        &self,
        variables: &'v dyn Variables,
        out: &mut String,
        escape: impl Fn(Cow<'v, str>) -> Cow<'v, str>,
    ) -> usize {
        let mut resolved = 0;
        for part in &self.parts {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Variable(name) => {
                    if let Some(value) = variables.get(name) {
                        out.push_str(&escape(value));
                        resolved += 1;
                    }
                }
                Part::Defaulted(name, default) => {
                    let value = variables.get(name);
                    out.push_str(&escape(value.unwrap_or_else(|| default.to_string().into())));
                    resolved += 1;
                }
            }
        }
        resolved
    }

    /// Appends a log line: absent and empty values are `-`, others escaped.
    pub fn render_line(&self, variables: &dyn Variables, escape: Escape, out: &mut String) {
        for part in &self.parts {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Defaulted(name, default) => {
                    let value = variables.get(name).unwrap_or(Cow::Borrowed(default));
                    escape.write(value.as_bytes(), out);
                }
                Part::Variable(name) => {
                    if !variables.write(name, escape, out) && escape != Escape::Json {
                        out.push('-');
                    }
                }
            }
        }
    }
}

// === impl Part ===

impl Part {
    /// What stands between `${` and `}`, or after a bare `$`.
    fn of(written: &str, dialect: Dialect) -> Self {
        let variable = match dialect {
            Dialect::Plugin => Variable::parse,
            Dialect::Log => Variable::of_nginx,
        };
        match written.split_once("??") {
            Some((name, default)) => Self::Defaulted(variable(name.trim()), default.trim().into()),
            None => Self::Variable(variable(written.trim())),
        }
    }
}

/// Cuts a variable's name off the front of `rest`.
fn name(rest: &str, dialect: Dialect) -> Option<(&str, &str)> {
    if let Some(braced) = rest.strip_prefix('{') {
        let (name, after) = braced.split_once('}')?;
        return (!name.is_empty()).then_some((name, after));
    }
    // A number is a group of a match, and what follows it is text.
    let is_number = rest.starts_with(|c: char| c.is_ascii_digit());
    let is_name = |c: char| match c {
        '0'..='9' => true,
        _ if is_number => false,
        '.' => dialect == Dialect::Plugin,
        c => c.is_ascii_alphabetic() || c == '_',
    };
    let end = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
    (end > 0).then(|| rest.split_at(end))
}

// === impl Escape ===

impl Escape {
    /// Appends `value`; bytes that are no UTF-8 become U+FFFD first.
    pub fn write(self, value: &[u8], out: &mut String) {
        // Nearly always. What JSON escapes is among what is asked for.
        if !has_escaped(value) {
            // SAFETY: it is ASCII, and that is UTF-8.
            #[allow(unsafe_code)]
            return out.push_str(unsafe { std::str::from_utf8_unchecked(value) });
        }
        let value = &*String::from_utf8_lossy(value);
        match self {
            Self::None => out.push_str(value),
            Self::Default => {
                let mut from = 0;
                for (at, byte) in value.bytes().enumerate().filter(|(_, byte)| is_escaped(*byte)) {
                    // What is between is ASCII; an empty stretch may stand within a character.
                    if from < at {
                        out.push_str(&value[from..at]);
                    }
                    // Writing to a string cannot fail.
                    let _ = write!(out, "\\x{byte:02X}");
                    from = at + 1;
                }
                if from < value.len() {
                    out.push_str(&value[from..]);
                }
            }
            Self::Json => {
                if let Ok(quoted) = serde_json::to_string(value) {
                    out.push_str(&quoted[1..quoted.len() - 1]);
                }
            }
        }
    }
}

/// Whether a byte is written as `\xXX`: not branched on, so that many are asked at once.
fn is_escaped(byte: u8) -> bool {
    (byte == b'"') | (byte == b'\\') | (byte.wrapping_sub(b' ') > b'~' - b' ')
}

/// Whether any of `bytes` is escaped. They are asked in pieces of one size, each of which the
/// compiler makes a few instructions; the last two pieces may overlap.
fn has_escaped(bytes: &[u8]) -> bool {
    fn any<const N: usize>(piece: &[u8; N]) -> bool {
        piece.iter().fold(false, |any, byte| any | is_escaped(*byte))
    }
    let (pieces, rest) = bytes.as_chunks::<16>();
    pieces.iter().any(any)
        || match (bytes.last_chunk::<16>(), rest.first_chunk::<8>(), rest.last_chunk::<8>()) {
            _ if rest.is_empty() => false,
            (Some(last), ..) => any(last),
            (None, Some(first), Some(last)) => any(first) | any(last),
            _ => rest.iter().any(|byte| is_escaped(*byte)),
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixed;

    impl Variables for Fixed {
        fn get(&self, name: &Variable) -> Option<Cow<'_, str>> {
            match name {
                Variable::RemoteAddr => Some("10.0.0.1".into()),
                Variable::Arg(name) if &**name == "q" => Some("a\"b\n".into()),
                Variable::Capture(1) => Some("one".into()),
                _ => None,
            }
        }
    }

    fn check(text: &str) -> (String, usize) {
        let mut out = String::new();
        let resolved = Template::parse(text).render(&Fixed, &mut out);
        (out, resolved)
    }

    #[test]
    fn puts_values_in_place() {
        assert_eq!(check("$remote_addr"), ("10.0.0.1".into(), 1));
        assert_eq!(check("a${remote_addr}b/$1"), ("a10.0.0.1b/one".into(), 2));
        assert_eq!(check("$missing-"), ("-".into(), 0));
        assert_eq!(check(r"\$remote_addr $"), ("$remote_addr $".into(), 0));
        assert_eq!(check("${"), ("${".into(), 0));
        assert_eq!(check("${missing ?? 2}/${ remote_addr ?? 3 }"), ("2/10.0.0.1".into(), 2));
        assert_eq!(check("/$1abc.$1"), ("/oneabc.one".into(), 2));
        assert_eq!(Template::parse("plain").as_literal(), Some("plain"));
    }

    #[test]
    fn names_have_dots_for_plugins_and_none_in_the_log() {
        let is_tenant = |name: &Variable| *name == Variable::parse("post_arg.tenant.id");
        assert!(Template::parse("/$post_arg.tenant.id/").uses(is_tenant));
        assert!(Template::parse("${post_arg.tenant.id}").uses(is_tenant));
        let is_address = |name: &Variable| *name == Variable::RemoteAddr;
        assert!(!Template::parse("$remote_addr.").uses(is_address));
        assert!(Template::of_log("$remote_addr.").uses(is_address));
        assert!(Template::of_log(r"\$remote_addr").uses(is_address));
    }

    #[test]
    fn writes_log_lines_that_a_value_cannot_break() {
        let template = Template::of_log("$remote_addr \"$arg_q\" $status");
        let line = |escape| {
            let mut out = String::new();
            template.render_line(&Fixed, escape, &mut out);
            out
        };
        let escaped = |value: &str| {
            let mut out = String::new();
            Escape::Default.write(value.as_bytes(), &mut out);
            out
        };
        assert_eq!(line(Escape::Default), "10.0.0.1 \"a\\x22b\\x0A\" -");
        assert_eq!(
            escaped("\u{e9}a\u{e9}\u{20ac}bc\\"),
            "\\xC3\\xA9a\\xC3\\xA9\\xE2\\x82\\xACbc\\x5C"
        );
        assert_eq!(line(Escape::Json), "10.0.0.1 \"a\\\"b\\n\" ");
    }

    #[test]
    fn finds_what_is_escaped_wherever_it_stands() {
        for length in 0..40 {
            assert!(!has_escaped(&b" !#[]^z~".repeat(5)[..length]), "{length}");
            for at in 0..length {
                for byte in [0, 0x1f, b'"', b'\\', 0x7f, 0x80, 0xff] {
                    let mut bytes = vec![b'a'; length];
                    bytes[at] = byte;
                    assert!(has_escaped(&bytes), "{byte:#x} at {at} of {length}");
                }
            }
        }
    }
}
