//! (origin)
