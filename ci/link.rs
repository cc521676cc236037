//! How the binary is linked: a build script, because a flag in a cargo config would be every crate's.
//!
//! Addresses that are filled in when the binary is loaded (34,000 of them, in tables of functions and
//! texts) are kept packed, as RELR: loose they are 0.8 MB of a release binary, which every node has
//! in memory once it has read them. A binary so linked needs a C library that knows RELR, glibc from
//! 2.36 on.

#![allow(clippy::print_stdout, reason = "cargo reads what a build script prints")]

use std::env;
use std::process::Command;

/// The first glibc that knows RELR.
const FIRST: (u32, u32) = (2, 36);

fn main() {
    println!("cargo::rerun-if-changed=ci/link.rs");
    let target = |what: &str| env::var(format!("CARGO_CFG_TARGET_{what}")).unwrap_or_default();
    let is_own = env::var("TARGET").ok() == env::var("HOST").ok();
    let is_glibc = target("OS") == "linux" && target("ENV") == "gnu";
    // A binary for another machine does not count on what is here.
    if is_own && is_glibc && glibc().is_some_and(|version| version >= FIRST) {
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}

/// This machine's glibc, of which `getconf` says `glibc 2.36`.
fn glibc() -> Option<(u32, u32)> {
    let output = Command::new("getconf").arg("GNU_LIBC_VERSION").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let (major, minor) = text.trim().strip_prefix("glibc ")?.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}
