//! Where a secret is: versions 1 and 2, nested paths, namespaces, policies.

use serde_json::json;

use super::{Node, vault};
use crate::support::bao::Bao;

#[tokio::test]
async fn versions_1_and_2_are_told_apart() {
    let bao = Bao::dev().await;
    bao.put("kv/apisix/ssl", json!({ "key": "one", "port": 8443 })).await;
    bao.put("secret/apisix/ssl", json!({ "key": "two" })).await;
    bao.put("secret/apisix/a/b/c", json!({ "key": "deep" })).await;
    for (prefix, path, value) in [
        ("kv/apisix", "ssl/key", "one"),
        ("/kv/apisix/", "ssl/key", "one"),
        ("kv", "apisix/ssl/key", "one"),
        ("kv/apisix", "ssl/port", "8443"),
        ("secret/apisix", "ssl/key", "two"),
        ("secret", "apisix/ssl/key", "two"),
        ("secret/apisix", "a/b/c/key", "deep"),
        // As those who know APISIX write version 2.
        ("secret/data/apisix", "ssl/key", "two"),
    ] {
        let node = Node::with(vault(&bao.url(""), prefix, "root"));
        assert_eq!(node.read(path).await.unwrap(), value, "{prefix} {path}");
    }
    for (prefix, version, value) in [("kv/apisix", 1, "one"), ("secret/apisix", 2, "two")] {
        let mut written = vault(&bao.url("/"), prefix, "root");
        written["kv_version"] = json!(version);
        assert_eq!(Node::with(written).read("ssl/key").await.unwrap(), value);
    }
}

#[tokio::test]
async fn a_token_that_may_only_read_is_enough() {
    let bao = Bao::dev().await;
    let mount = json!({ "type": "kv", "options": { "version": "2" } });
    bao.api("POST", "/v1/sys/mounts/team/kv", mount).await;
    let body = json!({ "data": { "key": "three" } });
    // A version 2 mount takes writes a moment after it is made.
    crate::support::eventually("the mount is ready", async || {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let url = bao.url("/v1/team/kv/data/apisix/ssl");
        let request = client.post(url).header("X-Vault-Token", "root").json(&body);
        request.send().await.unwrap().status().is_success()
    })
    .await;
    bao.put("kv/apisix/ssl", json!({ "key": "one" })).await;
    bao.put("secret/apisix/ssl", json!({ "key": "two" })).await;
    let policy = r#"
path "kv/apisix/*" { capabilities = ["read"] }
path "secret/data/apisix/*" { capabilities = ["read"] }
path "team/kv/data/apisix/*" { capabilities = ["read"] }
"#;
    let blind = format!("{policy}\npath \"sys/internal/*\" {{ capabilities = [\"deny\"] }}");
    let reader = bao.token_with("reader", policy).await;
    let blind = bao.token_with("blind", &blind).await;
    for token in [reader, blind] {
        for (prefix, value) in
            [("kv/apisix", "one"), ("secret/apisix", "two"), ("team/kv/apisix", "three")]
        {
            let node = Node::with(vault(&bao.url(""), prefix, &token));
            assert_eq!(node.read("ssl/key").await.unwrap(), value, "{prefix}");
        }
    }
}

/// A mount guessed from two refusals must not be remembered.
#[tokio::test]
async fn a_policy_that_is_mended_later_is_noticed() {
    let bao = Bao::dev().await;
    bao.put("secret/apisix/ssl", json!({ "key": "two" })).await;
    let token = bao.token_with("late", r#"path "kv/x" { capabilities = ["read"] }"#).await;
    let node = Node::with(vault(&bao.url(""), "secret/apisix", &token));
    assert!(node.read("ssl/key").await.is_err());
    bao.set_policy("late", r#"path "secret/data/apisix/*" { capabilities = ["read"] }"#).await;
    node.becomes("ssl/key", "two").await;
}

#[tokio::test]
async fn the_namespace_is_asked() {
    let bao = Bao::dev().await;
    bao.api("POST", "/v1/sys/namespaces/team", json!({})).await;
    let mount = json!({ "type": "kv", "options": { "version": "1" } });
    bao.api_in("team", "POST", "/v1/sys/mounts/kv", mount).await;
    bao.api_in("team", "POST", "/v1/kv/apisix/ssl", json!({ "key": "theirs" })).await;
    bao.put("kv/apisix/ssl", json!({ "key": "ours" })).await;
    let mut written = vault(&bao.url(""), "kv/apisix", "root");
    assert_eq!(Node::with(written.clone()).read("ssl/key").await.unwrap(), "ours");
    written["namespace"] = json!("team");
    assert_eq!(Node::with(written).read("ssl/key").await.unwrap(), "theirs");
}
