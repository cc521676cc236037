//! Where in a Vault a secret is: which KV version serves a prefix, and a path's address in it.

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

/// What may not stand in the path of an address as it is.
pub(super) const SEGMENT: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'[')
    .add(b'\\')
    .add(b']')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// Where secrets are in the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Mount {
    /// KV version 1: the path is the path.
    Plain,
    /// The path is taken as it stands: version 1, or version 2 written out by hand
    /// (`kv/data/apisix`), as those who know APISIX do.
    Spelt,
    /// KV version 2: `data/` stands after the mount.
    Versioned { mount: String },
}

// === impl Mount ===

impl Mount {
    pub(super) fn versioned(mount: &str) -> Self {
        Self::Versioned { mount: mount.trim_matches('/').to_owned() }
    }

    /// The mount of version 2 that is at `mount`, for a `prefix` that may say `data` itself.
    pub(super) fn beside(prefix: &str, mount: &str) -> Self {
        let rest = prefix.strip_prefix(mount.trim_matches('/')).unwrap_or_default();
        match rest.trim_start_matches('/').split('/').next() {
            Some("data") => Self::Spelt,
            _ => Self::versioned(mount),
        }
    }

    /// The path below `/v1/` of `path` below `prefix`, encoded.
    pub(super) fn address(&self, prefix: &str, path: &str) -> String {
        let whole = format!("{prefix}/{path}");
        match self {
            Self::Plain | Self::Spelt => encode(&whole),
            Self::Versioned { mount } => {
                let rest = whole.strip_prefix(mount.as_str()).unwrap_or(&whole);
                encode(&format!("{mount}/data/{}", rest.trim_start_matches('/')))
            }
        }
    }

    /// Whether secrets in it may have versions.
    pub(super) const fn keeps_versions(&self) -> bool {
        !matches!(self, Self::Plain)
    }
}

/// Every mount of version 2 that `prefix` may lie in, the shortest first.
pub(super) fn candidates(prefix: &str) -> impl Iterator<Item = Mount> {
    let ends = prefix.match_indices('/').map(|(at, _)| at).chain([prefix.len()]);
    ends.map(|end| Mount::versioned(&prefix[..end]))
}

/// `path` as it stands in an address. What is encoded already stays so, as in APISIX, which sends
/// references as they are.
pub(super) fn encode(path: &str) -> String {
    let mut encoded = String::with_capacity(path.len());
    for (number, part) in path.split('%').enumerate() {
        if number > 0 {
            let is_escape = part.len() >= 2 && part.bytes().take(2).all(|b| b.is_ascii_hexdigit());
            encoded.push_str(if is_escape { "%" } else { "%25" });
        }
        encoded.extend(utf8_percent_encode(part, SEGMENT));
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_characters_are_encoded_and_escapes_left_alone() {
        for (path, expected) in [
            ("kv/apisix/ssl", "kv/apisix/ssl"),
            ("kv/a b#c?d", "kv/a%20b%23c%3Fd"),
            ("kv/grün/鍵", "kv/gr%C3%BCn/%E9%8D%B5"),
            ("kv/a%20b", "kv/a%20b"),
            ("kv/100%/5%x", "kv/100%25/5%25x"),
            ("kv/a:b@c+d=e~f", "kv/a:b@c+d=e~f"),
        ] {
            assert_eq!(encode(path), expected, "{path}");
        }
    }

    #[test]
    fn a_path_has_an_address_in_each_kind_of_mount() {
        let check = |mount: &Mount, prefix, expected| {
            assert_eq!(mount.address(prefix, "ssl"), expected, "{mount:?}");
        };
        check(&Mount::Plain, "kv/apisix", "kv/apisix/ssl");
        check(&Mount::versioned("kv/"), "kv/apisix", "kv/data/apisix/ssl");
        check(&Mount::versioned("team/kv"), "team/kv", "team/kv/data/ssl");
        check(&Mount::beside("kv/data/apisix", "kv/"), "kv/data/apisix", "kv/data/apisix/ssl");
        assert_eq!(candidates("a/b").count(), 2);
    }
}
