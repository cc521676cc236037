//! Versions of a secret pinned in the reference, and paths with odd characters.

use std::time::Duration;

use serde_json::json;
use sluice::secret::SecretError;

use super::{Node, vault};
use crate::support::bao::Bao;

#[tokio::test]
async fn a_pinned_version_stays_and_its_end_is_told() {
    let bao = Bao::dev().await;
    for value in ["one", "two", "three"] {
        bao.put("secret/apisix/ssl", json!({ "key": value })).await;
    }
    for prefix in ["secret/apisix", "secret/data/apisix"] {
        let node = Node::with(vault(&bao.url(""), prefix, "root"));
        assert_eq!(node.read("ssl/key?version=1").await.unwrap(), "one");
        assert_eq!(node.read("ssl/key?version=2").await.unwrap(), "two");
        assert_eq!(node.read("ssl/key").await.unwrap(), "three");
        let said = node.read("ssl/key?version=9").await.unwrap_err().to_string();
        assert!(said.contains("ssl?version=9") && said.contains("nothing stands"), "{said}");
    }
    let node = Node::lasting(Duration::from_secs(1), Duration::from_secs(1));
    node.manage(vault(&bao.url(""), "secret/apisix", "root"));
    assert_eq!(node.read("ssl/key?version=1").await.unwrap(), "one");
    bao.api("POST", "/v1/secret/delete/apisix/ssl", json!({ "versions": [1] })).await;
    let said = node.fails().await.to_string();
    assert!(said.contains("version 1 was deleted at 20"), "{said}");
    assert_eq!(node.read("ssl/key?version=1").await.unwrap(), "one");
    bao.api("POST", "/v1/secret/undelete/apisix/ssl", json!({ "versions": [1] })).await;
    let gone = || node.secrets.status().iter().all(|path| path.error.is_none());
    crate::support::eventually("it is there again", async || gone()).await;

    bao.api("PUT", "/v1/secret/destroy/apisix/ssl", json!({ "versions": [2] })).await;
    let said = node.read("ssl/key?version=2").await.unwrap_err().to_string();
    assert!(said.contains("version 2 was destroyed"), "{said}");
}

#[tokio::test]
async fn an_engine_without_versions_is_named() {
    let bao = Bao::dev().await;
    bao.put("kv/apisix/ssl", json!({ "key": "one" })).await;
    bao.put("secret/apisix/ssl", json!({ "key": "two" })).await;
    let policy = r#"
path "kv/*" { capabilities = ["read"] }
path "secret/data/*" { capabilities = ["read"] }
path "sys/internal/*" { capabilities = ["deny"] }"#;
    let blind = bao.token_with("blind", policy).await;
    for token in ["root", &blind] {
        let node = Node::with(vault(&bao.url(""), "kv/apisix", token));
        let error = node.read("ssl/key?version=1").await.unwrap_err();
        assert!(matches!(error, SecretError::Unversioned { version: 1, .. }), "{token}: {error}");
        let node = Node::with(vault(&bao.url(""), "secret/apisix", token));
        assert_eq!(node.read("ssl/key?version=1").await.unwrap(), "two");
    }
}

#[tokio::test]
async fn odd_characters_in_a_path_are_read() {
    let bao = Bao::dev().await;
    let body = json!({ "data": { "key": "odd", "a b": "field" } });
    bao.api("POST", "/v1/secret/data/apisix/a%20b%23c%3Fd/gr%C3%BCn%25", body).await;
    bao.api("POST", "/v1/kv/apisix/a%20b", json!({ "key": "one" })).await;
    let node = Node::with(vault(&bao.url(""), "secret/apisix", "root"));
    assert_eq!(node.read("a b#c?d/grün%/key").await.unwrap(), "odd");
    assert_eq!(node.read("a b#c?d/grün%/a b").await.unwrap(), "field");
    let node = Node::with(vault(&bao.url(""), "kv/apisix", "root"));
    assert_eq!(node.read("a b/key").await.unwrap(), "one");
    // As it must be written for APISIX, which sends it as it is.
    assert_eq!(node.read("a%20b/key").await.unwrap(), "one");
    let said = node.read("ü/key").await.unwrap_err().to_string();
    assert!(said.contains("kv/apisix/%C3%BC"), "{said}");
}
