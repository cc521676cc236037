//! What Prometheus sees.

use serde_json::json;

use crate::proxy::upstream;
use crate::support::eventually;
use crate::support::gateway::Gateway;
use crate::support::origin::Origin;

#[tokio::test]
async fn counts_under_apisix_names_and_labels() {
    let origin = Origin::start().await;
    let gateway = Gateway::start().await;
    gateway
        .put(
            "/consumers/jack",
            json!({ "username": "jack", "plugins": { "key-auth": { "key": "one" } } }),
        )
        .await;
    gateway
        .put_route(
            "r1",
            json!({ "name": "first", "uri": "/bytes/*", "host": "a.com",
            "plugins": { "prometheus": {}, "key-auth": {} }, "upstream": upstream(&origin) }),
        )
        .await;
    gateway
        .put_route(
            "r2",
            json!({ "name": "second", "uri": "/get",
            "plugins": { "prometheus": { "prefer_name": true } }, "upstream": upstream(&origin) }),
        )
        .await;
    gateway.served("/get").await;
    gateway.routed_with("/bytes/1", &[("host", "a.com")]).await;
    for _ in 0..3 {
        let request = gateway.client().get(gateway.http_url("/bytes/1000"));
        let answer = request.header("host", "a.com").header("apikey", "one").send().await.unwrap();
        assert_eq!(answer.status(), 200);
    }
    let labels = [
        r#"code="200""#,
        r#"route="r1""#,
        r#"matched_uri="/bytes/*""#,
        r#"matched_host="a.com""#,
        r#"service="""#,
        r#"consumer="jack""#,
        r#"node="127.0.0.1""#,
        r#"response_source="upstream""#,
    ];
    eventually("three requests are counted", || async {
        gateway.sample("apisix_http_status", &labels).await == Some(3.0)
    })
    .await;
    for kind in ["request", "upstream", "apisix"] {
        let labels = [&format!("type=\"{kind}\"")[..], r#"route="r1""#, r#"consumer="jack""#];
        assert_eq!(gateway.sample("apisix_http_latency_count", &labels).await, Some(3.0), "{kind}");
    }
    let egress = [r#"type="egress""#, r#"route="r1""#, r#"consumer="jack""#];
    assert!(gateway.sample("apisix_bandwidth", &egress).await >= Some(3000.0));
    assert!(gateway.sample("apisix_http_status", &[r#"route="second""#]).await >= Some(1.0));
    assert!(gateway.sample("apisix_http_requests_total", &[]).await >= Some(4.0));
    for name in [
        "apisix_nginx_http_current_connections",
        "apisix_etcd_modify_indexes",
        "apisix_node_info",
        "sluice_snapshot_revision",
        "sluice_config_apply_duration_seconds_count",
        "sluice_rejected_resources",
    ] {
        assert!(gateway.sample(name, &[]).await.is_some(), "{name}");
    }
    // A node on its own has no etcd, and says nothing of one.
    assert_eq!(gateway.sample("apisix_etcd_reachable", &[]).await, None);
}

#[tokio::test]
async fn tells_when_certificates_end_and_what_is_rejected() {
    let gateway = Gateway::start().await;
    let ca = crate::support::authority::Authority::new("ROOT");
    let (cert, key) = ca.issue(&["test.com"]);
    gateway.put("/ssls/1", json!({ "sni": "test.com", "cert": cert, "key": key })).await;
    let labels = [r#"ssl="1""#, r#"sni="test.com""#];
    eventually("the certificate's end is told", || async {
        gateway.sample("sluice_certificate_expiry_timestamp_seconds", &labels).await > Some(1.7e9)
    })
    .await;
    gateway
        .put(
            "/ssls/2",
            json!({ "sni": "b.com", "cert": "$env://NOT_SET_CERT", "key": "$env://NOT_SET_KEY" }),
        )
        .await;
    eventually("the rejection is counted", || async {
        gateway.sample("sluice_rejected_resources", &[r#"kind="ssls""#]).await == Some(1.0)
    })
    .await;
    let (_, rejected) = gateway.control("/v1/rejected").await;
    assert!(rejected.to_string().contains("NOT_SET_CERT"), "{rejected}");
}

#[tokio::test]
async fn a_request_is_counted_once_though_a_global_rule_counts_too() {
    let origin = Origin::start().await;
    let gateway = Gateway::start().await;
    gateway.put("/global_rules/1", json!({ "plugins": { "prometheus": {} } })).await;
    let plugins = json!({ "prometheus": {} });
    gateway
        .put_route(
            "both",
            json!({ "uri": "/get", "plugins": plugins, "upstream": upstream(&origin) }),
        )
        .await;
    gateway.put_route("global", json!({ "uri": "/ip", "upstream": upstream(&origin) })).await;
    gateway.served("/ip").await;
    gateway.served("/get").await;
    let count = async |route: &str| {
        gateway.sample("apisix_http_status", &[r#"code="200""#, route]).await.unwrap_or(0.0)
    };
    for path in ["/get", "/ip"] {
        assert_eq!(gateway.get(path).await.status(), 200);
    }
    // A request is counted when its answer has left, so not always before the client has it.
    let asked =
        |path: &str| origin.seen().iter().filter(|seen| seen.uri.path() == path).count() as f64;
    eventually("each is counted as often as the node was asked", || async {
        let counted = (count(r#"route="both""#).await, count(r#"route="global""#).await);
        counted == (asked("/get"), asked("/ip"))
    })
    .await;
}
