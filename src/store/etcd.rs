//! etcd: the store of a cluster, laid out as APISIX lays it out.
//!
//! Everything is listed in pages pinned to one revision, then one watch over the whole prefix
//! goes on from there. The revision moves only by what the watch delivered (events or progress),
//! never by a separate read: nothing can be skipped. After a compaction everything is listed
//! again, and the receiver compares.

mod connect;
mod fault;
mod tls;
mod transact;
mod watch;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use etcd_client::{
    Compare, CompareOp, DeleteOptions, GetOptions, KeyValue, PutOptions, Txn, TxnOp, TxnOpResponse,
};
use tokio::sync::{Mutex, mpsc};

use self::connect::Connection;
use self::fault::Fault;
use super::{
    BESIDE, ConfigStore, Entry, Event, Expect, Life, Listing, Read, Step, StoreError, Transacted,
    Written,
};

/// Keys a page of a listing holds.
const PAGE: i64 = 1000;

/// What APISIX puts at folder names so that they exist.
const FOLDER_MARK: &[u8] = b"init_dir";

/// Stands between the prefix and a key that is beside the config.
const BESIDE_MARK: &str = "-sluice/";

/// How etcd is reached (`deployment.etcd`).
#[derive(Clone)]
pub struct Options {
    /// `http://` or `https://` addresses of the members.
    pub endpoints: Vec<String>,
    /// What every key begins with: `/apisix`.
    pub prefix: String,
    pub user: Option<(String, String)>,
    pub tls: Option<Tls>,
    /// How long one answer may take.
    pub timeout: Duration,
    /// A watch from which nothing comes for this long is opened anew.
    pub watch_timeout: Duration,
}

/// TLS towards etcd (`deployment.etcd.tls`), PEM.
#[derive(Clone)]
pub struct Tls {
    /// What the members' certificates are checked against; the system's authorities when absent.
    pub ca: Option<String>,
    /// The certificate shown to the members, and its key.
    pub certificate: Option<(String, String)>,
    /// The name that the members' certificates must have; the host of the address when absent.
    pub server_name: Option<String>,
    /// Whether the members' certificates are checked at all.
    pub verify: bool,
}

/// The etcd backend.
pub struct Etcd {
    options: Options,
    connection: Mutex<Option<Arc<Connection>>>,
    reachable: AtomicBool,
}

// === impl Tls ===

impl Default for Tls {
    fn default() -> Self {
        Self { ca: None, certificate: None, server_name: None, verify: true }
    }
}

// === impl Etcd ===

impl Etcd {
    /// The backend; connects when it is first needed, so that etcd need not be up yet.
    pub fn new(mut options: Options) -> Arc<Self> {
        options.prefix = options.prefix.trim_end_matches('/').to_owned();
        Arc::new(Self { options, connection: Mutex::new(None), reachable: AtomicBool::new(false) })
    }

    /// The key in etcd. What is beside the config stands outside of the prefix, so that no watch
    /// and no listing of it, APISIX's neither, comes across it: `/apisix-sluice/nodes/1`.
    fn key(&self, key: &str) -> String {
        match key.strip_prefix(BESIDE) {
            Some(beside) => format!("{}{}{beside}", self.options.prefix, BESIDE_MARK),
            None => format!("{}/{key}", self.options.prefix),
        }
    }

    /// The other way round; `None` for what is not below the prefix.
    fn own_key(&self, full: &[u8]) -> Option<String> {
        let full = std::str::from_utf8(full).ok()?.strip_prefix(&self.options.prefix)?;
        match full.strip_prefix(BESIDE_MARK) {
            Some(beside) => Some(format!("{BESIDE}{beside}")),
            None => full.strip_prefix('/').map(str::to_owned),
        }
    }

    /// The connection, made when there is none.
    async fn connection(&self) -> Result<Arc<Connection>, StoreError> {
        let mut slot = self.connection.lock().await;
        if let Some(connection) = &*slot {
            return Ok(connection.clone());
        }
        let connected = connect::connect(&self.options).await;
        let connected =
            connected.inspect_err(|_| self.reachable.store(false, Ordering::Relaxed))?;
        Ok(slot.insert(Arc::new(connected)).clone())
    }

