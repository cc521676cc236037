//! Certificates that the gateway gets for itself: Vault's PKI on OpenBao, ACME on Pebble.

mod acme;
mod pki;

use serde_json::Value;

use crate::support::eventually;
use crate::support::gateway::{Gateway, certificate};

/// The leaf (DER) that `gateway` shows for `host`, if it is one that `ca` vouches for.
pub async fn shown(gateway: &Gateway, host: &str, ca: &str) -> Option<Vec<u8>> {
    let client = gateway.https_client(host, ca);
    let answer = client.get(gateway.https_url(host, "/")).send().await.ok()?;
    Some(certificate(&answer))
}

/// Waits until `gateway` shows a certificate for `host` that is not `old`.
pub async fn shows_another(gateway: &Gateway, host: &str, ca: &str, old: Option<&[u8]>) -> Vec<u8> {
    eventually(&format!("{host} shows another certificate"), async || {
        let new = shown(gateway, host, ca).await;
        new.is_some() && new.as_deref() != old
    })
    .await;
    shown(gateway, host, ca).await.unwrap()
}

/// How the certificate of the ssl object `id` was got, as the control API tells.
pub async fn issued(gateway: &Gateway, id: &str) -> Value {
    let (_, all) = gateway.control("/v1/certificates").await;
    let mine = all.as_array().unwrap().iter().find(|told| told["ssl"] == id).cloned();
    mine.unwrap_or_default()["issued"].take()
}

/// Why the ssl object `id` is rejected, as the control API tells; empty when it is not.
pub async fn rejected(gateway: &Gateway, id: &str) -> String {
    let (_, all) = gateway.control("/v1/rejected").await;
    let key = format!("ssls/{id}");
    let mine = all.as_array().unwrap().iter().find(|told| told["key"] == key.as_str());
    mine.map(Value::to_string).unwrap_or_default()
}
