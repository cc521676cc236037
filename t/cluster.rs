//! Nodes that share a store: who is there, what each has applied, and waiting for it.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::etcd::Etcd;
use crate::support::eventually;
use crate::support::gateway::Gateway;

async fn nodes(gateway: &Gateway) -> Vec<Value> {
    let (status, nodes) = gateway.control("/v1/nodes").await;
    assert_eq!(status, 200, "{nodes}");
    nodes.as_array().unwrap().clone()
}

/// Two nodes of one etcd that know of each other.
async fn pair(etcd: &Etcd) -> (Gateway, Gateway) {
    let builder = || Gateway::builder().etcd(&[etcd.endpoint()]);
    let (one, two) = tokio::join!(builder().start(), builder().start());
    eventually("both nodes report", async || {
        nodes(&one).await.len() == 2 && nodes(&two).await.len() == 2
    })
    .await;
    (one, two)
}

fn route(uri: &str) -> Value {
    json!({ "uri": uri, "plugins": {}, "upstream": { "nodes": { "127.0.0.1:9": 1 } } })
}

#[tokio::test]
async fn a_write_waits_for_every_node_and_names_those_that_lag() {
    let etcd = Etcd::start().await;
    let (one, two) = pair(&etcd).await;
    // As soon as the answer is there, both serve it: 502 from a node that nobody is, not 404.
    for number in 0..3 {
        let uri = format!("/applied/{number}");
        one.put_route(&number.to_string(), route(&uri)).await;
        for gateway in [&one, &two] {
            assert_eq!(gateway.get(&uri).await.status(), 502);
        }
    }
    let sluggish = nodes(&two).await.into_iter().find(|node| node["self"] == true).unwrap();
    two.signal("STOP");
    let operations = json!([{ "put": "routes/slow", "value": route("/slow") }]);
    let path = "/transactions?wait=applied&timeout=0.5";
    let (status, answer) = one.admin("POST", path, Some(operations)).await;
    assert_eq!(status, 504, "{answer}");
    assert_eq!(answer["lagging"].as_array().unwrap().len(), 1);
    assert_eq!(answer["lagging"][0]["id"], sluggish["id"]);
    let behind = answer["lagging"][0]["revision"].as_i64().unwrap();
    assert!(behind < answer["revision"].as_i64().unwrap(), "{answer}");
    assert_eq!(answer["changes"][0]["change"], "created", "what was written is told all the same");
    let said = answer["error_msg"].as_str().unwrap();
    assert!(said.contains("written at revision") && said.contains("not applied"), "{said}");
    assert_eq!(one.admin("GET", "/routes/slow", None).await.0, 200, "it stays written");
    two.signal("CONT");
    one.put_route("fast", route("/fast")).await;
    assert_eq!(two.get("/slow").await.status(), 502);
}

#[tokio::test]
async fn reports_move_no_config_and_go_with_their_node() {
    let etcd = Etcd::start().await;
    let (one, mut two) = pair(&etcd).await;
    let (_, before) = one.control("/v1/status").await;
    let revision = etcd.revision();
    eventually("reports go on", async || etcd.revision() > revision + 3).await;
    let (_, after) = one.control("/v1/status").await;
    assert_eq!(before["revision"], after["revision"]);
    assert_eq!(before["ignored"], after["ignored"]);
    // APISIX watches what begins with /apisix/.
    assert_eq!(etcd.etcdctl(&["get", "--prefix", "--keys-only", "/apisix/"]).trim(), "");
    two.signal("TERM");
    two.ended().await;
    eventually("the node that left is gone", async || nodes(&one).await.len() == 1).await;
}

#[tokio::test]
async fn a_burst_of_writes_makes_few_reports() {
    let etcd = Etcd::start().await;
    let gateway = Gateway::builder().etcd(&[etcd.endpoint()]).start().await;
    let began = tokio::time::Instant::now();
    for number in 0..60 {
        gateway.write(&format!("/routes/{number}"), route(&format!("/{number}"))).await;
    }
    gateway.put_route("x", route("/x")).await;
    let spent = began.elapsed() + Duration::from_secs(1);
    let key = etcd.etcdctl(&["get", "--prefix", "-w", "json", "/apisix-sluice/nodes/"]);
    let found: Value = serde_json::from_str(&key).unwrap();
    let reports = found["kvs"][0]["version"].as_u64().unwrap();
    // Two a second at the most, and what was before.
    let most = 2 * spent.as_secs() + 8;
    assert!(reports <= most, "{reports} reports in {spent:?}");
}

