//! Clients' certificates: who needs one, for what, and how far it may be from an authority.

use reqwest::{Client, Identity};
use serde_json::{Value, json};

use crate::proxy::one_origin;
use crate::support::authority::Authority;
use crate::support::eventually;
use crate::support::gateway::Gateway;

/// Someone who speaks TLS to the gateway under a name, over HTTP/1.1 or HTTP/2.
struct Someone<'a> {
    ca: &'a Authority,
    identity: Option<&'a (String, String)>,
    http2: bool,
}

// === impl Someone ===

impl Someone<'_> {
    fn client(&self, gateway: &Gateway, name: &str) -> Client {
        let builder = Client::builder()
            .no_proxy()
            .tls_certs_only([reqwest::Certificate::from_pem(self.ca.pem().as_bytes()).unwrap()])
            .resolve(name, ([127, 0, 0, 1], gateway.https_port()).into());
        let builder = if self.http2 { builder } else { builder.http1_only() };
        let builder = match self.identity {
            None => builder,
            Some((cert, key)) => {
                builder.identity(Identity::from_pem(format!("{key}{cert}").as_bytes()).unwrap())
            }
        };
        builder.build().unwrap()
    }

    /// The status for a path, `None` where there is no connection.
    async fn asks(&self, gateway: &Gateway, name: &str, path: &str) -> Option<u16> {
        let url = gateway.https_url(name, path);
        let response = self.client(gateway, name).get(url).send().await.ok()?;
        let version = if self.http2 { http::Version::HTTP_2 } else { http::Version::HTTP_11 };
        assert_eq!(response.version(), version);
        Some(response.status().as_u16())
    }
}

fn asking(ca: &Authority, name: &str, client: Value) -> Value {
    let (cert, key) = ca.issue(&[name]);
    json!({ "sni": name, "cert": cert, "key": key, "client": client })
}

