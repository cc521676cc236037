//! The compiler: changes applied one by one equal a rebuild, and each refusal stands alone.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use http::Method;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::compile::{Compiler, KeyChange};
use super::publish::Shared;
use super::rig;
use crate::resource::Keyring;
use crate::router::Target;
use crate::store::Entry;

/// A compiler, fed by hand.
struct Fed {
    compiler: Shared,
    revision: i64,
    /// What a store would hold now.
    stored: BTreeMap<String, (String, i64)>,
    _runtime: tokio::runtime::Runtime,
}

impl Fed {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let compiler = runtime.block_on(async { rig::compiler(Keyring::default()).shared });
        Self { compiler, revision: 0, stored: BTreeMap::new(), _runtime: runtime }
    }

    fn change(&mut self, key: &str, value: Option<&str>) {
        self.revision += 1;
        match value {
            Some(value) => self.stored.insert(key.into(), (value.into(), self.revision)),
            None => self.stored.remove(key),
        };
        let value = value.map(|value| (Bytes::from(value.to_owned()), self.revision));
        let change: KeyChange = (key.into(), value);
        self.compiler.lock().apply(self.revision, vec![change]);
    }

    fn put(&mut self, key: &str, value: Value) {
        self.change(key, Some(&value.to_string()));
    }

    fn entries(&self) -> Vec<Entry> {
        let entry = |(key, (value, revision)): (&String, &(String, i64))| Entry {
            key: key.as_str().into(),
            value: Bytes::from(value.clone()),
            create_revision: 1,
            mod_revision: *revision,
        };
        self.stored.iter().map(entry).collect()
    }

    /// What is served: each route's plugins with what they were compiled from, and its nodes.
    fn served(&self) -> BTreeMap<String, String> {
        let compiler = self.compiler.lock();
        let rejected = rejected(&compiler);
        let found = (0..4).filter_map(|id| {
            let router = &compiler.snapshot().router;
            let found = router.find(target("a.com", &format!("/r{id}")), &Method::GET, |_| true)?;
            let route = found.value();
            let steps = route.chain.steps().iter();
            let nodes = route.upstream.as_ref().map(|upstream| {
                let nodes = upstream.nodes.load();
                let ports = nodes.all().iter().map(|(endpoint, ..)| endpoint.addr.port());
                ports.collect::<Vec<_>>()
            });
            let key = format!("routes/{id}");
            // What is rejected serves its last good version, which a rebuild cannot know.
            let served = format!("{:?} {nodes:?}", steps.collect::<Vec<_>>());
            (!rejected.contains(&key)).then_some((key, served))
        });
        found.collect()
    }
}

fn target<'a>(host: &'a str, path: &'a str) -> Target<'a> {
    Target { host: Some(host), path, ..Target::default() }
}

fn rejected(compiler: &Compiler) -> Vec<String> {
    compiler.rejected().map(|(kind, id, _)| format!("{}/{id}", kind.dir())).collect()
}

fn upstream(port: u16) -> Value {
    json!({ "nodes": { format!("127.0.0.1:{port}"): 1 } })
}

#[test]
fn a_broken_version_keeps_the_last_good_one_until_a_good_one_comes() {
    let mut fed = Fed::new();
    fed.put("upstreams/u", upstream(1));
    fed.put("routes/0", json!({ "uri": "/r0", "upstream_id": "u" }));
    let good = fed.served();
    fed.change("routes/0", Some("{broken"));
    assert_eq!(rejected(&fed.compiler.lock()), ["routes/0"]);
    assert!(fed.compiler.lock().rejected().next().unwrap().2.serves_last_good);
    // Its upstream changes: the old version follows, and is still not the newest.
    fed.put("upstreams/u", upstream(2));
    assert_eq!(rejected(&fed.compiler.lock()), ["routes/0"]);
    let snapshot = fed.compiler.lock().snapshot().clone();
    let route = snapshot.router.find(target("a.com", "/r0"), &Method::GET, |_| true).unwrap();
    let nodes = route.value().upstream.as_ref().unwrap().nodes.load_full();
    assert_eq!(nodes.all()[0].0.addr.port(), 2);
    fed.put("upstreams/u", upstream(1));
    fed.put("routes/0", json!({ "uri": "/r0", "upstream_id": "u" }));
    assert_eq!(rejected(&fed.compiler.lock()), Vec::<String>::new());
    assert_eq!(fed.served(), good);
}

