//! One path for the route match, the plugins and the node.
//!
//! The path is decoded, its slashes merged and its dot segments resolved, as nginx does for
//! `$uri`; routes and plugins see that. The node is sent what the client wrote, unless there was
//! something to resolve: then it is sent the resolved path, so that no two of the three can be
//! talked into seeing different resources. (users-ask: CVE-2021-43557 and its kin)

use percent_encoding::{AsciiSet, CONTROLS, percent_encode};

/// What nginx escapes in a path that it writes (`ngx_escape_uri`, type 0).
const PATH: &AsciiSet = &CONTROLS.add(b' ').add(b'#').add(b'%').add(b'?');

/// How paths are read (`apisix.delete_uri_tail_slash` and its kin).
#[derive(Debug, Clone, Copy, Default)]
pub struct PathRules {
    /// Whether a slash at the end is dropped for matching.
    pub delete_tail_slash: bool,
    /// Whether `;parameters` of segments are dropped for matching.
    pub like_servlet: bool,
    /// Whether routes are matched with encoded slashes left encoded.
    pub keep_encoded_slash: bool,
}

/// A path that has been read. `None` where the path as sent will do.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Read {
    /// The path for routes and plugins.
    pub(super) path: Option<Box<str>>,
    /// The path for routes, where it is not that for plugins.
    pub(super) matched: Option<Box<str>>,
    /// What the node is asked, without the query.
    pub(super) forwarded: Option<String>,
}

/// The path is none: an escape that is broken, a NUL, or dots that lead above the root.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed;

// === impl PathRules ===

impl PathRules {
    /// Reads the path of a request's target.
    pub(super) fn read(self, raw: &str) -> Result<Read, Malformed> {
        let is_plain = is_plain(raw);
        if is_plain && !self.like_servlet && !self.delete_tail_slash {
            return Ok(Read::default());
        }
        let mut read = if is_plain { Read::default() } else { self.resolve(raw)? };
        let decoded = read.path.clone().filter(|_| read.forwarded.is_none());
        if self.like_servlet && raw.contains([';', '%']) {
            let path = read.path.as_deref().unwrap_or(raw);
            let without = without_parameters(path)?;
            read.forwarded.get_or_insert_with(|| raw.to_owned());
            read.path = Some(without.into());
        }
        if self.delete_tail_slash {
            let path = read.path.as_deref().unwrap_or(raw);
            if let Some(shorter) = path.strip_suffix('/').filter(|shorter| !shorter.is_empty()) {
                read.path = Some(shorter.into());
            }
        }
        // Only where nothing was done to the path but decoding it: then the two differ by nothing
        // but slashes, and no path is talked past a route. (APISIX `init.lua`,
        // `build_match_uri_keep_encoded_slash`)
        if self.keep_encoded_slash && decoded.is_some() && decoded == read.path {
            let kept = decode(raw, b"%2F")?;
            let kept = String::from_utf8_lossy(&kept);
            read.matched = (read.path.as_deref() != Some(&*kept)).then(|| kept.into());
        }
        Ok(read)
    }

    fn resolve(self, raw: &str) -> Result<Read, Malformed> {
        let decoded = decode(raw, b"/")?;
        let resolved = segments(&decoded)?;
        // A semicolon that was encoded is dropped with the others, so the node is to see it as one.
        let is_servlets = self.like_servlet && resolved.contains(&b';');
        let is_other = resolved != decoded || is_servlets;
        let forwarded = is_other.then(|| percent_encode(&resolved, PATH).to_string());
        // Bytes that are no UTF-8 cannot stand in a route; to the node they go as they came.
        let path = String::from_utf8_lossy(&resolved);
        Ok(Read { path: (path != raw).then(|| path.into()), matched: None, forwarded })
    }
}

/// Whether there is nothing to decode, merge or resolve.
fn is_plain(raw: &str) -> bool {
    let mut previous = 0;
    for byte in raw.bytes() {
        if byte == b'%' || (previous == b'/' && (byte == b'/' || byte == b'.')) {
            return false;
        }
        previous = byte;
    }
    true
}

/// Decodes escapes; one of a slash becomes `slash`.
fn decode(raw: &str, slash: &[u8]) -> Result<Vec<u8>, Malformed> {
    let mut decoded = Vec::with_capacity(raw.len());
    let mut bytes = raw.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let mut digit = || char::from(bytes.next()?).to_digit(16);
        let (Some(high), Some(low)) = (digit(), digit()) else {
            return Err(Malformed);
        };
        match (high * 16 + low) as u8 {
            0 => return Err(Malformed),
            b'/' => decoded.extend_from_slice(slash),
            byte => decoded.push(byte),
        }
    }
    Ok(decoded)
}

/// Merges slashes and resolves `.` and `..` (RFC 3986, section 5.2.4).
fn segments(path: &[u8]) -> Result<Vec<u8>, Malformed> {
    let mut kept: Vec<&[u8]> = Vec::new();
    let mut ends_in_slash = false;
    for segment in path.split(|byte| *byte == b'/') {
        ends_in_slash = true;
        match segment {
            b"" | b"." => {}
            b".." => {
                kept.pop().ok_or(Malformed)?;
            }
            segment => {
                kept.push(segment);
                ends_in_slash = false;
            }
        }
    }
    let mut resolved = Vec::with_capacity(path.len());
    for segment in kept {
        resolved.push(b'/');
        resolved.extend_from_slice(segment);
    }
    if ends_in_slash || resolved.is_empty() {
        resolved.push(b'/');
    }
    Ok(resolved)
}

