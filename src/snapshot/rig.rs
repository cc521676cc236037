//! A config road for tests of the rooms above: whatever is written to a store gets compiled.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;

use super::compile::{Compiler, Settings};
use super::publish::{Road, Shared};
use crate::metrics::{self, Metrics};
use crate::resource::Keyring;
use crate::secret::{self, Secrets};
use crate::store::ConfigStore;
use crate::upstream::Keepalive;
use crate::upstream::dns::{self, Dns};

/// A compiler that follows `store` on the current runtime, once it has seen what is there; and the
/// revision that is published.
pub(crate) async fn follow(
    store: Arc<dyn ConfigStore>,
    keyring: Keyring,
) -> (Shared, watch::Receiver<i64>) {
    let compiler = compiler(keyring);
    let shared = compiler.shared.clone();
    let road = road(store, compiler);
    let mut ready = road.ready.subscribe();
    let applied = road.applied.subscribe();
    tokio::spawn(road.run());
    ready.wait_for(|ready| *ready).await.unwrap();
    (shared, applied)
}

/// The road from `store` to `compiler`, before anything has come along it.
pub(crate) fn road(store: Arc<dyn ConfigStore>, compiler: Parts) -> Road {
    Road {
        compiler: compiler.shared,
        store,
        secrets: compiler.secrets,
        changed_secrets: compiler.changed,
        published: Arc::default(),
        metrics: Metrics::new(metrics::Settings::default()),
        ready: watch::Sender::new(false),
        applied: watch::Sender::new(0),
        held: JoinSet::new(),
        replaced: Vec::new(),
    }
}

/// A compiler of nothing, and its secrets.
pub(crate) struct Parts {
    pub(crate) shared: Shared,
    pub(crate) secrets: Secrets,
    changed: tokio::sync::mpsc::UnboundedReceiver<secret::Reference>,
}

/// A compiler that follows nothing.
pub(crate) fn compiler(keyring: Keyring) -> Parts {
    let minute = Duration::from_secs(60);
    let settings = secret::Settings { ttl: minute, neg_ttl: minute, trusted: None };
    let runtime = tokio::runtime::Handle::current();
    let (secrets, changed) = Secrets::new(settings, runtime, |_, _| {});
    let dns = Dns::new(dns::Settings {
        servers: vec![([127, 0, 0, 1], 9).into()],
        ..dns::Settings::default()
    });
    let settings = Settings {
        keepalive: Keepalive { size: 1, idle: Duration::from_secs(1), requests: 1 },
        protocols: vec!["TLSv1.2".to_owned(), "TLSv1.3".to_owned()],
        http2: true,
        terms: crate::tls::Terms::default(),
        trusted: None,
        fallback_sni: None,
        encrypt_fields: true,
        plugins: None,
        router: crate::router::Kind::HostUri,
        lua: crate::lua::Limits::default(),
    };
    Parts {
        shared: Shared::new(Compiler::new(settings, keyring, secrets.clone(), dns.unwrap())),
        secrets,
        changed,
    }
}
