//! What sslscan says of a listener whose TLS nobody has configured.

use std::process::Command;

use serde_json::json;

use crate::support::authority::Authority;
use crate::support::gateway::Gateway;

/// The tags of `name` in what sslscan has found, without what encloses them.
fn tags<'t>(found: &'t str, name: &str) -> Vec<&'t str> {
    let begin = format!("<{name} ");
    let tags = found.split(begin.as_str()).skip(1);
    tags.map(|rest| rest.split('>').next().unwrap_or_default()).collect()
}

fn attribute<'t>(tag: &'t str, name: &str) -> &'t str {
    let begin = format!("{name}=\"");
    let rest = tag.split(begin.as_str()).nth(1).unwrap_or_default();
    rest.split('"').next().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn leaves_a_scanner_nothing_to_find() {
    let gateway = Gateway::start().await;
    let ca = Authority::new("ROOT");
    let (ecdsa, rsa) = (ca.issue(&["test.com"]), ca.issue_rsa(&["test.com"]));
    let body = json!({
        "sni": "test.com", "cert": ecdsa.0, "key": ecdsa.1, "certs": [rsa.0], "keys": [rsa.1]
    });
    gateway.put("/ssls/1", body).await;
    gateway.serves_certificate("test.com", &ca.pem(), &ecdsa.0).await;
    let target = format!("127.0.0.1:{}", gateway.https_port());
    let output = Command::new("sslscan")
        .args(["--no-colour", "--xml=-", "--sni-name=test.com", &target])
        .output()
        .expect("sslscan, which ci/tools.sh test installs");
    let found = String::from_utf8_lossy(&output.stdout).into_owned();

    let protocols: Vec<String> = tags(&found, "protocol")
        .into_iter()
        .filter(|tag| attribute(tag, "enabled") == "1")
        .map(|tag| format!("{} {}", attribute(tag, "type"), attribute(tag, "version")))
        .collect();
    assert_eq!(protocols, ["tls 1.2", "tls 1.3"], "{found}");

    let ciphers = tags(&found, "cipher");
    assert!(ciphers.len() >= 6, "{found}");
    for cipher in ciphers {
        let (version, name) = (attribute(cipher, "sslversion"), attribute(cipher, "cipher"));
        let is_forward_secret = version == "TLSv1.3" || name.starts_with("ECDHE-");
        assert!(is_forward_secret, "{cipher}");
        assert!(name.contains("GCM") || name.contains("CHACHA20"), "{cipher}");
        assert!(["strong", "acceptable"].contains(&attribute(cipher, "strength")), "{cipher}");
        assert!(attribute(cipher, "bits").parse::<u32>().unwrap() >= 128, "{cipher}");
    }
    for compression in tags(&found, "compression") {
        assert_eq!(attribute(compression, "supported"), "0", "{compression}");
    }
    for renegotiation in tags(&found, "renegotiation") {
        assert_eq!(attribute(renegotiation, "supported"), "0", "{renegotiation}");
    }
    let heartbleed = tags(&found, "heartbleed");
    assert!(!heartbleed.is_empty(), "{found}");
    assert!(heartbleed.iter().all(|tag| attribute(tag, "vulnerable") == "0"), "{heartbleed:?}");
}
