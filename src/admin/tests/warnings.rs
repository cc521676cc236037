//! What a writer should know all the same: `Warning` headers, however an ssl object is written.

use http::header;
use serde_json::{Value, json};

use super::{Got, KEYRING, Rig, request, route, serve_with, settings};

/// An ssl object for a name that its certificate is not for.
fn misnamed(id: &str) -> Value {
    let made = rcgen::generate_simple_self_signed(["a.com".to_owned()]).unwrap();
    json!({ "id": id, "sni": "b.com", "cert": made.cert.pem(),
        "key": made.signing_key.serialize_pem() })
}

/// The warnings of an answer that is no refusal.
fn warnings(got: &Got) -> Vec<&str> {
    assert!(got.status < 300, "{}", got.text);
    got.headers.get_all(header::WARNING).iter().map(|one| one.to_str().unwrap()).collect()
}

const SAID: &str = "cert is not for b.com: it is for a.com";

#[tokio::test]
async fn a_transaction_tells_them_with_the_operation() {
    let rig = Rig::new().await;
    let mut ssl = misnamed("7");
    ssl.as_object_mut().unwrap().remove("id");
    let mut client = ssl.clone();
    client["type"] = json!("client");
    client.as_object_mut().unwrap().remove("sni");
    let operations = json!([
        {"put": "routes/1", "value": route("/")},
        {"put": "ssls/7", "value": ssl},
        {"put": "ssls/8", "value": client},
    ]);
    let expected = format!("299 - \"[1] ssls/7: {SAID}\"");
    for query in ["?dry_run=true", "", ""] {
        let path = format!("transactions{query}");
        let got = rig.call("POST", &path, operations.clone()).await;
        assert_eq!(warnings(&got), [expected.as_str()], "{query}");
    }
}

#[tokio::test]
async fn a_whole_configuration_is_told_them_with_the_resource() {
    let rig = Rig::new().await;
    let mut unnamed = misnamed("");
    unnamed.as_object_mut().unwrap().remove("id");
    let body = json!({ "ssls": [misnamed("7"), unnamed] });
    let got = rig.call("POST", "configs/validate", body.clone()).await;
    let expected = [format!("299 - \"ssls/7: {SAID}\""), format!("299 - \"ssls/arr_2: {SAID}\"")];
    assert_eq!(warnings(&got), expected);

    let store = rig.store.clone();
    let settings = super::Settings { is_pushed: true, ..settings() };
    let admin = serve_with(settings, &store, store.clone(), [KEYRING]).await;
    let pushed = Rig { admin, store, _folder: rig._folder };
    let mut request = request("PUT", "configs", body.to_string());
    request.headers_mut().insert("x-digest", "1".parse().unwrap());
    let got = pushed.send(request).await;
    assert_eq!((got.status, warnings(&got)), (202, expected.iter().map(String::as_str).collect()));
}

#[tokio::test]
async fn there_are_no_more_than_a_client_reads() {
    let rig = Rig::new().await;
    let all: Vec<Value> = (0..30).map(|id| misnamed(&id.to_string())).collect();
    let got = rig.call("POST", "configs/validate", json!({ "ssls": all })).await;
    let told = warnings(&got);
    assert_eq!((told.len(), told[20]), (21, "299 - \"and 10 more\""));
}
