//! Vault's PKI engine: one certificate for all nodes, renewed, revoked, thrown away.

use serde_json::{Value, json};

use super::{issued, rejected, shown, shows_another};
use crate::support::bao::Bao;
use crate::support::etcd::Etcd;
use crate::support::eventually;
use crate::support::gateway::Gateway;

const WEB: &str = "$secret://vault/one/team/pki/issue/web";

/// A PKI engine whose role `web` issues for `*.test`, each certificate good for `ttl`.
struct Pki {
    bao: Bao,
    /// The root, PEM.
    ca: String,
    /// How many certificates there were before any was asked for.
    before: usize,
}

// === impl Pki ===

impl Pki {
    async fn start(ttl: &str) -> Self {
        let bao = Bao::dev().await;
        bao.api("POST", "/v1/sys/mounts/team/pki", json!({ "type": "pki" })).await;
        let root = json!({ "common_name": "root of the tests", "ttl": "24h", "key_type": "ec" });
        let root = bao.api("POST", "/v1/team/pki/root/generate/internal", root).await;
        let role = json!({ "allowed_domains": ["test"], "allow_subdomains": true, "ttl": ttl,
            "key_type": "ec", "key_bits": 256, "generate_lease": true });
        bao.api("POST", "/v1/team/pki/roles/web", role).await;
        let ca = root["data"]["certificate"].as_str().unwrap().to_owned();
        let mut pki = Self { bao, ca, before: 0 };
        pki.before = pki.serials().await;
        pki
    }

    async fn serials(&self) -> usize {
        let listed = self.bao.api("GET", "/v1/team/pki/certs?list=true", Value::Null).await;
        listed["data"]["keys"].as_array().map_or(0, Vec::len)
    }

    /// How many certificates were asked for.
    async fn count(&self) -> usize {
        self.serials().await - self.before
    }

    /// The manager, with a token that may ask for certificates of the role and look at them.
    async fn manager(&self) -> Value {
        let policy = r#"
path "team/pki/issue/web" { capabilities = ["update"] }
path "team/pki/cert/*" { capabilities = ["read"] }
"#;
        let token = self.bao.token_with("issuer", policy).await;
        json!({ "uri": self.bao.url(""), "prefix": "kv/apisix", "token": token })
    }

    async fn configure(&self, gateway: &Gateway) {
        gateway.put("/secrets/vault/one", self.manager().await).await;
        gateway.put("/ssls/1", order(&["a.test", "b.test"])).await;
    }
}

fn order(names: &[&str]) -> Value {
    json!({ "snis": names, "cert": WEB, "key": WEB })
}

#[tokio::test]
async fn two_nodes_ask_once_and_a_restart_does_not_ask_again() {
    let etcd = Etcd::start().await;
    let mut pki = Pki::start("1h").await;
    let mut one = Gateway::builder().etcd(&[etcd.endpoint()]).start().await;
    let two = Gateway::builder().etcd(&[etcd.endpoint()]).start().await;
    pki.configure(&one).await;
    let leaf = shows_another(&one, "a.test", &pki.ca, None).await;
    assert_eq!(shows_another(&two, "b.test", &pki.ca, None).await, leaf);
    assert_eq!(pki.count().await, 1);

    let told = issued(&two, "1").await;
    assert_eq!(told["reference"], WEB);
    assert_eq!(told["last_error"], Value::Null);
    assert!(told["renew_at"].as_i64().is_some() && told["serial"].as_str().is_some(), "{told}");

    // Beside the config, and not to be read by whoever reads etcd.
    let config = etcd.etcdctl(&["get", "/apisix/", "--prefix"]);
    assert!(!config.contains("PRIVATE KEY"), "{config}");
    let stored = etcd.etcdctl(&["get", "/apisix-sluice/issued/1/", "--prefix"]);
    assert!(stored.contains("/certificate"), "{stored}");
    assert!(!stored.contains("BEGIN") && !stored.contains("a.test"), "{stored}");

    // With Vault away, a node that starts serves what is there from the first connection on.
    pki.bao.stop();
    one.restart().await;
    assert_eq!(shown(&one, "a.test", &pki.ca).await, Some(leaf));
    for gateway in [&one, &two] {
        assert!(!gateway.logs().contains("PRIVATE KEY"));
    }
}

#[tokio::test]
async fn is_renewed_and_served_on_while_vault_is_away() {
    let etcd = Etcd::start().await;
    let mut pki = Pki::start("24s").await;
    let gateway = Gateway::builder().etcd(&[etcd.endpoint()]).start().await;
    pki.configure(&gateway).await;
    let first = shows_another(&gateway, "a.test", &pki.ca, None).await;
    let second = shows_another(&gateway, "a.test", &pki.ca, Some(&first)).await;
    assert_eq!(pki.count().await, 2);

    pki.bao.stop();
    eventually("the failure is told", async || {
        let told = issued(&gateway, "1").await;
        told["last_error"].as_str().is_some_and(|error| error.contains("/v1/team/pki/issue/web"))
    })
    .await;
    // It may have come to its end meanwhile; what is shown is still the same.
    let (_, all) = gateway.control("/v1/certificates").await;
    assert_eq!(all[0]["sha256"], sha256(&second));
    assert_eq!(rejected(&gateway, "1").await, "");
}