    /// Forgets `connection`, so that the next call may find another member, with a new token.
    async fn disconnect(&self, connection: &Arc<Connection>) {
        let mut slot = self.connection.lock().await;
        // Another call may have failed before this one, and there is a new connection already.
        if slot.as_ref().is_some_and(|current| Arc::ptr_eq(current, connection)) {
            *slot = None;
        }
    }

    /// Runs a call within the configured time, noting whether etcd answered. A connection over
    /// which no answer came, or whose token is refused, is not used again; a call that etcd
    /// refuses for what it asks costs no connection.
    async fn call<T, F>(&self, call: impl FnOnce(Arc<Connection>) -> F) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, etcd_client::Error>>,
    {
        let connection = self.connection().await?;
        let outcome = tokio::time::timeout(self.options.timeout, call(connection.clone())).await;
        let endpoint = || connection.endpoint.clone();
        let failure = match outcome {
            Ok(Ok(answer)) => {
                self.reachable.store(true, Ordering::Relaxed);
                return Ok(answer);
            }
            Ok(Err(error)) => match Fault::of(&error) {
                Fault::Refused => {
                    self.reachable.store(true, Ordering::Relaxed);
                    return Err(StoreError::Broken {
                        backend: "etcd",
                        reason: format!("{} refused: {}", endpoint(), fault::reason(&error)),
                    });
                }
                Fault::Credentials => StoreError::Unauthenticated { endpoint: endpoint() },
                Fault::Connection => {
                    StoreError::Unreachable { endpoint: endpoint(), reason: fault::reason(&error) }
                }
            },
            Err(_) => StoreError::Unreachable {
                endpoint: endpoint(),
                reason: format!("no answer within {:?}", self.options.timeout),
            },
        };
        self.reachable.store(false, Ordering::Relaxed);
        self.disconnect(&connection).await;
        Err(failure)
    }

    /// Lists what begins with `prefix`, and says of which cluster it is.
    async fn list_from(&self, prefix: &str) -> Result<(Listing, u64), StoreError> {
        let first = self.key(prefix).into_bytes();
        let end = successor(&first);
        let mut from = first;
        let mut listing = Listing::default();
        let mut cluster = 0;
        loop {
            let mut options = GetOptions::new().with_range(end.clone()).with_limit(PAGE);
            if listing.revision > 0 {
                options = options.with_revision(listing.revision);
            }
            let start = from.clone();
            let page = self
                .call(async move |etcd: Arc<Connection>| etcd.kv().get(start, Some(options)).await)
                .await?;
            if listing.revision == 0
                && let Some(header) = page.header()
            {
                listing.revision = header.revision();
                cluster = header.cluster_id();
            }
            listing.entries.extend(page.kvs().iter().filter_map(|pair| self.entry(pair)));
            match page.kvs().last() {
                Some(last) if page.more() => {
                    from = last.key().to_vec();
                    from.push(0);
                }
                _ => return Ok((listing, cluster)),
            }
        }
    }

    fn entry(&self, pair: &KeyValue) -> Option<Entry> {
        let key = self.own_key(pair.key())?;
        if key.is_empty() || key.ends_with('/') || pair.value() == FOLDER_MARK {
            return None;
        }
        Some(Entry {
            key: key.into(),
            value: Bytes::copy_from_slice(pair.value()),
            create_revision: pair.create_revision(),
            mod_revision: pair.mod_revision(),
        })
    }

    /// How a value is put that is to live for so long.
    async fn put_options(&self, life: Life) -> Result<PutOptions, StoreError> {
        match life {
            Life::Endless => Ok(PutOptions::new()),
            Life::AsBefore => Ok(PutOptions::new().with_ignore_lease()),
            Life::Seconds(ttl) => {
                let grant = async move |etcd: Arc<Connection>| {
                    etcd.client.lease_client().grant(ttl, None).await
                };
                Ok(PutOptions::new().with_lease(self.call(grant).await?.id()))
            }
        }
    }

