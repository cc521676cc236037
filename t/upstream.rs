//! Connections to nodes: which of those that are kept carry a request.

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::support::authority::{self, Authority};
use crate::support::gateway::Gateway;
use crate::support::origin::{From, Origin};
use crate::support::{eventually, raw};

/// A certificate and its key, PEM.
type Pair = (String, String);

/// A gateway of one worker before a node that is spoken to over TLS, by those only who show a
/// certificate of an authority that the gateway trusts too.
struct Rig {
    gateway: Gateway,
    node: Origin,
    ca: Authority,
    /// The certificate `1`.
    first: Pair,
    _dir: tempfile::TempDir,
}

// === impl Rig ===

impl Rig {
    /// With a route for every path to the upstream `u`, which has the client certificate `1`.
    async fn new() -> Self {
        let ca = Authority::new("ROOT");
        let (cert, key) = ca.issue(&["node.test", "other.test"]);
        let node = Origin::start_asking(&cert, &key, &ca.pem()).await;
        let dir = tempfile::tempdir().unwrap();
        let trusted = dir.path().join("trusted.crt");
        std::fs::write(&trusted, ca.pem()).unwrap();
        let gateway = Gateway::builder()
            .config(|config| {
                config["apisix"]["ssl"]["ssl_trusted_certificate"] = json!(trusted);
                config["nginx_config"]["worker_processes"] = json!(1);
                // No connection ends by its age.
                config["nginx_config"]["http"]["upstream"]["keepalive_timeout"] = json!("1h");
            })
            .start()
            .await;
        let rig = Self { gateway, node, first: ca.issue(&["first"]), ca, _dir: dir };
        rig.gateway.put("/ssls/1", client(&rig.first)).await;
        rig.gateway.put("/upstreams/u", rig.upstream(by_id("1"))).await;
        let route = json!({ "uri": "/*", "upstream_id": "u" });
        rig.gateway.put_route("1", route).await;
        rig
    }

    /// The node's upstream, with `more`.
    fn upstream(&self, more: Value) -> Value {
        let mut upstream = json!({
            "type": "roundrobin", "scheme": "https", "nodes": { self.node.node(): 1 },
            "pass_host": "rewrite", "upstream_host": "node.test",
        });
        upstream.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        upstream
    }

    /// Asks the node for something, and gives what it came by.
    async fn ask(&self) -> From {
        assert_eq!(self.gateway.get("/get").await.status(), 200);
        self.node.seen().pop().unwrap().from
    }

    /// Checks that the node is asked on another connection than `before`, that it sees `shown`
    /// there, and that the old one is not left to age. Gives the new one.
    async fn has_changed(&self, what: &str, before: usize, shown: &Pair) -> usize {
        let now = self.ask().await;
        assert!(now.certificate == Some(authority::der(&shown.0)), "{what}");
        assert_ne!(now.connection, before, "{what}");
        self.has_open(1).await;
        now.connection
    }

    /// Waits until `count` connections to the node are open.
    async fn has_open(&self, count: usize) {
        let what = format!("{count} open");
        eventually(&what, async || self.node.open() == count).await;
    }
}

/// An ssl object for the gateway as a client.
fn client((cert, key): &Pair) -> Value {
    json!({ "type": "client", "cert": cert, "key": key })
}

fn by_id(id: &str) -> Value {
    json!({ "tls": { "client_cert_id": id } })
}

#[tokio::test]
async fn a_node_is_shown_the_certificate_that_the_config_has_now() {
    let rig = Rig::new().await;
    let [second, third, renewed] = ["second", "third", "first"].map(|name| rig.ca.issue(&[name]));
    rig.gateway.put("/ssls/2", client(&second)).await;
    let own = json!({ "client_cert": third.0, "client_key": third.1 });
    let verified = json!({ "client_cert": third.0, "client_key": third.1, "verify": true });
    let other_name = json!({ "tls": verified, "upstream_host": "other.test" });
    let mut before = rig.ask().await.connection;
    for (what, path, body, shown) in [
        ("the ssl object's certificate", "/ssls/1", client(&renewed), &renewed),
        ("the ssl object", "/upstreams/u", rig.upstream(by_id("2")), &second),
        ("the certificate in it", "/upstreams/u", rig.upstream(json!({ "tls": own })), &third),
        ("verification", "/upstreams/u", rig.upstream(json!({ "tls": verified })), &third),
        ("the name", "/upstreams/u", rig.upstream(other_name), &third),
    ] {
        rig.gateway.put(path, body).await;
        before = rig.has_changed(what, before, shown).await;
    }
}

