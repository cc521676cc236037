//! ssl objects, handshakes and swaps, with real TLS clients.

mod ciphers;
mod clients;
mod scan;
pub mod staple;
pub mod tickets;
mod trusted;
mod warnings;

use std::process::Command;

use serde_json::{Value, json};

use crate::proxy::one_origin;
use crate::support::authority::{Authority, der};
use crate::support::gateway::{Gateway, certificate};

fn ssl(names: &[&str], (cert, key): &(String, String)) -> Value {
    json!({ "snis": names, "cert": cert, "key": key })
}

/// The certificate that `openssl s_client` is shown, PEM; empty when there was no handshake.
fn openssl(gateway: &Gateway, arguments: &[&str]) -> String {
    let output = Command::new("openssl")
        .args(["s_client", "-connect", &format!("127.0.0.1:{}", gateway.https_port())])
        .args(arguments)
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let text = text + &String::from_utf8_lossy(&output.stderr);
    match (text.find("-----BEGIN CERTIFICATE-----"), text.find("-----END CERTIFICATE-----")) {
        (Some(from), Some(to)) => text[from..to + 25].to_owned(),
        _ => String::new(),
    }
}

/// The leaf (DER) that `openssl s_client` is shown, whoever vouches for it and whatever its dates.
pub fn shown(gateway: &Gateway, arguments: &[&str]) -> Option<Vec<u8>> {
    let pem = openssl(gateway, arguments);
    (!pem.is_empty()).then(|| der(&pem))
}

#[tokio::test(flavor = "multi_thread")]
async fn shows_the_certificate_of_the_name_that_is_asked_for() {
    let (gateway, _origin) = one_origin().await;
    let ca = Authority::new("ROOT");
    let exact = ca.issue(&["www.test.com"]);
    let wildcard = ca.issue(&["*.test.com"]);
    let apex = ca.issue(&["test.com"]);
    gateway.put("/ssls/wild", ssl(&["*.test.com"], &wildcard)).await;
    gateway.put("/ssls/apex", ssl(&["test.com"], &apex)).await;
    gateway.put("/ssls/exact", ssl(&["www.test.com"], &exact)).await;
    gateway.serves_certificate("www.test.com", &ca.pem(), &exact.0).await;
    let by = |name: &str| shown(&gateway, &["-servername", name]);
    assert_eq!(by("www.test.com"), Some(der(&exact.0)));
    assert_eq!(by("WWW.Test.Com"), Some(der(&exact.0)));
    assert_eq!(by("other.test.com"), Some(der(&wildcard.0)));
    assert_eq!(by("test.com"), Some(der(&apex.0)));
    assert_eq!(by("more.other.test.com"), None, "a star is one label");
    assert_eq!(by("elsewhere.org"), None);
    assert_eq!(shown(&gateway, &["-noservername"]), None);
    for version in ["-tls1_2", "-tls1_3"] {
        assert_eq!(shown(&gateway, &["-servername", "test.com", version]), Some(der(&apex.0)));
    }
    assert_eq!(shown(&gateway, &["-servername", "test.com", "-tls1_1"]), None);

    // Taken away: the wildcard is what is left.
    let (status, _) = gateway.admin("DELETE", "/ssls/exact", None).await;
    assert_eq!(status, 200);
    gateway.serves_certificate("www.test.com", &ca.pem(), &wildcard.0).await;
}

#[tokio::test]
async fn a_swap_drops_no_connection() {
    let (gateway, _origin) = one_origin().await;
    let ca = Authority::new("ROOT");
    let (old, new) = (ca.issue(&["test.com"]), ca.issue(&["test.com"]));
    gateway.put("/ssls/1", ssl(&["test.com"], &old)).await;
    gateway.serves_certificate("test.com", &ca.pem(), &old.0).await;
    // A connection from before the swap, with a response under way.
    let kept = reqwest::Client::builder()
        .no_proxy()
        .tls_certs_only([reqwest::Certificate::from_pem(ca.pem().as_bytes()).unwrap()])
        .resolve("test.com", ([127, 0, 0, 1], gateway.https_port()).into())
        .tls_info(true)
        .build()
        .unwrap();
    let url = |path: &str| gateway.https_url("test.com", path);
    let streaming = kept.get(url("/stream/200/1000?ms=5")).send().await.unwrap();
    gateway.put("/ssls/1", ssl(&["test.com"], &new)).await;
    gateway.serves_certificate("test.com", &ca.pem(), &new.0).await;
    assert_eq!(streaming.bytes().await.unwrap().len(), 200_000);
    let again = kept.get(url("/get")).send().await.unwrap();
    assert_eq!(certificate(&again), der(&old.0), "the same connection as before");
}

