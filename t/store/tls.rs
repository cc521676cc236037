//! TLS towards etcd.

use std::sync::Arc;

use sluice::store::etcd::{self, Tls};
use sluice::store::{ConfigStore, StoreError};

use super::{next_changes, next_listing, options, put};
use crate::support::etcd::{Authority, Etcd};

fn with_tls(etcd: &Etcd, tls: Tls) -> Arc<etcd::Etcd> {
    let mut options = options(&[etcd.endpoint()]);
    options.tls = Some(tls);
    etcd::Etcd::new(options)
}

async fn check_works(etcd: &Etcd, tls: Tls) {
    let store = with_tls(etcd, tls);
    let mut events = store.clone().watch();
    next_listing(&mut events).await;
    put(&*store, "routes/1", "a").await;
    assert_eq!(next_changes(&mut events).await.0, ["routes/1=a"]);
}

async fn check_fails(etcd: &Etcd, tls: Tls, words: &str) {
    let error = with_tls(etcd, tls).get("routes/1").await.unwrap_err();
    assert!(matches!(error, StoreError::Unreachable { .. }), "{error}");
    let said = error.to_string();
    assert!(
        said.contains(&etcd.endpoint()) && said.contains(words),
        "{said}"
    );
}

#[tokio::test]
async fn checks_the_member_against_the_authority() {
    let authority = Authority::new("etcd CA");
    let ca = Some(authority.pem());
    let etcd = Etcd::builder().tls(authority).start().await;
    let known = Tls {
        ca: ca.clone(),
        ..Tls::default()
    };
    check_works(&etcd, known).await;
    let named = Tls {
        ca: ca.clone(),
        server_name: Some("etcd.test".to_owned()),
        ..Tls::default()
    };
    check_works(&etcd, named).await;
    check_works(
        &etcd,
        Tls {
            verify: false,
            ..Tls::default()
        },
    )
    .await;

    let other = Tls {
        ca: Some(Authority::new("other").pem()),
        ..Tls::default()
    };
    check_fails(&etcd, other, "deployment.etcd.tls").await;
    check_fails(&etcd, Tls::default(), "").await;
    let misnamed = Tls {
        ca,
        server_name: Some("other.test".to_owned()),
        ..Tls::default()
    };
    check_fails(&etcd, misnamed, "other.test").await;
    let garbled = Tls {
        ca: Some("no PEM".to_owned()),
        ..Tls::default()
    };
    check_fails(&etcd, garbled, "ca: expected at least one PEM certificate").await;
}

#[tokio::test]
async fn shows_its_certificate() {
    let authority = Authority::new("etcd CA");
    let ca = Some(authority.pem());
    let certificate = Some(authority.issue(&["gateway"]));
    let etcd = Etcd::builder().mtls(authority).start().await;
    check_works(
        &etcd,
        Tls {
            ca: ca.clone(),
            certificate,
            ..Tls::default()
        },
    )
    .await;
    check_fails(
        &etcd,
        Tls {
            ca,
            ..Tls::default()
        },
        "deployment.etcd.tls",
    )
    .await;
}
