//! What all works share: the origin, the certificate, a folder, and how long to measure.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::load::client::Client;
use crate::process::{self, Process, Seat, find, free_port};

/// The one server name of the bench.
pub const HOST: &str = "localhost";

/// The place where a run happens.
pub struct Site {
    dir: TempDir,
    pub certificate: Certificate,
    /// Where the origin listens.
    pub origin: u16,
    /// Rounds that count; one more warms up.
    pub rounds: usize,
    pub seconds: u64,
    _origin: Process,
}

/// ECDSA P-256 for [`HOST`], the same for every proxy.
pub struct Certificate {
    pub pem: String,
    pub key_pem: String,
}

// === impl Site ===

impl Site {
    /// Makes the folder and the certificate, and starts the origin.
    pub async fn open(rounds: usize, seconds: u64) -> Result<Self> {
        process::take_seat()?;
        let dir = tempfile::Builder::new().prefix("sluice-bench-").tempdir()?;
        let key = rcgen::KeyPair::generate()?;
        let certificate =
            rcgen::CertificateParams::new(vec![HOST.to_owned()])?.self_signed(&key)?;
        let certificate = Certificate { pem: certificate.pem(), key_pem: key.serialize_pem() };
        let origin = free_port()?;
        let place = dir.path().join("origin");
        let mut process = start_origin(place, origin)?;
        wait_for(&mut process, origin, "/1k").await?;
        Ok(Self { dir, certificate, origin, rounds, seconds, _origin: process })
    }

    /// A new folder for one process.
    pub fn folder(&self, name: &str) -> Result<PathBuf> {
        let number = fs::read_dir(self.dir.path())?.count();
        let folder = self.dir.path().join(format!("{number}-{name}"));
        fs::create_dir(&folder)?;
        Ok(folder)
    }
}

/// nginx with one worker: `/100k`, `/post`, which reads what it is sent, and 1 KiB everywhere else.
///
/// nginx alone answers a POST before it has read the body; `mirror` makes it read, and the 405
/// that a static file has for POST is turned into the answer.
fn start_origin(dir: PathBuf, port: u16) -> Result<Process> {
    let nginx = find("nginx").context("nginx is missing; `ci/tools.sh bench` installs it")?;
    fs::create_dir(&dir)?;
    fs::write(dir.join("post"), "")?;
    fs::write(dir.join("100k"), "x".repeat(100 << 10))?;
    let body = "x".repeat(1 << 10);
    let config = format!(
        "daemon off;
master_process off;
pid {dir}/nginx.pid;
error_log {dir}/error.log warn;
worker_rlimit_nofile 16384;
events {{ worker_connections 8192; }}
http {{
  access_log off;
  keepalive_timeout 600s;
  keepalive_requests 1000000000;
  open_file_cache max=16 inactive=600s;
  client_body_buffer_size 64k;
  {temporary}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    root {dir};
    location / {{ return 200 '{body}'; }}
    location = /100k {{ sendfile on; }}
    location = /post {{ mirror /sink; error_page 405 =200 @answer; }}
    location = /sink {{ internal; return 204; }}
    location @answer {{ return 200 '{body}'; }}
  }}
}}
",
        dir = dir.display(),
        temporary = temporary_paths(&dir),
    );
    let file = dir.join("nginx.conf");
    fs::write(&file, config)?;
    let mut command = process::command(&nginx, Seat::Rest);
    command.arg("-p").arg(&dir).arg("-c").arg(&file);
    Process::start("origin", command, &dir.join("output.log"))
}

/// The folders that nginx wants to write to, all in `dir`.
pub fn temporary_paths(dir: &std::path::Path) -> String {
    ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {}/{kind};", dir.display()))
        .join(" ")
}

/// Waits until `path` is answered with 200 at `port`, at most 60 s.
pub async fn wait_for(process: &mut Process, port: u16, path: &str) -> Result<()> {
    let mut last = None;
    for _ in 0..1200 {
        process.check()?;
        match Client::connect(port).await {
            Ok(mut client) => match client.get(path).await {
                Ok(200) => return Ok(()),
                Ok(status) => last = Some(format!("status {status}")),
                Err(error) => last = Some(error.to_string()),
            },
            Err(error) => last = Some(error.to_string()),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    bail!("port {port} did not serve {path} within 60 s: {}", last.unwrap_or_default())
}

/// Runs a load tool to its end and returns what it printed.
pub fn output(mut command: Command) -> Result<String> {
    let name = command.get_program().to_owned();
    let output = command.output().with_context(|| format!("{} did not start", name.display()))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        bail!("{}: {}\n{text}{errors}", name.display(), output.status);
    }
    Ok(text)
}
