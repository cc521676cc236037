//! `stop`, `quit` and `reload`: a signal to the node that runs with a config.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::say;
use crate::config::Config;
use crate::runtime::pid_file::PidFile;

/// Beyond the time that the node itself takes.
const GRACE: Duration = Duration::from_secs(10);

const LOOK: Duration = Duration::from_millis(50);

/// What the node is to do.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    Stop,
    Quit,
    Reload,
}

/// Sends the order; for an end, waits until the node has gone.
pub(super) fn send(config: &Path, order: Order) -> anyhow::Result<()> {
    let config = Config::load(config).map_err(anyhow::Error::msg)?.config;
    let path = PidFile::path(&config.sluice.data_dir);
    let Some(pid) = PidFile::read(&path)? else {
        bail!("no node runs with this config ({} names none)", path.display());
    };
    let (signal, limit) = match order {
        Order::Stop => (Signal::SIGTERM, GRACE),
        Order::Quit => (Signal::SIGQUIT, config.nginx_config.worker_shutdown_timeout + GRACE),
        Order::Reload => (Signal::SIGHUP, Duration::ZERO),
    };
    kill(Pid::from_raw(pid), signal).with_context(|| format!("process {pid}"))?;
    if order == Order::Reload {
        return say(&format!("process {pid} was told to open its logs again"));
    }
    let end = Instant::now() + limit;
    while PidFile::read(&path)? == Some(pid) {
        if Instant::now() > end {
            bail!("process {pid} still runs after {limit:?}");
        }
        #[expect(clippy::disallowed_methods, reason = "a command of its own, no worker")]
        std::thread::sleep(LOOK);
    }
    say(&format!("process {pid} has ended"))
}
