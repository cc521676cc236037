//! The Admin API of a running node: its listener.

mod clients;
mod push;

use serde_json::json;

use crate::support::authority::Authority;
use crate::support::eventually;
use crate::support::gateway::{ADMIN_KEY, Gateway};

#[tokio::test]
async fn speaks_tls_and_asks_callers_for_certificates() {
    let ca = Authority::new("admin");
    let (cert, key) = ca.issue(&["admin.test"]);
    let (client_cert, client_key) = ca.issue(&["caller.test"]);
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let (cert, key) = (file("admin.crt", &cert), file("admin.key", &key));
    let authority = file("ca.crt", &ca.pem());
    let gateway = Gateway::builder()
        .config(|config| {
            let admin = &mut config["deployment"]["admin"];
            admin["https_admin"] = json!(true);
            admin["admin_api_mtls"] = json!({ "admin_ssl_cert": cert, "admin_ssl_cert_key": key,
                "admin_ssl_ca_cert": authority });
        })
        .start()
        .await;
    let port = gateway.ports().admin;
    let url = format!("https://admin.test:{port}/apisix/admin/routes");
    let client = |identity: Option<&str>| {
        let root = reqwest::Certificate::from_pem(ca.pem().as_bytes()).unwrap();
        let builder = reqwest::Client::builder().no_proxy().tls_certs_only([root]);
        let builder = builder.resolve("admin.test", ([127, 0, 0, 1], port).into());
        let builder = match identity {
            Some(pem) => builder.identity(reqwest::Identity::from_pem(pem.as_bytes()).unwrap()),
            None => builder,
        };
        builder.build().unwrap()
    };
    let refused = client(None).get(&url).header("X-API-KEY", ADMIN_KEY).send().await;
    assert!(refused.is_err(), "a caller without a certificate");
    let identity = format!("{client_cert}{client_key}");
    let shown = client(Some(&identity));
    let answer = shown.get(&url).header("X-API-KEY", ADMIN_KEY).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    // The certificate does not stand in for a key.
    assert_eq!(shown.get(&url).send().await.unwrap().status(), 401);
}

/// What is audited is what happens to each resource, not how it was sent.
#[tokio::test]
async fn audits_a_deletion_inside_a_transaction_as_one() {
    let gateway = Gateway::start().await;
    gateway.put_route("1", json!({ "uri": "/", "plugins": {} })).await;
    let operations = json!([{ "delete": "routes/1" },
        { "put": "routes/2", "value": { "uri": "/", "plugins": {} } }]);
    let (status, answer) = gateway.admin("POST", "/transactions", Some(operations)).await;
    assert_eq!(status, 200, "{answer}");
    let is_said = |method: &str, resource: &str| {
        let logs = gateway.logs();
        logs.lines().any(|line| {
            let has = |text: &str| line.contains(text);
            has("admin write") && has(method) && has(resource)
        })
    };
    eventually("the log tells both", || async {
        is_said("DELETE", "routes/1") && is_said("PUT", "routes/2")
    })
    .await;
    assert!(!is_said("POST", "routes/"));
}
