//! ACME: names proved over HTTP or in a handshake, by whichever node is asked.

use serde_json::{Value, json};

use super::{issued, rejected, shows_another};
use crate::support::etcd::Etcd;
use crate::support::eventually;
use crate::support::gateway::Gateway;
use crate::support::pebble::Pebble;

const ACME: &str = "$secret://acme/pebble";

fn manager(pebble: &Pebble) -> Value {
    json!({ "directory": pebble.directory(), "email": "ops@example.com", "terms_agreed": true,
        "ca": pebble.ca() })
}

fn order(name: &str) -> Value {
    json!({ "sni": name, "cert": ACME, "key": ACME })
}

/// The server looks on the second node, whichever asks it.
#[tokio::test]
async fn any_node_answers_the_challenge_and_both_serve_the_certificate() {
    let etcd = Etcd::start().await;
    let one = Gateway::builder().etcd(&[etcd.endpoint()]).start().await;
    let two = Gateway::builder().etcd(&[etcd.endpoint()]).start().await;
    let pebble = Pebble::start(two.ports().http, 3600).await;
    one.put("/secrets/acme/pebble", manager(&pebble)).await;
    one.put("/ssls/1", order("a.test")).await;
    let root = pebble.root().await;
    let leaf = shows_another(&one, "a.test", &root, None).await;
    assert_eq!(shows_another(&two, "a.test", &root, None).await, leaf);
    assert_eq!(pebble.log().matches("Issued certificate serial").count(), 1, "{}", pebble.log());

    let stored = etcd.etcdctl(&["get", "/apisix-sluice/issue", "--prefix"]);
    assert!(stored.contains("/issuers/acme/pebble/"), "{stored}");
    assert!(!stored.contains("BEGIN") && !stored.contains("key_pkcs8"), "{stored}");
    assert_eq!(issued(&one, "1").await["reference"], ACME);
    // Nothing is answered any more: the path is as any other.
    let path = "/.well-known/acme-challenge/any";
    assert_eq!(two.get(path).await.status(), 404);
    eventually("the answer is in the access log", async || {
        two.logs().contains("/.well-known/acme-challenge/")
    })
    .await;
}

#[tokio::test]
async fn is_renewed_with_the_same_account() {
    let gateway = Gateway::start().await;
    let pebble = Pebble::start(gateway.ports().http, 20).await;
    gateway.put("/secrets/acme/pebble", manager(&pebble)).await;
    gateway.put("/ssls/1", order("a.test")).await;
    let root = pebble.root().await;
    let first = shows_another(&gateway, "a.test", &root, None).await;
    shows_another(&gateway, "a.test", &root, Some(&first)).await;
    assert_eq!(pebble.log().matches("POST /sign-me-up").count(), 1, "{}", pebble.log());
}

/// The server looks on the second node, and the first has asked it.
#[tokio::test]
async fn any_node_proves_a_name_in_a_handshake() {
    let etcd = Etcd::start().await;
    let one = Gateway::builder().etcd(&[etcd.endpoint()]).start().await;
    let two = Gateway::builder().etcd(&[etcd.endpoint()]).start().await;
    let pebble = Pebble::start_tls(two.ports().https, 3600).await;
    let mut manager = manager(&pebble);
    manager["challenge"] = json!("tls-alpn-01");
    one.put("/secrets/acme/pebble", manager).await;
    // So that it is not the second who asks.
    two.signal("STOP");
    one.write("/ssls/1", json!({ "snis": ["a.test", "b.test"], "cert": ACME, "key": ACME })).await;
    eventually("the first node asks", async || {
        etcd.etcdctl(&["get", "/apisix-sluice/issued/1/", "--prefix"]).contains("/claim")
    })
    .await;
    two.signal("CONT");
    let root = pebble.root().await;
    let leaf = shows_another(&one, "a.test", &root, None).await;
    assert_eq!(shows_another(&two, "b.test", &root, None).await, leaf);
    let (_, status) = one.control("/v1/status").await;
    assert_eq!(issued(&one, "1").await["by"], status["id"]);
    assert_eq!(pebble.log().matches("Issued certificate serial").count(), 1, "{}", pebble.log());
    // Whoever comes without a proof to see is any client: it has no protocol of ours.
    let output = std::process::Command::new("openssl")
        .args(["s_client", "-connect", &format!("127.0.0.1:{}", two.https_port())])
        .args(["-servername", "a.test", "-alpn", "acme-tls/1"])
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("no application protocol"), "{said}");
}

/// The server has lost its accounts.
#[tokio::test]
async fn another_account_is_made_when_the_server_has_forgotten_it() {
    let etcd = Etcd::start().await;
    let gateway = Gateway::builder().etcd(&[etcd.endpoint()]).start().await;
    let mut pebble = Pebble::start(gateway.ports().http, 3600).await;
    gateway.put("/secrets/acme/pebble", manager(&pebble)).await;
    gateway.put("/ssls/1", order("a.test")).await;
    let root = pebble.root().await;
    shows_another(&gateway, "a.test", &root, None).await;
    let accounts = || etcd.etcdctl(&["get", "/apisix-sluice/issuers/", "--prefix"]);
    let first = accounts();
    pebble.restart().await;
    gateway.put("/ssls/2", order("b.test")).await;
    let root = pebble.root().await;
    shows_another(&gateway, "b.test", &root, None).await;
    assert!(gateway.logs().contains("does not know the account any more"));
    assert!(accounts() != first && accounts().lines().count() == first.lines().count());
    assert_eq!(pebble.log().matches("POST /sign-me-up").count(), 2, "{}", pebble.log());
}

#[tokio::test]
async fn says_what_the_server_says() {
    let gateway = Gateway::start().await;
    // Nobody answers on that port.
    let pebble = Pebble::start(crate::support::free_port(), 3600).await;
    gateway.put("/secrets/acme/pebble", manager(&pebble)).await;
    gateway.put("/ssls/1", order("a.test")).await;
    eventually("the server's reason is told", async || {
        rejected(&gateway, "1").await.contains("connection refused")
    })
    .await;
    let bad = json!({ "directory": "https://127.0.0.1/dir", "challenge": "dns-01" });
    let (status, answer) = gateway.admin("PUT", "/secrets/acme/other", Some(bad)).await;
    assert_eq!(status, 400, "{answer}");
    assert!(answer.to_string().contains("challenge"), "{answer}");
}
