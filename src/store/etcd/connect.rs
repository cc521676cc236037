//! Connecting: any one live member is enough, and a dead one delays nobody for long.

use std::time::Duration;

use etcd_client::{Certificate, Client, ConnectOptions, Error, Identity, TlsOptions};

use super::Options;
use crate::store::StoreError;

/// How long one member may take to answer a connection attempt.
const ATTEMPT: Duration = Duration::from_secs(2);

/// gRPC status codes that say that the credentials are the problem.
const UNAUTHENTICATED: [i32; 2] = [16, 7];

/// Connects to the first member that answers, beginning anywhere, so that nodes spread.
pub(super) async fn connect(options: &Options) -> Result<Client, StoreError> {
    let count = options.endpoints.len();
    let first = if count > 0 { fastrand::usize(..count) } else { 0 };
    let mut failure = StoreError::Unreachable {
        endpoint: String::new(),
        reason: "no endpoint is configured".to_owned(),
    };
    for step in 0..count {
        let endpoint = &options.endpoints[(first + step) % count];
        match attempt(endpoint, options).await {
            Ok(client) => return Ok(client),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

async fn attempt(endpoint: &str, options: &Options) -> Result<Client, StoreError> {
    let unreachable =
        |reason: String| StoreError::Unreachable { endpoint: endpoint.to_owned(), reason };
    let mut connect = ConnectOptions::new()
        .with_connect_timeout(ATTEMPT)
        .with_keep_alive(Duration::from_secs(10), Duration::from_secs(5))
        .with_keep_alive_while_idle(true);
    if let Some((user, password)) = &options.user {
        connect = connect.with_user(user, password);
    }
    if endpoint.starts_with("https://") {
        connect = connect.with_tls(tls(options));
    }
    let connecting = async {
        let client = Client::connect([endpoint], Some(connect)).await?;
        // Connections are lazy; only an answer shows that the member is alive.
        client.maintenance_client().status().await?;
        Ok::<_, Error>(client)
    };
    match tokio::time::timeout(ATTEMPT * 2, connecting).await {
        Ok(Ok(client)) => Ok(client),
        Ok(Err(Error::GRpcStatus(status))) if UNAUTHENTICATED.contains(&(status.code() as i32)) => {
            Err(StoreError::Unauthenticated { endpoint: endpoint.to_owned() })
        }
        Ok(Err(error)) => Err(unreachable(innermost(&error))),
        Err(_) => Err(unreachable(format!("no answer within {:?}", ATTEMPT * 2))),
    }
}

fn tls(options: &Options) -> TlsOptions {
    let mut tls = TlsOptions::new();
    let Some(written) = &options.tls else {
        return tls;
    };
    if let Some(ca) = &written.ca {
        tls = tls.ca_certificate(Certificate::from_pem(ca));
    }
    if let Some((certificate, key)) = &written.certificate {
        tls = tls.identity(Identity::from_pem(certificate, key));
    }
    if let Some(name) = &written.server_name {
        tls = tls.domain_name(name);
    }
    tls
}

/// What a failed call says about the store.
pub(super) fn failure(options: &Options, error: &Error) -> StoreError {
    let endpoint = options.endpoints.join(", ");
    match error {
        Error::GRpcStatus(status) if UNAUTHENTICATED.contains(&(status.code() as i32)) => {
            StoreError::Unauthenticated { endpoint }
        }
        other => StoreError::Unreachable { endpoint, reason: innermost(other) },
    }
}

fn innermost(error: &Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}
