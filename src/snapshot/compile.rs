//! The compiler: events in, the next snapshot out, touching only what changed.

mod air;
mod replaced;
mod told;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;
use tokio::sync::watch;

use self::replaced::Replaced;
use super::Snapshot;
pub use super::parts::Settings;
use super::parts::{Parts, Workshop};
use super::references::{Key, PENDING, Resolver, Users, targets};
use crate::issue::{Issued, Order};
use crate::plugin::Shared;
use crate::resource::{self, Invalid, Keyring, Kind, Resource};
use crate::router::Router;
use crate::secret::{Reference, Secrets};
use crate::store::Entry;
use crate::tls::staple::Staples;
use crate::upstream::dns::Dns;

/// Compiles resources and remembers how, so that the next event costs what it touches.
pub struct Compiler {
    pub(super) settings: Settings,
    pub(super) keyring: Keyring,
    pub(super) secrets: Secrets,
    pub(super) issued: Issued,
    dns: Arc<Dns>,
    pub(super) shared: Shared,
    /// The newest version of everything that could be decoded, as it is stored: decoded again when
    /// something that it refers to changes, which costs a tenth of the memory that keeping it
    /// decoded would.
    pub(super) latest: BTreeMap<Key, Bytes>,
    /// The version that is served, where the newest one cannot be: it follows what it refers to.
    pub(super) good: BTreeMap<Key, Bytes>,
    /// What is stored at each key, also of what was rejected: what a relist is compared with.
    stored: HashMap<Arc<str>, Stored>,
    pub(super) parts: Parts,
    /// Upstreams whose connections are to be closed.
    replaced: Replaced,
    pub(super) users: Users<Key>,
    references: Users<Reference>,
    rejected: BTreeMap<Key, Rejected>,
    /// What is rejected because its newest version cannot even be decoded.
    unreadable: BTreeSet<Key>,
    /// Keys of kinds that this version does not serve.
    ignored: BTreeSet<Arc<str>>,
    /// Whether references are checked by their grammar only, and nothing is fetched.
    dry: bool,
    pub(super) current: Snapshot,
    /// The revision of `current`, for whoever waits for one.
    reached: watch::Sender<i64>,
}

/// A store key with its new value and revision, or with nothing where it was deleted.
pub type KeyChange = (Arc<str>, Option<(Bytes, i64)>);

/// Enough of a stored value to tell it from another: a restored store may use a revision again.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stored {
    revision: i64,
    hash: u64,
}

/// Why a resource is compiled.
enum Why {
    /// It has a new version, or was deleted.
    Changed(Option<Bytes>),
    /// Something that it refers to has changed.
    Touched,
}

/// Why a resource's newest version is not served.
#[derive(Debug, Clone)]
pub struct Rejected {
    pub reasons: Vec<Invalid>,
    /// Whether an older version is served instead.
    pub serves_last_good: bool,
}

// === impl Compiler ===

impl Compiler {
    /// A compiler of nothing.
    pub fn new(settings: Settings, keyring: Keyring, secrets: Secrets, dns: Arc<Dns>) -> Self {
        let router = Router::new(settings.router);
        let fallback_sni = settings.fallback_sni.as_deref().map(Arc::from);
        Self {
            settings,
            keyring,
            secrets,
            issued: Issued::default(),
            dns,
            shared: Shared::default(),
            latest: BTreeMap::new(),
            good: BTreeMap::new(),
            stored: HashMap::new(),
            parts: Parts::default(),
            replaced: Replaced::default(),
            users: Users::default(),
            references: Users::default(),
            rejected: BTreeMap::new(),
            unreadable: BTreeSet::new(),
            ignored: BTreeSet::new(),
            dry: false,
            current: Snapshot { router, fallback_sni, ..Snapshot::default() },
            reached: watch::Sender::new(0),
        }
    }

    /// The same compiler, with certificates to be had from `issued`.
    #[must_use]
    pub fn with_issued(mut self, issued: Issued) -> Self {
        self.issued = issued;
        self
    }

