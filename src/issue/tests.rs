//! Nodes on one store without an issuer: claims, failures told to all, foreign keys.

use serde_json::json;

use super::record::{Claim, Place};
use super::*;
use crate::store::Expect;
use crate::store::embedded::Embedded;

const WEB: &str = "$secret://vault/1/pki/issue/web";

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

    fn sealed(&self) -> Sealed {
        Sealed { store: self.store.clone(), keyring: self.keyring.clone() }
    }
}

fn order() -> Order {
    let ssl = json!({ "cert": WEB, "key": WEB, "sni": "a.test" });
    Order::of(&serde_json::from_value(ssl).unwrap()).unwrap().unwrap()
}

fn place() -> Place {
    Place::new("1", &order().digest(""))
}

/// The error of the ssl object `1`, once there is one.
async fn error(node: &Issued) -> String {
    let wait = async {
        loop {
            if let Found::Failed(error) = node.lookup(&"1".into(), &order()) {
                return error;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait).await.expect("an error")
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
        challenges: BTreeMap::from([("token".to_owned(), "answer".to_owned())]),
    };
    let value = rig.sealed().seal(&theirs);
    rig.store.put(&place().claim, value, Expect::Absent, Some(600)).await.unwrap();
    let node = rig.node("one");
    assert_eq!(error(&node).await, "Vault is sealed");
    assert_eq!(node.challenges()["token"], "answer");
    let (claim, _) = rig.sealed().get::<Claim>(&place().claim).await.unwrap().unwrap();
    assert_eq!(claim, theirs);
    // Nobody may keep answering for what is over.
    node.retain("1", None);
    assert!(node.challenges().is_empty() && node.status().is_empty());
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
