//! TLS: certificates, which of them a server name gets, and the rustls configurations.
//!
//! A handshake looks its server name up in a [`SniMap`] and finds a finished
//! [`rustls::ServerConfig`]; swapping the map touches no connection. This room sees PEM text that
//! is resolved already, and never a route.

pub mod accept;
pub mod certificate;
mod chain;
pub mod ciphers;
pub mod client;
pub mod ocsp;
pub mod proof;
pub mod quic;
pub mod server;
pub mod sni;
pub mod staple;
pub mod stream;
pub mod tickets;
pub mod verify;

use std::sync::{Arc, LazyLock};

use rustls::crypto::CryptoProvider;

pub use self::certificate::Certificate;
pub use self::server::{Served, ServerSpec, Terms};
pub use self::sni::SniMap;

/// The one crypto library of the process.
pub fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> =
        LazyLock::new(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
    PROVIDER.clone()
}

/// Why certificates cannot be served or used. Never holds key material.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("certificate {index}: {error}")]
    Pair { index: usize, error: Box<TlsError> },
    #[error("certificate: {0}")]
    Certificate(String),
    #[error("private key: {0}")]
    Key(String),
    #[error("the private key does not match the certificate")]
    Mismatch,
    /// The key is that of the certificate at this place of the chain, counted from one.
    #[error("the private key is that of certificate {0} of the chain; expected that one first")]
    Order(usize),
    #[error("certificate authorities: {0}")]
    Authorities(String),
    #[error("protocols: {0}")]
    Protocols(String),
    #[error("{0}")]
    Rustls(#[from] rustls::Error),
}