    /// The certificates that the gateway gets for itself.
    pub fn issued(&self) -> Issued {
        self.issued.clone()
    }

    /// What resolves the names of nodes.
    pub fn dns(&self) -> Arc<Dns> {
        self.dns.clone()
    }

    /// What fetches staples, if anything does.
    pub fn staples(&self) -> Option<Staples> {
        self.settings.terms.staples.clone()
    }

    /// The same compiler, but for finding out what would be rejected: secrets are not fetched.
    #[must_use]
    pub fn dry(mut self) -> Self {
        self.dry = true;
        self
    }

    /// A dry compiler of nothing, by the same settings and keys.
    pub(super) fn scratch(&self) -> Self {
        let settings = self.settings.clone();
        Self::new(settings, self.keyring.clone(), self.secrets.clone(), self.dns.clone())
            .with_issued(self.issued.clone())
            .dry()
    }

    /// What compiling one resource takes.
    pub(super) fn workshop<'c, 'r>(&'c self, resolver: &'c mut Resolver<'r>) -> Workshop<'c, 'r> {
        Workshop {
            settings: &self.settings,
            shared: &self.shared,
            parts: &self.parts,
            consumers: &self.current.consumers,
            issued: &self.issued,
            resolver,
            dry: self.dry,
        }
    }

    /// The snapshot as of the last apply.
    pub fn snapshot(&self) -> &Snapshot {
        &self.current
    }

    /// The revision of the newest event that was applied, as it moves.
    pub fn reached(&self) -> watch::Receiver<i64> {
        self.reached.subscribe()
    }

    /// The whole content of the store: compared with what is known, and only the difference
    /// compiled.
    pub fn load(&mut self, revision: i64, entries: Vec<Entry>) {
        let listed: BTreeSet<Arc<str>> = entries.iter().map(|entry| entry.key.clone()).collect();
        // An answer without a single resource where there were many is more likely a fault than a
        // wish, and taking it would take everything off the air. (users-ask: #8682, #2680)
        let is_served = |key: &Arc<str>| Kind::of_key(key).is_some();
        if !listed.iter().any(is_served) && self.stored.keys().any(is_served) {
            tracing::error!(
                resources = self.stored.len(),
                revision,
                "the store came back empty; keeping the last good config until it is written to"
            );
            return;
        }
        let gone = self.stored.keys().filter(|key| !listed.contains(*key)).cloned();
        let mut changes: Vec<KeyChange> = gone.map(|key| (key, None)).collect();
        for entry in entries {
            let fresh = Stored::of(&entry.value, entry.mod_revision);
            if self.stored.get(&entry.key) != Some(&fresh) {
                changes.push((entry.key, Some((entry.value, entry.mod_revision))));
            }
        }
        self.apply(revision, changes);
    }

    /// Changes of the store, each a key with its new value and revision or with nothing.
    pub fn apply(&mut self, revision: i64, changes: Vec<KeyChange>) {
        let mut dirty: BTreeMap<Key, Why> = BTreeMap::new();
        for (key, value) in changes {
            match &value {
                Some((bytes, at)) => self.stored.insert(key.clone(), Stored::of(bytes, *at)),
                None => self.stored.remove(&key),
            };
            let Some((kind, id)) = Kind::of_key(&key) else {
                if key.contains('/') && value.is_some() {
                    self.ignored.insert(key);
                } else {
                    self.ignored.remove(&key);
                }
                continue;
            };
            let key: Key = (kind, id.into());
            dirty.insert(key, Why::Changed(value.map(|(bytes, _)| bytes)));
        }
        // Before anything is compiled: what is not needed any more is so as of this revision.
        self.current.revision = revision;
        self.compile(dirty);
        self.reached.send_replace(revision);
    }

    /// References whose values changed: whoever holds them is compiled again.
    pub fn refresh(&mut self, changed: &[Reference]) {
        let holders = changed.iter().flat_map(|reference| self.references.of(reference));
        let dirty = holders.map(|key| (key.clone(), Why::Touched)).collect();
        self.compile(dirty);
        (self.current.challenges, self.current.proofs) = self.issued.challenges();
    }