#[test]
fn what_refers_to_nothing_is_taken_once_it_is_there() {
    let mut fed = Fed::new();
    fed.put("routes/0", json!({ "uri": "/r0", "service_id": "s" }));
    assert_eq!(rejected(&fed.compiler.lock()), ["routes/0"]);
    fed.put("services/s", json!({ "upstream_id": "u" }));
    assert_eq!(rejected(&fed.compiler.lock()), ["services/s", "routes/0"]);
    fed.put("upstreams/u", upstream(1));
    assert_eq!(rejected(&fed.compiler.lock()), Vec::<String>::new());
    assert!(fed.served()["routes/0"].contains("[1]"));
}

#[test]
fn one_refusal_leaves_the_others_of_a_listing_alone() {
    let mut fed = Fed::new();
    fed.stored.insert("routes/0".into(), (json!({ "uri": "/r0", "plugins": {} }).to_string(), 1));
    fed.stored.insert("routes/1".into(), ("not json".into(), 1));
    fed.stored.insert("routes/2".into(), (json!({ "uri": 2 }).to_string(), 1));
    let entries = fed.entries();
    fed.compiler.lock().load(1, entries);
    assert_eq!(rejected(&fed.compiler.lock()), ["routes/1", "routes/2"]);
    assert_eq!(fed.served().len(), 1);
    // An empty answer is more likely a fault than a wish, also one that only holds what is not
    // served here.
    fed.compiler.lock().load(2, Vec::new());
    assert_eq!(fed.served().len(), 1);
    let foreign = Entry {
        key: "gen_id".into(),
        value: Bytes::from_static(b"1"),
        create_revision: 3,
        mod_revision: 3,
    };
    fed.compiler.lock().load(3, vec![foreign]);
    assert_eq!(fed.served().len(), 1);
}

#[test]
fn a_refused_version_leaves_the_served_one_following_its_upstream() {
    let mut fed = Fed::new();
    fed.put("upstreams/u", upstream(1));
    fed.put("routes/0", json!({ "uri": "/r0", "upstream_id": "u" }));
    // Well formed, but what it refers to is not there.
    fed.put("routes/0", json!({ "uri": "/r0", "upstream_id": "u", "plugin_config_id": "none" }));
    assert_eq!(rejected(&fed.compiler.lock()), ["routes/0"]);
    fed.put("upstreams/u", upstream(2));
    let snapshot = fed.compiler.lock().snapshot().clone();
    let route = snapshot.router.find(target("a.com", "/r0"), &Method::GET, |_| true).unwrap();
    let nodes = route.value().upstream.as_ref().unwrap().nodes.load_full();
    assert_eq!(nodes.all()[0].0.addr.port(), 2);
    // And the newest is taken once it can be.
    fed.put("plugin_configs/none", json!({ "id": "none", "plugins": { "prometheus": {} } }));
    assert_eq!(rejected(&fed.compiler.lock()), Vec::<String>::new());
    assert!(fed.served()["routes/0"].contains("prometheus"));
}

#[test]
fn a_consumer_takes_over_the_key_of_one_that_goes() {
    let mut fed = Fed::new();
    let consumer =
        |name: &str| json!({ "username": name, "plugins": { "key-auth": { "key": "shared" } } });
    fed.put("consumers/jack-old", consumer("jack-old"));
    fed.put("consumers/jack", consumer("jack"));
    assert_eq!(rejected(&fed.compiler.lock()), ["consumers/jack"]);
    fed.change("consumers/jack-old", None);
    assert_eq!(rejected(&fed.compiler.lock()), Vec::<String>::new());
    let snapshot = fed.compiler.lock().snapshot().clone();
    let found = snapshot.consumers.by_credential("key-auth", "shared").unwrap();
    assert_eq!(&*found.name, "jack");
}

#[test]
fn a_credential_stands_for_its_consumer_as_long_as_both_are_there() {
    let mut fed = Fed::new();
    let known = |fed: &Fed| {
        let snapshot = fed.compiler.lock().snapshot().clone();
        let found = snapshot.consumers.by_credential("key-auth", "k")?;
        let id = found.credential_id.as_ref()?.to_str().unwrap().to_owned();
        Some((found.name.to_string(), id, found.custom_id.clone()))
    };
    let credential = json!({ "plugins": { "key-auth": { "key": "k" } } });
    fed.put("consumers/jack/credentials/one", credential.clone());
    assert_eq!(rejected(&fed.compiler.lock()), ["consumers/jack/credentials/one"]);
    fed.put("consumers/jack", json!({ "username": "jack" }));
    assert_eq!(rejected(&fed.compiler.lock()), Vec::<String>::new());
    assert_eq!(known(&fed), Some(("jack".into(), "one".into(), None)));
    // It follows its consumer.
    let labels = json!({ "custom_id": "c" });
    fed.put("consumers/jack", json!({ "username": "jack", "labels": labels }));
    assert_eq!(known(&fed).unwrap().2.unwrap(), "c");
    // The consumer takes the key over, and gives it back.
    let plugins = credential["plugins"].clone();
    fed.put("consumers/jack", json!({ "username": "jack", "plugins": plugins }));
    assert_eq!(known(&fed), None);
    assert_eq!(rejected(&fed.compiler.lock()), ["consumers/jack/credentials/one"]);
    fed.put("consumers/jack", json!({ "username": "jack" }));
    assert!(known(&fed).is_some());
    // Nobody is the consumer any more once it is gone, though the credential is still stored.
    fed.change("consumers/jack", None);
    assert_eq!(known(&fed), None);
    assert_eq!(rejected(&fed.compiler.lock()), ["consumers/jack/credentials/one"]);
}

