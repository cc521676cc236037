//! Vault behind a private authority (APISIX issues 11720 and 12058).

use std::time::Duration;

use serde_json::json;
use sluice::secret::{SecretError, Settings};

use super::{Node, vault};
use crate::support::authority::Authority;
use crate::support::bao::Bao;

#[tokio::test]
async fn the_authority_can_be_given_or_the_check_left_out() {
    let authority = Authority::new("private CA");
    let bao = Bao::tls(&authority).await;
    bao.put("kv/apisix/ssl", json!({ "key": "one" })).await;
    let written = vault(&bao.url(""), "kv/apisix", bao.token());

    for ca in [None, Some(Authority::new("another CA").pem())] {
        let mut written = written.clone();
        written["ca"] = json!(ca);
        let error = Node::with(written).read("ssl/key").await.unwrap_err();
        assert!(matches!(error, SecretError::Unreachable { .. }), "{error}");
        let said = error.to_string();
        assert!(said.contains("`ca`") && said.contains("`ssl_verify`"), "{said}");
    }
    let mut garbled = written.clone();
    garbled["ca"] = json!("no PEM");
    let said = Node::with(garbled).read("ssl/key").await.unwrap_err().to_string();
    assert!(said.contains("ca"), "{said}");

    let mut known = written.clone();
    known["ca"] = json!(authority.pem());
    assert_eq!(Node::with(known).read("ssl/key").await.unwrap(), "one");

    let mut unchecked = written;
    unchecked["ssl_verify"] = json!(false);
    assert_eq!(Node::with(unchecked).read("ssl/key").await.unwrap(), "one");
}

/// `apisix.ssl.ssl_trusted_certificate` is for managers that name no authority of their own.
#[tokio::test]
async fn the_authority_of_the_node_is_the_default() {
    let authority = Authority::new("private CA");
    let bao = Bao::tls(&authority).await;
    bao.put("kv/apisix/ssl", json!({ "key": "one" })).await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ca.crt");
    let (ttl, neg_ttl) = (Duration::from_secs(3), Duration::from_secs(1));
    let node = || Node::by(Settings { ttl, neg_ttl, trusted: Some(file.clone()) });
    let late = node();
    late.manage(vault(&bao.url(""), "kv/apisix", bao.token()));
    let said = late.read("ssl/key").await.unwrap_err().to_string();
    assert!(said.contains(&file.display().to_string()), "{said}");
    // The file is read when it is there, and again after a certificate was refused.
    std::fs::write(&file, Authority::new("another CA").pem()).unwrap();
    let wrong = node();
    wrong.manage(vault(&bao.url(""), "kv/apisix", bao.token()));
    let error = wrong.read("ssl/key").await.unwrap_err().to_string();
    assert!(error.contains("`ca_file`"), "{error}");
    std::fs::write(&file, authority.pem()).unwrap();
    late.becomes("ssl/key", "one").await;
    wrong.becomes("ssl/key", "one").await;

    let own = node();
    let mut written = vault(&bao.url(""), "kv/apisix", bao.token());
    written["ca"] = json!(Authority::new("another CA").pem());
    own.manage(written);
    assert!(own.read("ssl/key").await.is_err());
}
