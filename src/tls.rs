//! (tls)
