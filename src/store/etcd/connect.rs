//! Connecting: any one live member is enough, and a dead one delays nobody for long.

use std::time::Duration;

use etcd_client::{Channel, Client, ConnectOptions, KvClient, WatchClient};
use tonic::transport::Endpoint;

use super::fault::{self, Fault};
use super::{Options, Tls, tls};
use crate::call::innermost;
use crate::store::StoreError;

/// How long one member may take to answer a connection attempt.
const ATTEMPT: Duration = Duration::from_secs(2);

/// A page of a thousand certificates is larger than the 4 MiB that gRPC takes unless told.
const MESSAGE_LIMIT: usize = i32::MAX as usize;

/// A connection to one member that has answered.
pub(super) struct Connection {
    pub(super) client: Client,
    pub(super) endpoint: String,
    /// Whether an answer to a request for progress comes after all events up to its revision.
    pub(super) progress_is_ordered: bool,
}

/// Connects to the first member that answers, beginning anywhere, so that nodes spread.
pub(super) async fn connect(options: &Options) -> Result<Connection, StoreError> {
    let count = options.endpoints.len();
    let first = if count > 0 { fastrand::usize(..count) } else { 0 };
    let mut failure = StoreError::Unreachable {
        endpoint: String::new(),
        reason: "no endpoint is configured".to_owned(),
    };
    for step in 0..count {
        let endpoint = &options.endpoints[(first + step) % count];
        match attempt(endpoint, options).await {
            Ok(connection) => return Ok(connection),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

async fn attempt(endpoint: &str, options: &Options) -> Result<Connection, StoreError> {
    let unreachable =
        |reason: String| StoreError::Unreachable { endpoint: endpoint.to_owned(), reason };
    let target = target(endpoint, options).map_err(|reason| unreachable(fault::hinted(reason)))?;
    // A member that lost its cluster must not keep a watch that will never deliver.
    let mut connect = ConnectOptions::new().with_require_leader(true).with_auto_token_refresh(true);
    if let Some((user, password)) = &options.user {
        connect = connect.with_user(user, password);
    }
    let connecting = async {
        let channel = target.connect().await.map_err(etcd_client::Error::TransportError)?;
        let client = Client::from_channel(Channel::Tonic(channel), Some(connect)).await?;
        let status = client.maintenance_client().status().await?;
        Ok::<_, etcd_client::Error>(Connection {
            client,
            endpoint: endpoint.to_owned(),
            progress_is_ordered: progress_is_ordered(status.version()),
        })
    };
    match tokio::time::timeout(ATTEMPT * 2, connecting).await {
        Ok(Ok(connection)) => Ok(connection),
        Ok(Err(error)) if Fault::of(&error) == Fault::Credentials => {
            Err(StoreError::Unauthenticated { endpoint: endpoint.to_owned() })
        }
        Ok(Err(error)) => Err(unreachable(fault::reason(&error))),
        Err(_) => Err(unreachable(format!("no answer within {:?}", ATTEMPT * 2))),
    }
}

fn target(endpoint: &str, options: &Options) -> Result<Endpoint, String> {
    let target = Endpoint::from_shared(endpoint.to_owned())
        .map_err(|error| innermost(&error))?
        .connect_timeout(ATTEMPT)
        .http2_keep_alive_interval(Duration::from_secs(10))
        .keep_alive_timeout(Duration::from_secs(5))
        .keep_alive_while_idle(true);
    if !endpoint.starts_with("https://") {
        return Ok(target);
    }
    let standard = Tls::default();
    tls::apply(target, options.tls.as_ref().unwrap_or(&standard))
}

/// Servers before 3.4.25 and 3.5.8 answer a request for progress with the newest revision at
/// once, while events up to it may still wait to be sent.
///
/// Source: etcd issue 15220, changelogs of 3.4 and 3.5.
fn progress_is_ordered(version: &str) -> bool {
    let mut numbers = version.split(['.', '-', '+']).map(|part| part.parse::<u32>().unwrap_or(0));
    let mut next = || numbers.next().unwrap_or(0);
    match (next(), next(), next()) {
        (3, 4, patch) => patch >= 25,
        (3, 5, patch) => patch >= 8,
        (major, minor, _) => (major, minor) >= (3, 6),
    }
}

// === impl Connection ===

impl Connection {
    pub(super) fn kv(&self) -> KvClient {
        self.client.kv_client().max_decoding_message_size(MESSAGE_LIMIT)
    }

    pub(super) fn watches(&self) -> WatchClient {
        self.client.watch_client().max_decoding_message_size(MESSAGE_LIMIT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trusts_the_progress_of_servers_that_keep_its_order() {
        for (version, ordered) in [
            ("3.5.1", false),
            ("3.5.7", false),
            ("3.5.8", true),
            ("3.4.24", false),
            ("3.4.25", true),
            ("3.3.99", false),
            ("3.6.0-rc.1", true),
            ("4.0", true),
            ("", false),
        ] {
            assert_eq!(progress_is_ordered(version), ordered, "{version}");
        }
    }
}
