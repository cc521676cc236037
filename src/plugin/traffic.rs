//! Plugins that limit and shape traffic, and the counters they share.

pub mod counters;
pub mod limit_count;
