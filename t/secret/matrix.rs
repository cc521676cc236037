//! Whatever befalls Vault, as a gateway shows it: clients are served the same certificate and
//! consumers get in all the while, the operator reads where and why, and what was rotated goes
//! live by itself when Vault is back.

use std::cell::Cell;
use std::time::Duration;

use serde_json::{Value, json};

use super::stand_in::{Mood, StandIn, json as answer};
use super::vault;
use crate::proxy::upstream;
use crate::support::authority::{Authority, der};
use crate::support::bao::Bao;
use crate::support::eventually;
use crate::support::gateway::{Gateway, certificate};
use crate::support::origin::Origin;

const POLICY: &str = r#"path "kv/*" { capabilities = ["read"] }"#;

/// What the log may say instead of what a Vault then fails with: it tells of the first failure of a
/// row, which may be that of a read that was under way.
const CUT_OFF: &[&str] = &["Connection reset", "Broken pipe", "closed before", "timed out"];

/// A certificate with its key, PEM.
type Pair = (String, String);

/// A host and a consumer of its own, whose certificate and key are in one Vault.
struct Site<'g> {
    gateway: &'g Gateway,
    ca: &'g Authority,
    /// Of the manager (`vault/NAME`), the host (`NAME.test`) and the consumer.
    name: &'static str,
    /// Where that Vault is.
    uri: String,
    /// What handshakes are to show.
    shown: Pair,
    /// How much of the log there was before what fails now.
    read: Cell<usize>,
}

// === impl Site ===

impl<'g> Site<'g> {
    /// Has `gateway` serve what `kv/apisix/NAME` of the Vault of `manager` is to hold: see
    /// [`fields`].
    async fn open(
        gateway: &'g Gateway,
        ca: &'g Authority,
        name: &'static str,
        manager: Value,
        shown: Pair,
    ) -> Self {
        let uri = manager["uri"].as_str().unwrap().to_owned();
        let at = |field: &str| format!("$secret://vault/{name}/{name}/{field}");
        let ssl = json!({ "sni": host(name), "cert": at("certificate"), "key": at("private") });
        let consumer =
            json!({ "username": name, "plugins": { "key-auth": { "key": at("apikey") } } });
        let site = Self { gateway, ca, name, uri, shown, read: Cell::new(0) };
        site.manage(manager).await;
        gateway.put(&format!("/ssls/{name}"), ssl).await;
        gateway.put(&format!("/consumers/{name}"), consumer).await;
        site.shows().await;
        eventually("the consumer is known", async || {
            visit(gateway, ca, name).await.is_ok_and(|answer| answer.status() == 200)
        })
        .await;
        site
    }

    async fn manage(&self, manager: Value) {
        self.gateway.put(&format!("/secrets/vault/{}", self.name), manager).await;
    }

    /// Waits until handshakes show the certificate.
    async fn shows(&self) {
        let ca = self.ca.pem();
        self.gateway.serves_certificate(&host(self.name), &ca, &self.shown.0).await;
    }

    /// The two references, as the control API tells of them.
    async fn told(&self) -> Vec<Value> {
        let (_, all) = self.gateway.control("/v1/secrets").await;
        let manager = format!("vault/{}", self.name);
        let mine = all.as_array().unwrap().iter().filter(|told| told["manager"] == manager);
        mine.cloned().collect()
    }

