//! The tutorial "How to use Vault to manage certificates" on real etcd and a real OpenBao, and
//! what a cluster must survive.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;

use crate::proxy::upstream;
use crate::support::authority::{Authority, der};
use crate::support::bao::Bao;
use crate::support::etcd::Etcd;
use crate::support::eventually;
use crate::support::gateway::{Gateway, certificate};
use crate::support::origin::Origin;

const CERT: &str = "$secret://vault/quickstart-secret-id/ssl/certificate";
const KEY: &str = "$secret://vault/quickstart-secret-id/ssl/key";

/// The token that the gateway reads with: what it may read is `kv/apisix/*` and nothing else.
async fn read_only_token(bao: &Bao) -> String {
    let policy = r#"path "kv/apisix/*" { capabilities = ["read"] }"#;
    bao.token_with("apisix-policy", policy).await
}

async fn store_certificate(bao: &Bao, (cert, key): &(String, String)) {
    bao.put("kv/apisix/ssl", json!({ "certificate": cert, "key": key })).await;
}

/// Tells the gateway of the Vault, the certificate in it and the route, as the tutorial does.
async fn configure(gateway: &Gateway, bao: &Bao, token: &str, origin: &Origin) {
    let secret = json!({ "uri": bao.url(""), "prefix": "kv/apisix", "token": token });
    gateway.put("/secrets/vault/quickstart-secret-id", secret).await;
    let ssl = json!({ "sni": "test.com", "cert": CERT, "key": KEY });
    gateway.put("/ssls/quickstart-tls-client-ssl", ssl).await;
    gateway
        .put("/routes/quickstart-client-ip", json!({ "uri": "/ip", "upstream": upstream(origin) }))
        .await;
    // The certificate may be served a moment before the route is.
    gateway.served("/ip").await;
}

async fn handshake(gateway: &Gateway, ca: &Authority) -> Option<Vec<u8>> {
    let client = gateway.https_client("test.com", &ca.pem());
    let answer = client.get(gateway.https_url("test.com", "/ip")).send().await.ok()?;
    assert_eq!(answer.status(), 200);
    Some(certificate(&answer))
}

