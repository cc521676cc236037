//! HTTP/1.1, HTTP/2 over TLS, and HTTP/2 by prior knowledge.

use http::Version;
use serde_json::json;

use super::one_origin;
use crate::support::authority::Authority;

#[tokio::test]
async fn speaks_http_2_over_tls_and_by_prior_knowledge() {
    let (gateway, _origin) = one_origin().await;
    let ca = Authority::new("ROOT");
    let (cert, key) = ca.issue(&["test.com"]);
    gateway.put("/ssls/1", json!({ "sni": "test.com", "cert": cert, "key": key })).await;
    gateway.serves_certificate("test.com", &ca.pem(), &cert).await;

    let client = gateway.https_client("test.com", &ca.pem());
    let answer = client.get(gateway.https_url("test.com", "/headers")).send().await.unwrap();
    assert_eq!(answer.version(), Version::HTTP_2);
    let told: serde_json::Value = answer.json().await.unwrap();
    let host = format!("test.com:{}", gateway.https_port());
    assert_eq!(told["headers"]["host"], host);
    assert_eq!(told["headers"]["x-forwarded-proto"], "https");
    assert_eq!(told["headers"]["x-forwarded-host"], host);

    let crumbs = client.get(gateway.https_url("test.com", "/headers"));
    let crumbs = crumbs.header("cookie", "a=1").header("cookie", "b=2").send().await.unwrap();
    let told: serde_json::Value = crumbs.json().await.unwrap();
    assert_eq!(told["headers"]["cookie"], "a=1; b=2");

    let plain = reqwest::Client::builder().no_proxy().http2_prior_knowledge().build().unwrap();
    let many = (0..100).map(|number| {
        let post = plain.post(gateway.http_url("/anything")).body("x".repeat(number * 1000));
        async move {
            let answer = post.send().await.unwrap();
            assert_eq!(answer.version(), Version::HTTP_2);
            let echo: serde_json::Value = answer.json().await.unwrap();
            assert_eq!(echo["body_bytes"], number * 1000);
        }
    });
    futures_util::future::join_all(many).await;
    let big = plain.get(gateway.http_url("/bytes/3000000")).send().await.unwrap();
    assert_eq!(big.bytes().await.unwrap().len(), 3_000_000);
    assert_eq!(plain.get(gateway.http_url("/none")).send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn http_1_1_is_spoken_where_http_2_is_not_wanted() {
    let origin = crate::support::origin::Origin::start().await;
    let gateway = crate::support::gateway::Gateway::builder()
        .config(|config| config["apisix"]["enable_http2"] = json!(false))
        .start()
        .await;
    super::catch_all(&gateway, &origin).await;
    let ca = Authority::new("ROOT");
    let (cert, key) = ca.issue(&["test.com"]);
    gateway.put("/ssls/1", json!({ "sni": "test.com", "cert": cert, "key": key })).await;
    gateway.serves_certificate("test.com", &ca.pem(), &cert).await;
    let client = gateway.https_client("test.com", &ca.pem());
    let answer = client.get(gateway.https_url("test.com", "/get")).send().await.unwrap();
    assert_eq!(answer.version(), Version::HTTP_11);
}
