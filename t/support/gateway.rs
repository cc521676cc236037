//! (gateway)
