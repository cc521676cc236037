//! Plugins that protect.

pub mod ocsp_stapling;
