//! The head of the request to a node, written straight into the connection's buffer.

use std::io::Write as _;

use bytes::{BufMut as _, BytesMut};
use http::{HeaderValue, Method, header};

use super::forwarded::{self, Trusted};
use crate::context::Ctx;
use crate::http1::output::line;
use crate::upstream::h1::Outbound;

/// What the head says besides what the client sent.
pub(super) struct Told<'a> {
    pub(super) method: &'a Method,
    pub(super) host: &'a [u8],
    pub(super) outbound: Outbound,
    /// Whether the client's wish for another protocol is passed on.
    pub(super) upgrade: bool,
    pub(super) trusted: Trusted,
}

/// What the writer of the header section has passed, and need not be looked for again.
#[derive(Default)]
struct Sent<'h> {
    host: Option<&'h HeaderValue>,
    /// Whether there is an `X-Forwarded-For`.
    chain: bool,
}

/// Writes the request line and the header section.
///
/// Fields of the client's connection stay with it (those that it names are gone already), framing is the
/// gateway's own, and what tells of the client is written anew.
pub(super) fn write(ctx: &Ctx, told: &Told<'_>, out: &mut BytesMut) {
    out.reserve(1024);
    out.put_slice(told.method.as_str().as_bytes());
    out.put_u8(b' ');
    let target = match &ctx.outgoing.path_and_query {
        Some(target) => target.as_str(),
        None => ctx.request.uri.path_and_query().map_or("/", |target| target.as_str()),
    };
    out.put_slice(target.as_bytes());
    out.put_slice(b" HTTP/1.1\r\nhost: ");
    out.put_slice(told.host);
    out.put_slice(b"\r\n");
    let headers = &ctx.request.headers;
    let mut has_length = false;
    let mut sent = Sent::default();
    for (name, value) in headers {
        has_length |= *name == header::CONTENT_LENGTH;
        sent.chain |= *name == forwarded::X_FORWARDED_FOR;
        if *name == header::HOST {
            sent.host = Some(value);
        }
        let name = name.as_str();
        if !is_ours(name, told) {
            line(out, name, value.as_bytes());
        }
    }
    match told.outbound {
        Outbound::Empty if has_length => {
            line(out, "content-length", b"0");
        }
        Outbound::Empty => {}
        Outbound::Length(length) => {
            let mut digits = itoa::Buffer::new();
            line(out, "content-length", digits.format(length).as_bytes());
        }
        Outbound::Chunked => line(out, "transfer-encoding", b"chunked"),
    }
    if told.upgrade
        && let Some(protocol) = headers.get(header::UPGRADE)
    {
        line(out, "connection", b"upgrade");
        line(out, "upgrade", protocol.as_bytes());
    }
    about_client(ctx, told.trusted, &sent, out);
    out.put_slice(b"\r\n");
}

/// Whether a field is not passed on: of the connection, or written by the gateway itself.
fn is_ours(name: &str, told: &Told<'_>) -> bool {
    match name {
        "host" | "connection" | "keep-alive" | "proxy-connection" | "te" | "transfer-encoding"
        | "upgrade" | "content-length" | "expect" | "x-real-ip" | "x-forwarded-for" => true,
        // A node that takes underscores for hyphens would frame the request by these.
        "transfer_encoding" | "content_length" => true,
        "trailer" => told.outbound != Outbound::Chunked,
        "forwarded" | "x-forwarded-proto" | "x-forwarded-host" | "x-forwarded-port" => {
            told.trusted != Trusted::Yes
        }
        _ => false,
    }
}

/// `X-Real-IP` and `X-Forwarded-*`.
///
/// Source: APISIX `cli/ngx_tpl.lua`, `init.lua` `handle_trusted_x_forwarded_headers`.
fn about_client(ctx: &Ctx, trusted: Trusted, sent: &Sent<'_>, out: &mut BytesMut) {
    let headers = &ctx.request.headers;
    let written;
    let remote = if ctx.remote == ctx.client.peer {
        &*ctx.client.peer_ip
    } else {
        written = ctx.remote_ip().to_canonical().to_string();
        &written
    };
    line(out, "x-real-ip", remote.as_bytes());
    out.put_slice(b"x-forwarded-for: ");
    if sent.chain && trusted != Trusted::No {
        for chain in headers.get_all(forwarded::X_FORWARDED_FOR) {
            out.put_slice(chain.as_bytes());
            out.put_slice(b", ");
        }
    }
    out.put_slice(remote.as_bytes());
    out.put_slice(b"\r\n");
    let said = |name: &http::HeaderName| trusted == Trusted::Yes && headers.contains_key(name);
    if !said(&forwarded::X_FORWARDED_PROTO) {
        line(out, "x-forwarded-proto", ctx.client.scheme.as_bytes());
    }
    let host = sent.host;
    if !said(&forwarded::X_FORWARDED_HOST)
        && let Some(host) = host
    {
        line(out, "x-forwarded-host", host.as_bytes());
    }
    if !said(&forwarded::X_FORWARDED_PORT) {
        match host.and_then(forwarded::port_of) {
            Some(port) => line(out, "x-forwarded-port", port.as_bytes()),
            None => {
                // Writing to a buffer in memory cannot fail.
                let _ = write!(out.writer(), "x-forwarded-port: {}\r\n", ctx.client.local.port());
            }
        }
    }
}
