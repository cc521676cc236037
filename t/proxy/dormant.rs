//! Connections that have long been idle: kept without a task, and yet as good as any other.

use std::collections::HashSet;
use std::fs;
use std::path::PathBuf;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::gateway::Gateway;
use crate::support::origin::Origin;
use crate::support::{PATIENCE, eventually, raw};

const REQUEST: &[u8] = b"GET /bytes/3 HTTP/1.1\r\nHost: a\r\n\r\n";

/// A gateway whose idle connections are closed after `keepalive`.
async fn gateway(origin: &Origin, keepalive: &str) -> Gateway {
    let gateway = Gateway::builder()
        .config(|config| {
            config["nginx_config"]["http"] = json!({ "keepalive_timeout": keepalive });
            // Without it, only root may look at the process's descriptors.
            config["sluice"]["core_dumps"] = json!(true);
        })
        .start()
        .await;
    let route = json!({ "uri": "/*", "upstream": super::upstream(origin) });
    gateway.put_route("all", route).await;
    // Not by the gateway's client, whose connections would be among those that are counted.
    eventually("the route is served", || async {
        raw::ask(gateway.ports().http, "/bytes/3").await.starts_with("HTTP/1.1 200")
    })
    .await;
    gateway
}

/// A connection that has had an answer.
async fn answered(gateway: &Gateway) -> TcpStream {
    let mut client = TcpStream::connect(("127.0.0.1", gateway.ports().http)).await.unwrap();
    ask(&mut client).await;
    client
}

async fn ask(client: &mut TcpStream) {
    client.write_all(REQUEST).await.unwrap();
    let answer = raw::read_until(client, "\r\n\r\nxxx").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

/// How many connections of the gateway are dormant: watched by an epoll instance that another one
/// watches.
fn dormant(gateway: &Gateway) -> usize {
    let process = PathBuf::from(format!("/proc/{}", gateway.pid()));
    let watched = |fd: &str| -> Vec<String> {
        let info = fs::read_to_string(process.join("fdinfo").join(fd)).unwrap_or_default();
        let targets = info.lines().filter_map(|line| line.strip_prefix("tfd:"));
        targets.filter_map(|line| line.split_whitespace().next().map(str::to_owned)).collect()
    };
    let files = fs::read_dir(process.join("fd")).unwrap().map(|file| file.unwrap());
    let epolls = files.filter(|file| {
        fs::read_link(file.path()).is_ok_and(|to| to.ends_with("anon_inode:[eventpoll]"))
    });
    let epolls: HashSet<String> =
        epolls.map(|file| file.file_name().into_string().unwrap()).collect();
    // A set: an instance may have several descriptors, each of which tells the same.
    let inner: HashSet<String> =
        epolls.iter().flat_map(|fd| watched(fd)).filter(|fd| epolls.contains(fd)).collect();
    inner.iter().map(|fd| watched(fd).len()).sum()
}

async fn rests(gateway: &Gateway, count: usize) {
    eventually("the connections are dormant", || async { dormant(gateway) == count }).await;
}

async fn is_closed(mut client: TcpStream) -> bool {
    let mut rest = Vec::new();
    let read = tokio::time::timeout(PATIENCE, client.read_to_end(&mut rest)).await;
    matches!(read, Ok(Ok(0)))
}

#[tokio::test]
async fn a_dormant_connection_answers_until_the_node_stops() {
    let origin = Origin::start().await;
    let mut gateway = gateway(&origin, "600s").await;
    let mut first = answered(&gateway).await;
    let second = answered(&gateway).await;
    let third = answered(&gateway).await;
    rests(&gateway, 3).await;
    // Asked again, it has a task again, and rests again.
    ask(&mut first).await;
    ask(&mut first).await;
    assert_eq!(dormant(&gateway), 2);
    rests(&gateway, 3).await;
    // A request in two pieces, the second of which comes to a task.
    first.write_all(&REQUEST[..9]).await.unwrap();
    rests(&gateway, 2).await;
    first.write_all(&REQUEST[9..]).await.unwrap();
    raw::read_until(&mut first, "\r\n\r\nxxx").await;
    // Its client goes: nothing of it stays.
    drop(second);
    rests(&gateway, 1).await;
    let open = || gateway.sample("apisix_nginx_http_current_connections", &["state=\"active\""]);
    eventually("the first and the third are left", || async { open().await == Some(2.0) }).await;
    gateway.signal("QUIT");
    assert!(is_closed(first).await);
    assert!(is_closed(third).await);
    assert!(gateway.ended().await.success());
}

#[tokio::test]
async fn a_dormant_connection_is_closed_after_its_time() {
    let origin = Origin::start().await;
    let gateway = gateway(&origin, "15s").await;
    let client = answered(&gateway).await;
    rests(&gateway, 1).await;
    assert!(is_closed(client).await);
    assert_eq!(dormant(&gateway), 0);
}