#[test]
fn what_is_turned_off_goes_even_if_it_could_not_be_compiled() {
    let mut fed = Fed::new();
    fed.put("upstreams/u", upstream(1));
    fed.put("routes/0", json!({ "uri": "/r0", "upstream_id": "u" }));
    fed.put("routes/0", json!({ "uri": "/r0", "upstream_id": "none", "status": 0 }));
    assert!(fed.served().is_empty());
    assert_eq!(rejected(&fed.compiler.lock()), Vec::<String>::new());
}

#[test]
fn an_upstream_renamed_is_the_same_and_one_reweighted_keeps_its_connections() {
    let mut fed = Fed::new();
    let with =
        |weight: u32, name: &str| json!({ "name": name, "nodes": { "127.0.0.1:1": weight } });
    fed.put("upstreams/u", with(1, "a"));
    fed.put("routes/0", json!({ "uri": "/r0", "upstream_id": "u" }));
    let identity = |fed: &Fed| {
        let snapshot = fed.compiler.lock().snapshot().clone();
        let found = snapshot.router.find(target("a.com", "/r0"), &Method::GET, |_| true).unwrap();
        let upstream = found.value().upstream.clone().unwrap();
        let endpoint = upstream.nodes.load().all()[0].0.id;
        (Arc::as_ptr(found.value()).addr(), endpoint)
    };
    let before = identity(&fed);
    fed.put("upstreams/u", with(1, "b"));
    assert_eq!(identity(&fed), before);
    fed.put("upstreams/u", with(2, "b"));
    // Another route object, the same endpoint: pools are kept by it.
    assert_eq!(identity(&fed).1, before.1);
}

#[test]
fn connections_of_a_replaced_upstream_are_closed_when_nobody_is_served_by_it() {
    let mut fed = Fed::new();
    let upstream = |scheme: &str| json!({ "scheme": scheme, "nodes": { "127.0.0.1:1": 1 } });
    let metadata = |header: &str| json!({ "limit_header": header });
    fed.put("upstreams/u", upstream("http"));
    fed.put("services/s", json!({ "upstream_id": "u" }));
    let plugins = json!({ "limit-count": { "count": 1, "time_window": 9 } });
    fed.put("routes/0", json!({ "uri": "/r0", "service_id": "s", "plugins": plugins }));
    let endpoint = |fed: &Fed| {
        let snapshot = fed.compiler.lock().snapshot().clone();
        let found = snapshot.router.find(target("a.com", "/r0"), &Method::GET, |_| true).unwrap();
        let upstream = found.value().upstream.clone().unwrap();
        upstream.nodes.load().all()[0].0.clone()
    };
    let old = endpoint(&fed);
    // The route cannot be compiled any more, and does not follow.
    fed.put("plugin_metadata/limit-count", metadata("no header"));
    assert_eq!(rejected(&fed.compiler.lock()), ["routes/0"]);
    fed.put("upstreams/u", upstream("https"));
    assert!(endpoint(&fed).id == old.id && !old.is_retired());
    fed.put("plugin_metadata/limit-count", metadata("X-Limit"));
    let new = endpoint(&fed);
    assert!(new.id != old.id && old.is_retired() && !new.is_retired());
    for key in ["routes/0", "services/s", "upstreams/u"] {
        assert!(!new.is_retired(), "{key} is there");
        fed.change(key, None);
    }
    assert!(new.is_retired());
}

