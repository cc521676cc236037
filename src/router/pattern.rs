//! Paths as routes write them, read once for one kind of router.
//!
//! A pattern is the key that a path has to begin with, literally, and for some patterns a shape
//! that the whole path has to have. As in APISIX a `*` or, where there are parameters, a `:` ends
//! the key wherever it stands, and says nothing more unless it begins a segment: `/foo*bar` is
//! `/foo*`. What follows the key may be written as a regular expression (`/:id/nodes/?`).
//!
//! Differs from APISIX where that could only surprise: a dot after the key is a dot; a `*` before
//! the first `:` ends the key too; and what stands in the key is never taken for an expression, so
//! that `/a+b/*` matches `/a+b/c`.
//!
//! Source: lua-resty-radixtree 2.9.2, `common_route_data` and `fetch_pat`; APISIX
//! `docs/en/latest/router-radixtree.md`.

use std::ops::Range;
use std::sync::Arc;

use regex::Regex;
use smallvec::SmallVec;

use super::Kind;
use crate::resource::Invalid;

/// What parts of a literal segment make it an expression.
const EXPRESSION: [char; 12] = ['?', '+', '*', '(', ')', '[', ']', '{', '}', '|', '^', '\\'];

/// The name of what a bare `*` stands for.
const REST: &str = ":ext";

/// A path to match by.
#[derive(Debug, Clone)]
pub struct Pattern {
    text: Arc<str>,
    key_bytes: u32,
    is_prefix: bool,
    shape: Option<Box<Shape>>,
}

/// What the parameters of a pattern stood for in one path.
#[derive(Debug, Clone, Default)]
pub struct Captured {
    names: Option<Arc<[Box<str>]>>,
    values: Ranges,
}

type Ranges = SmallVec<[Range<u32>; 2]>;

#[derive(Debug, Clone)]
struct Shape {
    names: Arc<[Box<str>]>,
    form: Form,
    /// Whether every path that begins with the key has this shape.
    is_certain: bool,
}

#[derive(Debug, Clone)]
enum Form {
    Segments {
        /// Where `head` begins: segments that the key holds whole are not compared again.
        start: u32,
        head: Box<[Segment]>,
        /// What follows a `*`; `None` where there is none.
        tail: Option<Box<[Segment]>>,
    },
    /// A group a name.
    Expression(Regex),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Segment {
    Literal(Box<str>),
    /// `:name`: one segment that is not empty.
    One,
    /// `*name`: whatever is there, slashes too.
    Rest,
}

// === impl Pattern ===

impl Pattern {
    /// Reads a path as a route for this kind of router writes it.
    ///
    /// # Errors
    ///
    /// What follows the first parameter is meant as a regular expression and is none. The path of
    /// the error is empty: the caller knows the field.
    pub fn parse(kind: Kind, text: &str) -> Result<Self, Invalid> {
        let ends_key = |c: char| c == '*' || (c == ':' && kind == Kind::UriWithParameter);
        let Some(key) = text.find(ends_key) else {
            return Ok(Self::new(text, text.len(), false, None));
        };
        let shape = Shape::parse(text, key)?;
        Ok(Self::new(text, key, true, shape))
    }

    fn new(text: &str, key: usize, is_prefix: bool, shape: Option<Shape>) -> Self {
        Self { text: text.into(), key_bytes: key as u32, is_prefix, shape: shape.map(Box::new) }
    }

    /// As it is written.
    pub fn text(&self) -> &Arc<str> {
        &self.text
    }

    /// What a path has to begin with.
    pub(super) fn key(&self) -> &[u8] {
        &self.text.as_bytes()[..self.key_bytes as usize]
    }

    /// Whether a path may go on after the key.
    pub(super) fn is_prefix(&self) -> bool {
        self.is_prefix
    }

    /// Whether a path that begins with the key may still not fit.
    pub(super) fn is_shaped(&self) -> bool {
        self.shape.as_ref().is_some_and(|shape| !shape.is_certain)
    }

    /// Whether there is anything to capture.
    pub(super) fn captures(&self) -> bool {
        self.shape.is_some()
    }

    /// Whether a path fits that begins with the key.
    pub(super) fn fits(&self, path: &str) -> bool {
        self.shape.as_ref().is_none_or(|shape| shape.is_certain || shape.form.fits(path))
    }

    /// What the parameters stand for in a path that fits.
    pub fn captured(&self, path: &str) -> Captured {
        let mut values = Ranges::new();
        match &self.shape {
            Some(shape) if shape.form.capture(path, &mut values) => {
                Captured { names: Some(shape.names.clone()), values }
            }
            _ => Captured::default(),
        }
    }
}

// === impl Captured ===

impl Captured {
    /// What `name` stands for in `path`, which this was captured from.
    pub fn get<'p>(&self, name: &str, path: &'p str) -> Option<&'p str> {
        // Of two parameters with one name the later one counts.
        let at = self.names.as_ref()?.iter().rposition(|known| **known == *name)?;
        let range = self.values.get(at)?;
        path.get(range.start as usize..range.end as usize)
    }
}