    async fn write(
        &self,
        key: &str,
        expect: Expect,
        operation: TxnOp,
    ) -> Result<Written, StoreError> {
        let full = self.key(key);
        let compare: Vec<Compare> = compare(&full, expect).into_iter().collect();
        let txn = Txn::new().when(compare).and_then([operation]).or_else([TxnOp::get(full, None)]);
        let response = self.call(async move |etcd: Arc<Connection>| etcd.kv().txn(txn).await);
        let response = response.await?;
        if response.succeeded() {
            if let Some(TxnOpResponse::Delete(deleted)) = response.op_responses().first()
                && deleted.deleted() == 0
            {
                return Ok(Written::Conflict { current: None });
            }
            let revision = response.header().map_or(0, etcd_client::ResponseHeader::revision);
            return Ok(Written::Done { revision });
        }
        let current = response.op_responses().into_iter().find_map(|answer| match answer {
            TxnOpResponse::Get(found) => found.kvs().first().and_then(|pair| self.entry(pair)),
            _ => None,
        });
        Ok(Written::Conflict { current })
    }
}

#[async_trait]
impl ConfigStore for Etcd {
    async fn get(&self, key: &str) -> Result<Option<Entry>, StoreError> {
        let key = self.key(key);
        let found =
            self.call(async move |etcd: Arc<Connection>| etcd.kv().get(key, None).await).await?;
        Ok(found.kvs().first().and_then(|pair| self.entry(pair)))
    }

    async fn list(&self, prefix: &str) -> Result<Listing, StoreError> {
        let (listing, _) = self.list_from(prefix).await?;
        Ok(listing)
    }

    async fn read(&self, reads: &[Read]) -> Result<Vec<Vec<Entry>>, StoreError> {
        let mut found = Vec::with_capacity(reads.len());
        for level in reads.chunks(transact::LEVEL) {
            let gets = level.iter().map(|read| match read {
                Read::Key(key) => TxnOp::get(self.key(key), None),
                Read::Below(prefix) => {
                    let first = self.key(prefix).into_bytes();
                    let end = successor(&first);
                    TxnOp::get(first, Some(GetOptions::new().with_range(end)))
                }
            });
            let txn = Txn::new().and_then(gets.collect::<Vec<_>>());
            let response =
                self.call(async move |etcd: Arc<Connection>| etcd.kv().txn(txn).await).await?;
            found.extend(response.op_responses().into_iter().map(|answer| match answer {
                TxnOpResponse::Get(got) => {
                    got.kvs().iter().filter_map(|pair| self.entry(pair)).collect()
                }
                _ => Vec::new(),
            }));
        }
        Ok(found)
    }

    async fn put(
        &self,
        key: &str,
        value: Bytes,
        expect: Expect,
        ttl: Option<i64>,
    ) -> Result<Written, StoreError> {
        let options = self.put_options(ttl.into()).await?;
        let put = TxnOp::put(self.key(key), value.to_vec(), Some(options));
        self.write(key, expect, put).await
    }

    async fn delete(&self, key: &str, expect: Expect) -> Result<Written, StoreError> {
        let delete = TxnOp::delete(self.key(key), Some(DeleteOptions::new()));
        self.write(key, expect, delete).await
    }

    async fn transact(&self, steps: Vec<Step>) -> Result<Transacted, StoreError> {
        transact::run(self, steps).await
    }

    async fn next_revision(&self) -> Result<i64, StoreError> {
        // APISIX writes the same key for the same purpose.
        let key = self.key("gen_id");
        let put = self
            .call(async move |etcd: Arc<Connection>| etcd.kv().put(key, "1", None).await)
            .await?;
        Ok(put.header().map_or(0, etcd_client::ResponseHeader::revision))
    }

    fn watch(self: Arc<Self>) -> mpsc::Receiver<Event> {
        let (events, receiver) = mpsc::channel(64);
        tokio::spawn(watch::run(self, events));
        receiver
    }

    fn is_reachable(&self) -> bool {
        self.reachable.load(Ordering::Relaxed)
    }
}

/// How etcd is asked whether `expect` holds of the key `full`.
fn compare(full: &str, expect: Expect) -> Option<Compare> {
    match expect {
        Expect::Any => None,
        Expect::Absent => Some(Compare::create_revision(full, CompareOp::Equal, 0)),
        Expect::Revision(revision) => Some(Compare::mod_revision(full, CompareOp::Equal, revision)),
    }
}

/// The first key after every key that begins with `prefix`.
fn successor(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return end;
        }
    }
    // etcd reads a zero byte as "to the end".
    vec![0]
}
