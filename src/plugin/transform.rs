//! Plugins that change requests and responses.

pub mod proxy_rewrite;
