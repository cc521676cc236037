//! The integration tests: one binary, its modules named as the rooms of `src/`.

#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub)]

mod support;

mod admin;
mod cli;
mod clock;
mod cluster;
mod config;
mod house;
mod issue;
mod lua;
mod metrics;
mod plugin;
mod proxy;
mod router;
mod secret;
mod snapshot;
mod store;
mod tls;
mod upstream;
mod walkthrough;