fn sha256(der: &[u8]) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, der);
    digest.as_ref().iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

/// A lease that is revoked takes its certificate along.
#[tokio::test]
async fn another_is_asked_for_when_the_lease_is_revoked() {
    let pki = Pki::start("120s").await;
    let gateway = Gateway::start().await;
    pki.configure(&gateway).await;
    let first = shows_another(&gateway, "a.test", &pki.ca, None).await;
    let path = "/v1/sys/leases/revoke-prefix/team/pki/issue/web";
    pki.bao.api("PUT", path, json!({})).await;
    shows_another(&gateway, "a.test", &pki.ca, Some(&first)).await;
    assert!(gateway.logs().contains("the certificate was revoked"));
    assert_eq!(pki.count().await, 2);
}

#[tokio::test]
async fn other_names_are_another_certificate_and_what_is_over_is_thrown_away() {
    let etcd = Etcd::start().await;
    let pki = Pki::start("1h").await;
    let gateway = Gateway::builder().etcd(&[etcd.endpoint()]).start().await;
    pki.configure(&gateway).await;
    shows_another(&gateway, "a.test", &pki.ca, None).await;
    let records = || etcd.etcdctl(&["get", "/apisix-sluice/issued/", "--prefix", "--keys-only"]);
    let first = records();
    gateway.put("/ssls/1", order(&["c.test"])).await;
    shows_another(&gateway, "c.test", &pki.ca, None).await;
    assert_eq!(shown(&gateway, "a.test", &pki.ca).await, None);
    eventually("the record of the old names is gone", async || {
        let now = records();
        now.matches("/certificate").count() == 1 && now != first
    })
    .await;
    gateway.admin("DELETE", "/ssls/1", None).await;
    eventually("no record is left", async || records().trim().is_empty()).await;
    assert_eq!(pki.count().await, 2);
}

#[tokio::test]
async fn says_why_there_is_none_and_tries_at_once_when_that_is_mended() {
    let pki = Pki::start("1h").await;
    let gateway = Gateway::start().await;
    for (body, said) in [
        (
            json!({ "sni": "a.test", "cert": WEB, "key": "$secret://vault/one/pki/issue/other" }),
            "the same reference as in cert",
        ),
        (
            json!({ "sni": "*.test", "cert": "$secret://acme/le", "key": "$secret://acme/le" }),
            "without a wildcard",
        ),
    ] {
        let (status, answer) = gateway.admin("PUT", "/ssls/1", Some(body)).await;
        assert_eq!(status, 400, "{answer}");
        assert!(answer.to_string().contains(said), "{answer}");
    }
    gateway.put("/ssls/1", order(&["a.test"])).await;
    eventually("the missing manager is named", async || {
        rejected(&gateway, "1").await.contains("no secret manager vault/one")
    })
    .await;
    gateway.put("/secrets/vault/one", pki.manager().await).await;
    shows_another(&gateway, "a.test", &pki.ca, None).await;
    assert_eq!(rejected(&gateway, "1").await, "");

    // A name that the role does not allow: Vault's own words.
    gateway.put("/ssls/2", order(&["a.example"])).await;
    eventually("Vault's refusal is told", async || {
        rejected(&gateway, "2").await.contains("not allowed by this role")
    })
    .await;
}

#[tokio::test]
async fn a_shared_store_needs_a_key() {
    let etcd = Etcd::start().await;
    let gateway = Gateway::builder().etcd(&[etcd.endpoint()]).config(|config| {
        config["apisix"]["data_encryption"] = json!({ "keyring": [] });
    });
    let gateway = gateway.start().await;
    let (status, answer) = gateway.admin("PUT", "/ssls/1", Some(order(&["a.test"]))).await;
    assert_eq!(status, 400, "{answer}");
    assert!(answer.to_string().contains("apisix.data_encryption.keyring"), "{answer}");
}

/// The record is no resource, and must not be forgotten when the old key is taken away.
#[tokio::test]
async fn is_encrypted_anew_when_the_key_is_changed() {
    const OLD: &str = "edd1c9f0985e76a2";
    const NEW: &str = "qeddd145sfvddff3";
    let mut pki = Pki::start("1h").await;
    let gateway = Gateway::builder().config(|config| {
        config["apisix"]["data_encryption"] = json!({ "keyring": [OLD] });
    });
    let mut gateway = gateway.start().await;
    pki.configure(&gateway).await;
    let leaf = shows_another(&gateway, "a.test", &pki.ca, None).await;
    pki.bao.stop();
    for keyring in [json!([NEW, OLD]), json!([NEW])] {
        let mut config = gateway.read_config();
        config["apisix"]["data_encryption"]["keyring"] = keyring;
        gateway.write_config(&config);
        gateway.restart().await;
        let (status, answer) = gateway.admin("POST", "/reseal", None).await;
        assert_eq!((status, &answer["unreadable"]), (200, &json!([])), "{answer}");
        assert_eq!(shown(&gateway, "a.test", &pki.ca).await.as_ref(), Some(&leaf));
    }
}
