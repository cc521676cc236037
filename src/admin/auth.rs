//! Who may call: addresses first, then keys and their roles.

use std::net::IpAddr;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use http::{HeaderMap, Method, header};
use ipnet::IpNet;

use super::request::Args;
use super::{Key, Role, Settings};

/// The name in audit lines of a caller who needed no key.
const NOBODY: &str = "(no key required)";

/// Why a key that is none of ours is refused.
pub(super) const WRONG_KEY: &str = "wrong apikey";

/// Whether `ip` may call at all; an empty list lets everybody.
pub(super) fn is_allowed(allow: &[IpNet], ip: IpAddr) -> bool {
    let ip = ip.to_canonical();
    allow.is_empty() || allow.iter().any(|network| network.contains(&ip))
}

/// Returns the name of the caller's key, and what it lets do.
///
/// # Errors
/// Why the caller may not do this, in APISIX's words.
///
/// Source: APISIX `admin/init.lua`, `check_token`.
pub(super) fn check<'s>(
    settings: &'s Settings,
    headers: &HeaderMap,
    args: &Args,
    method: &Method,
) -> Result<(&'s str, Role), &'static str> {
    if !settings.key_required {
        return Ok((NOBODY, Role::Admin));
    }
    let shown = args.get("api_key").map(str::to_owned);
    let shown = shown.or_else(|| text(headers.get("x-api-key")?)).or_else(|| cookie(headers));
    let shown = shown.ok_or("missing apikey")?;
    let key = find(&settings.keys, &shown).ok_or(WRONG_KEY)?;
    if key.role == Role::Viewer && ![Method::GET, Method::HEAD].contains(method) {
        return Err("invalid method for role viewer");
    }
    Ok((&key.name, key.role))
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