#[tokio::test]
async fn so_is_the_node_of_a_route_or_a_service_with_an_upstream_of_its_own() {
    let rig = Rig::new().await;
    let [second, third] = ["second", "third"].map(|name| rig.ca.issue(&[name]));
    let own = |more: Value| {
        let mut holder = json!({ "upstream": rig.upstream(by_id("1")) });
        holder.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        holder
    };
    rig.gateway.put_route("1", own(json!({ "uri": "/*" }))).await;
    rig.gateway.put("/services/s", own(json!({}))).await;
    let mut before = rig.ask().await.connection;
    let by_service = json!({ "uri": "/*", "service_id": "s" });
    for (what, path, body, shown) in [
        ("a route's", "/ssls/1", client(&second), &second),
        ("whose it is", "/routes/1", by_service, &second),
        ("a service's", "/ssls/1", client(&third), &third),
    ] {
        rig.gateway.put(path, body).await;
        before = rig.has_changed(what, before, shown).await;
    }
}

#[tokio::test]
async fn connections_outlive_a_change_that_does_not_touch_them() {
    let rig = Rig::new().await;
    let first = &rig.first;
    let with = |mut more: Value| {
        more["tls"] = json!({ "client_cert_id": "1" });
        rig.upstream(more)
    };
    let mut relabelled = client(first);
    relabelled["labels"] = json!({ "of": "another" });
    let mut weighted = with(json!({}));
    weighted["nodes"] = json!({ rig.node.node(): 5, "127.0.0.1:1": 0 });
    let own = json!({ "client_cert": first.0, "client_key": first.1 });
    let connection = rig.ask().await.connection;
    let changes = [
        ("/ssls/1", relabelled),
        ("/ssls/3", client(&rig.ca.issue(&["third"]))),
        ("/ssls/4", client(first)),
        ("/upstreams/u", with(json!({ "labels": { "of": "another" } }))),
        ("/upstreams/u", with(json!({ "timeout": { "connect": 5, "send": 5, "read": 5 } }))),
        ("/upstreams/u", with(json!({ "retries": 3, "keepalive_pool": { "size": 3 } }))),
        ("/upstreams/u", weighted),
        ("/upstreams/u", with(json!({}))),
        // The same certificate from elsewhere.
        ("/upstreams/u", rig.upstream(by_id("4"))),
        ("/upstreams/u", rig.upstream(json!({ "tls": own }))),
        ("/routes/1", json!({ "uris": ["/*", "/more"], "upstream_id": "u" })),
    ];
    for (index, (path, body)) in changes.into_iter().enumerate() {
        rig.gateway.put(path, body).await;
        assert_eq!(rig.ask().await.connection, connection, "change {index}, of {path}");
    }
}

#[tokio::test]
async fn connections_of_what_is_deleted_are_closed() {
    let rig = Rig::new().await;
    let own = json!({ "uri": "/*", "upstream": rig.upstream(by_id("1")) });
    rig.ask().await;
    rig.gateway.put_route("1", own).await;
    rig.ask().await;
    rig.has_open(2).await;
    for (left, path) in [(1, "/routes/1"), (0, "/upstreams/u")] {
        let (status, answer) = rig.gateway.admin("DELETE", path, None).await;
        assert_eq!(status, 200, "{answer}");
        rig.has_open(left).await;
    }
}

#[tokio::test]
async fn a_request_under_way_ends_on_its_connection_which_then_is_closed() {
    let rig = Rig::new().await;
    let mut client_side =
        TcpStream::connect(("127.0.0.1", rig.gateway.ports().http)).await.unwrap();
    let head = b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nfirst";
    client_side.write_all(head).await.unwrap();
    raw::read_until(&mut client_side, "first").await;
    rig.ask().await;
    assert_eq!(rig.node.open(), 2);
    rig.gateway.put("/ssls/1", client(&rig.ca.issue(&["second"]))).await;
    // That a request goes on keeps nothing else from being closed.
    rig.has_open(1).await;
    client_side.write_all(b"later").await.unwrap();
    raw::read_until(&mut client_side, "later").await;
    rig.has_open(0).await;
}

#[tokio::test]
async fn a_node_is_kept_as_many_connections_as_its_pool_is_large_whatever_the_names() {
    let rig = Rig::new().await;
    let passed = json!({
        "tls": { "client_cert_id": "1" }, "pass_host": "pass", "keepalive_pool": { "size": 2 },
    });
    rig.gateway.put("/upstreams/u", rig.upstream(passed)).await;
    for host in ["a.test", "b.test", "c.test", "d.test"] {
        assert_eq!(rig.gateway.get_host(host, "/get").await.status(), 200);
    }
    rig.has_open(2).await;
    assert_eq!(rig.node.connections(), 4);
    assert_eq!(rig.gateway.get_host("c.test", "/get").await.status(), 200);
    assert_eq!(rig.node.connections(), 4, "the last are kept");
}