#[tokio::test]
async fn the_versions_of_what_is_deleted_get_an_end() {
    let etcd = Etcd::start().await;
    let gateway = Gateway::builder().etcd(&[etcd.endpoint()]).start().await;
    gateway.put_route("1", route("/one")).await;
    gateway.put_route("1", route("/two")).await;
    let leases = || {
        let key = "/apisix-sluice/history/routes/1@";
        let found = etcd.etcdctl(&["get", "--prefix", "-w", "json", key]);
        let found: Value = serde_json::from_str(&found).unwrap();
        let all = found["kvs"].as_array().unwrap().clone();
        all.iter().map(|pair| pair["lease"].as_i64().unwrap_or_default()).collect::<Vec<i64>>()
    };
    assert_eq!(leases(), [0, 0]);
    assert_eq!(gateway.admin("DELETE", "/routes/1", None).await.0, 200);
    let leases = leases();
    assert!(leases.len() == 2 && leases.iter().all(|lease| *lease == leases[0] && *lease != 0));
}

#[tokio::test]
async fn a_node_that_may_only_read_says_so_once_and_goes_on() {
    let mut etcd = Etcd::start().await;
    etcd.etcdctl(&["put", "/apisix/routes/1", &route("/read").to_string()]);
    for args in [
        &["role", "add", "reader"][..],
        &["role", "grant-permission", "--prefix=true", "reader", "read", "/apisix"],
        &["user", "add", "reader:planted-password"],
        &["user", "grant-role", "reader", "reader"],
    ] {
        etcd.etcdctl(args);
    }
    etcd.enable_auth("root-password");
    let gateway = Gateway::builder()
        .etcd(&[etcd.endpoint()])
        .config(|config| {
            let deployment = &mut config["deployment"];
            deployment["role"] = json!("data_plane");
            deployment["role_data_plane"] = json!({ "config_provider": "etcd" });
            deployment["etcd"]["user"] = json!("reader");
            deployment["etcd"]["password"] = json!("planted-password");
        })
        .start()
        .await;
    let said = || gateway.logs().matches("may not report").count();
    eventually("it says that it may not report", async || said() == 1).await;
    etcd.etcdctl(&["put", "/apisix/routes/2", &route("/more").to_string()]);
    eventually("changes are seen and etcd counts as reachable", async || {
        gateway.sample("apisix_etcd_reachable", &[]).await == Some(1.0)
    })
    .await;
    gateway.answers("/more", 502).await;
    assert_eq!(said(), 1);
}

#[tokio::test]
async fn a_user_of_the_prefix_alone_writes_without_history() {
    let mut etcd = Etcd::start().await;
    for args in [
        &["role", "add", "gateway"][..],
        &["role", "grant-permission", "--prefix=true", "gateway", "readwrite", "/apisix/"],
        &["user", "add", "gateway:planted-password"],
        &["user", "grant-role", "gateway", "gateway"],
    ] {
        etcd.etcdctl(args);
    }
    etcd.enable_auth("root-password");
    let gateway = Gateway::builder()
        .etcd(&[etcd.endpoint()])
        .config(|config| {
            config["deployment"]["etcd"]["user"] = json!("gateway");
            config["deployment"]["etcd"]["password"] = json!("planted-password");
        })
        .start()
        .await;
    // Which nodes there are it may not ask either, so that nothing can be waited for.
    gateway.write("/routes/1", route("/one")).await;
    gateway.write("/routes/1", route("/two")).await;
    assert!(gateway.logs().contains("no history is kept"), "{}", gateway.logs());
    let (status, answer) = gateway.admin("DELETE", "/routes/1", None).await;
    assert_eq!(status, 200, "{answer}");
}
