//! HAProxy as a reverse proxy.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Result;

use super::Ports;
use crate::load::handshakes::Sessions;
use crate::process::{self, Seat, find};
use crate::site::Site;

/// One thread; connections to the origin are shared between clients and kept.
pub(super) fn command(
    site: &Site,
    folder: &Path,
    ports: Ports,
    sessions: Sessions,
) -> Result<Option<Command>> {
    let Some(haproxy) = find("haproxy") else {
        return Ok(None);
    };
    let both = format!("{}{}", site.certificate.pem, site.certificate.key_pem);
    fs::write(folder.join("both.pem"), both)?;
    let config = format!(
        "global
  nbthread 1
  maxconn 12000
  no strict-limits
  tune.ssl.cachesize 0
  ssl-default-bind-options ssl-min-ver TLSv1.3{tickets}

defaults
  mode http
  timeout connect 5s
  timeout client 600s
  timeout server 600s
  http-reuse always

frontend all
  maxconn 12000
  bind 127.0.0.1:{http} backlog 4096
  bind 127.0.0.1:{https} ssl crt {dir}/both.pem alpn h2,http/1.1 backlog 4096
  default_backend origin

backend origin
  server origin 127.0.0.1:{origin} pool-max-conn 256
",
        dir = folder.display(),
        tickets = if sessions == Sessions::Resumed { "" } else { " no-tls-tickets" },
        origin = site.origin,
        http = ports.http,
        https = ports.https,
    );
    let file = folder.join("haproxy.cfg");
    fs::write(&file, config)?;
    let mut command = process::command(&haproxy, Seat::Proxy);
    command.arg("-db").arg("-f").arg(file);
    Ok(Some(command))
}
