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
    // That of the config serves where the manager names none, and only there.
    let (second, ca) = (Duration::from_secs(1), Some(authority.pem()));
    let by = || Node::by(Settings { ttl: second, neg_ttl: second, ca: ca.clone() });
    let trusting = by();
    trusting.manage(written.clone());
    assert_eq!(trusting.read("ssl/key").await.unwrap(), "one");
    let mut named = written.clone();
    named["ca"] = json!(Authority::new("another CA").pem());
    let elsewhere = by();
    elsewhere.manage(named);
    assert!(elsewhere.read("ssl/key").await.is_err());

    let mut unchecked = written;
    unchecked["ssl_verify"] = json!(false);
    assert_eq!(Node::with(unchecked).read("ssl/key").await.unwrap(), "one");
}
