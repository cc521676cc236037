//! Secrets against real OpenBao, which speaks Vault's protocol, and stand-ins of the clouds.

mod aws;
mod cache;
mod failure;
mod gcp;
mod hygiene;
mod life;
pub mod login;
mod matrix;
mod mount;
mod refused;
mod stand_in;
mod tls;
mod version;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use sluice::resource;
use sluice::secret::{Lookup, Reference, SecretError, Secrets, Settings};
use tokio::sync::mpsc::UnboundedReceiver;

use crate::support::{PATIENCE, eventually};

/// The secrets of a node, its managers, and what is told of changes.
struct Node {
    secrets: Secrets,
    changed: UnboundedReceiver<Reference>,
    reads: Arc<AtomicUsize>,
    failures: Arc<AtomicUsize>,
}

// === impl Node ===

impl Node {
    /// Values are good for 3 seconds, refusals for one.
    fn new() -> Self {
        Self::lasting(Duration::from_secs(3), Duration::from_secs(1))
    }

    fn lasting(ttl: Duration, neg_ttl: Duration) -> Self {
        Self::by(Settings { ttl, neg_ttl, trusted: None })
    }

    fn by(settings: Settings) -> Self {
        let reads = Arc::new(AtomicUsize::new(0));
        let failures = Arc::new(AtomicUsize::new(0));
        let (count, failed) = (reads.clone(), failures.clone());
        let (secrets, changed) =
            Secrets::new(settings, tokio::runtime::Handle::current(), move |_, result| {
                count.fetch_add(1, Ordering::SeqCst);
                failed.fetch_add(usize::from(result != "ok"), Ordering::SeqCst);
            });
        Self { secrets, changed, reads, failures }
    }

    /// With the manager `vault/1`.
    fn with(vault: Value) -> Self {
        let node = Self::new();
        node.manage(vault);
        node
    }

    fn manage(&self, vault: Value) {
        let vault = resource::Secret::Vault(serde_json::from_value(vault).unwrap());
        self.secrets.set_manager("vault/1", &vault);
    }

    fn lookup(&self, path: &str) -> Lookup {
        self.secrets.lookup(&reference(path))
    }

    /// What the reference `text` gives once the first read is over.
    async fn resolve(&self, text: &str) -> Result<String, SecretError> {
        let reference = Reference::parse(text).unwrap().unwrap();
        self.secrets.lookup(&reference);
        self.secrets.settle(PATIENCE).await;
        match self.secrets.lookup(&reference) {
            Lookup::Ready(secret) => Ok(secret.expose().to_owned()),
            Lookup::Failed(error) => Err(error),
            Lookup::Pending => panic!("it is still being read"),
        }
    }

    /// What `vault/1` has at `path/field` once the first read is over.
    async fn read(&self, path: &str) -> Result<String, SecretError> {
        self.lookup(path);
        self.secrets.settle(PATIENCE).await;
        match self.lookup(path) {
            Lookup::Ready(secret) => Ok(secret.expose().to_owned()),
            Lookup::Failed(error) => Err(error),
            Lookup::Pending => panic!("it is still being read"),
        }
    }

    /// Waits until `path/field` is `value`.
    async fn becomes(&self, path: &str, value: &str) {
        eventually(
            "the secret is read",
            async || matches!(self.lookup(path), Lookup::Ready(secret) if secret.expose() == value),
        )
        .await;
    }

    /// Waits until the last read has failed.
    async fn fails(&self) -> SecretError {
        let error = std::sync::Mutex::new(None);
        eventually("a read fails", async || {
            let status = self.secrets.status();
            *error.lock().unwrap() = status.into_iter().find_map(|path| path.error);
            error.lock().unwrap().is_some()
        })
        .await;
        error.into_inner().unwrap().unwrap()
    }

    /// Waits until so many reads were made.
    async fn reads(&self, count: usize) {
        eventually("the path is read", async || self.reads.load(Ordering::SeqCst) >= count).await;
    }

    /// Reads that have failed.
    fn failures(&self) -> usize {
        self.failures.load(Ordering::SeqCst)
    }

    async fn next_changed(&mut self) -> String {
        let changed = tokio::time::timeout(PATIENCE, self.changed.recv()).await;
        changed.expect("nothing has changed").unwrap().to_string()
    }
}

fn reference(path: &str) -> Reference {
    Reference::parse(&format!("$secret://vault/1/{path}")).unwrap().unwrap()
}

fn vault(uri: &str, prefix: &str, token: &str) -> Value {
    json!({ "uri": uri, "prefix": prefix, "token": token })
}
