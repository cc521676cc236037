//! Whatever befalls Vault: the value is served on, the operator reads where and why, and all is
//! well by itself when Vault is.

use std::time::Duration;

use serde_json::{Value, json};
use sluice::secret::{Lookup, SecretError};

use super::stand_in::{Mood, StandIn, json as answer};
use super::{Node, vault};
use crate::proxy::upstream;
use crate::support::authority::{Authority, der};
use crate::support::bao::Bao;
use crate::support::eventually;
use crate::support::gateway::{Gateway, certificate};
use crate::support::origin::Origin;

/// Good for a second, so that a failure is met soon.
fn quick() -> Node {
    Node::lasting(Duration::from_secs(1), Duration::from_secs(1))
}

/// What is served, whatever the last read came to.
fn served(node: &Node) -> String {
    match node.lookup("ssl/key") {
        Lookup::Ready(secret) => secret.expose().to_owned(),
        other => panic!("nothing is served: {other:?}"),
    }
}

/// On a stand-in, since no real server does these things when asked.
#[tokio::test]
async fn a_value_outlives_every_bad_answer_and_each_is_named() {
    let server = StandIn::start().await;
    let raw = |text: &str| Mood::Raw(text.to_owned());
    let redirect =
        "HTTP/1.1 307 X\r\nLocation: http://active:8200/v1/kv\r\nContent-Length: 0\r\n\r\n";
    for (mood, words) in [
        (Mood::Slow(10_000), "timed out after 2 s"),
        (raw(&answer(500, "<h1>oops</h1>")), "answered 500: it gives no reason"),
        (raw(&answer(502, r#"{"errors": ["no leader"]}"#)), "answered 502: no leader"),
        (raw(&answer(429, r#"{"errors": ["slow down"]}"#)), "answered 429: slow down"),
        (raw(&answer(403, r#"{"errors": ["permission denied"]}"#)), "another `token`"),
        (raw(&answer(404, r#"{"errors": []}"#)), "answered 404: nothing stands there"),
        (raw(&answer(200, "<h1>Welcome</h1>")), "is no JSON"),
        (raw(&answer(200, r#"{"data": 5}"#)), "expected fields"),
        (raw("HTTP/1.1 200 X\r\nContent-Length: 100\r\n\r\n{\"data\": {"), "end of file"),
        (raw("garbage\r\n\r\n"), "invalid HTTP"),
        (raw(redirect), "it redirects to http://active:8200/v1/kv; expected the active node"),
        (raw(""), "closed"),
    ] {
        server.is(Mood::Well("good"));
        let node = quick();
        let mut written = vault(&server.uri, "kv/apisix", "given");
        written["timeout"] = json!(2);
        node.manage(written);
        assert_eq!(node.read("ssl/key").await.unwrap(), "good");

        server.is(mood.clone());
        let said = node.fails().await.to_string();
        assert!(said.contains(words), "{mood:?}: {said}");
        assert!(said.contains(&server.uri), "{mood:?}: {said}");
        assert!(!said.contains("given"), "{mood:?}: {said}");
        assert_eq!(served(&node), "good", "{mood:?}");

        server.is(Mood::Well("better"));
        node.becomes("ssl/key", "better").await;
        assert!(node.secrets.status()[0].error.is_none());
    }
}

/// On a stand-in that counts.
#[tokio::test]
async fn a_thousand_references_are_read_by_sixteen_once_each_with_one_login() {
    let server = StandIn::start().await;
    let node = Node::lasting(Duration::from_secs(4), Duration::from_secs(1));
    let approle = json!({ "method": "approle", "role_id": "r", "secret_id": "s" });
    let written = json!({ "uri": server.uri, "prefix": "kv/apisix", "auth": approle });
    node.manage(written);
    let paths: Vec<_> = (0..1000).map(|number| format!("p{number}/key")).collect();
    let all_are = |value: &str| {
        // All are looked up, which starts their reading.
        let found: Vec<_> = paths.iter().map(|path| node.lookup(path)).collect();
        found.iter().all(|found| matches!(found, Lookup::Ready(secret) if secret.expose() == value))
    };
    eventually("all are read", async || all_are("good")).await;
    assert_eq!((server.read_paths(1), server.logins()), (1000, 1));
    assert!(server.most_at_once() <= 16, "{}", server.most_at_once());

    // The token is revoked while all are due: one login more, and nobody is refused.
    server.revoke();
    server.is(Mood::Well("rotated"));
    eventually("all are read again", async || all_are("rotated")).await;
    assert_eq!(server.logins(), 2);
    assert!(server.most_at_once() <= 16, "{}", server.most_at_once());
    assert_eq!(node.failures(), 0);

    // All due at a server that hangs: it takes one time limit or a few, not one for each sixteen.
    server.is(Mood::Slow(10_000));
    eventually("all have failed", async || {
        node.secrets.status().iter().all(|path| path.error.is_some())
    })
    .await;
    assert!(all_are("rotated"));
    server.is(Mood::Well("back"));
    eventually("all are back", async || all_are("back")).await;
    assert!(server.most_at_once() <= 16, "{}", server.most_at_once());
}

#[tokio::test]
async fn a_secret_that_is_deleted_is_served_on() {
    let bao = Bao::dev().await;
    bao.put("kv/apisix/ssl", json!({ "key": "one" })).await;
    let node = quick();
    node.manage(vault(&bao.url(""), "kv/apisix", "root"));
    assert_eq!(node.read("ssl/key").await.unwrap(), "one");
    bao.api("DELETE", "/v1/kv/apisix/ssl", Value::Null).await;
    let error = node.fails().await;
    assert!(matches!(error, SecretError::Refused { status: 404, .. }), "{error}");
    assert!(error.to_string().contains(&bao.url("/v1/kv/apisix/ssl")), "{error}");
    assert_eq!(served(&node), "one");
    bao.put("kv/apisix/ssl", json!({ "key": "two" })).await;
    node.becomes("ssl/key", "two").await;
}

#[tokio::test]
async fn a_name_that_the_certificate_does_not_have_is_explained() {
    let authority = Authority::new("private CA");
    let bao = Bao::tls(&authority).await;
    let uri = bao.url("").replace("127.0.0.1", "localhost");
    let mut written = vault(&uri, "kv/apisix", bao.token());
    written["ca"] = json!(authority.pem());
    let said = Node::with(written).read("ssl/key").await.unwrap_err().to_string();
    assert!(said.contains("localhost") && said.contains("`uri` of this"), "{said}");
}

/// A certificate served by the gateway itself, through a sealed server and a revoked lease.
#[tokio::test]
async fn handshakes_go_on_through_a_seal_and_a_revoked_lease() {
    let bao = Bao::start().await;
    let auth = super::login::approle(&bao, json!({})).await;
    let ca = Authority::new("ROOT");
    let pairs = [ca.issue(&["test.com"]), ca.issue(&["test.com"])];
    let put = async |(cert, key): &(String, String)| {
        bao.put("kv/apisix/ssl", json!({ "certificate": cert, "key": key })).await;
    };
    put(&pairs[0]).await;
    let origin = Origin::start().await;
    let gateway = Gateway::builder().secret_ttl(1, 1).start().await;
    let secret = json!({ "uri": bao.url(""), "prefix": "kv/apisix", "auth": auth });
    gateway.put("/secrets/vault/1", secret).await;
    let (cert, key) = ("$secret://vault/1/ssl/certificate", "$secret://vault/1/ssl/key");
    gateway.put("/ssls/1", json!({ "sni": "test.com", "cert": cert, "key": key })).await;
    gateway.put_route("1", json!({ "uri": "/*", "upstream": upstream(&origin) })).await;
    gateway.serves_certificate("test.com", &ca.pem(), &pairs[0].0).await;

    bao.seal().await;
    eventually("the operator reads why", || async {
        let (_, secrets) = gateway.control("/v1/secrets").await;
        let secrets = secrets.to_string();
        secrets.contains(&bao.url("/v1/")) && secrets.contains("ealed")
    })
    .await;
    let client = gateway.https_client("test.com", &ca.pem());
    let shown = client.get(gateway.https_url("test.com", "/")).send().await.unwrap();
    assert_eq!(certificate(&shown), der(&pairs[0].0));

    // The lease of the login is revoked as well: the next read logs in again.
    bao.unseal().await;
    bao.api("PUT", "/v1/sys/leases/revoke-prefix/auth/approle/login", json!({})).await;
    put(&pairs[1]).await;
    gateway.serves_certificate("test.com", &ca.pem(), &pairs[1].0).await;
    let logs = gateway.logs();
    assert!(!logs.contains(auth["secret_id"].as_str().unwrap()), "the log holds a secret");
}
