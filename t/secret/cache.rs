//! The cache: rotation, one read for many, and good values that outlive bad answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;
use sluice::secret::{Lookup, SecretError};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{Node, reference, vault};
use crate::support::bao::Bao;
use crate::support::eventually;

#[tokio::test]
async fn a_rotated_secret_is_seen_and_told() {
    let bao = Bao::dev().await;
    bao.put("secret/apisix/ssl", json!({ "key": "old", "other": "same" })).await;
    let mut node = Node::with(vault(&bao.url(""), "secret/apisix", "root"));
    node.lookup("ssl/other");
    assert_eq!(node.read("ssl/key").await.unwrap(), "old");
    let mut told = [node.next_changed().await, node.next_changed().await];
    told.sort();
    assert_eq!(told, ["$secret://vault/1/ssl/key", "$secret://vault/1/ssl/other"]);
    // The next read comes before the value is as old as it may be.
    let next = node.secrets.status()[0].next.unwrap_or_default();
    assert!(next < Duration::from_secs(3), "{next:?}");
    bao.put("secret/apisix/ssl", json!({ "key": "new", "other": "same" })).await;
    // Only what has changed is told.
    assert_eq!(node.next_changed().await, "$secret://vault/1/ssl/key");
    node.becomes("ssl/key", "new").await;
    assert!(node.changed.try_recv().is_err());
}

#[tokio::test]
async fn what_was_missing_is_found_when_it_comes() {
    let bao = Bao::dev().await;
    let mut node = Node::lasting(Duration::from_secs(600), Duration::from_secs(1));
    node.manage(vault(&bao.url(""), "kv/apisix", "root"));
    assert!(node.read("ssl/key").await.is_err());
    assert_eq!(node.next_changed().await, "$secret://vault/1/ssl/key");
    bao.put("kv/apisix/ssl", json!({ "key": "come" })).await;
    assert_eq!(node.next_changed().await, "$secret://vault/1/ssl/key");
    node.becomes("ssl/key", "come").await;
    // A field is missed no longer than a path, whatever the TTL.
    bao.put("kv/apisix/two", json!({ "a": "1" })).await;
    assert!(matches!(node.read("two/b").await, Err(SecretError::NoField { .. })));
    bao.put("kv/apisix/two", json!({ "a": "1", "b": "2" })).await;
    node.becomes("two/b", "2").await;
}

#[tokio::test]
async fn good_values_outlive_a_stopped_and_a_sealed_server() {
    let mut bao = Bao::start().await;
    bao.put("secret/apisix/ssl", json!({ "key": "good" })).await;
    let node = Node::with(vault(&bao.url(""), "secret/apisix", bao.token()));
    assert_eq!(node.read("ssl/key").await.unwrap(), "good");

    bao.stop();
    assert!(matches!(node.fails().await, SecretError::Unreachable { .. }));
    assert_eq!(node.read("ssl/key").await.unwrap(), "good");
    bao.restart().await;
    bao.put("secret/apisix/ssl", json!({ "key": "better" })).await;
    node.becomes("ssl/key", "better").await;
    assert!(node.secrets.status()[0].error.is_none());

    bao.seal().await;
    let error = node.fails().await;
    assert!(matches!(error, SecretError::Refused { status: 503, .. }), "{error}");
    assert_eq!(node.read("ssl/key").await.unwrap(), "better");
    bao.unseal().await;
    bao.put("secret/apisix/ssl", json!({ "key": "best" })).await;
    node.becomes("ssl/key", "best").await;
}

