//! The life of secrets as operators see it: control API, metrics, log, and pulls at once.

use serde_json::{Value, json};

use crate::support::authority::{Authority, der};
use crate::support::bao::Bao;
use crate::support::clouds::Clouds;
use crate::support::eventually;
use crate::support::gateway::Gateway;
use crate::support::origin::Origin;

const PAIR: [&str; 2] = ["$secret://vault/1/ssl/cert", "$secret://vault/1/ssl/key"];

async fn of(gateway: &Gateway, reference: &str) -> Value {
    let (_, told) = gateway.control("/v1/secrets").await;
    let mut all = told.as_array().unwrap().iter();
    all.find(|one| one["reference"] == reference).cloned().unwrap_or_default()
}

async fn pull(gateway: &Gateway, query: &str) -> (u16, Value) {
    let control = gateway.ports().control;
    let url = format!("http://127.0.0.1:{control}/v1/secrets/refresh{query}");
    let answer = gateway.client().post(url).send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

fn fingerprint(pem: &str) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &der(pem));
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test]
async fn a_pull_takes_over_a_new_certificate_and_the_log_says_which() {
    let bao = Bao::dev().await;
    let authority = Authority::new("test CA");
    let issue = || authority.issue(&["a.test"]);
    let ((old, old_key), (new, new_key)) = (issue(), issue());
    bao.put("kv/apisix/ssl", json!({ "cert": old, "key": old_key })).await;
    let gateway = Gateway::builder().secret_ttl(600, 60).start().await;
    let vault = json!({ "uri": bao.url(""), "prefix": "kv/apisix", "token": "root" });
    gateway.put("/secrets/vault/1", vault).await;
    gateway.put("/ssls/1", json!({ "snis": ["a.test"], "cert": PAIR[0], "key": PAIR[1] })).await;
    gateway.serves_certificate("a.test", &authority.pem(), &old).await;

    let told = of(&gateway, PAIR[0]).await;
    assert_eq!((&told["manager"], &told["state"]), (&json!("vault/1"), &json!("ready")), "{told}");
    assert_eq!(told["used_by"], json!(["ssls/1"]));
    assert!(told["age_seconds"].as_u64().is_some_and(|age| age < 60), "{told}");
    assert!(told["next_refresh_seconds"].as_u64().is_some_and(|next| next > 100), "{told}");
    assert!(told["last_change"].as_u64().is_some_and(|at| at > 1_700_000_000), "{told}");

    let (status, told) = pull(&gateway, "").await;
    assert_eq!((status, &told["unchanged"], &told["changed"]), (200, &json!(2), &json!(0)));
    bao.put("kv/apisix/ssl", json!({ "cert": new, "key": new_key })).await;
    let (status, told) = pull(&gateway, "?manager=vault").await;
    assert_eq!((status, &told["changed"], &told["failed"]), (200, &json!(2), &json!(0)), "{told}");
    gateway.serves_certificate("a.test", &authority.pem(), &new).await;
    let logs = gateway.logs();
    let line = logs.lines().find(|line| line.contains("a certificate has changed")).unwrap();
    for part in [fingerprint(&old), fingerprint(&new), "a.test".to_owned(), "GMT".to_owned()] {
        assert!(line.contains(&part), "{part}: {line}");
    }
    let line = logs.lines().find(|line| line.contains("a secret has changed")).unwrap();
    assert!(line.contains("$secret://vault/1/ssl/"), "{line}");
}

#[tokio::test]
async fn what_fails_is_told_with_its_reason_and_what_is_served_meanwhile() {
    let clouds = Clouds::start("key").await;
    let origin = Origin::start().await;
    clouds.put("name", r#"{"key": "good"}"#);
    let gateway = Gateway::builder().secret_ttl(600, 60).start().await;
    gateway.put("/secrets/aws/1", clouds.aws("key")).await;
    gateway.put("/secrets/gcp/1", json!({ "auth_config": clouds.account() })).await;
    let consumer = |name: &str, key: &str| json!({ "username": name, "plugins": { "key-auth": { "key": key } } });
    let (aws, gcp) = ("$secret://aws/1/name/key", "$secret://gcp/1/none");
    gateway.put("/consumers/jack", consumer("jack", aws)).await;
    gateway.put("/consumers/jill", consumer("jill", gcp)).await;
    let upstream = json!({ "nodes": { origin.node(): 1 } });
    let route = json!({ "uri": "/*", "plugins": { "key-auth": {} }, "upstream": upstream });
    gateway.put_route("1", route).await;
    let get = async || {
        let request = gateway.client().get(gateway.http_url("/get")).header("apikey", "good");
        request.send().await.unwrap().status().as_u16()
    };
    eventually("the consumer is known by its secret", async || get().await == 200).await;

    eventually("the other has failed", async || of(&gateway, gcp).await["state"] == "failed").await;
    let told = of(&gateway, gcp).await;
    assert_eq!((&told["used_by"], &told["failures"]), (&json!(["consumers/jill"]), &json!(1)));
    assert!(told["last_error"].as_str().unwrap().contains("NOT_FOUND"), "{told}");

    clouds.change(|state| state["fail"] = json!("InternalServiceError"));
    let (status, told) = pull(&gateway, &format!("?reference={aws}")).await;
    assert_eq!((status, &told["failed"]), (200, &json!(1)), "{told}");
    let error = told["secrets"][0]["error"].as_str().unwrap();
    assert!(error.contains("InternalServiceError"), "{told}");
    let told = of(&gateway, aws).await;
    assert_eq!((&told["state"], &told["failures"]), (&json!("stale"), &json!(1)), "{told}");
    // What was good is served on.
    assert_eq!(get().await, 200);
    eventually("the metrics tell it", async || {
        let stale = [r#"manager="aws/1""#, r#"state="stale""#];
        gateway.sample("sluice_secret_references", &stale).await == Some(1.0)
    })
    .await;
    let of_aws = [r#"manager="aws/1""#];
    assert_eq!(gateway.sample("sluice_secret_consecutive_failures", &of_aws).await, Some(1.0));
    assert!(gateway.sample("sluice_secret_oldest_age_seconds", &of_aws).await.is_some());
    let failed = gateway.sample("sluice_secret_fetches_total", &[of_aws[0], "error"]).await;
    assert_eq!(failed, Some(1.0));
}

#[tokio::test]
async fn pulls_at_the_same_time_share_reads() {
    let clouds = Clouds::start("key").await;
    clouds.put("name", "one");
    let node = super::Node::lasting(
        std::time::Duration::from_secs(600),
        std::time::Duration::from_secs(60),
    );
    let written = serde_json::from_value(clouds.aws("key")).unwrap();
    node.secrets.set_manager("aws/1", &sluice::resource::Secret::Aws(written));
    assert_eq!(node.resolve("$secret://aws/1/name").await.unwrap(), "one");
    let pull = || node.secrets.refresh(|_| true, crate::support::PATIENCE);
    let pulls = futures_util::future::join_all((0..40).map(|_| pull())).await;
    assert!(pulls.iter().all(|told| told.len() == 1), "{pulls:?}");
    // A read that has begun before a pull may bring what was there before: the next one is waited for.
    let reads = clouds.seen().len() - 1;
    assert!((1..20).contains(&reads), "{reads}");
}
