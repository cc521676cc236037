//! Starts and stops the real parts that the tests talk to, on free loopback ports.

#![allow(dead_code)]

pub mod authority;
pub mod bao;
pub mod calendar;
pub mod clouds;
pub mod etcd;
pub mod gateway;
pub mod h2;
pub mod hpack;
pub mod origin;
pub mod pebble;
pub mod raw;
pub mod recorder;

use std::cell::Cell;
use std::future::Future;
use std::net::TcpListener;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;

/// How long a condition may take before a test gives up on it: less than the timeouts of a minute that
/// much has by default, which must not bring about by themselves what is waited for.
pub const PATIENCE: Duration = Duration::from_secs(45);

/// The path of a tool that `make test` installed (`.tools/bin`), else its name for `PATH`.
pub fn tool(name: &str) -> PathBuf {
    let local = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(".tools/bin").join(name);
    if local.exists() { local } else { PathBuf::from(name) }
}

/// A program of the Python environment that `make test` made for clients.
pub fn client(name: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(".tools/clients/bin").join(name);
    assert!(path.exists(), "{} is not there; `make tools` installs it", path.display());
    path
}

/// A loopback port that nobody listens on, below the range from which the system takes ports for
/// outgoing connections: a server that is restarted finds its port free.
///
/// No other test binary that runs at the same time is given it: a server may take its time to listen
/// there, and a port where nobody is to answer stays one.
pub fn free_port() -> u16 {
    static PORTS: Mutex<Ports> = Mutex::new(Ports { blocks: Vec::new(), used: 0 });
    let mut ports = PORTS.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        let port = ports.next();
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// The ports of this process, in blocks of [`BLOCK`]. The first of each is listened on for as long
/// as the process lives, which keeps other processes off the rest.
struct Ports {
    blocks: Vec<(u16, TcpListener)>,
    /// How many ports of the last block were given out.
    used: u16,
}

const BLOCK: u16 = 100;
const BLOCKS: u16 = 120;

// === impl Ports ===

impl Ports {
    /// The next port, whether it is free or not.
    fn next(&mut self) -> u16 {
        self.used += 1;
        if self.blocks.is_empty() || self.used == BLOCK {
            self.used = 1;
            match Self::claim() {
                Some(block) => self.blocks.push(block),
                // What was used longest ago comes again.
                None => self.blocks.rotate_left(1),
            }
        }
        let (first, _) = self.blocks.last().expect("the blocks are all taken by others");
        first + self.used
    }

    fn claim() -> Option<(u16, TcpListener)> {
        let firsts = (0..BLOCKS).map(|block| 20_000 + block * BLOCK);
        firsts
            .into_iter()
            .find_map(|first| Some((first, TcpListener::bind(("127.0.0.1", first)).ok()?)))
    }
}

/// Listens on a port that no outgoing connection takes while the listener is away for a moment.
pub fn listen() -> TcpListener {
    loop {
        if let Ok(listener) = TcpListener::bind(("127.0.0.1", free_port())) {
            return listener;
        }
    }
}

/// A server process of a test's own: killed, and waited for, when dropped.
pub struct Server {
    child: Child,
    pub name: &'static str,
}

impl Server {
    pub fn spawn(name: &'static str, command: &mut Command) -> Self {
        let child = command.stdin(Stdio::null()).spawn().unwrap_or_else(|error| {
            panic!("{name} did not start ({error}); `make tools` installs it")
        });
        Self { child, name }
    }

    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    /// Sends a signal by name: `TERM`, `QUIT`, `STOP`, `CONT`, `HUP`.
    pub fn signal(&self, signal: &str) {
        let status = Command::new("kill")
            .args([format!("-{signal}"), self.pid().to_string()])
            .status()
            .unwrap();
        assert!(status.success(), "could not signal {}", self.name);
    }

    /// The exit status once the process has ended by itself, within [`PATIENCE`].
    pub async fn ended(&mut self) -> std::process::ExitStatus {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < end, "{} did not end", self.name);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Plays `scene`, for which the gateway gives its client only so long, and again when it went wrong
/// while this thread had to wait for the processor for longer than `most`: then it was too late, and
/// that proves nothing. Five times at the most. What a scene waits for itself, without giving way to
/// others, counts as well: servers are better started before it.
pub async fn undisturbed<F, Fut>(most: Duration, scene: F) -> Fut::Output
where
    F: Fn() -> Fut,
    Fut: Future,
{
    for left in (0..5).rev() {
        let (longest, began) = (Cell::new(Duration::ZERO), Cell::new(Instant::now()));
        let look = || longest.set(longest.get().max(began.replace(Instant::now()).elapsed()));
        let watching = async {
            loop {
                tokio::time::sleep(Duration::from_millis(20)).await;
                look();
            }
        };
        let playing = AssertUnwindSafe(scene()).catch_unwind();
        let played = tokio::select! {
            played = playing => played,
            never = watching => never,
        };
        look();
        match played {
            Ok(outcome) => return outcome,
            Err(_) if longest.get() > most && left > 0 => {
                eprintln!("once more: this thread has waited for {:?}", longest.get());
            }
            Err(panic) => resume_unwind(panic),
        }
    }
    unreachable!("the last one is not played again")
}

/// Waits until `condition` holds, asking again every 20 ms; panics with `what` after [`PATIENCE`].
pub async fn eventually<F, Fut>(what: &str, mut condition: F)
where
    F: FnMut() -> Fut,
    Fut: Future<Output = bool>,
{
    let end = Instant::now() + PATIENCE;
    while !condition().await {
        assert!(Instant::now() < end, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn plays_again_what_a_stall_has_spoilt_and_nothing_else() {
    let most = Duration::from_millis(100);
    let played = Cell::new(0);
    undisturbed(most, async || {
        played.set(played.get() + 1);
        let began = Instant::now();
        while began.elapsed() < most * 2 {}
        assert!(played.get() > 2, "too late");
    })
    .await;
    assert_eq!(played.replace(0), 3);
    // This thread may have to wait here too, but not five times.
    let failed = AssertUnwindSafe(undisturbed(most, || async { panic!("wrong") }));
    assert!(failed.catch_unwind().await.is_err());
}
