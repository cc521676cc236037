//! `ssl_trusted_certificate`: what nodes are verified by.

use serde_json::json;

use crate::support::authority::Authority;
use crate::support::gateway::Gateway;
use crate::support::origin::Origin;

#[tokio::test]
async fn nodes_are_verified_by_the_authorities_of_the_config() {
    let ca = Authority::new("ROOT");
    let (cert, key) = ca.issue(&["origin.test"]);
    let origin = Origin::start_tls(&cert, &key).await;
    let dir = tempfile::tempdir().unwrap();
    for (authority, status) in [(&ca, 200), (&Authority::new("OTHER"), 502)] {
        let path = dir.path().join("trusted.crt");
        std::fs::write(&path, authority.pem()).unwrap();
        let gateway = Gateway::builder()
            .config(|config| config["apisix"]["ssl"]["ssl_trusted_certificate"] = json!(path))
            .start()
            .await;
        let upstream = json!({
            "type": "roundrobin", "scheme": "https", "nodes": { origin.node(): 1 },
            "tls": { "verify": true }, "pass_host": "rewrite", "upstream_host": "origin.test",
        });
        gateway.put_route("1", json!({ "uri": "/*", "upstream": upstream })).await;
        gateway.answers("/get", status).await;
    }
}