// === impl Shape ===

impl Shape {
    /// The shape of a pattern whose key ends at `key`; `None` when the key says it all.
    fn parse(text: &str, key: usize) -> Result<Option<Self>, Invalid> {
        let mut names: Vec<Box<str>> = Vec::new();
        let mut segments = Vec::new();
        let mut is_expression = false;
        let (mut start, mut end) = (0, 0);
        for segment in text.split('/') {
            end += segment.len();
            if end < key && names.is_empty() && !segment.starts_with([':', '*']) {
                end += 1;
                start = end;
                continue;
            }
            segments.push(match segment.as_bytes().first() {
                Some(b':') => {
                    names.push(segment[1..].into());
                    Segment::One
                }
                Some(b'*') => {
                    names.push(if segment == "*" { REST } else { &segment[1..] }.into());
                    Segment::Rest
                }
                _ => {
                    is_expression |= end > key && segment.contains(EXPRESSION);
                    Segment::Literal(segment.into())
                }
            });
            end += 1;
        }
        if names.is_empty() {
            return Ok(None);
        }
        let is_certain = segments.last() == Some(&Segment::Rest)
            && text[..key].ends_with('/')
            && !text[key..].contains('/');
        if is_certain && names.len() == 1 && *names[0] == *REST {
            return Ok(None);
        }
        let mut rests = segments.iter().filter(|segment| **segment == Segment::Rest);
        let form = if is_expression || rests.nth(1).is_some() {
            Form::Expression(expression(text, key)?)
        } else {
            let rest = segments.iter().position(|segment| *segment == Segment::Rest);
            let tail = rest.map(|at| {
                let tail = segments.split_off(at + 1);
                segments.pop();
                tail.into()
            });
            Form::Segments { start: start as u32, head: segments.into(), tail }
        };
        Ok(Some(Self { names: names.into(), form, is_certain }))
    }
}

/// The expression that APISIX makes of a pattern.
fn expression(text: &str, key: usize) -> Result<Regex, Invalid> {
    let mut written = String::new();
    let mut end = 0;
    for (index, segment) in text.split('/').enumerate() {
        if index > 0 {
            written.push('/');
        }
        end += segment.len();
        match segment.as_bytes().first() {
            Some(b':') => written.push_str("([^/]+)"),
            Some(b'*') => written.push_str("((?s:.*))"),
            _ if end <= key => written.push_str(&regex::escape(segment)),
            _ => written.push_str(segment),
        }
        end += 1;
    }
    Regex::new(&written).map_err(|_| {
        let expected = "a path; what follows its first parameter may be a regular expression";
        Invalid::new("", text, expected)
    })
}

// === impl Form ===

impl Form {
    fn fits(&self, path: &str) -> bool {
        match self {
            // The first match counts, and has to be the whole path; that there is another that is
            // does not help.
            Self::Expression(expression) => {
                expression.find(path).is_some_and(|found| found.range() == (0..path.len()))
            }
            Self::Segments { .. } => self.capture(path, &mut Ranges::new()),
        }
    }

    /// Notes what each name stands for, in order; whether the path has this form.
    fn capture(&self, path: &str, values: &mut Ranges) -> bool {
        match self {
            Self::Expression(expression) => {
                let Some(groups) = expression.captures(path) else {
                    return false;
                };
                let mut found = groups.iter().map(|group| group.map(|group| group.range()));
                let whole = found.next().flatten();
                values.extend(found.map(|group| range(group.unwrap_or_default())));
                whole == Some(0..path.len())
            }
            Self::Segments { start, head, tail: None } => {
                segments(head, path, *start as usize, values) == Some(path.len() + 1)
            }
            Self::Segments { start, head, tail: Some(tail) } => {
                let Some(begin) = segments(head, path, *start as usize, values) else {
                    return false;
                };
                // The tail takes as many of the last segments as it has.
                let slashes = path.bytes().enumerate().rev().filter(|(_, byte)| *byte == b'/');
                let end = match tail.len().checked_sub(1) {
                    None => Some(path.len()),
                    Some(last) => slashes.map(|(at, _)| at).nth(last),
                };
                let Some(end) = end.filter(|end| begin <= *end) else {
                    return false;
                };
                values.push(range(begin..end));
                tail.is_empty() || segments(tail, path, end + 1, values) == Some(path.len() + 1)
            }
        }
    }
}

/// Matches `wanted` segment by segment from `at` on; where the segment after them would begin,
/// which is one past the end when the path ends with them.
fn segments(wanted: &[Segment], path: &str, mut at: usize, values: &mut Ranges) -> Option<usize> {
    for segment in wanted {
        let rest = path.get(at..)?;
        let end = memchr::memchr(b'/', rest.as_bytes()).unwrap_or(rest.len());
        match segment {
            Segment::Literal(literal) if **literal == rest[..end] => {}
            Segment::One if end > 0 => values.push(range(at..at + end)),
            _ => return None,
        }
        at += end + 1;
    }
    Some(at)
}

