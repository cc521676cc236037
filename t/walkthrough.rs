//! (walkthrough)
