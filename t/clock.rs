//! A calendar that jumps by a day or a year while a gateway serves: nothing that is served may go
//! by the date, but for what is dated.

use std::time::SystemTime;

use reqwest::Response;
use serde_json::{Value, json};

use crate::issue::{issued, rejected, shown, shows_another};
use crate::proxy::upstream;
use crate::secret::login::approle;
use crate::support::authority::{Authority, der};
use crate::support::bao::Bao;
use crate::support::calendar::Calendar;
use crate::support::eventually;
use crate::support::gateway::{Gateway, certificate};
use crate::support::origin::Origin;
use crate::tls::shown as handshake;
use crate::tls::staple::{Issuer, is_stapled, stapled, told};
use crate::tls::tickets::Client;

const DAY: i64 = 24 * 60 * 60;

/// How far the calendar is off: for libfaketime, and in seconds.
const JUMPS: [(&str, i64); 4] = [("+1d", DAY), ("-1d", -DAY), ("+1y", 365 * DAY), ("+0", 0)];

const CERT: &str = "$secret://vault/1/ssl/certificate";
const KEY: &str = "$secret://vault/1/ssl/key";

/// The date of an answer of the gateway's own.
async fn date(gateway: &Gateway) -> String {
    let answer = gateway.get("/nobodys").await;
    answer.headers()["date"].to_str().unwrap().to_owned()
}

/// Sets the calendar of `gateway` and waits until it goes by it.
async fn jump(gateway: &Gateway, calendar: &Calendar, (offset, seconds): (&str, i64)) {
    calendar.set(offset);
    eventually(&format!("the gateway goes by {offset}"), async || {
        let date = httpdate::parse_http_date(&date(gateway).await).unwrap();
        let unix = |at: SystemTime| at.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        let off = unix(date).cast_signed() - unix(SystemTime::now()).cast_signed();
        (off - seconds).abs() < 60
    })
    .await;
}

/// One request of jack's, in a handshake of its own.
async fn visit(gateway: &Gateway, ca: &Authority) -> Response {
    let client = gateway.https_client("test.com", &ca.pem());
    let url = gateway.https_url("test.com", "/keyed");
    client.get(url).header("apikey", "jacks").send().await.unwrap()
}

/// The way out of a rate limit, which no date may bar: a window is over when its time is.
async fn limits(gateway: &Gateway) {
    for status in [503, 200] {
        gateway.answers("/limited", status).await;
    }
}