fn range(range: Range<usize>) -> Range<u32> {
    range.start as u32..range.end as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What each parameter stands for, `None` when the path does not fit.
    fn check(kind: Kind, pattern: &str, path: &str) -> Option<Vec<(String, String)>> {
        let pattern = Pattern::parse(kind, pattern).unwrap();
        let is_key = path.as_bytes().starts_with(pattern.key());
        let is_meant = is_key && (pattern.is_prefix() || path.len() == pattern.key().len());
        if !is_meant || !pattern.fits(path) {
            return None;
        }
        let captured = pattern.captured(path);
        let names = captured.names.iter().flat_map(|names| names.iter());
        let pair = |name: &str| (name.to_owned(), captured.get(name, path).unwrap().to_owned());
        Some(names.map(|name| pair(name)).collect())
    }

    #[test]
    fn parameters_stand_for_segments_and_stars_for_the_rest() {
        for (pattern, path, expected) in [
            ("/name/*name", "/name/json", Some(&[("name", "json")][..])),
            ("/name/*name", "/name/", Some(&[("name", "")])),
            ("/name/*name", "/name", None),
            ("/name/*", "/name/json/foo/bar", Some(&[])),
            ("/name/:name/id/:id", "/name/json/id/1", Some(&[("name", "json"), ("id", "1")])),
            ("/name/:name/id/:id", "/name/json/id/", None),
            ("/name/:name/id/:id", "/name/json", None),
            (
                "/name/:name/id/:id/*other",
                "/name/json/id/1/foo/bar",
                Some(&[("name", "json"), ("id", "1"), ("other", "foo/bar")]),
            ),
            ("/name/:name/foo", "/name/json/foo", Some(&[("name", "json")])),
            ("/name/:name/foo", "/name/json/foobar", None),
            ("/:name/foo", "/json/foo", Some(&[("name", "json")])),
            ("/:name/foo", "/json/foo/bar", None),
            ("/file/:name", "/file/123&45@dd:d=test;", Some(&[("name", "123&45@dd:d=test;")])),
            ("/name/:name/", "/name/json/", Some(&[("name", "json")])),
            ("/name/:name/", "/name/json", None),
            ("/a/:x/*", "/a/b/", Some(&[("x", "b"), (":ext", "")])),
            ("/a/*x/c", "/a/b/c/c", Some(&[("x", "b/c")])),
            ("/a/*x/c", "/a/c", None),
            ("/a/*x/:y", "/a/b/c/d", Some(&[("x", "b/c"), ("y", "d")])),
            ("/a/*x/:y", "/a/b/c/", None),
            ("/a/:x/:x", "/a/b/c", Some(&[("x", "c"), ("x", "c")])),
            ("/ä/:x", "/ä/ö", Some(&[("x", "ö")])),
        ] {
            let expected = expected.map(|pairs| {
                let owned = pairs.iter().map(|(name, value)| (name.to_string(), value.to_string()));
                owned.collect::<Vec<_>>()
            });
            let found = check(Kind::UriWithParameter, pattern, path);
            assert_eq!(found, expected, "{pattern} {path}");
        }
    }

    #[test]
    fn what_follows_a_parameter_may_be_an_expression() {
        let long = "/api/:version/projects/:id/nodes/?";
        let fits = |pattern, path| check(Kind::UriWithParameter, pattern, path).is_some();
        assert!(fits(long, "/api/v4/projects/saas/nodes/"));
        assert!(fits(long, "/api/v4/projects/saas/nodes"));
        assert!(!fits(long, "/api/v4/projects/saas"));
        assert!(fits("/a/:x/(b|c)", "/a/1/c"));
        assert!(!fits("/a/:x/v1.0", "/a/1/v1x0"), "a dot is a dot");
        assert!(fits("/a+b/:x", "/a+b/c"), "what stands before is none");
        assert!(!fits("/a+b/:x", "/aab/c"));
        let refused = Pattern::parse(Kind::UriWithParameter, "/a/:x/(").unwrap_err();
        assert!(refused.to_string().contains("/a/:x/("), "{refused}");
    }

    #[test]
    fn without_parameters_a_colon_is_a_colon() {
        let fits = |pattern, path| check(Kind::Uri, pattern, path).is_some();
        assert!(fits("/a/:x", "/a/:x"));
        assert!(!fits("/a/:x", "/a/b"));
        assert!(fits("/a/:x/*", "/a/:x/b"));
        assert!(!fits("/a/:x/*", "/a/b/b"));
        assert!(fits("/a*", "/abc/d"));
        assert!(fits("/a*bar", "/abc/d"), "what follows a star in a segment has no meaning");
        assert!(fits("/a/*/c", "/a/b/c"));
        assert!(!fits("/a/*/c", "/a/b/d"));
        assert!(fits("*", "/a"));
    }
}
