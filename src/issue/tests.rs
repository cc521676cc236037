//! Nodes on one store without an issuer: claims, failures told to all, foreign keys.

use serde_json::json;

use super::record::{Claim, Place, Record};
use super::*;
use crate::resource::hidden::Hidden;
use crate::store::embedded::Embedded;
use crate::store::{Expect, Written};

/// A revision that nothing is newer than.
const NEWEST: i64 = i64::MAX;

const WEB: &str = "$secret://vault/1/pki/issue/web";

impl Issued {
    /// At which revision the node has seen the claim of an ssl object's order.
    fn claim_of(&self, ssl: &str) -> Option<i64> {
        self.0.as_ref()?.lock().kept.get(ssl)?.first()?.known.claim
    }
}

/// Nodes on one store, with a Vault that nobody listens for.
struct Rig {
    store: Arc<dyn ConfigStore>,
    keyring: Keyring,
    /// Keys come to their end as long as somebody watches.
    _events: tokio::sync::mpsc::Receiver<crate::store::Event>,
    _dir: tempfile::TempDir,
}

// === impl Rig ===

impl Rig {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Embedded::open(&dir.path().join("config.redb")).unwrap();
        let keyring = Keyring::new(["qeddd145sfvddff3"]).unwrap();
        let events = store.clone().watch();
        Self { store, keyring, _events: events, _dir: dir }
    }

    fn node(&self, node: &str) -> Issued {
        let runtime = tokio::runtime::Handle::current();
        let times = Duration::from_secs(60);
        let settings = crate::secret::Settings { ttl: times, neg_ttl: times, trusted: None };
        let (secrets, _) = Secrets::new(settings, runtime.clone(), |_, _| {});
        let vault = json!({ "uri": "http://127.0.0.1:9", "prefix": "kv", "token": "t" });
        let vault = resource::Secret::Vault(serde_json::from_value(vault).unwrap());
        secrets.set_manager("vault/1", &vault);
        Issued::new(Parts {
            store: self.store.clone(),
            keyring: self.keyring.clone(),
            secrets,
            node: node.to_owned(),
            is_shared: true,
            is_writable: true,
            runtime,
        })
    }

    /// Stores `value` at `key` whatever stands there, for a minute; returns its revision.
    async fn write<T: serde::Serialize>(&self, key: &str, value: &T) -> i64 {
        let value = self.sealed().seal(value);
        match self.store.put(key, value, Expect::Any, Some(60)).await.unwrap() {
            Written::Done { revision } => revision,
            Written::Conflict { .. } => panic!("a conflict"),
        }
    }

    async fn has(&self, key: &str) -> bool {
        self.store.get(key).await.unwrap().is_some()
    }

    fn sealed(&self) -> Sealed {
        Sealed { store: self.store.clone(), keyring: self.keyring.clone() }
    }
}

fn order() -> Order {
    order_from(WEB)
}

fn order_from(issuer: &str) -> Order {
    let ssl = json!({ "cert": issuer, "key": issuer, "sni": "a.test" });
    Order::of(&serde_json::from_value(ssl).unwrap()).unwrap().unwrap()
}

/// A certificate that another node has got, good for years.
fn record() -> Record {
    let made = rcgen::generate_simple_self_signed(["a.test".to_owned()]).unwrap();
    let key = Hidden(made.signing_key.serialize_pem());
    Record::new(made.cert.pem(), key, None, "other").unwrap()
}

fn acme(directory: &str) -> resource::Secret {
    resource::Secret::Acme(serde_json::from_value(json!({ "directory": directory })).unwrap())
}

/// Waits until `condition` holds.
async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let wait = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait).await.expect(what);
}

fn place() -> Place {
    Place::new("1", &order().digest(""))
}

/// The error of the ssl object `1`, once there is one.
async fn error(node: &Issued) -> String {
    let mut said = String::new();
    eventually("an error", async || match node.lookup(&"1".into(), &order()) {
        Found::Failed(error) => {
            said = error;
            true
        }
        _ => false,
    })
    .await;
    said
}

/// Waits until `node` has the certificate of `record` for the ssl object `1`.
async fn takes_up(node: &Issued, order: &Order, record: &Record) {
    eventually("the certificate is taken up", async || {
        matches!(node.lookup(&"1".into(), order), Found::Ready(chain, _) if chain == record.chain)
    })
    .await;
}

