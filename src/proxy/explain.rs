//! Explanations: a request that nobody made, read as one that somebody did.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Instant;

use bytes::Bytes;
use http::StatusCode;
use http::request::Parts;

use super::{Settings, pipeline, request};
use crate::context::{Client, Ctx, Labels, TlsSession};
use crate::expr::Need;
use crate::metrics;
use crate::snapshot::Snapshot;

/// Who the request is said to come from, and how.
#[derive(Debug, Clone)]
pub struct Caller {
    pub peer: SocketAddr,
    pub local: SocketAddr,
    /// The server name of its TLS handshake; plain HTTP without.
    pub sni: Option<String>,
}

/// The context that a request would have before anything is decided: its path, host and address
/// as requests' are read. A `body` that is told has the variables that it would have if it came
/// with the request, within the same limits; without, those who ask for one are told that it is
/// missing.
///
/// # Errors
/// The status that the request would be refused with at once.
pub fn context(
    head: Parts,
    body: Option<Bytes>,
    caller: &Caller,
    snapshot: &Snapshot,
    settings: &Settings,
) -> Result<Ctx, StatusCode> {
    let asked = request::read(head, settings);
    if let Some(status) = asked.refused {
        return Err(status);
    }
    let client = Client {
        peer: caller.peer,
        peer_ip: caller.peer.ip().to_string().into(),
        local: caller.local,
        scheme: if caller.sni.is_some() { "https" } else { "http" },
        sni: caller.sni.as_deref().map(|name| name.to_ascii_lowercase().into()),
        tls: caller.sni.as_ref().map(|_| Box::new(tls())),
        serial: 0,
        since: Instant::now(),
        requests: Cell::new(1),
    };
    let mut ctx = pipeline::context(
        asked,
        &Rc::new(client),
        &Labels::default(),
        &Rc::new(snapshot.consumers.clone()),
        &Rc::new(metrics::Worker::apart()),
        settings,
    );
    if let Some(body) = body {
        let limits = settings.payload;
        let is_within = limits.admits(Need::Any, body.len() as u64);
        ctx.payload.fill(Need::Any, limits, is_within.then_some(body));
    }
    Ok(ctx)
}

/// What most clients settle on.
fn tls() -> TlsSession {
    TlsSession::new("TLSv1.3", "TLS_AES_256_GCM_SHA384", "X25519", "http/1.1", false, None)
}