async fn routes(gateway: &Gateway, origin: &Origin) {
    let upstream = upstream(origin);
    let limit = json!({ "count": 2, "time_window": 2, "rejected_code": 503 });
    for (path, plugins) in [
        ("/get", json!({})),
        ("/keyed", json!({ "key-auth": {} })),
        ("/limited", json!({ "limit-count": limit })),
    ] {
        let mut route = json!({ "uri": path, "plugins": plugins, "upstream": upstream });
        route["plugins"]["proxy-rewrite"] = json!({ "uri": "/get" });
        gateway.put_route(&path[1..], route).await;
    }
    gateway.served("/get").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_are_served_on_and_vault_is_not_run_down() {
    let bao = Bao::start().await;
    let ca = Authority::new("ROOT");
    let pairs = [ca.issue(&["test.com"]), ca.issue(&["test.com"])];
    let put = async |(cert, key): &(String, String)| {
        bao.put("kv/apisix/ssl", json!({ "certificate": cert, "key": key })).await;
    };
    put(&pairs[0]).await;
    bao.put("kv/apisix/jack", json!({ "key": "jacks" })).await;
    let auth = approle(&bao, json!({ "token_ttl": "8s", "token_max_ttl": "1h" })).await;
    let origin = Origin::start().await;
    let calendar = Calendar::new();
    let gateway = Gateway::builder()
        .calendar(&calendar)
        .secret_ttl(3600, 60)
        .config(|config| {
            config["apisix"]["ssl"]["ssl_session_tickets"] = json!(true);
            config["plugins"] =
                json!(["ocsp-stapling", "key-auth", "limit-count", "proxy-rewrite"]);
        })
        .start()
        .await;
    routes(&gateway, &origin).await;
    let manager = json!({ "uri": bao.url(""), "prefix": "kv/apisix", "auth": auth });
    gateway.put("/secrets/vault/1", manager).await;
    gateway.put("/ssls/1", json!({ "sni": "test.com", "cert": CERT, "key": KEY })).await;
    let key = json!({ "key-auth": { "key": "$secret://vault/1/jack/key" } });
    gateway.put("/consumers/jack", json!({ "username": "jack", "plugins": key })).await;
    gateway.serves_certificate("test.com", &ca.pem(), &pairs[0].0).await;
    eventually("jack is known", async || visit(&gateway, &ca).await.status() == 200).await;

    let client = Client::new();
    let session = client.session(&gateway, "test.com", "-tls1_3");
    let issuer = Issuer::new();
    let _responder = issuer.respond();
    let good = stapled("good.com", &issuer.issue("good.com", 1, false), json!({ "enabled": true }));
    for (offset, seconds) in JUMPS {
        let renewed = bao.asked("update", "auth/token/renew-self");
        let turns = gateway.logs().matches("other keys for session tickets").count();
        jump(&gateway, &calendar, (offset, seconds)).await;
        limits(&gateway).await;
        let answer = visit(&gateway, &ca).await;
        assert_eq!(answer.status(), 200, "{offset}");
        assert_eq!(certificate(&answer), der(&pairs[0].0), "{offset}");
        let date = date(&gateway).await.replace(' ', "/");
        let day = format!("[{}", &date["Sat,/".len()..][.."28/Nov/2026".len()]);
        eventually("the access log goes by the date", async || gateway.logs().contains(&day)).await;
        // A day has passed: the keys of tickets are due. Those from before are still good.
        if seconds > 0 {
            eventually("tickets have a new key", async || {
                gateway.logs().matches("other keys for session tickets").count() > turns
            })
            .await;
        }
        assert!(client.resumes(&gateway, "test.com", "-tls1_3", &session), "{offset}");
        let fresh = client.session(&gateway, "test.com", "-tls1_3");
        assert!(client.resumes(&gateway, "test.com", "-tls1_3", &fresh), "{offset}");
        eventually(&format!("the token is renewed at {offset}"), async || {
            bao.asked("update", "auth/token/renew-self") > renewed
        })
        .await;
        let versioned = json!({ "uri": "/versioned", "plugins": {}, "desc": offset });
        gateway.put_route("versioned", versioned).await;
        match offset {
            // No answer of the responder is good then: that is told, and handshakes go on.
            "+1y" => {
                gateway.put("/ssls/good", good.clone()).await;
                eventually("the staple's failure is told", async || {
                    told(&gateway, "good").await["staple"]["last_error"].is_string()
                })
                .await;
                assert!(!is_stapled(&gateway, "good.com"));
            }
            "+0" => eventually("it is stapled", async || is_stapled(&gateway, "good.com")).await,
            _ => {}
        }
    }
    // Versions stand in the order in which they were written, whatever they are dated.
    let (_, history) = gateway.admin("GET", "/routes/versioned/history", None).await;
    let kept = history["list"].as_array().unwrap().iter().map(|version| &version["value"]["desc"]);
    assert!(kept.eq(JUMPS.iter().rev().map(|(offset, _)| *offset)), "{history}");
    // Each path was read once, by one login, and by the clock that goes on they are still fresh.
    assert_eq!(bao.asked("read", "kv/apisix/"), 2);
    assert_eq!(bao.asked("update", "auth/approle/login"), 1);
    let (_, secrets) = gateway.control("/v1/secrets").await;
    for told in secrets.as_array().unwrap() {
        assert_eq!(told["state"], "ready", "{told}");
        assert!(told["age_seconds"].as_u64().unwrap() < 3600, "{told}");
    }

    put(&pairs[1]).await;
    let pull = format!("http://127.0.0.1:{}/v1/secrets/refresh", gateway.ports().control);
    let pulled = gateway.client().post(pull).send().await.unwrap();
    assert_eq!(pulled.json::<Value>().await.unwrap()["changed"], 2);
    gateway.serves_certificate("test.com", &ca.pem(), &pairs[1].0).await;
    assert!(!gateway.logs().contains("panicked"), "{}", gateway.logs());
}

/// A year ahead, Vault's own certificate is over for the gateway.
#[tokio::test]
async fn vault_behind_tls_is_served_on_without_and_the_clock_is_named() {
    let authority = Authority::new("private CA");
    let mut bao = Bao::tls(&authority).await;
    let ca = Authority::new("ROOT");
    let pairs = [ca.issue(&["test.com"]), ca.issue(&["test.com"])];
    let fields = |(cert, key): &(String, String)| json!({ "certificate": cert, "key": key });
    bao.put("kv/apisix/ssl", fields(&pairs[0])).await;
    let calendar = Calendar::new();
    let origin = Origin::start().await;
    let gateway = Gateway::builder().calendar(&calendar).secret_ttl(1, 1).start().await;
    routes(&gateway, &origin).await;
    let manager = json!({ "uri": bao.url(""), "prefix": "kv/apisix", "token": bao.token(),
        "ca": authority.pem() });
    gateway.put("/secrets/vault/1", manager).await;
    gateway.put("/ssls/1", json!({ "sni": "test.com", "cert": CERT, "key": KEY })).await;
    gateway.serves_certificate("test.com", &ca.pem(), &pairs[0].0).await;

    jump(&gateway, &calendar, JUMPS[2]).await;
    // The connection that is open is good for as long as it stands.
    bao.restart().await;
    eventually("the operator reads why", async || {
        let (_, secrets) = gateway.control("/v1/secrets").await;
        let (stale, said) = (&secrets[0]["state"], secrets[0]["last_error"].to_string());
        stale == "stale" && said.contains("expired") && said.contains("this node's clock")
    })
    .await;
    let shown = shown(&gateway, "test.com", &ca.pem()).await;
    assert_eq!(shown, Some(der(&pairs[0].0)));

    bao.put("kv/apisix/ssl", fields(&pairs[1])).await;
    jump(&gateway, &calendar, JUMPS[3]).await;
    gateway.serves_certificate("test.com", &ca.pem(), &pairs[1].0).await;
}

#[tokio::test]
async fn issued_certificates_are_renewed_in_time_and_not_in_a_storm() {
    const PKI: &str = "$secret://vault/1/pki/issue";
    let bao = Bao::start().await;
    bao.api("POST", "/v1/sys/mounts/pki", json!({ "type": "pki" })).await;
    let root = json!({ "common_name": "root of the tests", "ttl": "72h", "key_type": "ec" });
    let root = bao.api("POST", "/v1/pki/root/generate/internal", root).await;
    let ca = root["data"]["certificate"].as_str().unwrap().to_owned();
    for (role, ttl) in [("short", "16s"), ("long", "12h")] {
        let role = format!("/v1/pki/roles/{role}");
        let settings = json!({ "allowed_domains": ["test"], "allow_subdomains": true, "ttl": ttl,
            "key_type": "ec", "key_bits": 256, "not_before_duration": "1s" });
        bao.api("POST", &role, settings).await;
    }
    let calendar = Calendar::new();
    let origin = Origin::start().await;
    let gateway = Gateway::builder().calendar(&calendar).start().await;
    routes(&gateway, &origin).await;
    let manager = json!({ "uri": bao.url(""), "prefix": "kv/apisix", "token": bao.token() });
    gateway.put("/secrets/vault/1", manager.clone()).await;
    let order = |role: &str| {
        let reference = format!("{PKI}/{role}");
        json!({ "sni": format!("{role}.test"), "cert": reference, "key": reference })
    };
    gateway.put("/ssls/short", order("short")).await;
    let first = shows_another(&gateway, "short.test", &ca, None).await;

    // A day behind, it is renewed before it is over all the same: clients go by the true date.
    jump(&gateway, &calendar, JUMPS[1]).await;
    let second = shows_another(&gateway, "short.test", &ca, Some(&first)).await;
    jump(&gateway, &calendar, JUMPS[3]).await;
    shows_another(&gateway, "short.test", &ca, Some(&second)).await;

    // A day ahead, whatever is issued is over already: asked for once, not again and again.
    jump(&gateway, &calendar, JUMPS[0]).await;
    gateway.put("/ssls/long", order("long")).await;
    let (_, status) = gateway.control("/v1/status").await;
    let node = status["id"].as_str().unwrap();
    eventually("the clock is named", async || {
        let told = issued(&gateway, "short").await["last_error"].to_string();
        let refused = rejected(&gateway, "long").await;
        let is_told = |said: &String| said.contains(&format!("by the clock of node {node};"));
        [told, refused].iter().all(is_told)
    })
    .await;
    // It may have come to its end meanwhile, which openssl does not mind.
    let third = handshake(&gateway, &["-servername", "short.test"]).expect("it is served on");

    // And right again: whoever had to wait by a wrong clock does not wait for a day.
    jump(&gateway, &calendar, JUMPS[3]).await;
    shows_another(&gateway, "short.test", &ca, Some(&third)).await;
    assert_eq!(issued(&gateway, "short").await["last_error"], Value::Null);
    assert_eq!(bao.asked("update", "pki/issue/long"), 1);
    gateway.put("/secrets/vault/1", manager).await;
    shows_another(&gateway, "long.test", &ca, None).await;
    assert_eq!(bao.asked("update", "pki/issue/long"), 2);
}
