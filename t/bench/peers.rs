//! The proxies that are compared: each one worker, the same certificate, the same origin.

mod envoy;
mod haproxy;
mod nginx;
pub mod sluice;

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::load::handshakes::Sessions;
use crate::process::{Process, free_port};
use crate::site::{Site, wait_for};
use crate::table::say;

/// A running proxy.
pub struct Peer {
    pub kind: Kind,
    pub ports: Ports,
    pub process: Process,
}

/// Which proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Nginx,
    Haproxy,
    Envoy,
    Sluice,
}

/// Where a proxy listens on 127.0.0.1.
#[derive(Debug, Clone, Copy)]
pub struct Ports {
    pub http: u16,
    pub https: u16,
}

/// In the order in which they take turns. The first is what the others are compared with.
pub const ALL: [Kind; 4] = [Kind::Nginx, Kind::Haproxy, Kind::Envoy, Kind::Sluice];

// === impl Kind ===

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Nginx => "nginx",
            Self::Haproxy => "haproxy",
            Self::Envoy => "envoy",
            Self::Sluice => "sluice",
        }
    }

    /// Starts the proxy and waits until it serves; `None` when it is not installed.
    pub async fn start(self, site: &Site, sessions: Sessions) -> Result<Option<Peer>> {
        let folder = site.folder(self.name())?;
        let ports = Ports::free()?;
        let Some(command) = self.command(site, &folder, ports, sessions)? else {
            return Ok(None);
        };
        let process = Process::start(self.name(), command, &folder.join("output.log"))?;
        let mut peer = Peer { kind: self, ports, process };
        wait_for(&mut peer.process, ports.http, "/1k").await.context(self.name())?;
        Ok(Some(peer))
    }

    fn command(
        self,
        site: &Site,
        folder: &Path,
        ports: Ports,
        sessions: Sessions,
    ) -> Result<Option<Command>> {
        match self {
            Self::Nginx => nginx::command(site, folder, ports, sessions),
            Self::Haproxy => haproxy::command(site, folder, ports, sessions),
            Self::Envoy => envoy::command(site, folder, ports, sessions),
            Self::Sluice => sluice::plain(site, folder, ports, sessions).map(Some),
        }
    }
}

/// Starts every proxy that is there, all with session tickets or all without. One that does not
/// start is told and left out.
pub async fn start_all(site: &Site, sessions: Sessions) -> Vec<Peer> {
    let mut peers = Vec::new();
    for kind in ALL {
        match kind.start(site, sessions).await {
            Ok(Some(peer)) => peers.push(peer),
            Ok(None) => say(&format!("{} is not installed: left out\n", kind.name())),
            Err(error) => say(&format!("{} left out: {error:#}\n", kind.name())),
        }
    }
    peers
}

// === impl Ports ===

impl Ports {
    pub fn free() -> Result<Self> {
        Ok(Self { http: free_port()?, https: free_port()? })
    }
}
