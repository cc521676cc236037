//! Names that are met often, found without a copy.

use http::HeaderName;

use super::statics::{FIRST_HEADER, HEADERS};

/// Names beside those of the static table: what browsers, proxies, gRPC and their services send.
const OTHERS: [&str; 53] = [
    "access-control-allow-credentials",
    "access-control-allow-headers",
    "access-control-allow-methods",
    "access-control-expose-headers",
    "access-control-max-age",
    "access-control-request-headers",
    "access-control-request-method",
    "alt-svc",
    "baggage",
    "connection",
    "content-security-policy",
    "dnt",
    "early-data",
    "expect-ct",
    "forwarded",
    "grpc-accept-encoding",
    "grpc-encoding",
    "grpc-message",
    "grpc-status",
    "grpc-timeout",
    "keep-alive",
    "origin",
    "permissions-policy",
    "pragma",
    "priority",
    "proxy-connection",
    "purpose",
    "referrer-policy",
    "save-data",
    "sec-ch-ua",
    "sec-ch-ua-mobile",
    "sec-ch-ua-platform",
    "sec-fetch-dest",
    "sec-fetch-mode",
    "sec-fetch-site",
    "sec-fetch-user",
    "sec-websocket-key",
    "sec-websocket-protocol",
    "sec-websocket-version",
    "te",
    "traceparent",
    "tracestate",
    "trailer",
    "upgrade",
    "upgrade-insecure-requests",
    "x-api-key",
    "x-content-type-options",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-frame-options",
    "x-request-id",
    "x-requested-with",
];

const COUNT: usize = HEADERS.len() + OTHERS.len();

static NAMES: [HeaderName; COUNT] = names();

const SLOTS_BITS: u32 = 8;

/// Where in [`NAMES`] a name stands, and one more, by its digest; those that find their place
/// taken stand behind it. Zero ends the search.
static SLOTS: [u8; 1 << SLOTS_BITS] = slots();

/// The name that `name` is, if it is a known one.
pub(super) fn get(name: &[u8]) -> Option<&'static HeaderName> {
    position(name, digest(name)).map(|position| &NAMES[position])
}

/// The index in the static table of a name with this digest; 0 if it has none.
pub(super) fn static_index(name: &[u8], digest: u64) -> usize {
    match position(name, digest) {
        Some(position) if position < HEADERS.len() => FIRST_HEADER + position,
        _ => 0,
    }
}

fn position(name: &[u8], digest: u64) -> Option<usize> {
    let mut slot = first_slot(digest);
    loop {
        let position = usize::from(SLOTS[slot]).checked_sub(1)?;
        if NAMES[position].as_str().as_bytes() == name {
            return Some(position);
        }
        slot = (slot + 1) % SLOTS.len();
    }
}

/// A number that tells `bytes` from others well enough to look for them, from their length and
/// both ends; its high bits do best. What it finds has to be compared.
#[inline]
pub(super) const fn digest(bytes: &[u8]) -> u64 {
    let (start, end) = match (bytes.first_chunk(), bytes.last_chunk()) {
        (Some(start), Some(end)) => (u64::from_le_bytes(*start), u64::from_le_bytes(*end)),
        _ => match (bytes.first_chunk(), bytes.last_chunk()) {
            (Some(start), Some(end)) => {
                (u32::from_le_bytes(*start) as u64, u32::from_le_bytes(*end) as u64)
            }
            _ => match bytes {
                [] => (0, 0),
                [start, .., end] | [start @ end] => (*start as u64, *end as u64),
            },
        },
    };
    fold(start ^ (bytes.len() as u64) << 56, end)
}

/// A digest of all of `bytes`.
pub(super) fn whole_digest(bytes: &[u8]) -> u64 {
    let (chunks, _) = bytes.as_chunks();
    chunks.iter().fold(digest(bytes), |sum, chunk| fold(sum, u64::from_le_bytes(*chunk)))
}

/// Both halves of a product, in which each bit of both numbers has its part.
const fn fold(one: u64, other: u64) -> u64 {
    let one = one ^ 0x9e37_79b9_7f4a_7c15;
    let product = one as u128 * (other ^ 0xc2b2_ae3d_27d4_eb4f) as u128;
    product as u64 ^ (product >> 64) as u64
}

const fn first_slot(digest: u64) -> usize {
    (digest >> (u64::BITS - SLOTS_BITS)) as usize
}

const fn text(position: usize) -> &'static str {
    if position < HEADERS.len() { HEADERS[position].0 } else { OTHERS[position - HEADERS.len()] }
}

const fn names() -> [HeaderName; COUNT] {
    let mut names = [const { http::header::ACCEPT }; COUNT];
    let mut position = 0;
    while position < COUNT {
        let name = HeaderName::from_static(text(position));
        std::mem::forget(std::mem::replace(&mut names[position], name));
        position += 1;
    }
    names
}

const fn slots() -> [u8; 1 << SLOTS_BITS] {
    let mut slots = [0; 1 << SLOTS_BITS];
    let mut position = 0;
    while position < COUNT {
        let mut slot = first_slot(digest(text(position).as_bytes()));
        while slots[slot] != 0 {
            slot = (slot + 1) % slots.len();
        }
        slots[slot] = position as u8 + 1;
        position += 1;
    }
    slots
}
