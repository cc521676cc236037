//! What is encrypted at rest, and what answers show of it.

use serde_json::{Value, json};

use super::{KEYRING, Rig, upstream};
use crate::resource::Keyring;

fn certificate(name: &str) -> (String, String) {
    let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    (made.cert.pem(), made.signing_key.serialize_pem())
}

#[tokio::test]
async fn seals_private_keys_and_never_shows_them() {
    let rig = Rig::new().await;
    let (cert, key) = certificate("a.com");
    let keyring = Keyring::new([KEYRING]).unwrap();
    let sealed = json!(keyring.encrypt(&key));
    let (more_cert, more_key) = certificate("a.com");
    let more_sealed = json!([keyring.encrypt(&more_key)]);
    let body = json!({"cert": cert, "key": key, "sni": "a.com",
        "certs": [more_cert], "keys": [more_key]});
    let put = rig.put("ssls/1", body).await.expect(201);
    assert_eq!((&put["value"]["key"], &put["value"]["keys"]), (&sealed, &more_sealed));
    let stored = rig.stored("ssls/1").await;
    assert_eq!((&stored["key"], &stored["keys"]), (&sealed, &more_sealed));
    // PATCH leaves the key as it is, and checks it against the certificate.
    let patched = rig.patch("ssls/1", json!({"sni": "b.com"})).await.expect(200);
    assert_eq!(patched["value"]["key"], sealed);
    assert_eq!(rig.stored("ssls/1").await["key"], sealed);
    rig.patch("ssls/1", json!({"key": more_key})).await.refused(400, "does not match");
    for shown in [rig.get("ssls/1").await.expect(200), rig.get("ssls").await.expect(200)] {
        let text = shown.to_string();
        let secret = sealed.as_str().unwrap();
        assert!(!text.contains(secret) && !text.contains("PRIVATE"), "{text}");
    }
}

#[tokio::test]
async fn refuses_keys_without_showing_them() {
    let rig = Rig::new().await;
    let (cert, _) = certificate("a.com");
    let (_, other) = certificate("b.com");
    let body = json!({"cert": cert, "key": other, "sni": "a.com"});
    let got = rig.put("ssls/1", body).await;
    assert!(!got.text.contains("PRIVATE"));
    got.refused(400, "\"key\"");
}

#[tokio::test]
async fn names_which_of_several_certificates_is_wrong() {
    let rig = Rig::new().await;
    let ((cert, key), (more, _)) = (certificate("a.com"), certificate("a.com"));
    let (_, other) = certificate("a.com");
    let body = |certs: &str, keys: &str| json!({"cert": cert, "key": key, "sni": "a.com", "certs": [certs], "keys": [keys]});
    let no_pem = "x".repeat(128);
    rig.put("ssls/1", body(&no_pem, &other))
        .await
        .refused(400, "cert-key pair[1]: failed to parse cert");
    rig.put("ssls/1", body(&more, &no_pem))
        .await
        .refused(400, "cert-key pair[1]: failed to parse key");
    let said = "\"keys/0\": expected the private key of the certificate in certs/0";
    rig.put("ssls/1", body(&more, &other)).await.refused(400, said);
}

#[tokio::test]
async fn takes_references_as_they_are() {
    let rig = Rig::new().await;
    let reference = "$secret://vault/1/ssl/key";
    let body = json!({"cert": "$secret://vault/1/ssl/cert", "key": reference, "sni": "a.com"});
    rig.put("ssls/1", body).await.expect(201);
    assert_eq!(rig.stored("ssls/1").await["key"], reference);
    // Also where the schema wants something else of the text, and beside what it refuses.
    let route = |rewrite: Value| json!({"uri": "/", "plugins": {"proxy-rewrite": rewrite}});
    rig.put("routes/1", route(json!({"host": "$env://HOST", "uri": "$env://URI"})))
        .await
        .expect(201);
    let wrong = route(json!({"host": "$env://HOST", "uri": "no/slash"}));
    rig.put("routes/1", wrong).await.refused(400, "plugin proxy-rewrite err: property \"uri\"");
}

/// An upstream may name a certificate whose secrets nobody has read yet.
#[tokio::test]
async fn takes_a_client_certificate_that_waits_for_its_secrets() {
    let rig = Rig::new().await;
    let client = json!({"type": "client", "cert": "$secret://vault/1/ssl/cert",
        "key": "$secret://vault/1/ssl/key"});
    rig.put("ssls/1", client).await.expect(201);
    let (cert, key) = certificate("a.com");
    rig.put("ssls/2", json!({"cert": cert, "key": key, "sni": "a.com"})).await.expect(201);
    let by = |id: &str| {
        let mut upstream = upstream();
        upstream["scheme"] = json!("https");
        upstream["tls"] = json!({"client_cert_id": id});
        upstream
    };
    rig.put("upstreams/1", by("1")).await.expect(201);
    rig.put("upstreams/1", by("2")).await.refused(400, "an ssl object of type client");
}

