//! HTTP/1.1 messages as bytes: heads parsed, bodies cut out by their framing, output gathered.
//!
//! One codec for both sides of the gateway. It reads from and writes to buffers only, but for
//! [`output`], which empties one into a stream; so it is tested byte by byte.
//!
//! Source: RFC 9112.

pub mod fields;
pub mod framing;
pub mod output;
pub mod request;
pub mod response;
#[cfg(test)]
pub(crate) mod rig;

/// What is wrong with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub &'static str);
