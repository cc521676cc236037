//! `ssl_ciphers`, as a client of TLS 1.2 sees it.

use std::process::{Command, Stdio};

use serde_json::json;

use super::ssl;
use crate::support::authority::Authority;
use crate::support::gateway::Gateway;

/// The cipher that is agreed upon with a client that offers `offered`.
fn agreed(gateway: &Gateway, arguments: &[&str]) -> Option<String> {
    let output = Command::new("openssl")
        .args(["s_client", "-connect", &format!("127.0.0.1:{}", gateway.https_port())])
        .args(["-servername", "test.com"])
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().find(|line| line.starts_with("New, TLSv1"))?;
    line.rsplit(' ').next().map(str::to_owned).filter(|cipher| cipher != "(NONE)")
}

#[tokio::test(flavor = "multi_thread")]
async fn offers_the_ciphers_that_are_written_and_prefers_them_in_that_order() {
    let ciphers = "AES128-SHA:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-ECDSA-AES128-GCM-SHA256";
    let gateway = Gateway::builder()
        .config(|config| config["apisix"]["ssl"]["ssl_ciphers"] = json!(ciphers))
        .start()
        .await;
    let ca = Authority::new("ROOT");
    let pair = ca.issue(&["test.com"]);
    gateway.put("/ssls/1", ssl(&["test.com"], &pair)).await;
    gateway.serves_certificate("test.com", &ca.pem(), &pair.0).await;
    let by = |offered: &str| agreed(&gateway, &["-tls1_2", "-cipher", offered]);
    let both = "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-CHACHA20-POLY1305";
    assert_eq!(by(both).as_deref(), Some("ECDHE-ECDSA-CHACHA20-POLY1305"));
    let one = "ECDHE-ECDSA-AES128-GCM-SHA256";
    assert_eq!(by(one).as_deref(), Some(one));
    assert_eq!(by("ECDHE-ECDSA-AES256-GCM-SHA384"), None);
    assert!(agreed(&gateway, &["-tls1_3"]).is_some(), "those of TLS 1.3 stay");
    let logs = gateway.logs();
    assert!(logs.contains("ssl_ciphers") && logs.contains("AES128-SHA"), "{logs}");
}