#[tokio::test(flavor = "multi_thread")]
async fn serves_several_certificates_and_asks_clients_for_theirs() {
    let (gateway, _origin) = one_origin().await;
    let ca = Authority::new("ROOT");
    let ecdsa = ca.issue(&["test.com"]);
    let rsa = ca.issue_rsa(&["test.com"]);
    let mut both = ssl(&["test.com"], &ecdsa);
    both["certs"] = json!([rsa.0]);
    both["keys"] = json!([rsa.1]);
    gateway.put("/ssls/1", both).await;
    gateway.serves_certificate("test.com", &ca.pem(), &ecdsa.0).await;
    let only_rsa = ["-servername", "test.com", "-sigalgs", "RSA-PSS+SHA256"];
    assert_eq!(shown(&gateway, &only_rsa), Some(der(&rsa.0)));

    let mutual = ca.issue(&["mutual.com"]);
    let mut asking = ssl(&["mutual.com"], &mutual);
    asking["client"] = json!({ "ca": ca.pem() });
    gateway.put("/ssls/2", asking).await;
    crate::support::eventually("mutual.com is served", || async {
        shown(&gateway, &["-servername", "mutual.com"]).is_some()
    })
    .await;
    let url = gateway.https_url("mutual.com", "/get");
    let without = gateway.https_client("mutual.com", &ca.pem());
    assert!(without.get(&url).send().await.is_err());
    let (cert, key) = ca.issue(&["someone"]);
    let identity = reqwest::Identity::from_pem(format!("{key}{cert}").as_bytes()).unwrap();
    let with = reqwest::Client::builder()
        .no_proxy()
        .tls_certs_only([reqwest::Certificate::from_pem(ca.pem().as_bytes()).unwrap()])
        .identity(identity)
        .resolve("mutual.com", ([127, 0, 0, 1], gateway.https_port()).into())
        .build()
        .unwrap();
    assert_eq!(with.get(&url).send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn takes_clients_that_name_no_server_for_those_of_the_fallback() {
    let gateway = Gateway::builder()
        .config(|config| config["apisix"]["ssl"]["fallback_sni"] = json!("Test.com"))
        .start()
        .await;
    let ca = Authority::new("ROOT");
    let pair = ca.issue(&["test.com"]);
    gateway.put("/ssls/1", ssl(&["test.com"], &pair)).await;
    gateway.serves_certificate("test.com", &ca.pem(), &pair.0).await;
    assert_eq!(shown(&gateway, &["-noservername"]), Some(der(&pair.0)));
    // A name that nobody has is a name all the same.
    assert_eq!(shown(&gateway, &["-servername", "elsewhere.org"]), None);

    // Such a client has shown its certificate for that name.
    let mut asking = ssl(&["test.com"], &pair);
    asking["client"] = json!({ "ca": ca.pem() });
    gateway.put("/ssls/1", asking).await;
    let (cert, key) = ca.issue(&["someone"]);
    let identity = reqwest::Identity::from_pem(format!("{key}{cert}").as_bytes()).unwrap();
    let nameless = reqwest::Client::builder()
        .no_proxy()
        .http1_only()
        .tls_certs_only([reqwest::Certificate::from_pem(ca.pem().as_bytes()).unwrap()])
        .identity(identity)
        .build()
        .unwrap();
    let url = format!("https://127.0.0.1:{}/get", gateway.https_port());
    crate::support::eventually("it asks for certificates", || async {
        gateway.https_client("test.com", &ca.pem()).get(&url).send().await.is_err()
    })
    .await;
    for (host, status) in [("test.com", 404), ("127.0.0.1", 404)] {
        let asked = nameless.get(&url).header("host", host).send().await.unwrap();
        assert_eq!(asked.status(), status, "{host}");
    }
}

#[tokio::test]
async fn refuses_what_cannot_be_served_and_shows_no_key() {
    let gateway = Gateway::start().await;
    let ca = Authority::new("ROOT");
    let (cert, key) = ca.issue(&["test.com"]);
    let (_, other) = ca.issue(&["test.com"]);
    for (body, field, reason) in [
        (json!({ "sni": "test.com", "cert": cert, "key": other }), "key", "does not match"),
        (json!({ "sni": "test.com", "cert": "x".repeat(200), "key": key }), "cert", "PEM"),
        (json!({ "sni": "test.com", "cert": cert, "key": "x".repeat(200) }), "key", "PEM"),
        (json!({ "sni": "test.com", "cert": cert }), "key", "required"),
        (json!({ "cert": cert, "key": key }), "sni", "exactly one of sni and snis"),
        (
            json!({ "sni": "test.com", "cert": cert, "key": key, "certs": [cert], "keys": [] }),
            "keys",
            "as many",
        ),
    ] {
        let (status, answer) = gateway.admin("PUT", "/ssls/1", Some(body)).await;
        let said = answer["error_msg"].as_str().unwrap_or_default();
        assert_eq!(status, 400, "{answer}");
        assert!(said.contains(field) && said.contains(reason), "{said}");
        assert!(!said.contains("PRIVATE KEY") && !gateway.logs().contains("PRIVATE KEY"));
    }
    assert_eq!(gateway.admin("GET", "/ssls/1", None).await.0, 404);
}

#[tokio::test]
async fn asks_upstreams_over_tls() {
    let ca = Authority::new("ROOT");
    let (cert, key) = ca.issue(&["origin.test", "127.0.0.1"]);
    let origin = crate::support::origin::Origin::start_tls(&cert, &key).await;
    let gateway = Gateway::start().await;
    let upstream =
        json!({ "type": "roundrobin", "scheme": "https", "nodes": { origin.node(): 1 } });
    gateway.put_route("1", json!({ "uri": "/*", "upstream": upstream })).await;
    gateway.served("/get").await;
    for _ in 0..5 {
        assert_eq!(gateway.get_host("origin.test", "/get").await.status(), 200);
    }
    // One connection a name and worker: they are kept.
    assert!(origin.connections() <= 4, "{}", origin.connections());
}