#[tokio::test]
async fn another_node_takes_over_when_the_one_that_asks_has_died() {
    let rig = Rig::new();
    let claim = Claim { node: "dead".to_owned(), ..Claim::default() };
    let value = rig.sealed().seal(&claim);
    rig.store.put(&place().claim, value, Expect::Absent, Some(2)).await.unwrap();
    let node = rig.node("one");
    assert!(matches!(node.lookup(&"1".into(), &order()), Found::Pending));
    assert!(error(&node).await.contains("http://127.0.0.1:9/v1/pki/issue/web"));
    let (claim, _) = rig.sealed().get::<Claim>(&place().claim).await.unwrap().unwrap();
    assert_eq!((claim.node.as_str(), claim.attempts), ("one", 1));
}

#[tokio::test]
async fn who_waits_tells_why_the_other_failed_and_does_not_ask() {
    let rig = Rig::new();
    let theirs = Claim {
        node: "other".to_owned(),
        attempts: 3,
        error: Some("Vault is sealed".to_owned()),
        answers: Answers {
            challenges: BTreeMap::from([("token".to_owned(), "answer".to_owned())]),
            ..Answers::default()
        },
    };
    let value = rig.sealed().seal(&theirs);
    rig.store.put(&place().claim, value, Expect::Absent, Some(600)).await.unwrap();
    let node = rig.node("one");
    assert_eq!(error(&node).await, "Vault is sealed");
    assert_eq!(node.challenges().0["token"], "answer");
    let (claim, _) = rig.sealed().get::<Claim>(&place().claim).await.unwrap().unwrap();
    assert_eq!(claim, theirs);
    // Nobody may keep answering for what is over.
    node.retain("1", None, NEWEST);
    assert!(node.challenges().0.is_empty() && node.status().is_empty());
}

#[tokio::test]
async fn a_record_of_another_key_is_not_issued_over() {
    let rig = Rig::new();
    let other = Keyring::new(["edd1c9f0985e76a2"]).unwrap();
    let value = other.encrypt("{}").into();
    let key = place().certificate;
    rig.store.put(&key, value, Expect::Absent, None).await.unwrap();
    assert!(error(&rig.node("one")).await.contains("apisix.data_encryption.keyring"));
    assert!(rig.store.get(&place().claim).await.unwrap().is_none());
}

#[tokio::test]
async fn what_an_issuer_gave_before_it_was_changed_is_thrown_away() {
    let rig = Rig::new();
    let (node, order) = (rig.node("one"), order_from("$secret://acme/le"));
    let places = ["https://127.0.0.1:9/one", "https://127.0.0.1:9/two"].map(|directory| {
        let written = acme(directory);
        let resource::Secret::Acme(parsed) = &written else { panic!("an ACME server") };
        let place = Place::new("1", &order.digest(&Acme::new("acme/le", parsed).salt()));
        (written, place)
    });
    let [(first, old), (second, new)] = places;
    let issued = record();
    rig.write(&old.certificate, &issued).await;
    node.set_issuer(&"acme/le".into(), &first, NEWEST);
    takes_up(&node, &order, &issued).await;
    // The same again is no change, nor is it one that the manager is away for a while.
    node.set_issuer(&"acme/le".into(), &first, NEWEST);
    node.remove_issuer(&"acme/le".into());
    node.set_issuer(&"acme/le".into(), &first, NEWEST);
    assert!(rig.has(&old.certificate).await);

    node.set_issuer(&"acme/le".into(), &second, NEWEST);
    eventually("the first one's record is gone", async || !rig.has(&old.certificate).await).await;
    // Served on, while the second one is tried in vain.
    takes_up(&node, &order, &issued).await;
    eventually("it is tried", async || rig.has(&new.claim).await).await;
    eventually("in vain", async || node.status()[0].error.is_some()).await;
    node.retain("1", None, NEWEST);
    eventually("nothing is left", async || !rig.has(&new.claim).await).await;
}

/// The ssl object was switched off and on again, and another node was faster both times.
#[tokio::test]
async fn a_node_that_lags_leaves_what_has_been_issued_since() {
    let rig = Rig::new();
    let claim = Claim { node: "other".to_owned(), ..Claim::default() };
    let mut old = record();
    // Due, so that the claim of who renews it is looked at.
    old.renew_at = 0;
    for has_heard in [false, true] {
        rig.write(&place().claim, &claim).await;
        let off = rig.write(&place().certificate, &old).await;
        let node = rig.node("one");
        takes_up(&node, &order(), &old).await;
        eventually("the claim is known", async || node.claim_of("1").is_some()).await;
        let fresh = record();
        let since = rig.write(&place().certificate, &fresh).await;
        if has_heard {
            takes_up(&node, &order(), &fresh).await;
        }
        node.retain("1", None, off);
        // It goes after the certificate.
        eventually("the claim is gone", async || !rig.has(&place().claim).await).await;
        let left = rig.store.get(&place().certificate).await.unwrap();
        assert_eq!(left.map(|entry| entry.mod_revision), Some(since), "heard of it: {has_heard}");
    }
}
