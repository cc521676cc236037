//! What is said of certificates that are taken and may still fail their clients.

use serde_json::{Value, json};

use crate::support::authority::Authority;
use crate::support::gateway::{ADMIN_KEY, Gateway};

/// Writes an ssl object; returns the warnings of the answer.
async fn warned(gateway: &Gateway, body: &Value) -> Vec<String> {
    let response = gateway.admin_response(ADMIN_KEY, "PUT", "/ssls/1", Some(body)).await;
    assert!(response.status().is_success(), "{:?}", response.status());
    let warnings = response.headers().get_all("warning").iter();
    warnings.map(|warning| warning.to_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn warns_whoever_writes_it_the_log_and_the_control_api() {
    let gateway = Gateway::start().await;
    let ca = Authority::new("ROOT");
    let (cert, key) = ca.issue(&["test.com"]);
    let fine = json!({ "sni": "test.com", "cert": cert, "key": key });
    assert_eq!(warned(&gateway, &fine).await, Vec::<String>::new());

    let (other, other_key) = ca.issue(&["test.com"]);
    let chain = format!("{cert}{other}");
    let body = json!({
        "snis": ["test.com", "other.org"], "cert": chain, "key": key,
        "certs": [other], "keys": [other_key]
    });
    let warnings = warned(&gateway, &body).await;
    let all = warnings.join("\n");
    assert!(warnings.iter().all(|warning| warning.starts_with("299 - \"cert")), "{all}");
    for part in [
        "cert is not for other.org: it is for test.com, 127.0.0.1",
        "certificate 2 of the chain (CN=test.com) has not issued the one before it",
        "certs/0 is never shown: another one before it is ECDSA P-256 too",
    ] {
        assert!(all.contains(part), "{part}: {all}");
    }
    crate::support::eventually("the log and the control API have it", || async {
        let (_, told) = gateway.control("/v1/certificates").await;
        let told = told[0]["warnings"].to_string();
        told.contains("is not for other.org") && gateway.logs().contains("is not for other.org")
    })
    .await;
    let (_, told) = gateway.control("/v1/certificates").await;
    assert_eq!(told[0]["key"], "ECDSA P-256");
    assert!(told[0]["days_left"].as_i64().unwrap() > 30, "{told}");
    assert!(!told.to_string().contains("PRIVATE") && !gateway.logs().contains("PRIVATE"));
}

#[tokio::test]
async fn refuses_what_nobody_could_be_served_by() {
    let gateway = Gateway::start().await;
    let ca = Authority::new("ROOT");
    let (cert, key) = ca.issue(&["test.com"]);
    let passphrase = key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    let reversed = format!("{}{cert}", ca.pem());
    for (cert, key, reason) in [
        (&cert, &passphrase, "encrypted with a passphrase"),
        (&cert, &cert, "what everybody may know"),
        (&reversed, &key, "it is certificate 2 there"),
    ] {
        for kind in ["server", "client"] {
            let mut body = json!({ "type": kind, "cert": cert, "key": key });
            if kind == "server" {
                body["sni"] = json!("test.com");
            }
            let (status, answer) = gateway.admin("PUT", "/ssls/1", Some(body)).await;
            let said = answer["error_msg"].as_str().unwrap_or_default();
            assert_eq!(status, 400, "{answer}");
            assert!(said.contains(reason), "{said}");
        }
    }
}
