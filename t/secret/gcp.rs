//! Google Cloud Secret Manager, by a stand-in that checks signatures: APISIX `t/secret/gcp.t`.

use std::time::Duration;

use serde_json::{Value, json};
use sluice::resource;
use sluice::secret::SecretError;

use super::Node;
use crate::support::authority::Authority;
use crate::support::clouds::Clouds;

fn node(written: Value) -> Node {
    let node = Node::lasting(Duration::from_secs(600), Duration::from_secs(1));
    let gcp = resource::Secret::Gcp(serde_json::from_value(written).unwrap());
    assert!(!format!("{gcp:?}").contains("PRIVATE"), "{gcp:?}");
    node.secrets.set_manager("gcp/1", &gcp);
    node
}

async fn said(node: &Node, text: &str) -> (SecretError, String) {
    let error = node.resolve(text).await.unwrap_err();
    let said = error.to_string();
    let all = format!("{said} {error:?} {:?}", node.secrets.status());
    assert!(!all.contains("planted") && !all.contains("ya29"), "{all}");
    (error, said)
}

#[tokio::test]
async fn reads_texts_and_fields_by_one_token() {
    let clouds = Clouds::start("key").await;
    clouds.put("mysql", "secret");
    clouds.put("jack", r#"{"key": "value", "deep/field": "deep"}"#);
    let node = node(json!({ "auth_config": clouds.account() }));
    for (path, value) in [("mysql", "secret"), ("jack/key", "value"), ("jack/deep/field", "deep")] {
        assert_eq!(node.resolve(&format!("$secret://gcp/1/{path}")).await.unwrap(), value);
    }
    // One token for all, one read for all the fields of a secret.
    assert_eq!(clouds.seen(), ["gcp token", "gcp mysql", "gcp jack"]);
    let (error, text) = said(&node, "$secret://gcp/1/jack/none").await;
    assert!(matches!(error, SecretError::NoField { .. }), "{text}");
    let (_, text) = said(&node, "$secret://gcp/1/none").await;
    assert!(text.contains("NOT_FOUND") && text.contains("404"), "{text}");
}

#[tokio::test]
async fn gets_another_token_when_one_ends_or_is_withdrawn() {
    let clouds = Clouds::start("key").await;
    clouds.put("a", "one");
    clouds.put("b", "two");
    clouds.put("c", "three");
    let node = node(json!({ "auth_config": clouds.account() }));
    assert_eq!(node.resolve("$secret://gcp/1/a").await.unwrap(), "one");
    clouds.change(|state| {
        state["gcp"]["revoked"] = json!(1);
        // Shorter than the margin: it is used for the read that it was got for.
        state["gcp"]["lasts"] = json!(30);
    });
    assert_eq!(node.resolve("$secret://gcp/1/b").await.unwrap(), "two");
    assert_eq!(node.resolve("$secret://gcp/1/c").await.unwrap(), "three");
    let tokens = clouds.seen().iter().filter(|line| *line == "gcp token").count();
    assert_eq!(tokens, 3, "{:?}", clouds.seen());
}

#[tokio::test]
async fn reads_the_account_from_a_file() {
    let clouds = Clouds::start("key").await;
    clouds.put("a", "secret");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("account.json");
    let node = || node(json!({ "auth_file": file }));
    let (error, text) = said(&node(), "$secret://gcp/1/a").await;
    assert!(matches!(error, SecretError::Account(_)), "{text}");
    assert!(text.contains("account.json") && text.contains("No such file"), "{text}");
    for (wrong, word) in [("{\"private_key\": \"planted", "JSON"), ("{}", "client_email")] {
        std::fs::write(&file, wrong).unwrap();
        let (_, text) = said(&node(), "$secret://gcp/1/a").await;
        assert!(text.contains(word), "{text}");
    }
    let mut account = clouds.account();
    account["scope"] = json!("https://www.googleapis.com/auth/cloud-platform");
    std::fs::write(&file, account.to_string()).unwrap();
    assert_eq!(node().resolve("$secret://gcp/1/a").await.unwrap(), "secret");
}

#[tokio::test]
async fn says_what_is_wrong_with_the_account_and_what_google_says() {
    let clouds = Clouds::start("key").await;
    clouds.put("a", "secret");
    let with = |field: &str, value: Value| {
        let mut account = clouds.account();
        account[field] = value;
        node(json!({ "auth_config": account }))
    };
    let (error, text) = said(&with("private_key", json!("planted")), "$secret://gcp/1/a").await;
    assert!(matches!(error, SecretError::Account(_)), "{text}");
    assert!(text.contains("private_key"), "{text}");
    let ecdsa = Authority::new("a").issue(&["a"]).1;
    let (_, text) = said(&with("private_key", json!(ecdsa)), "$secret://gcp/1/a").await;
    assert!(text.contains("RSA"), "{text}");
    let rsa = Authority::new("a").issue_rsa(&["a"]).1;
    let (_, text) = said(&with("private_key", json!(rsa)), "$secret://gcp/1/a").await;
    assert!(text.contains("invalid_grant: Invalid JWT Signature."), "{text}");
    let (_, text) = said(&with("scope", json!(["a", "b"])), "$secret://gcp/1/a").await;
    assert!(text.contains("scope: a b"), "{text}");
    let (_, text) = said(&with("project_id", json!("other")), "$secret://gcp/1/a").await;
    assert!(text.contains("PERMISSION_DENIED") && text.contains("403"), "{text}");

    clouds.change(|state| state["fail"] = json!("UNAVAILABLE"));
    let account = json!({ "auth_config": clouds.account() });
    let (_, text) = said(&node(account.clone()), "$secret://gcp/1/a").await;
    assert!(text.contains("503") && text.contains("UNAVAILABLE"), "{text}");
    clouds.change(|state| state["clock"] = json!(-900));
    let (_, text) = said(&node(account), "$secret://gcp/1/a").await;
    assert!(text.contains("invalid_grant") && text.contains("ahead of"), "{text}");
}