    /// Compiles what is dirty, and whoever refers to it. Kinds come in the order in which they
    /// refer to each other, so one pass is enough.
    fn compile(&mut self, mut dirty: BTreeMap<Key, Why>) {
        let mut frees_credentials = false;
        while let Some((key, why)) = dirty.pop_first() {
            frees_credentials |= matches!(key.0, Kind::Consumer | Kind::Credential);
            let resource = match why {
                Why::Changed(None) => {
                    self.good.remove(&key);
                    self.rejected.remove(&key);
                    self.unreadable.remove(&key);
                    self.latest.remove(&key);
                    touch(&mut dirty, self.users.of(&key));
                    self.remove(&key);
                    continue;
                }
                Why::Changed(Some(bytes)) => {
                    let decoded = self.open_stored(key.0, &bytes);
                    match decoded.and_then(|value| resource::decode(key.0, &key.1, value)) {
                        Ok(resource) => {
                            let old = self.latest.insert(key.clone(), bytes);
                            // Until the new one is compiled, the old one is what is served.
                            if let Some(old) = old.filter(|_| !self.rejected.contains_key(&key)) {
                                self.good.insert(key.clone(), old);
                            }
                            self.unreadable.remove(&key);
                            Ok(resource)
                        }
                        Err(reasons) => {
                            self.unreadable.insert(key.clone());
                            Err(reasons)
                        }
                    }
                }
                Why::Touched => match self.latest.get(&key) {
                    Some(bytes) => self
                        .open_stored(key.0, bytes)
                        .and_then(|value| resource::read(key.0, &key.1, value)),
                    None => continue,
                },
            };
            let before = self.parts.upstreams.get(&key.1).cloned();
            let outcome = resource.and_then(|resource| self.take(&key, &resource, false));
            match outcome {
                Ok(()) => {
                    self.good.remove(&key);
                    // That an older version compiles again does not make the newest readable.
                    if !self.unreadable.contains(&key) && self.rejected.remove(&key).is_some() {
                        tracing::info!(resource = %name(&key), "accepted again");
                    }
                    // An upstream that is the same as before leaves its users as they are.
                    let after = self.parts.upstreams.get(&key.1);
                    let same = before.zip(after).is_some_and(|(old, new)| Arc::ptr_eq(&old, new));
                    if key.0 != Kind::Upstream || !same {
                        // Stream routes may name each other in a circle; nothing is compiled of it.
                        let users = self.users.of(&key).filter(|user| user.0 != key.0);
                        touch(&mut dirty, users);
                    }
                }
                Err(reasons) => {
                    if self.follow_good(&key) {
                        touch(&mut dirty, self.users.of(&key));
                    }
                    self.reject(&key, reasons);
                }
            }
        }
        if frees_credentials {
            self.retry_consumers();
        }
        self.retire_replaced();
    }

    /// The newest version of `key` cannot be served: the one that is goes on following what it
    /// refers to. Whether it was compiled again.
    fn follow_good(&mut self, key: &Key) -> bool {
        let Some(good) = self.good.get(key).cloned() else {
            return false;
        };
        let value = self.open_stored(key.0, &good);
        let read = value.and_then(|value| resource::read(key.0, &key.1, value));
        // If not even that can be, it is served as it was.
        read.and_then(|resource| self.take(key, &resource, true)).is_ok()
    }

    /// A consumer or a credential that was refused because another had the same may have it now.
    fn retry_consumers(&mut self) {
        let known_by = |key: &&Key| matches!(key.0, Kind::Consumer | Kind::Credential);
        let refused = self.rejected.keys().filter(known_by);
        let refused: Vec<Key> =
            refused.filter(|key| !self.unreadable.contains(*key)).cloned().collect();
        for key in refused {
            let Some(bytes) = self.latest.get(&key) else {
                continue;
            };
            let value = self.open_stored(key.0, bytes);
            let read = value.and_then(|value| resource::read(key.0, &key.1, value));
            if read.and_then(|resource| self.take(&key, &resource, false)).is_ok() {
                self.good.remove(&key);
                self.rejected.remove(&key);
                tracing::info!(resource = %name(&key), "accepted again");
            }
        }
    }