#[tokio::test]
async fn the_tutorial_word_for_word() {
    let etcd = Etcd::start().await;
    let bao = Bao::dev().await;
    let token = read_only_token(&bao).await;
    let ca = Authority::new("ROOT");
    let pair = ca.issue(&["test.com"]);
    store_certificate(&bao, &pair).await;
    let origin = Origin::start().await;
    let gateway = Gateway::builder().etcd(&[etcd.endpoint()]).start().await;
    configure(&gateway, &bao, &token, &origin).await;
    gateway.serves_certificate("test.com", &ca.pem(), &pair.0).await;

    let client = gateway.https_client("test.com", &ca.pem());
    let answer = client.get(gateway.https_url("test.com", "/ip")).send().await.unwrap();
    assert_eq!(answer.version(), http::Version::HTTP_2);
    assert_eq!(answer.status(), 200);
    assert_eq!(certificate(&answer), der(&pair.0));
    assert_eq!(answer.text().await.unwrap(), r#"{"origin":"127.0.0.1"}"#);

    // References are what stands in etcd, and nothing secret is in the logs.
    let stored =
        etcd.etcdctl(&["get", "/apisix/ssls/quickstart-tls-client-ssl", "--print-value-only"]);
    assert!(stored.contains(CERT) && stored.contains(KEY), "{stored}");
    let logs = gateway.logs();
    for secret in [token.as_str(), "PRIVATE KEY"] {
        assert!(!logs.contains(secret), "the log holds a secret");
    }
    let (_, secrets) = gateway.control("/v1/secrets").await;
    assert!(!secrets.to_string().contains(&token) && !secrets.to_string().contains("PRIVATE"));
    assert!(gateway.sample("sluice_secret_fetches_total", &[r#"result="ok""#]).await >= Some(1.0));
}

#[tokio::test]
async fn rotation_is_served_within_the_ttl_and_handshakes_go_on_without_vault() {
    let etcd = Etcd::start().await;
    let mut bao = Bao::start().await;
    let token = read_only_token(&bao).await;
    let ca = Authority::new("ROOT");
    let (first, second, third) =
        (ca.issue(&["test.com"]), ca.issue(&["test.com"]), ca.issue(&["test.com"]));
    store_certificate(&bao, &first).await;
    let origin = Origin::start().await;
    let mut gateway = Gateway::builder().etcd(&[etcd.endpoint()]).secret_ttl(2, 1).start().await;
    configure(&gateway, &bao, &token, &origin).await;
    gateway.serves_certificate("test.com", &ca.pem(), &first.0).await;

    store_certificate(&bao, &second).await;
    gateway.serves_certificate("test.com", &ca.pem(), &second.0).await;

    // Vault goes away: what was seen is served on, however old it gets.
    bao.stop();
    eventually("the gateway has noticed", || async {
        gateway.sample("sluice_secret_fetches_total", &[r#"result="error""#]).await >= Some(2.0)
    })
    .await;
    assert_eq!(handshake(&gateway, &ca).await, Some(der(&second.0)));

    // A node that starts meanwhile serves all else.
    gateway.restart().await;
    gateway.served("/ip").await;
    assert_eq!(handshake(&gateway, &ca).await, None);
    let (_, rejected) = gateway.control("/v1/rejected").await;
    let rejected = rejected.to_string();
    assert!(
        rejected.contains("ssls/quickstart-tls-client-ssl") && rejected.contains(CERT),
        "{rejected}"
    );

    // Vault is back, with a newer certificate still.
    bao.restart().await;
    store_certificate(&bao, &third).await;
    gateway.serves_certificate("test.com", &ca.pem(), &third.0).await;
}

#[tokio::test]
async fn a_write_through_one_node_serves_on_the_other() {
    let etcd = Etcd::start().await;
    let origin = Origin::start().await;
    let a = Gateway::builder().etcd(&[etcd.endpoint()]).start().await;
    let b = Gateway::builder().etcd(&[etcd.endpoint()]).start().await;
    a.put_route("1", json!({ "uri": "/get", "upstream": upstream(&origin) })).await;
    b.served("/get").await;
    let (_, seen) = b.admin("GET", "/routes/1", None).await;
    assert_eq!(seen["value"]["uri"], "/get");
    assert_eq!(b.admin("DELETE", "/routes/1", None).await.0, 200);
    eventually("the route is gone from the first", || async {
        a.get("/get").await.status() == 404
    })
    .await;
}

#[tokio::test]
async fn losing_etcd_costs_no_request_and_both_nodes_converge_afterwards() {
    let mut etcd = Etcd::start().await;
    let origin = Origin::start().await;
    let a = Gateway::builder().etcd(&[etcd.endpoint()]).start().await;
    let b = Gateway::builder().etcd(&[etcd.endpoint()]).start().await;
    a.put_route("1", json!({ "uri": "/get", "upstream": upstream(&origin) })).await;
    a.served("/get").await;
    b.served("/get").await;

    a.put_route("gone", json!({ "uri": "/status/200", "upstream": upstream(&origin) })).await;
    a.served("/status/200").await;
    b.served("/status/200").await;

    // From here to the end, every request on both nodes must be answered 200.
    let stop = Arc::new(AtomicBool::new(false));
    let load = [&a, &b].map(|gateway| {
        let (client, url, stop) =
            (gateway.client().clone(), gateway.http_url("/get"), stop.clone());
        tokio::spawn(async move {
            let mut answered = 0;
            while !stop.load(Ordering::Relaxed) {
                assert_eq!(client.get(&url).send().await.unwrap().status(), 200);
                answered += 1;
            }
            answered
        })
    });
    etcd.stop();
    for gateway in [&a, &b] {
        eventually("the loss is told", || async {
            gateway.sample("apisix_etcd_reachable", &[]).await == Some(0.0)
        })
        .await;
        let body = json!({ "uri": "/ip", "upstream": upstream(&origin) });
        let (status, answer) = gateway.admin("PUT", "/routes/2", Some(body)).await;
        assert_eq!(status, 503, "{answer}");
    }
    etcd.restart().await;
    // Written by somebody else, perhaps before the nodes are back, then compacted.
    let put = |key: &str, value: &str| etcd.etcdctl(&["put", &format!("/apisix/{key}"), value]);
    let value = json!({ "id": "2", "uri": "/ip", "upstream": upstream(&origin) }).to_string();
    for _ in 0..20 {
        put("routes/2", &value);
    }
    put("routes/3", "{broken");
    etcd.etcdctl(&["del", "/apisix/routes/gone"]);
    etcd.compact();
    for gateway in [&a, &b] {
        gateway.served("/ip").await;
        eventually("the deletion is seen", || async {
            gateway.get("/status/200").await.status() == 404
        })
        .await;
        eventually("the broken value is told", || async {
            gateway.control("/v1/rejected").await.1.to_string().contains("routes/3")
        })
        .await;
    }
    stop.store(true, Ordering::Relaxed);
    for task in load {
        assert!(task.await.unwrap() > 0);
    }
}

#[tokio::test]
async fn a_node_starts_from_its_last_good_copy_while_etcd_is_down() {
    let mut etcd = Etcd::start().await;
    let origin = Origin::start().await;
    let mut gateway = Gateway::builder().etcd(&[etcd.endpoint()]).start().await;
    gateway.put_route("1", json!({ "uri": "/get", "upstream": upstream(&origin) })).await;
    gateway.served("/get").await;
    eventually("the copy is written", || async {
        std::fs::read_to_string(gateway.dir().join("data/last_good.json"))
            .is_ok_and(|copy| copy.contains("/get"))
    })
    .await;
    etcd.stop();
    gateway.restart().await;
    assert_eq!(gateway.get("/get").await.status(), 200);
    etcd.restart().await;
    gateway.put_route("2", json!({ "uri": "/ip", "upstream": upstream(&origin) })).await;
    gateway.served("/ip").await;
}