#[tokio::test]
async fn seals_credentials_and_opens_them_for_readers() {
    let rig = Rig::new().await;
    let body = json!({"username": "jack", "plugins": {"key-auth": {"key": "auth-one"}}});
    let put = rig.put("consumers", body).await.expect(201);
    let sealed = json!(Keyring::new([KEYRING]).unwrap().encrypt("auth-one"));
    let key = |value: &Value| value["plugins"]["key-auth"]["key"].clone();
    assert_eq!(key(&put["value"]), sealed);
    assert_eq!(key(&rig.stored("consumers/jack").await), sealed);
    assert_eq!(key(&rig.get("consumers/jack").await.expect(200)["value"]), "auth-one");
    assert_eq!(key(&rig.get("consumers").await.expect(200)["list"][0]["value"]), "auth-one");
}

#[tokio::test]
async fn seals_the_keys_shown_to_upstreams() {
    let rig = Rig::new().await;
    let (cert, key) = certificate("client");
    let mut body = upstream();
    body["scheme"] = json!("https");
    body["tls"] = json!({"client_cert": cert, "client_key": key});
    let sealed = json!(Keyring::new([KEYRING]).unwrap().encrypt(&key));
    rig.put("upstreams/1", body.clone()).await.expect(201);
    assert_eq!(rig.stored("upstreams/1").await["tls"]["client_key"], sealed);
    let shown = rig.get("upstreams/1").await.expect(200)["value"].clone();
    assert_eq!(shown["tls"]["client_key"], sealed);
    // What was read can be written back.
    body["tls"] = shown["tls"].clone();
    rig.put("upstreams/1", body).await.expect(200);
    rig.patch("upstreams/1", json!({"desc": "x"})).await.expect(200);
    assert_eq!(rig.stored("upstreams/1").await["tls"]["client_key"], sealed);
    // The compiler reads it too.
    let served = json!({"uri": "/", "upstream_id": "1"});
    rig.put("routes/1", served).await.expect(201);
}

#[tokio::test]
async fn encrypts_everything_anew_with_the_newest_key() {
    let rig = Rig::new().await;
    let old = Keyring::new(["edd1c9f0985e76a2"]).unwrap();
    let lost = Keyring::new(["aaaabbbbccccdddd"]).unwrap();
    let newest = Keyring::new([KEYRING]).unwrap();
    let consumer = |name: &str, key: String| {
        json!({"username": name, "plugins": {"key-auth": {"key": key}}}).to_string().into()
    };
    let write = async |key: &str, value| {
        rig.store.put(key, value, crate::store::Expect::Any, None).await.unwrap();
    };
    let (cert, key) = certificate("a.com");
    let ssl = json!({"cert": cert, "sni": "a.com", "key": old.encrypt(&key)}).to_string().into();
    rig.put("consumers/kept", json!({"username": "kept", "plugins": {"key-auth": {"key": "k"}}}))
        .await
        .expect(201);
    write("consumers/old", consumer("old", old.encrypt("planted"))).await;
    write("consumers/clear", consumer("clear", "in the clear".to_owned())).await;
    write("consumers/lost", consumer("lost", lost.encrypt("planted"))).await;
    write("consumers/ref", consumer("ref", "$env://KEY".to_owned())).await;
    write("ssls/1", ssl).await;
    let version = json!({"by": "admin", "value": {"username": "old",
        "plugins": {"key-auth": {"key": old.encrypt("planted")}}}});
    write("sluice/history/consumers/old@1", version.to_string().into()).await;
    let untouched = rig.store.get("consumers/kept").await.unwrap();
    let rig = rig.with_keyring([KEYRING, "edd1c9f0985e76a2"]).await;

    let got = rig.call("POST", "reseal", Value::Null).await.expect(200);
    assert_eq!(got["resealed"], 4, "{got}");
    assert_eq!(got["unreadable"], json!(["consumers/lost"]));
    let at =
        |key: &'static str| async { rig.stored(key).await["plugins"]["key-auth"]["key"].clone() };
    assert_eq!(at("consumers/old").await, json!(newest.encrypt("planted")));
    assert_eq!(at("consumers/clear").await, json!(newest.encrypt("in the clear")));
    assert_eq!(at("consumers/lost").await, json!(lost.encrypt("planted")));
    assert_eq!(at("consumers/ref").await, json!("$env://KEY"));
    assert_eq!(rig.stored("ssls/1").await["key"], json!(newest.encrypt(&key)));
    let version = rig.stored("sluice/history/consumers/old@1").await;
    assert_eq!(version["value"]["plugins"]["key-auth"]["key"], json!(newest.encrypt("planted")));
    assert!(version["revision"].is_i64());
    assert_eq!(rig.store.get("consumers/kept").await.unwrap(), untouched);
    let again = rig.call("POST", "reseal", Value::Null).await.expect(200);
    assert_eq!(again["resealed"], 0);
}
