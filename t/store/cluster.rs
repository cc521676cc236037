//! Three members, of which one is dead.

use sluice::store::{ConfigStore, etcd::Etcd};

use super::{keys, next_changes, next_listing, options, put};
use crate::support::etcd::EtcdCluster;

#[tokio::test]
async fn starts_and_goes_on_with_any_one_member_dead() {
    let mut cluster = EtcdCluster::start().await;
    let endpoints = cluster.endpoints();
    cluster.members[0].etcdctl(&["put", "/apisix/routes/1", "a"]);
    cluster.members[0].stop();
    cluster.members[1].ready().await;
    // Connections begin at any member: enough stores that some begin at the dead one.
    for _ in 0..6 {
        let store = Etcd::new(options(&endpoints));
        assert_eq!(keys(&store.list("").await.unwrap()), ["routes/1"]);
    }

    let store = Etcd::new(options(&endpoints));
    let mut events = store.clone().watch();
    next_listing(&mut events).await;
    cluster.members[0].restart().await;
    for dead in 0..3 {
        cluster.members[dead].stop();
        let alive = &cluster.members[(dead + 1) % 3];
        alive.ready().await;
        alive.etcdctl(&["put", "/apisix/routes/1", &dead.to_string()]);
        // A member that lags behind may make the store list again; nothing is missed either way.
        loop {
            match super::next_news(&mut events).await {
                sluice::store::Event::Loaded(listing) => {
                    if &*listing.entries[0].value == dead.to_string().as_bytes() {
                        break;
                    }
                }
                sluice::store::Event::Changed { changes, .. } => {
                    let last = changes.last().map(super::print);
                    assert_eq!(last, Some(format!("routes/1={dead}")));
                    break;
                }
                sluice::store::Event::Progress { .. } => {}
            }
        }
        cluster.members[dead].restart().await;
    }
    put(&*store, "routes/2", "b").await;
    assert_eq!(next_changes(&mut events).await.0, ["routes/2=b"]);
}
