//! What a route matches by, ready for one kind of router.

use std::cmp::Reverse;
use std::sync::Arc;

use super::{Methods, Pattern};
use crate::expr::Pin;

/// What a route matches by.
#[derive(Debug, Clone)]
pub struct Matcher {
    pub id: Arc<str>,
    /// Exact or `*` wildcard, as written; none means every host.
    pub hosts: Box<[Arc<str>]>,
    pub paths: Box<[Pattern]>,
    pub methods: Methods,
    pub priority: i64,
    /// What the conditions that the caller asks demand: where there are many routes, those that
    /// cannot agree are not asked.
    pub pins: Box<[Pin]>,
}

/// The place of a candidate among those of one key: less is asked first.
///
/// Source: lua-resty-radixtree, `sort_route`; equals stand there in the order in which they were
/// inserted, which after a start is that of their ids.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank<'m> {
    priority: Reverse<i64>,
    path_bytes: Reverse<usize>,
    id: &'m str,
    path: u32,
    host: u32,
}

// === impl Matcher ===

impl Matcher {
    pub(super) fn rank(&self, path: u32, host: u32) -> Rank<'_> {
        Rank {
            priority: Reverse(self.priority),
            path_bytes: Reverse(self.paths[path as usize].text().len()),
            id: &self.id,
            path,
            host,
        }
    }

    /// The first of the hosts that is meant by a request for `host`.
    ///
    /// A host with a colon is compared with `authority`, the host as sent, with its port.
    pub(super) fn host(&self, host: Option<&str>, authority: Option<&str>) -> Option<&Arc<str>> {
        let host = host?;
        self.hosts.iter().find(|pattern| {
            let asked = if has_port(pattern) { authority.unwrap_or(host) } else { host };
            match pattern.strip_prefix('*') {
                None => pattern.eq_ignore_ascii_case(asked),
                Some(suffix) => ends_with(asked.as_bytes(), suffix.as_bytes()),
            }
        })
    }
}

/// Whether a host is written with a port, or is an IPv6 address.
pub(super) fn has_port(host: &str) -> bool {
    host.contains(':')
}

fn ends_with(host: &[u8], suffix: &[u8]) -> bool {
    let start = host.len().checked_sub(suffix.len());
    start.is_some_and(|start| host[start..].eq_ignore_ascii_case(suffix))
}
