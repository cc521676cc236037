//! Who may call: addresses first, then keys and their roles.

use std::collections::HashSet;
use std::net::IpAddr;
use std::time::Instant;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use http::{HeaderMap, Method, header};
use ipnet::IpNet;

use super::answer::Answer;
use super::request::Args;
use super::{Admin, Key, Role};

/// The name in audit lines of a caller who needed no key.
const NOBODY: &str = "(no key required)";

/// How long a key is, in bytes, that nobody finds by guessing, and how many different characters it
/// has.
const LONG: usize = 16;
const MIXED: usize = 8;

/// What a caller shows.
pub(super) enum Shown<'s> {
    Nothing,
    /// A key that is none of ours.
    Wrong,
    Ours(&'s Key),
}

/// Whether `ip` may call at all; an empty list lets everybody.
pub(super) fn is_allowed(allow: &[IpNet], ip: IpAddr) -> bool {
    let ip = ip.to_canonical();
    allow.is_empty() || allow.iter().any(|network| network.contains(&ip))
}

/// The key that a caller shows, in the header, the query or a cookie.
///
/// Source: APISIX `admin/init.lua`, `check_token`.
pub(super) fn shown<'s>(keys: &'s [Key], headers: &HeaderMap, args: &Args) -> Shown<'s> {
    let shown = args.get("api_key").map(str::to_owned);
    let shown = shown.or_else(|| text(headers.get("x-api-key")?)).or_else(|| cookie(headers));
    match shown {
        None => Shown::Nothing,
        Some(shown) => find(keys, &shown).map_or(Shown::Wrong, Shown::Ours),
    }
}

impl Admin {
    /// Returns the name and role of who calls.
    ///
    /// Who guesses has to wait, and while it does no guess of its is answered. A peer may be many,
    /// though, behind one address: whoever shows a key of ours goes on, if that is one which
    /// nobody finds by guessing however fast. A shorter one waits as a wrong one would, since
    /// admitting it would tell a guesser, at any speed, which it is.
    ///
    /// # Errors
    /// 401 with the reason, in APISIX's words; 429 where the peer has to wait.
    pub(super) fn login(
        &self,
        headers: &HeaderMap,
        args: &Args,
        method: &Method,
        peer: IpAddr,
    ) -> Result<(&str, Role), Answer> {
        if !self.settings.key_required {
            return Ok((NOBODY, Role::Admin));
        }
        let refuse = |reason| {
            tracing::warn!(%peer, reason, "Admin API: login failed");
            Err(Answer::unauthorized(reason))
        };
        let now = Instant::now();
        let waits = self.attempts.may_try(peer, now);
        // Of all keys, whichever is shown: the time that it takes tells nothing.
        let keys = self.settings.keys.iter().filter(|_| waits.is_err());
        let admitted: Vec<&Key> = keys.filter(|key| is_beyond_guessing(key)).collect();
        match (shown(&self.settings.keys, headers, args), waits) {
            (Shown::Nothing, _) => refuse("missing apikey"),
            (Shown::Wrong, Ok(())) => {
                if self.attempts.failed(peer, now) {
                    tracing::warn!(%peer, "Admin API: too many failed logins; it has to wait");
                }
                refuse("wrong apikey")
            }
            (Shown::Ours(key), waits)
                if waits.is_ok() || admitted.iter().any(|one| std::ptr::eq(*one, key)) =>
            {
                if key.role == Role::Viewer && ![Method::GET, Method::HEAD].contains(method) {
                    return refuse("invalid method for role viewer");
                }
                Ok((&key.name, key.role))
            }
            (_, waits) => Err(Answer::too_many_logins(peer, waits.err().unwrap_or_default())),
        }
    }
}

/// Whether a key is too long and too mixed to be found by trying: 16 characters of 16 kinds are
/// 64 bits, which a million guesses a second try for 300,000 years.
fn is_beyond_guessing(key: &Key) -> bool {
    let key = key.key.expose();
    let kinds: HashSet<char> = key.chars().collect();
    key.len() >= LONG && kinds.len() >= MIXED
}

/// Looks at every key to its end, so that the time taken tells nothing. Digests make keys of one
/// length of any.
fn find<'k>(keys: &'k [Key], shown: &str) -> Option<&'k Key> {
    let shown = digest(&SHA256, shown.as_bytes());
    let mut found = None;
    for key in keys {
        let ours = digest(&SHA256, key.key.expose().as_bytes());
        let is_same = verify_slices_are_equal(ours.as_ref(), shown.as_ref()).is_ok();
        // An empty key is one that nobody has chosen yet.
        if is_same && !key.key.expose().is_empty() {
            found = Some(key);
        }
    }
    found
}

fn cookie(headers: &HeaderMap) -> Option<String> {
    let cookies = headers.get_all(header::COOKIE).into_iter().filter_map(text);
    let value = |cookies: String| {
        let mut pairs = cookies.split(';').filter_map(|pair| pair.trim().split_once('='));
        pairs.find(|(name, _)| *name == "x_api_key").map(|(_, value)| value.to_owned())
    };
    cookies.filter_map(value).next()
}

fn text(value: &http::HeaderValue) -> Option<String> {
    value.to_str().ok().map(str::to_owned)
}