    async fn failures(&self) -> f64 {
        let manager = format!(r#"manager="vault/{}""#, self.name);
        let name = "sluice_secret_consecutive_failures";
        self.gateway.sample(name, &[&manager]).await.unwrap_or(-1.0)
    }

    /// Waits until the operator sees that Vault is `failing`, why (`words`) and where; then a
    /// handshake shows what it showed, and the consumer gets in.
    async fn survives(&self, failing: &str, words: &str) {
        let tells = |text: &str| text.contains(words) && text.contains(&self.uri);
        eventually(&format!("{failing}: the control API says {words}"), async || {
            let told = self.told().await;
            let is_stale = |told: &Value| {
                told["state"] == "stale" && told["last_error"].as_str().is_some_and(tells)
            };
            told.len() == 3 && told.iter().all(is_stale)
        })
        .await;
        eventually(&format!("{failing}: the metrics tell it"), async || {
            self.failures().await > 0.0
        })
        .await;
        eventually(&format!("{failing}: the log tells it"), async || {
            let is_told = |line: &str| {
                let is_cut_off = CUT_OFF.iter().any(|said| line.contains(said));
                line.contains("a secret could not be read")
                    && line.contains(&self.uri)
                    && (line.contains(words) || is_cut_off)
            };
            self.gateway.logs()[self.read.get()..].lines().any(is_told)
        })
        .await;
        let answer = visit(self.gateway, self.ca, self.name).await.unwrap();
        assert_eq!(answer.status(), 200, "{failing}");
        assert!(certificate(&answer) == der(&self.shown.0), "{failing}: another certificate");
    }

    /// Waits until `rotated`, which Vault holds now that it is well, is served.
    async fn recovers(&mut self, rotated: Pair) {
        self.shown = rotated;
        self.shows().await;
        eventually("all is well by itself", async || {
            let told = self.told().await;
            let is_ready =
                |told: &Value| told["state"] == "ready" && told["last_error"] == Value::Null;
            told.iter().all(is_ready) && self.failures().await == 0.0
        })
        .await;
        self.read.set(self.gateway.logs().len());
    }
}

fn host(name: &str) -> String {
    format!("{name}.test")
}

fn api_key(name: &str) -> String {
    format!("planted-consumer-key-of-{name}")
}

/// What Vault is to hold for a site.
fn fields(name: &str, (certificate, key): &Pair) -> Value {
    json!({ "certificate": certificate, "private": key, "apikey": api_key(name) })
}

/// One request of the consumer, in a handshake of its own.
async fn visit(
    gateway: &Gateway,
    ca: &Authority,
    name: &str,
) -> Result<reqwest::Response, reqwest::Error> {
    let client = gateway.https_client(&host(name), &ca.pem());
    let url = gateway.https_url(&host(name), "/get");
    client.get(url).header("apikey", api_key(name)).send().await
}

/// Visits the sites for as long as `work` goes on; none is ever turned away.
async fn visited(gateway: &Gateway, ca: &Authority, names: &[&str], work: impl Future) {
    let visits = Cell::new(0);
    let visiting = async {
        loop {
            for name in names {
                let answer = visit(gateway, ca, name).await;
                let status = answer.map(|answer| answer.status().as_u16());
                assert!(matches!(status, Ok(200)), "{name} was turned away: {status:?}");
                visits.set(visits.get() + 1);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::select! {
        _ = work => {}
        () = visiting => {}
    }
    assert!(visits.get() >= names.len(), "nobody has visited");
}

/// What a real server can be brought to.
async fn real(bao: &mut Bao, site: &mut Site<'_>) {
    let path = format!("kv/apisix/{}", site.name);
    let name = site.name;

    bao.seal().await;
    site.survives("sealed", "is sealed").await;
    bao.unseal().await;
    let rotated = site.ca.issue(&[&host(name)]);
    bao.put(&path, fields(name, &rotated)).await;
    site.recovers(rotated).await;

    bao.set_policy("reader", r#"path "kv/other" { capabilities = ["read"] }"#).await;
    site.survives("403 by the policy", "answered 403: ").await;
    let rotated = site.ca.issue(&[&host(name)]);
    bao.put(&path, fields(name, &rotated)).await;
    bao.set_policy("reader", POLICY).await;
    site.recovers(rotated).await;

    bao.api("DELETE", &format!("/v1/{path}"), Value::Null).await;
    site.survives("deleted", "answered 404: nothing stands there").await;
    let rotated = site.ca.issue(&[&host(name)]);
    bao.put(&path, fields(name, &rotated)).await;
    site.recovers(rotated).await;

    bao.stop();
    site.survives("down", "Connection refused").await;
    bao.restart().await;
    let rotated = site.ca.issue(&[&host(name)]);
    bao.put(&path, fields(name, &rotated)).await;
    site.recovers(rotated).await;

    let short = json!({ "policies": ["reader"], "no_default_policy": true, "ttl": "2s",
        "renewable": false });
    let made = bao.api("POST", "/v1/auth/token/create", short).await;
    let short = made["auth"]["client_token"].as_str().unwrap();
    site.manage(vault(&site.uri, "kv/apisix", short)).await;
    site.survives("the token has ended", "the token has expired or was revoked").await;
    let rotated = site.ca.issue(&[&host(name)]);
    bao.put(&path, fields(name, &rotated)).await;
    let good = bao.token_with("reader", POLICY).await;
    site.manage(vault(&site.uri, "kv/apisix", &good)).await;
    site.recovers(rotated).await;
    for token in [short, &good] {
        assert!(!said(site.gateway).await.contains(token), "a token is told");
    }
}

/// On a stand-in, since no real server does these things when asked.
async fn asked(server: &StandIn, site: &mut Site<'_>, failures: &[(&str, Mood, &str)]) {
    for (failing, mood, words) in failures {
        server.is(mood.clone());
        site.survives(failing, words).await;
        let rotated = site.ca.issue(&[&host(site.name)]);
        server.holds(&format!("apisix/{}", site.name), fields(site.name, &rotated));
        server.is(Mood::Well("good"));
        site.recovers(rotated).await;
    }
}

/// Everything that the gateway tells.
async fn said(gateway: &Gateway) -> String {
    let (_, secrets) = gateway.control("/v1/secrets").await;
    let (_, rejected) = gateway.control("/v1/rejected").await;
    format!("{}\n{secrets}\n{rejected}\n{}", gateway.logs(), gateway.metrics().await)
}

async fn start(origin: &Origin, ttl_s: u64) -> Gateway {
    let gateway = Gateway::builder().secret_ttl(ttl_s, 1).start().await;
    let upstream = upstream(origin);
    let route = json!({ "uri": "/*", "plugins": { "key-auth": {} }, "upstream": upstream });
    gateway.put_route("1", route).await;
    gateway
}

/// A stand-in that holds what `site` is to show.
async fn stand_in(name: &str, pair: &Pair) -> (StandIn, Value) {
    let server = StandIn::start().await;
    server.holds(&format!("apisix/{name}"), fields(name, pair));
    let mut manager = vault(&server.uri, "kv/apisix", "given");
    manager["timeout"] = json!(2);
    (server, manager)
}

#[tokio::test]
async fn clients_notice_nothing_and_the_operator_reads_the_cause() {
    let origin = Origin::start().await;
    let gateway = start(&origin, 1).await;
    let ca = Authority::new("ROOT");

    let mut bao = Bao::start().await;
    let pair = ca.issue(&[&host("real")]);
    bao.put("kv/apisix/real", fields("real", &pair)).await;
    let token = bao.token_with("reader", POLICY).await;
    let manager = vault(&bao.url(""), "kv/apisix", &token);
    let mut real_site = Site::open(&gateway, &ca, "real", manager, pair).await;

    let raw = |text: &str| Mood::Raw(text.to_owned());
    let redirect =
        "HTTP/1.1 307 X\r\nLocation: http://active:8200/v1/kv\r\nContent-Length: 0\r\n\r\n";
    let half = "HTTP/1.1 200 X\r\nContent-Length: 100\r\n\r\n{\"data\": {";
    let one = [
        ("slow", Mood::Slow(10_000), "timed out after 2 s"),
        ("failing", raw(&answer(500, "<h1>oops</h1>")), "answered 500: it gives no reason"),
        ("no leader", raw(&answer(502, r#"{"errors": ["no leader"]}"#)), "answered 502: no leader"),
        ("busy", raw(&answer(429, r#"{"errors": ["slow down"]}"#)), "answered 429: slow down"),
    ];
    let two = [
        ("HTML", raw(&answer(200, "<h1>Welcome</h1>")), "is no JSON"),
        ("garbage", raw("garbage\r\n\r\n"), "invalid HTTP"),
        ("closing mid-body", raw(half), "end of file"),
        ("closing at once", raw(""), "closed"),
        ("redirecting", raw(redirect), "it redirects to http://active:8200/v1/kv; expected"),
    ];
    let pairs = ["one", "two"].map(|name| ca.issue(&[&host(name)]));
    let (first, manager) = stand_in("one", &pairs[0]).await;
    let mut site_one = Site::open(&gateway, &ca, "one", manager, pairs[0].clone()).await;
    let (second, manager) = stand_in("two", &pairs[1]).await;
    let mut site_two = Site::open(&gateway, &ca, "two", manager, pairs[1].clone()).await;

    let names = ["real", "one", "two"];
    let work = async {
        tokio::join!(
            real(&mut bao, &mut real_site),
            asked(&first, &mut site_one, &one),
            asked(&second, &mut site_two, &two),
        )
    };
    visited(&gateway, &ca, &names, work).await;

    let said = said(&gateway).await;
    for secret in [&*token, "PRIVATE KEY"].into_iter().chain(names.map(|_| "planted-consumer-key"))
    {
        assert!(!said.contains(secret), "{secret} is told");
    }
}

/// On a stand-in that counts: a thousand consumers whose keys are read, all at once, while
/// handshakes go on.
#[tokio::test]
async fn a_thousand_consumers_are_looked_after_by_sixteen_reads_at_a_time() {
    const CONSUMERS: usize = 1000;
    let origin = Origin::start().await;
    let gateway = start(&origin, 600).await;
    let ca = Authority::new("ROOT");
    let pair = ca.issue(&[&host("one")]);
    let (server, manager) = stand_in("one", &pair).await;
    let mut site = Site::open(&gateway, &ca, "one", manager, pair).await;
    for number in 0..CONSUMERS {
        server.holds(&format!("apisix/p{number}"), json!({ "key": api_key(&number.to_string()) }));
    }
    let consumers = (0..CONSUMERS).map(|number| {
        let key = format!("$secret://vault/one/p{number}/key");
        json!({ "put": format!("consumers/c{number}"), "value":
            { "username": format!("c{number}"), "plugins": { "key-auth": { "key": key } } } })
    });
    let consumers: Value = consumers.collect();
    let ready = async || {
        let of_one = [r#"manager="vault/one""#, r#"state="ready""#];
        gateway.sample("sluice_secret_references", &of_one).await == Some(CONSUMERS as f64 + 3.0)
    };
    let work = async {
        let (status, told) = gateway.admin("POST", "/transactions", Some(consumers)).await;
        assert_eq!(status, 200, "{told}");
        eventually("all are read", ready).await;
        assert_eq!((server.read_paths(1), server.read_paths(2)), (CONSUMERS + 1, 0));

        // All are due at once, at a server that hangs, and then at one that is well.
        let pull = format!("http://127.0.0.1:{}/v1/secrets/refresh", gateway.ports().control);
        let pull = async || {
            let answer = gateway.client().post(&pull).send().await.unwrap();
            answer.json::<Value>().await.unwrap()
        };
        server.is(Mood::Slow(10_000));
        let pulled = pull().await;
        assert_eq!(pulled["failed"], CONSUMERS + 3, "{}", pulled["pending"]);
        let rotated = ca.issue(&[&host("one")]);
        server.holds("apisix/one", fields("one", &rotated));
        server.is(Mood::Well("good"));
        site.recovers(rotated).await;
        eventually("all are back", ready).await;
        assert!(server.most_at_once() <= 16, "{}", server.most_at_once());
        assert!(server.most_at_once() > 1, "they are read one by one");
    };
    visited(&gateway, &ca, &["one"], work).await;
    let last = api_key(&(CONSUMERS - 1).to_string());
    let get = gateway.client().get(gateway.http_url("/get")).header("apikey", last);
    assert_eq!(get.send().await.unwrap().status(), 200);
}
