//! The request road, through the real binary and real sockets.

mod balance;
mod connections;
mod desync;
mod dormant;
mod early;
mod failure;
mod farewell;
mod http2;
mod http3;
mod identity;
mod paths;
mod streams;
mod vars;
mod versions;

use serde_json::{Value, json};

use crate::support::gateway::Gateway;
use crate::support::origin::Origin;

/// The upstream of one origin.
pub fn upstream(origin: &Origin) -> Value {
    json!({ "type": "roundrobin", "nodes": { origin.node(): 1 } })
}

/// A gateway on the embedded store whose every path goes to one origin.
pub async fn one_origin() -> (Gateway, Origin) {
    let origin = Origin::start().await;
    let gateway = Gateway::start().await;
    catch_all(&gateway, &origin).await;
    (gateway, origin)
}

/// A gateway that takes request bodies of up to 1,000 bytes.
pub async fn of_small_bodies() -> Gateway {
    Gateway::builder()
        .config(|config| {
            config["nginx_config"]["http"] = json!({ "client_max_body_size": 1000 });
        })
        .start()
        .await
}

/// Sends every path of `gateway` to `origin`, and waits until that is served.
pub async fn catch_all(gateway: &Gateway, origin: &Origin) {
    gateway.put_route("all", json!({ "uri": "/*", "upstream": upstream(origin) })).await;
    gateway.served("/get").await;
}
