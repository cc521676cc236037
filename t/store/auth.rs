//! User, password and the tokens that etcd gives for them.

use sluice::store::{ConfigStore, StoreError, etcd};

use super::{next_changes, next_listing, options, put};
use crate::support::etcd::Etcd;
use crate::support::eventually;

const PASSWORD: &str = "planted-password";

fn with_user(etcd: &Etcd, password: &str) -> std::sync::Arc<etcd::Etcd> {
    let mut options = options(&[etcd.endpoint()]);
    options.user = Some(("root".to_owned(), password.to_owned()));
    etcd::Etcd::new(options)
}

#[tokio::test]
async fn uses_user_and_password() {
    let mut etcd = Etcd::start().await;
    etcd.enable_auth(PASSWORD);
    let store = with_user(&etcd, PASSWORD);
    put(&*store, "routes/1", "a").await;
    assert!(store.get("routes/1").await.unwrap().is_some());
}

#[tokio::test]
async fn names_the_endpoint_that_refuses_the_password_and_not_the_password() {
    let mut etcd = Etcd::start().await;
    etcd.enable_auth("another");
    let no_user = etcd::Etcd::new(options(&[etcd.endpoint()]));
    for store in [with_user(&etcd, PASSWORD), no_user] {
        let error = store.get("routes/1").await.unwrap_err();
        assert!(
            matches!(error, StoreError::Unauthenticated { .. }),
            "{error}"
        );
        let said = format!("{error} {error:?}");
        assert!(said.contains(&etcd.endpoint()), "{said}");
        assert!(!said.contains(PASSWORD), "{said}");
    }
}

/// Simple tokens live five minutes; after that every new watch was cancelled for ever.
#[tokio::test]
async fn gets_a_new_token_when_the_old_one_has_run_out() {
    let mut etcd = Etcd::builder().option("--auth-token-ttl=1").start().await;
    etcd.enable_auth(PASSWORD);
    let store = with_user(&etcd, PASSWORD);
    put(&*store, "routes/1", "a").await;
    let mut events = store.clone().watch();
    next_listing(&mut events).await;
    // Tokens do not outlive the process: the same as one that has run out, without the waiting.
    etcd.restart().await;
    put(&*store, "routes/1", "b").await;
    assert_eq!(next_changes(&mut events).await.0, ["routes/1=b"]);
    // And one that has.
    let plain = reqwest::Client::builder().no_proxy().build().unwrap();
    let url = format!("{}/v3/auth/authenticate", etcd.endpoint());
    let body = serde_json::json!({ "name": "root", "password": PASSWORD });
    let token: serde_json::Value = plain
        .post(url)
        .json(&body)
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    let range = format!("{}/v3/kv/range", etcd.endpoint());
    let token = token["token"].as_str().unwrap();
    let start = std::time::Instant::now();
    eventually("a token of the same age has run out", async || {
        // Reading keeps a token alive, so it is tried only now and then.
        if start.elapsed() < std::time::Duration::from_secs(4) {
            return false;
        }
        let request = plain.post(&range).header("authorization", token);
        let request = request.json(&serde_json::json!({ "key": "YQ==" }));
        !request.send().await.unwrap().status().is_success()
    })
    .await;
    put(&*store, "routes/1", "c").await;
    assert_eq!(next_changes(&mut events).await.0, ["routes/1=c"]);
}
