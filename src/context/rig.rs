//! An exchange for tests of the rooms above.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Instant;

use http::{HeaderMap, Method, Version};

use super::{Client, Consumers, Ctx, Labels, Outgoing, Payload, Request, Response, clock};
use crate::metrics::{self, Metrics};
use crate::router::Captured;

/// A GET of `uri`, a path and query, for `Host: a.com`.
pub(crate) fn exchange(uri: &str) -> Ctx {
    let peer = ([127, 0, 0, 1], 1000).into();
    let mut headers = HeaderMap::new();
    headers.insert("host", "a.com".parse().unwrap());
    Ctx {
        client: Rc::new(Client {
            peer,
            peer_ip: "127.0.0.1".into(),
            local: ([127, 0, 0, 1], 80).into(),
            scheme: "http",
            sni: None,
            tls: None,
            serial: 1,
            since: Instant::now(),
            requests: Cell::new(1),
        }),
        remote: peer,
        request: Request {
            method: Method::GET,
            uri: uri.parse().unwrap(),
            version: Version::HTTP_11,
            headers,
            normalized_path: None,
            matched_path: None,
            host: Some("a.com".into()),
            unread: None,
        },
        payload: Payload::default(),
        uri_params: Captured::default(),
        outgoing: Outgoing::default(),
        route: Labels::default(),
        consumers: Rc::new(Consumers::default()),
        consumer: None,
        response: Response::default(),
        attempts: smallvec::SmallVec::new(),
        start: clock::now(),
        bytes_received: 0,
        body_bytes_sent: 0,
        metrics: Rc::new(Metrics::new(metrics::Settings::default()).worker()),
        request_id: std::cell::OnceCell::new(),
        kept: std::cell::RefCell::default(),
        said: None,
    }
}
