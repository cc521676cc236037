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

use std::future::Future;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a condition may take before a test gives up on it.
pub const PATIENCE: Duration = Duration::from_secs(30);

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
pub fn free_port() -> u16 {
    use std::sync::atomic::{AtomicU16, Ordering};
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Two test binaries at once begin at different places.
    let start = (std::process::id() % 1000) as u16 * 11;
    loop {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = 20_000 + (start + step) % 12_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
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