#[tokio::test]
async fn good_values_outlive_a_revoked_token_and_a_removed_manager() {
    let bao = Bao::dev().await;
    bao.put("kv/apisix/ssl", json!({ "key": "good" })).await;
    let token = bao.token_with("r", r#"path "kv/*" { capabilities = ["read"] }"#).await;
    let node = Node::with(vault(&bao.url(""), "kv/apisix", &token));
    assert_eq!(node.read("ssl/key").await.unwrap(), "good");
    bao.revoke(&token).await;
    let error = node.fails().await;
    assert!(matches!(error, SecretError::Refused { status: 403, .. }), "{error}");
    assert_eq!(node.read("ssl/key").await.unwrap(), "good");
    node.secrets.remove_manager("vault/1");
    assert!(matches!(node.fails().await, SecretError::NoManager(_)));
    assert_eq!(node.read("ssl/key").await.unwrap(), "good");
    // A new token is taken up at once.
    bao.put("kv/apisix/ssl", json!({ "key": "new" })).await;
    node.manage(vault(&bao.url(""), "kv/apisix", "root"));
    node.becomes("ssl/key", "new").await;
}

/// A server that is down when the node starts is asked again soon, not only after the negative
/// TTL, which is a minute by default.
#[tokio::test]
async fn a_server_that_comes_late_is_found_soon() {
    let mut bao = Bao::start().await;
    bao.put("kv/apisix/ssl", json!({ "key": "one" })).await;
    bao.seal().await;
    let node = Node::lasting(Duration::from_secs(600), Duration::from_secs(600));
    node.manage(vault(&bao.url(""), "kv/apisix", bao.token()));
    assert!(node.read("ssl/key").await.is_err());
    bao.stop();
    node.reads(2).await;
    bao.restart().await;
    node.becomes("ssl/key", "one").await;
}

/// A stand-in that counts: a real server does not say how often it was asked for a path.
struct Counting {
    uri: String,
    asked: Arc<AtomicUsize>,
}

// === impl Counting ===

impl Counting {
    /// Answers every path like a KV version 1, slowly enough that the askers would overlap.
    async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let uri = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(AtomicUsize::new(0));
        let count = asked.clone();
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let count = count.clone();
                tokio::spawn(async move {
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        match socket.read_u8().await {
                            Ok(byte) => head.push(byte),
                            Err(_) => return,
                        }
                    }
                    if String::from_utf8_lossy(&head).starts_with("GET /v1/kv/apisix/ssl ") {
                        count.fetch_add(1, Ordering::SeqCst);
                    }
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    let body = r#"{"data": {"f0": "a", "f1": "b"}}"#;
                    let length = body.len();
                    let answer = format!(
                        "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
                    );
                    let _ = socket.write_all(answer.as_bytes()).await;
                });
            }
        });
        Self { uri, asked }
    }
}

#[tokio::test]
async fn any_number_of_references_to_a_path_costs_one_read() {
    let server = Counting::start().await;
    let node = Node::lasting(Duration::from_secs(600), Duration::from_secs(600));
    node.manage(vault(&server.uri, "kv/apisix", "root"));
    for number in 0..200 {
        let found = node.lookup(&format!("ssl/f{}", number % 2));
        assert!(matches!(found, Lookup::Pending), "{found:?}");
    }
    assert_eq!(node.read("ssl/f1").await.unwrap(), "b");
    assert_eq!(node.read("ssl/f0").await.unwrap(), "a");
    assert_eq!(server.asked.load(Ordering::SeqCst), 1);
    assert_eq!(node.secrets.status().len(), 2);
}

#[tokio::test]
async fn what_nobody_uses_is_not_read_any_more() {
    let server = Counting::start().await;
    let node = Node::lasting(Duration::from_millis(100), Duration::from_secs(1));
    node.manage(vault(&server.uri, "kv/apisix", "root"));
    node.read("ssl/f0").await.unwrap();
    node.read("ssl/f1").await.unwrap();
    let asked = || server.asked.load(Ordering::SeqCst);
    node.secrets.release(&reference("ssl/f0"));
    let before = asked();
    eventually("it is read on", async || asked() > before).await;
    node.secrets.release(&reference("ssl/f1"));
    assert!(node.secrets.status().is_empty());
    // A request may be on its way; after that one nothing comes for many times the TTL.
    eventually("nothing is asked any more", async || {
        let last = asked();
        tokio::time::sleep(Duration::from_millis(1000)).await;
        asked() == last
    })
    .await;
}
