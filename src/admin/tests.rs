//! The Admin API against the embedded store and a compiler that follows it.

mod auth;
mod configs;
mod credentials;
mod decorations;
mod history;
mod patch;
mod plugins;
mod push;
mod races;
mod read;
mod references;
mod secrets;
mod transaction;
mod warnings;
mod write;

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};

use super::{Admin, Key, Role, Settings};
use crate::cluster::{Cluster, Node};
use crate::resource::Keyring;
use crate::resource::hidden::Hidden;
use crate::snapshot::rig;
use crate::store::ConfigStore;
use crate::store::embedded::Embedded;

const KEY: &str = "edd1c9f034335f136f87ad84b625c8f1";
const KEYRING: &str = "qeddd145sfvddff3";

/// The API under test.
struct Rig {
    admin: Arc<Admin>,
    store: Arc<dyn ConfigStore>,
    _folder: tempfile::TempDir,
}

struct Got {
    status: u16,
    body: Value,
    text: String,
    headers: HeaderMap,
}

impl Rig {
    async fn new() -> Self {
        Self::over(|store| store).await
    }

    /// The API with other settings.
    async fn with(settings: Settings) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store: Arc<dyn ConfigStore> = Embedded::open(&folder.path().join("store")).unwrap();
        let admin = serve_with(settings, &store, store.clone(), [KEYRING]).await;
        Self { admin, store, _folder: folder }
    }

    /// The API over a store that `wrap` puts around the embedded one; the compiler follows the
    /// embedded one.
    async fn over(wrap: impl FnOnce(Arc<dyn ConfigStore>) -> Arc<dyn ConfigStore>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store: Arc<dyn ConfigStore> = Embedded::open(&folder.path().join("store")).unwrap();
        let admin = serve(&store, wrap(store.clone()), [KEYRING]).await;
        Self { admin, store, _folder: folder }
    }

    /// The same store after a restart with these keys.
    async fn with_keyring<const N: usize>(mut self, keys: [&str; N]) -> Self {
        self.admin = serve(&self.store, self.store.clone(), keys).await;
        self
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> Got {
        self.send_from(request, "127.0.0.1:9000".parse().unwrap()).await
    }

    async fn send_from(&self, request: Request<Full<Bytes>>, peer: SocketAddr) -> Got {
        let (head, body) = self.admin.answer(request, peer).await.into_parts();
        let text = body.collect().await.unwrap().to_bytes();
        let text = String::from_utf8(text.to_vec()).unwrap();
        Got {
            status: head.status.as_u16(),
            body: serde_json::from_str(&text).unwrap_or_default(),
            text,
            headers: head.headers,
        }
    }

    /// Sends with the key of the administrator; `path` is what follows `/apisix/admin/`.
    async fn call(&self, method: &str, path: &str, body: Value) -> Got {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        self.send(request(method, path, body)).await
    }

    async fn get(&self, path: &str) -> Got {
        self.call("GET", path, Value::Null).await
    }

    async fn put(&self, path: &str, body: Value) -> Got {
        self.call("PUT", path, body).await
    }

    async fn delete(&self, path: &str) -> Got {
        self.call("DELETE", path, Value::Null).await
    }

    async fn patch(&self, path: &str, body: Value) -> Got {
        self.call("PATCH", path, body).await
    }

    /// What is stored at `key`, as it is.
    async fn stored(&self, key: &str) -> Value {
        let entry = self.store.get(key).await.unwrap().unwrap();
        serde_json::from_slice(&entry.value).unwrap()
    }
}

impl Got {
    #[track_caller]
    fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text);
        self.body
    }

    /// Refused with `status` and an `error_msg` that contains `said`.
    #[track_caller]
    fn refused(self, status: u16, said: &str) {
        assert_eq!(self.status, status, "{}", self.text);
        let message = self.body["error_msg"].as_str().unwrap_or_default();
        assert!(message.contains(said), "{message} does not say: {said}");
    }
}

async fn serve<const N: usize>(
    followed: &Arc<dyn ConfigStore>,
    written: Arc<dyn ConfigStore>,
    keys: [&str; N],
) -> Arc<Admin> {
    serve_with(settings(), followed, written, keys).await
}

async fn serve_with<const N: usize>(
    settings: Settings,
    followed: &Arc<dyn ConfigStore>,
    written: Arc<dyn ConfigStore>,
    keys: [&str; N],
) -> Arc<Admin> {
    let keyring = Keyring::new(keys).unwrap();
    let (compiler, applied) = rig::follow(followed.clone(), keyring).await;
    let me = Node {
        id: "here".to_owned(),
        hostname: "h".to_owned(),
        version: "test".to_owned(),
        revision: 0,
        reported: 0,
    };
    let cluster = Cluster::new(followed.clone(), me, applied, false);
    Admin::new(settings, written, compiler, cluster)
}

fn request(method: &str, path: &str, body: String) -> Request<Full<Bytes>> {
    let uri = format!("/apisix/admin/{path}");
    let request = Request::builder().method(method).uri(uri).header("X-API-KEY", KEY);
    request.body(Full::from(body)).unwrap()
}

fn settings() -> Settings {
    let key = |name: &str, key: &str, role| Key {
        name: name.to_owned(),
        key: Hidden(key.to_owned()),
        role,
    };
    Settings {
        keys: vec![
            key("admin", KEY, Role::Admin),
            key("viewer", "4054f7cf07e344346cd3f287985e76a2", Role::Viewer),
        ],
        key_required: true,
        allow: vec!["127.0.0.0/24".parse().unwrap()],
        cors: true,
        history: 3,
        enabled_plugins: None,
        is_pushed: false,
        version: "test",
    }
}

fn upstream() -> Value {
    json!({"type": "roundrobin", "nodes": {"127.0.0.1:1980": 1}})
}

fn route(uri: &str) -> Value {
    json!({"uri": uri, "upstream": upstream()})
}

/// `value` without the times.
fn timeless(mut value: Value) -> Value {
    let fields = value.as_object_mut().unwrap();
    assert!(fields.remove("create_time").unwrap().is_i64());
    assert!(fields.remove("update_time").unwrap().is_i64());
    value
}