/// Drops what follows a `;` in each segment, as servlet containers do.
///
/// Source: APISIX `init.lua`, `normalize_uri_like_servlet`.
fn without_parameters(path: &str) -> Result<String, Malformed> {
    let mut kept = String::with_capacity(path.len());
    let last = path.trim_end_matches('/').matches('/').count();
    for (index, segment) in path.split('/').enumerate() {
        if index > 0 {
            kept.push('/');
        }
        let name = segment.split(';').next().unwrap_or_default();
        if name.len() < segment.len() {
            // Dots with parameters are how a servlet's own resolution is talked past a gateway,
            // also those that it would have to decode once more.
            let dots = name.to_ascii_lowercase().replace("%2e", ".");
            if matches!(dots.as_str(), "." | "..") || (dots.is_empty() && index < last) {
                return Err(Malformed);
            }
        }
        kept.push_str(name);
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is matched and what the node is asked.
    fn check(raw: &str) -> Option<(String, String)> {
        check_by(PathRules::default(), raw)
    }

    fn check_by(rules: PathRules, raw: &str) -> Option<(String, String)> {
        let read = rules.read(raw).ok()?;
        let path = read.path.map_or_else(|| raw.to_owned(), String::from);
        Some((path, read.forwarded.unwrap_or_else(|| raw.to_owned())))
    }

    #[test]
    fn match_and_node_see_the_same_resource() {
        for (raw, matched, forwarded) in [
            ("/", "/", "/"),
            ("/a/b", "/a/b", "/a/b"),
            ("/a.b/c..d/.e", "/a.b/c..d/.e", "/a.b/c..d/.e"),
            ("/a%20b", "/a b", "/a%20b"),
            ("/a%2Fb", "/a/b", "/a%2Fb"),
            ("/a//b", "/a/b", "/a/b"),
            ("//a/", "/a/", "/a/"),
            ("/a/./b", "/a/b", "/a/b"),
            ("/a/../b", "/b", "/b"),
            ("/a/b/..", "/a/", "/a/"),
            ("/a/.", "/a/", "/a/"),
            ("/a/%2e%2e/b", "/b", "/b"),
            ("/a/%2E/b%20c", "/a/b c", "/a/b%20c"),
            ("/a%2F..%2Fb", "/b", "/b"),
            ("/a%2F%2Fb", "/a/b", "/a/b"),
            ("/%C3%A4", "/ä", "/%C3%A4"),
            ("/x/../%C3%A4%3F%25", "/ä?%", "/%C3%A4%3F%25"),
            ("/a%5c..%5cb", "/a\\..\\b", "/a%5c..%5cb"),
        ] {
            let expected = (matched.to_owned(), forwarded.to_owned());
            assert_eq!(check(raw), Some(expected), "{raw}");
        }
    }

    #[test]
    fn refuses_what_is_no_path() {
        for raw in ["/%", "/%2", "/%zz", "/%00", "/..", "/a/../..", "/%2e%2e/"] {
            assert_eq!(check(raw), None, "{raw}");
        }
    }

    #[test]
    fn drops_parameters_and_the_last_slash_where_asked() {
        let servlet = PathRules { like_servlet: true, ..PathRules::default() };
        for (raw, matched, forwarded) in [
            ("/a;x=1/b;y", "/a/b", "/a;x=1/b;y"),
            ("/a;x/b;y/;", "/a/b/", "/a;x/b;y/;"),
            ("/a%3Bx/%20b", "/a/ b", "/a;x/%20b"),
            ("/a;x/../b;y", "/b", "/b;y"),
            ("/a%20b", "/a b", "/a%20b"),
        ] {
            let expected = (matched.to_owned(), forwarded.to_owned());
            assert_eq!(check_by(servlet, raw), Some(expected), "{raw}");
        }
        for raw in ["/a/..;/b", "/a/..%3B/b", "/a/.;", "/;/a", "/b/;/c", "/%252e;", "/%252E%252e;"]
        {
            assert_eq!(check_by(servlet, raw), None, "{raw}");
        }
        let tail = PathRules { delete_tail_slash: true, ..PathRules::default() };
        assert_eq!(check_by(tail, "/a/"), Some(("/a".to_owned(), "/a/".to_owned())));
        assert_eq!(check_by(tail, "/"), Some(("/".to_owned(), "/".to_owned())));
    }

    #[test]
    fn keeps_slashes_encoded_where_nothing_else_was_done_to_the_path() {
        let keeping = PathRules { keep_encoded_slash: true, ..PathRules::default() };
        let matched = |rules: PathRules, raw| {
            let read = rules.read(raw).unwrap();
            read.matched.map(String::from)
        };
        for (raw, expected) in [
            ("/a%2Fb", Some("/a%2Fb")),
            ("/a%2fb%20c", Some("/a%2Fb c")),
            ("/a/b", None),
            ("/a%20b", None),
            ("/a%252Fb", None),
            ("/a%2F..%2Fb", None),
            ("/a%2F%2Fb", None),
            ("/a%2Fb//c", None),
            ("/a%2Fb/%2e%2e/c", None),
        ] {
            assert_eq!(matched(keeping, raw).as_deref(), expected, "{raw}");
        }
        let tail = PathRules { delete_tail_slash: true, ..keeping };
        assert_eq!(matched(tail, "/a%2Fb/"), None);
        assert_eq!(matched(tail, "/a%2Fb").as_deref(), Some("/a%2Fb"));
        let servlet = PathRules { like_servlet: true, ..keeping };
        assert_eq!(matched(servlet, "/a%2Fb;x"), None);
        assert_eq!(matched(servlet, "/a%2Fb").as_deref(), Some("/a%2Fb"));
    }
}
