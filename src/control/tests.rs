//! What the control API says, without a socket.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;

use super::*;
use crate::resource::Keyring;
use crate::secret;
use crate::snapshot::Snapshot;
use crate::snapshot::compile::{Compiler, Settings};
use crate::store::Expect;
use crate::store::embedded::Embedded;
use crate::upstream::{Keepalive, dns};

struct Bench {
    control: Arc<Control>,
    compiler: Shared,
    ready: watch::Sender<bool>,
    _folder: tempfile::TempDir,
}

async fn bench(stored: &[(&str, Value)]) -> Bench {
    let folder = tempfile::tempdir().unwrap();
    let store = Embedded::open(&folder.path().join("config.redb")).unwrap();
    let settings = secret::Settings {
        ttl: Duration::from_secs(300),
        neg_ttl: Duration::from_secs(60),
    };
    let handle = tokio::runtime::Handle::current();
    let (secrets, _) = Secrets::new(settings, handle, |_, _| {});
    let compiler = Compiler::new(
        Settings {
            keepalive: Keepalive {
                size: 1,
                idle: Duration::from_secs(1),
                requests: 1,
            },
            protocols: vec!["TLSv1.3".to_owned()],
            http2: true,
            fallback_sni: None,
            encrypt_fields: true,
            plugins: None,
        },
        Keyring::default(),
        secrets.clone(),
        dns::Dns::new(dns::Settings::default()).unwrap(),
    );
    let compiler = Shared::new(compiler);
    for (key, value) in stored {
        let value = Bytes::from(value.to_string());
        store.put(key, value, Expect::Any, None).await.unwrap();
    }
    let listing = store.list("").await.unwrap();
    compiler.lock().load(listing.revision, listing.entries);
    let (ready, is_ready) = watch::channel(false);
    let published = Arc::new(ArcSwap::from_pointee(Snapshot::default()));
    let control = Control::new(Parts {
        compiler: compiler.clone(),
        published,
        secrets,
        store,
        ready: is_ready,
        version: "0",
        node_id: "n".to_owned(),
        provider: "embedded",
    });
    Bench {
        control,
        compiler,
        ready,
        _folder: folder,
    }
}

async fn check(bench: &Bench, path: &str) -> (u16, Value) {
    let (status, body) = bench.control.answer(path).await;
    (status.as_u16(), body)
}

#[tokio::test]
async fn tells_what_is_rejected_and_why() {
    let bench = bench(&[
        ("routes/good", json!({ "uri": "/a", "plugins": {} })),
        ("routes/bad", json!({ "uri": 5, "plugins": {} })),
        ("protos/1", json!({})),
    ])
    .await;
    let (_, rejected) = check(&bench, "/v1/rejected").await;
    assert_eq!(rejected[0]["key"], "routes/bad");
    assert_eq!(rejected[0]["serves_last_good"], false);
    assert_eq!(rejected[0]["reasons"][0]["path"], "/uri");
    let (_, status) = check(&bench, "/v1/status").await;
    assert_eq!(status["resources"]["routes"], 1);
    assert_eq!((&status["rejected"], &status["ready"]), (&json!(1), &json!(false)));
    assert_eq!(status["ignored"], json!(["protos/1"]));
    drop(bench.compiler);
}

#[tokio::test]
async fn lists_resources_and_hides_what_is_secret() {
    let upstream = json!({ "nodes": {}, "tls": { "client_cert": "c", "client_key": "planted" } });
    let bench = bench(&[
        ("upstreams/1", upstream.clone()),
        ("routes/1", json!({ "uri": "/a", "upstream": upstream })),
    ])
    .await;
    for path in ["/v1/upstreams", "/v1/upstream/1", "/v1/routes", "/v1/route/1"] {
        let (status, told) = check(&bench, path).await;
        assert_eq!(status, 200);
        assert!(!told.to_string().contains("planted"), "{path}: {told}");
        assert!(told.to_string().contains("modifiedIndex"), "{path}: {told}");
    }
    assert_eq!(check(&bench, "/v1/route/2").await.0, 404);
    assert_eq!(check(&bench, "/v1/none").await.0, 404);
    assert_eq!(check(&bench, "/").await.0, 404);
    let (_, schema) = check(&bench, "/v1/schema").await;
    assert!(schema["main"]["route"]["properties"]["uri"].is_object());
    assert!(schema["plugins"]["key-auth"]["consumer_schema"].is_object());
}

#[tokio::test]
async fn is_ready_with_the_first_snapshot_only() {
    let bench = bench(&[]).await;
    assert_eq!(bench.control.status("/status").0, 200);
    let (status, body) = bench.control.status("/status/ready");
    assert_eq!(status, 503);
    assert!(body["error"].as_str().unwrap().contains("embedded"));
    bench.ready.send_replace(true);
    assert_eq!(bench.control.status("/status/ready").0, 200);
    let post = Request::post("/v1/status").body(()).unwrap();
    assert_eq!(respond(&post, (StatusCode::OK, json!({}))).status(), 405);
}
