//! What is said when there is no secret to be had, and what never is.

use serde_json::json;
use sluice::secret::{Lookup, Reference, SecretError, Secrets};

use super::{Node, vault};
use crate::support::bao::Bao;

/// A token that must not be seen anywhere.
const PLANTED: &str = "s.planted-token";

/// The error of reading `path`, in all its forms, which must not show the token.
async fn said(node: &Node, path: &str) -> (SecretError, String) {
    let error = node.read(path).await.unwrap_err();
    let said = format!("{error}");
    let all = format!("{said} {error:?} {:?} {:?}", node.lookup(path), node.secrets.status());
    assert!(!all.contains(PLANTED) && !all.contains("root"), "{all}");
    (error, said)
}

#[tokio::test]
async fn a_missing_path_and_a_missing_field_are_named() {
    let bao = Bao::dev().await;
    bao.put("kv/apisix/ssl", json!({ "key": "planted-value" })).await;
    bao.put("secret/apisix/ssl", json!({ "key": "planted-value" })).await;
    for prefix in ["kv/apisix", "secret/apisix"] {
        let node = Node::with(vault(&bao.url(""), prefix, "root"));
        let (error, text) = said(&node, "none/key").await;
        assert!(matches!(error, SecretError::Refused { status: 404, .. }), "{text}");
        assert!(text.contains("apisix/none"), "{text}");
        let (error, text) = said(&node, "ssl/certificate").await;
        assert!(matches!(error, SecretError::NoField { .. }), "{text}");
        assert!(text.contains("vault/1/ssl") && text.contains("certificate"), "{text}");
        let all = format!("{:?} {:?}", node.lookup("ssl/key"), node.secrets.status());
        assert!(!all.contains("planted-value"), "{all}");
    }
}

#[tokio::test]
async fn a_wrong_token_and_a_wrong_address_are_told() {
    let bao = Bao::dev().await;
    let node = Node::with(vault(&bao.url(""), "kv/apisix", PLANTED));
    let (error, text) = said(&node, "ssl/key").await;
    assert!(matches!(error, SecretError::Refused { status: 403, .. }), "{text}");
    assert!(text.contains("permission denied"), "{text}");

    let nowhere = format!("http://127.0.0.1:{}", crate::support::free_port());
    let node = Node::with(vault(&nowhere, "kv/apisix", PLANTED));
    let (error, text) = said(&node, "ssl/key").await;
    assert!(matches!(error, SecretError::Unreachable { .. }), "{text}");
    assert!(text.contains(&nowhere) && text.contains("refused"), "{text}");

    let node = Node::with(vault(&bao.url("/other"), "kv/apisix", PLANTED));
    assert!(said(&node, "ssl/key").await.1.contains("/other/v1/"));

    let written = vault(&bao.url(""), "kv/apisix", PLANTED);
    let vault: sluice::resource::secret::Vault = serde_json::from_value(written).unwrap();
    assert!(!format!("{vault:?}").contains(PLANTED));
}

#[tokio::test]
async fn a_manager_that_is_not_there_is_named() {
    let node = Node::new();
    let error = node.read("ssl/key").await.unwrap_err();
    assert_eq!(error.to_string(), "no secret manager vault/1 is configured");
}

#[tokio::test]
async fn the_token_may_come_from_the_environment() {
    let bao = Bao::dev().await;
    bao.put("kv/apisix/ssl", json!({ "key": "one" })).await;
    // Tests set no variables: the token takes the value of one that is there.
    let home = std::env::var("HOME").unwrap();
    bao.api("POST", "/v1/auth/token/create", json!({ "id": home })).await;
    for token in ["$env://HOME", "$ENV://HOME"] {
        let node = Node::with(vault(&bao.url(""), "kv/apisix", token));
        assert_eq!(node.read("ssl/key").await.unwrap(), "one");
    }
    let node = Node::with(vault(&bao.url(""), "kv/apisix", "$env://SLUICE_NOT_SET"));
    let (error, text) = said(&node, "ssl/key").await;
    assert!(matches!(error, SecretError::NoVariable(_)), "{text}");
    assert!(text.contains("SLUICE_NOT_SET"), "{text}");
}

#[tokio::test]
async fn references_to_the_environment_are_answered_at_once() {
    let node = Node::new();
    let lookup =
        |secrets: &Secrets, text: &str| secrets.lookup(&Reference::parse(text).unwrap().unwrap());
    let home = std::env::var("PATH").unwrap();
    match lookup(&node.secrets, "$env://PATH") {
        Lookup::Ready(secret) => assert_eq!(secret.expose(), home),
        other => panic!("{other:?}"),
    }
    for text in ["$env://SLUICE_NOT_SET", "$env://PATH/field"] {
        let found = lookup(&node.secrets, text);
        assert!(matches!(&found, Lookup::Failed(_)), "{found:?}");
        assert!(!format!("{found:?}").contains(&home), "{found:?}");
    }
}
