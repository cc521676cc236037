//! Uploads that their node does not take: the windows that the gateway gives (RFC 9113, section 6.9).

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;

use super::floods::one_worker;
use crate::support::PATIENCE;
use crate::support::gateway::Gateway;
use crate::support::h2::{Connection, FLOW_CONTROL_ERROR, INITIAL_WINDOW_SIZE, Outcome, request};

/// A node that takes connections and reads nothing but their first kilobyte.
struct Deaf {
    port: u16,
    heard: Arc<AtomicUsize>,
}

// === impl Deaf ===

impl Deaf {
    /// How many connections have begun.
    fn heard(&self) -> usize {
        self.heard.load(Ordering::SeqCst)
    }

    /// The gateway's addresses of connections that have come to a standstill: the node's side is full
    /// of what it has not read, and the gateway's system asks by a timer (4, of zero windows) whether
    /// that is still so.
    fn full(&self) -> HashSet<String> {
        let peer = format!(":{:04X}", self.port);
        let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
        let full = |line: &str| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let is_full = fields[2].ends_with(&peer) && fields[5].starts_with("04:");
            is_full.then(|| fields[1].to_owned())
        };
        table.lines().skip(1).filter_map(full).collect()
    }
}

/// Sends what comes for `/deaf` to a deaf node.
async fn put_deaf_node(gateway: &Gateway) -> Deaf {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let node = listener.local_addr().unwrap();
    let deaf = Deaf { port: node.port(), heard: Arc::default() };
    let heard = deaf.heard.clone();
    tokio::spawn(async move {
        let mut held = Vec::new();
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut some = [0; 1000];
            let _ = socket.read(&mut some).await;
            heard.fetch_add(1, Ordering::SeqCst);
            held.push(socket);
        }
    });
    let upstream = json!({ "type": "roundrobin", "nodes": { node.to_string(): 1 } });
    let route = json!({ "uri": "/deaf", "priority": 1, "upstream": upstream });
    gateway.put_route("deaf", route).await;
    deaf
}

/// Begins an upload for `/deaf` and sends as much of it as the gateway takes.
async fn fill(client: &mut Connection, deaf: &Deaf, stream: u32) {
    let (heard, full) = (deaf.heard(), deaf.full());
    client.headers(stream, &request("POST", "/deaf"), false).await;
    let (mut sent, mut turns) = (0, 0);
    let end = Instant::now() + PATIENCE;
    // Once nothing fills the node's side any more, the gateway's one worker has a few turns to take
    // what it still can, and to say so.
    while turns < 3 {
        let may = client.may_send(stream).min(16_384);
        if may > 0 {
            assert!(client.data(stream, &vec![b'x'; may], false).await);
            (sent, turns) = (sent + may, 0);
            assert!(sent < 64 << 20, "the gateway takes everything");
            continue;
        }
        // Full, or the connection's window is used up.
        let stands = !deaf.full().is_subset(&full) || client.may_send(stream + 2) == 0;
        turns = if stands && deaf.heard() > heard { turns + 1 } else { 0 };
        if turns == 0 {
            assert!(Instant::now() < end, "the node's side does not fill");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        client.ping().await.unwrap();
    }
}

#[tokio::test]
async fn a_node_that_does_not_read_stops_its_own_upload_only() {
    let (gateway, _origin) = one_worker().await;
    let deaf = put_deaf_node(&gateway).await;
    let before = super::floods::memory_bytes(&gateway);
    let mut client = Connection::open(gateway.ports().http).await;
    client.setting(INITIAL_WINDOW_SIZE).await;
    for stream in [1, 3] {
        fill(&mut client, &deaf, stream).await;
    }
    let after = super::floods::memory_bytes(&gateway);
    assert!(after < before + (32 << 20), "from {before} to {after} bytes");
    let mut client = client.taking();
    client.headers(5, &request("POST", "/echo"), false).await;
    assert!(client.upload(5, &vec![b'y'; 2_000_000], true).await);
    let answer = client.answer(5).await;
    assert!(answer.is_ok() && answer.body.len() == 2_000_000);
}

#[tokio::test]
async fn a_client_that_sends_more_than_the_windows_let_is_told_so() {
    let (gateway, _origin) = one_worker().await;
    let deaf = put_deaf_node(&gateway).await;
    let errors = [Outcome::Reset(FLOW_CONTROL_ERROR), Outcome::GoAway(FLOW_CONTROL_ERROR)];
    // More than its stream's, while the connection's has room.
    let mut client = Connection::open(gateway.ports().http).await;
    client.setting(INITIAL_WINDOW_SIZE).await;
    fill(&mut client, &deaf, 1).await;
    assert!(client.may_send(3) > 0, "a stream uses up the connection's window");
    client.data(1, b"x", false).await;
    let outcome = client.outcome(1).await;
    assert!(errors.contains(&outcome), "{outcome:?}");
    // More than the connection's, on a stream that has room.
    let mut client = Connection::open(gateway.ports().http).await;
    client.setting(INITIAL_WINDOW_SIZE).await;
    let mut stream = 1;
    while client.may_send(stream) > 0 {
        fill(&mut client, &deaf, stream).await;
        stream += 2;
        assert!(stream < 100, "the window of the connection has no end");
    }
    client.headers(stream, &request("POST", "/deaf"), false).await;
    client.data(stream, b"x", false).await;
    assert_eq!(client.outcome(stream).await, Outcome::GoAway(FLOW_CONTROL_ERROR));
}
