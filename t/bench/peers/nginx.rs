//! nginx as a reverse proxy.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Result;

use super::Ports;
use crate::load::handshakes::Sessions;
use crate::process::{self, Seat, find};
use crate::site::{Site, temporary_paths};

/// One process, which is the worker. Upstream connections are kept; buffers hold the largest body
/// of the bench, so that nothing goes to disk.
pub(super) fn command(
    site: &Site,
    folder: &Path,
    ports: Ports,
    sessions: Sessions,
) -> Result<Option<Command>> {
    let Some(nginx) = find("nginx") else {
        return Ok(None);
    };
    fs::write(folder.join("cert.pem"), &site.certificate.pem)?;
    fs::write(folder.join("key.pem"), &site.certificate.key_pem)?;
    let config = format!(
        "daemon off;
master_process off;
pid {dir}/nginx.pid;
error_log {dir}/error.log error;
worker_processes 1;
worker_rlimit_nofile 16384;
events {{ worker_connections 16384; }}
http {{
  access_log off;
  keepalive_timeout 600s;
  keepalive_requests 1000000000;
  client_body_buffer_size 64k;
  proxy_buffers 8 16k;
  {temporary}
  upstream origin {{
    server 127.0.0.1:{origin};
    keepalive 256;
    keepalive_requests 1000000000;
  }}
  server {{
    listen 127.0.0.1:{http} backlog=4096;
    listen 127.0.0.1:{https} ssl http2 backlog=4096;
    ssl_certificate {dir}/cert.pem;
    ssl_certificate_key {dir}/key.pem;
    ssl_protocols TLSv1.3;
    ssl_session_cache off;
    ssl_session_tickets {tickets};
    location / {{
      proxy_pass http://origin;
      proxy_http_version 1.1;
      proxy_set_header Connection \"\";
      proxy_set_header Host $host;
    }}
  }}
}}
",
        dir = folder.display(),
        tickets = if sessions == Sessions::Resumed { "on" } else { "off" },
        temporary = temporary_paths(folder),
        origin = site.origin,
        http = ports.http,
        https = ports.https,
    );
    let file = folder.join("nginx.conf");
    fs::write(&file, config)?;
    let mut command = process::command(&nginx, Seat::Proxy);
    command.arg("-p").arg(folder).arg("-c").arg(file);
    Ok(Some(command))
}