    /// Parses stored bytes and decrypts what is encrypted in them.
    pub(super) fn open_stored(&self, kind: Kind, bytes: &[u8]) -> Result<Value, Vec<Invalid>> {
        let mut value = resource::parse(bytes).map_err(|invalid| vec![invalid])?;
        self.open(kind, &mut value);
        Ok(value)
    }

    /// Notes what a resource refers to, and compiles it. With `also`, or when an older version
    /// goes on being served, that is besides what it referred to before.
    fn take(&mut self, key: &Key, resource: &Resource, also: bool) -> Result<(), Vec<Invalid>> {
        let targets = targets(&key.1, resource).into_iter().map(|(target, _)| target).collect();
        let secrets = self.secrets.clone();
        let mut resolver = Resolver::new((!self.dry).then_some(&secrets));
        let outcome = self.put(key, resource, &mut resolver);
        if also || (outcome.is_err() && self.is_served(key)) {
            self.users.add(key, targets);
            self.references.add(key, resolver.seen);
            return outcome;
        }
        if let (Resource::Ssl(ssl), false, Ok(())) = (resource, self.dry, &outcome) {
            let order = Order::of(ssl).ok().flatten().filter(|_| ssl.status.is_on());
            self.issued.retain(&key.1, order.as_ref(), self.current.revision);
        }
        self.users.set(key, targets);
        for unused in self.references.set(key, resolver.seen) {
            self.secrets.release(&unused);
        }
        outcome
    }

    fn reject(&mut self, key: &Key, reasons: Vec<Invalid>) {
        let serves_last_good = self.is_served(key);
        let all: Vec<String> = reasons.iter().map(ToString::to_string).collect();
        if self.dry {
            // Whoever asked is told; nothing is amiss on this node.
        } else if reasons.iter().all(|reason| reason.expected == PENDING) {
            tracing::info!(resource = %name(key), serves_last_good, "waits for a secret");
        } else {
            tracing::error!(
                resource = %name(key), reasons = all.join("; "), serves_last_good,
                "rejected: its newest version cannot be served"
            );
        }
        let rejected = Rejected { reasons, serves_last_good };
        self.rejected.insert(key.clone(), rejected);
    }

    fn is_served(&self, (kind, id): &Key) -> bool {
        match kind {
            Kind::Secret | Kind::Proto | Kind::CostDecoration => false,
            Kind::PluginMetadata => self.parts.metadata.contains_key(id),
            Kind::Ssl => self.parts.served.contains_key(id) || self.parts.clients.contains_key(id),
            Kind::Upstream => self.parts.upstreams.contains_key(id),
            Kind::Service => self.parts.services.contains_key(id),
            Kind::PluginConfig => self.parts.plugin_configs.contains_key(id),
            Kind::GlobalRule => self.parts.globals.contains_key(id),
            Kind::ConsumerGroup => self.parts.consumer_groups.contains_key(id),
            Kind::Consumer => self.parts.consumers.contains_key(id),
            Kind::Credential => self.parts.credentials.contains_key(id),
            Kind::Route => self.parts.routes.contains_key(id),
            Kind::StreamRoute => self.parts.stream_routes.contains_key(id),
        }
    }
}

// === impl Stored ===

impl Stored {
    fn of(value: &[u8], revision: i64) -> Self {
        let mut hasher = DefaultHasher::new();
        value.hash(&mut hasher);
        Self { revision, hash: hasher.finish() }
    }
}

/// Has the users of a resource compiled too, unless they are to be anyway.
fn touch<'k>(dirty: &mut BTreeMap<Key, Why>, users: impl Iterator<Item = &'k Key>) {
    for user in users {
        dirty.entry(user.clone()).or_insert(Why::Touched);
    }
}

fn name((kind, id): &Key) -> String {
    format!("{}/{id}", kind.dir())
}