#[tokio::test(flavor = "multi_thread")]
async fn lets_some_paths_go_without_a_certificate() {
    let (gateway, _origin) = one_origin().await;
    let ca = Authority::new("ROOT");
    let skipped = json!(["^/anything/open", r"/status/20[0-9]$"]);
    let client = json!({ "ca": ca.pem(), "skip_mtls_uri_regex": skipped });
    gateway.put("/ssls/1", asking(&ca, "test.com", client)).await;
    let (good, bad) = (ca.issue(&["someone"]), Authority::new("OTHER").issue(&["someone"]));
    for http2 in [false, true] {
        let someone = |identity| Someone { ca: &ca, identity, http2 };
        eventually("test.com is served", || async {
            someone(None).asks(&gateway, "test.com", "/anything/open").await == Some(200)
        })
        .await;
        for (identity, path, status) in [
            (None, "/anything/open/more", 200),
            (None, "/status/204", 204),
            (None, "/anything/x/../open", 200),
            (None, "/anything/closed", 400),
            (None, "/anything/open/../closed", 400),
            (None, "/anything/closed?/status/200", 400),
            (Some(&bad), "/anything/open", 200),
            (Some(&bad), "/anything/closed", 400),
            (Some(&good), "/anything/closed", 200),
        ] {
            let asked = someone(identity).asks(&gateway, "test.com", path).await;
            assert_eq!(asked, Some(status), "{path}, HTTP/2: {http2}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_from_before_a_certificate_was_asked_for_does_not_go_on_without() {
    let (gateway, _origin) = one_origin().await;
    let ca = Authority::new("ROOT");
    let mut object = asking(&ca, "test.com", Value::Null);
    object.as_object_mut().unwrap().remove("client");
    gateway.put("/ssls/1", object.clone()).await;
    for http2 in [false, true] {
        let someone = Someone { ca: &ca, identity: None, http2 };
        let client = someone.client(&gateway, "test.com");
        let ask = async || {
            let asked = client.get(gateway.https_url("test.com", "/get")).send().await;
            asked.ok().map(|answer| answer.status().as_u16())
        };
        eventually("test.com is served", async || ask().await == Some(200)).await;
        object["client"] = json!({ "ca": ca.pem() });
        gateway.put("/ssls/1", object.clone()).await;
        // Refused on the old connection, or in the handshake of another.
        eventually("it is not any more", async || ask().await != Some(200)).await;
        assert_ne!(ask().await, Some(200));
        object.as_object_mut().unwrap().remove("client");
        gateway.put("/ssls/1", object.clone()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tells_routes_whether_the_certificate_is_good() {
    let (gateway, _origin) = one_origin().await;
    let ca = Authority::new("ROOT");
    let client = json!({ "ca": ca.pem(), "skip_mtls_uri_regex": [".*"] });
    gateway.put("/ssls/1", asking(&ca, "test.com", client)).await;
    let tells = "return function() ngx.say(ngx.var.ssl_client_verify) ngx.exit(200) end";
    let plugins = json!({ "serverless-pre-function": { "functions": [tells] } });
    gateway.put_route("verified", json!({ "uri": "/verified", "plugins": plugins })).await;
    let (good, bad) = (ca.issue(&["someone"]), Authority::new("OTHER").issue(&["someone"]));
    for (identity, expected) in [
        (None, "NONE"),
        (Some(&good), "SUCCESS"),
        (Some(&bad), "FAILED:unable to verify the first certificate"),
    ] {
        let someone = Someone { ca: &ca, identity, http2: true };
        eventually(expected, || async {
            let client = someone.client(&gateway, "test.com");
            let asked = client.get(gateway.https_url("test.com", "/verified")).send().await;
            match asked {
                Ok(asked) => asked.text().await.unwrap().trim() == expected,
                Err(_) => false,
            }
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn does_not_lead_from_one_name_to_another_that_asks_for_certificates() {
    let (gateway, _origin) = one_origin().await;
    let (ca, other) = (Authority::new("ROOT"), Authority::new("OTHER"));
    let open = ca.issue(&["open.com"]);
    let open = json!({ "sni": "open.com", "cert": open.0, "key": open.1 });
    gateway.put("/ssls/open", open).await;
    gateway.put("/ssls/a", asking(&ca, "a.com", json!({ "ca": ca.pem() }))).await;
    gateway.put("/ssls/b", asking(&ca, "b.com", json!({ "ca": other.pem() }))).await;
    let wild = asking(&ca, "*.wild.com", json!({ "ca": ca.pem() }));
    gateway.put("/ssls/wild", wild).await;
    let identity = ca.issue(&["someone"]);
    let someone = Someone { ca: &ca, identity: Some(&identity), http2: false };
    for name in ["open.com", "a.com", "1.wild.com"] {
        eventually("it is served", || async {
            someone.asks(&gateway, name, "/get").await == Some(200)
        })
        .await;
    }
    for (name, host, status) in [
        ("open.com", "elsewhere.org", 200),
        ("open.com", "a.com", 400),
        ("open.com", "A.com.:443", 400),
        ("a.com", "b.com", 400),
        ("a.com", "A.COM", 200),
        ("1.wild.com", "2.wild.com", 400),
        ("a.com", "open.com", 200),
    ] {
        let asked = someone.client(&gateway, name).get(gateway.https_url(name, "/get"));
        let asked = asked.header("host", host).send().await.unwrap();
        assert_eq!(asked.status(), status, "{name} {host}");
    }
    assert_eq!(someone.asks(&gateway, "b.com", "/get").await, None);
}

#[tokio::test]
async fn names_an_expression_that_is_none() {
    let gateway = Gateway::start().await;
    let ca = Authority::new("ROOT");
    let client = json!({ "ca": ca.pem(), "skip_mtls_uri_regex": ["^/a", "("] });
    let body = asking(&ca, "test.com", client);
    let (status, answer) = gateway.admin("PUT", "/ssls/1", Some(body)).await;
    let said = answer["error_msg"].as_str().unwrap();
    assert_eq!(status, 400);
    assert!(said.contains("skip_mtls_uri_regex") && said.contains("regular expression"), "{said}");
}