#[test]
fn routes_share_plugins_without_state_and_only_those() {
    let mut fed = Fed::new();
    let plugins = json!({ "prometheus": {}, "limit-count": { "count": 1, "time_window": 9 } });
    for id in 0..2 {
        let route =
            json!({ "uri": format!("/r{id}"), "plugins": plugins, "upstream": upstream(1) });
        fed.put(&format!("routes/{id}"), route);
    }
    let steps = |fed: &Fed, path: &str| -> BTreeMap<&'static str, usize> {
        let snapshot = fed.compiler.lock().snapshot().clone();
        let found = snapshot.router.find(target("a.com", path), &Method::GET, |_| true).unwrap();
        let steps = found.value().chain.steps().iter();
        steps.map(|step| (step.name(), Arc::as_ptr(step).addr())).collect()
    };
    let (first, second) = (steps(&fed, "/r0"), steps(&fed, "/r1"));
    assert_eq!(first["prometheus"], second["prometheus"]);
    assert_ne!(first["limit-count"], second["limit-count"], "each route has its own limit");
    // Another metadata is another plugin.
    fed.put("plugin_metadata/prometheus", json!({ "x": 1 }));
    assert_ne!(steps(&fed, "/r0")["prometheus"], first["prometheus"]);
}

/// Resources that refer to each other, and now and then to nothing.
fn change() -> impl Strategy<Value = (String, Option<String>)> {
    let id = 0..4_u16;
    let plugins = prop::sample::select(vec![
        json!({}),
        json!({ "prometheus": {} }),
        json!({ "proxy-rewrite": { "uri": "/x" } }),
    ]);
    let parts = (id.clone(), id.clone(), id, plugins, 0..12_u8);
    parts.prop_map(|(id, other, port, plugins, what)| {
        let (key, value) = match what {
            0 | 1 => (format!("upstreams/{id}"), Some(upstream(port + 1))),
            2 => (format!("upstreams/{id}"), None),
            3 => (
                format!("services/{id}"),
                Some(json!({ "upstream_id": other, "plugins": plugins })),
            ),
            4 => (format!("services/{id}"), None),
            5 => (format!("plugin_configs/{id}"), Some(json!({ "id": id, "plugins": plugins }))),
            6 => (format!("plugin_configs/{id}"), None),
            7 => (format!("routes/{id}"), None),
            8 => {
                let route = json!({ "uri": format!("/r{id}"), "upstream_id": other,
                    "plugin_config_id": port, "plugins": plugins });
                (format!("routes/{id}"), Some(route))
            }
            9 => {
                let route = json!({ "uri": format!("/r{id}"), "upstream": upstream(port + 1),
                    "plugins": plugins, "host": "a.com" });
                (format!("routes/{id}"), Some(route))
            }
            _ => {
                let route =
                    json!({ "uri": format!("/r{id}"), "service_id": other, "plugins": plugins });
                (format!("routes/{id}"), Some(route))
            }
        };
        // Ids are numbers in the generator and text where they are stored.
        let text = |value: Value| {
            let mut value = value;
            for field in ["id", "upstream_id", "service_id", "plugin_config_id"] {
                if let Some(slot) = value.get_mut(field) {
                    *slot = json!(format!("{slot}"));
                }
            }
            // Whose plugin it is can be told by its config.
            if let Some(uri) = value.pointer_mut("/plugins/proxy-rewrite/uri") {
                *uri = json!(format!("/{key}"));
            }
            value.to_string()
        };
        let value = value.map(text);
        (key, value)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn changes_one_by_one_equal_a_rebuild(changes in prop::collection::vec(change(), 1..40)) {
        let mut stepped = Fed::new();
        for (key, value) in &changes {
            stepped.change(key, value.as_deref());
        }
        let rebuilt = Fed::new();
        rebuilt.compiler.lock().load(stepped.revision, stepped.entries());
        let (a, b) = (rejected(&stepped.compiler.lock()), rejected(&rebuilt.compiler.lock()));
        // What cannot be compiled now may have a last good version that a rebuild cannot know, and
        // so may what refers to it; nothing is refused that a rebuild takes.
        prop_assert!(a.iter().all(|key| b.contains(key)), "{:?} {:?}", a, b);
        let mut served = stepped.served();
        served.retain(|key, _| !b.contains(key));
        prop_assert_eq!(served, rebuilt.served());
        // A relist of the same touches nothing: the routes stay the very same objects.
        let identities = |fed: &Fed| -> Vec<usize> {
            let router = fed.compiler.lock().snapshot().router.clone();
            let of = |id| router.find(target("a.com", &format!("/r{id}")), &Method::GET, |_| true)
                .map_or(0, |found| Arc::as_ptr(found.value()).addr());
            (0..4).map(of).collect()
        };
        let before = identities(&stepped);
        stepped.compiler.lock().load(stepped.revision, stepped.entries());
        prop_assert_eq!(before, identities(&stepped));
    }
}
