//! Secrets are planted wherever one can be, a node lives a full day with them, and whatever it has
//! written or said is searched for them.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::authority::Authority;
use crate::support::bao::Bao;
use crate::support::clouds::Clouds;
use crate::support::etcd::Etcd;
use crate::support::eventually;
use crate::support::gateway::{ADMIN_KEY, Gateway};
use crate::support::origin::Origin;

const VIEWER_KEY: &str = "planted-viewer-key-4054f7cf";
const KEYRING: &str = "planted-keyring1";
const ETCD: &str = "planted-etcd-password";
const VAULT: &str = "planted-vault-token";
const WRONG: &str = "planted-wrong-token";
const APPROLE: &str = "planted-approle-secret-id";
const ACME: &str = "cGxhbnRlZC1hY21lLWVhYg";
const AWS: &str = "planted+aws/access-key";
const AWS_TOKEN: &str = "planted-aws-session-token";
const BEARER: &str = "planted-google-token";
/// Of consumers: by reference, and as written.
const CONSUMER: &str = "planted-consumer-key";
const CLOUD_CONSUMER: &str = "planted-cloud-consumer-key";
const INLINE: &str = "planted-inline-password";
/// A plugin's field, by reference.
const FIELD: &str = "planted-plugin-field";
/// What is written where it does not belong.
const MISPLACED: &str = "planted-misplaced";

/// Everything that was said, with where.
#[derive(Default)]
struct Said(Vec<(String, String)>);

// === impl Said ===

impl Said {
    fn add(&mut self, place: impl Into<String>, text: impl ToString) {
        self.0.push((place.into(), text.to_string()));
    }

    /// Adds every file below `folder`.
    fn add_files(&mut self, folder: &Path) {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                self.add_files(&path);
            } else {
                let bytes = std::fs::read(&path).unwrap_or_default();
                self.add(path.display().to_string(), String::from_utf8_lossy(&bytes));
            }
        }
    }

    /// Where one of `secrets` is told, in clear or in base64.
    fn places_of(&self, secrets: &[&str]) -> Vec<String> {
        use base64::Engine as _;
        let mut found = Vec::new();
        for secret in secrets {
            let coded = base64::engine::general_purpose::STANDARD.encode(secret);
            // The last characters depend on what follows.
            let coded = &coded[..coded.len() / 4 * 4 - 4];
            for (place, text) in &self.0 {
                if let Some(at) = text.find(secret).or_else(|| text.find(coded)) {
                    let start = text.floor_char_boundary(at.saturating_sub(80));
                    let end = text.floor_char_boundary(at + 80);
                    found.push(format!("{secret} in {place}: …{}…", &text[start..end]));
                }
            }
        }
        found
    }

    fn hold_none_of(&self, secrets: &[&str]) {
        let found = self.places_of(secrets);
        assert!(found.is_empty(), "{}", found.join("\n"));
    }
}

/// A line of the middle of a key's PEM.
fn inside(pem: &str) -> String {
    let lines: Vec<_> = pem.lines().collect();
    lines[lines.len() / 2].to_owned()
}

/// What a verb of the command line prints.
fn sluice(gateway: &Gateway, key: &str, arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
    command.arg("-c").arg(gateway.config_file()).args(arguments).env("SLUICE_ADMIN_KEY", key);
    let output = command.output().unwrap();
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

#[test]
fn the_search_finds_what_is_there() {
    let mut said = Said::default();
    said.add("a log", format!("token={VAULT} accepted"));
    said.add("an answer", json!({ "data": "eHBsYW50ZWQtd3JvbmctdG9rZW55" }));
    said.add("base64", "cGxhbnRlZC1ldGNkLXBhc3N3b3Jk");
    assert_eq!(said.places_of(&[VAULT]).len(), 1);
    assert_eq!(said.places_of(&[ETCD]).len(), 1);
    assert!(said.places_of(&[INLINE]).is_empty());
}

#[tokio::test]
async fn no_secret_is_told_by_log_answer_page_or_command() {
    let (bao, clouds) = (Bao::dev().await, Clouds::start(AWS).await);
    let origin = Origin::start().await;
    let mut etcd = Etcd::start().await;
    etcd.enable_auth(ETCD);
    let authority = Authority::new("test CA");
    let (cert, key) = authority.issue(&["a.test"]);
    let (inline_cert, inline_key) = authority.issue(&["b.test"]);
    bao.api("POST", "/v1/auth/token/create", json!({ "id": VAULT, "policies": ["root"] })).await;
    bao.put("kv/apisix/ssl", json!({ "cert": cert, "key": key })).await;
    bao.put("kv/apisix/jack", json!({ "key": CONSUMER, "field": FIELD })).await;
    clouds.put("jill", &json!({ "key": CLOUD_CONSUMER }).to_string());
    clouds.put("joe", CLOUD_CONSUMER);
    clouds.change(|state| {
        state["aws"]["token"] = json!(AWS_TOKEN);
        state["gcp"]["token"] = json!(BEARER);
    });
    let account_key = clouds.account_key();

    let gateway = Gateway::builder()
        .etcd(&[etcd.endpoint()])
        .secret_ttl(2, 1)
        .config(|config| {
            config["nginx_config"]["error_log_level"] = json!("debug");
            config["deployment"]["etcd"]["user"] = json!("root");
            config["deployment"]["etcd"]["password"] = json!(ETCD);
            config["apisix"]["data_encryption"] =
                json!({ "enable_encrypt_fields": true, "keyring": [KEYRING] });
            let keys = config["deployment"]["admin"]["admin_key"].as_array_mut().unwrap();
            keys.push(json!({ "name": "viewer", "key": VIEWER_KEY, "role": "viewer" }));
        })
        .start()
        .await;

    // Managers that work, and some that do not.
    let vault = |token: &str| json!({ "uri": bao.url(""), "prefix": "kv/apisix", "token": token });
    let aws = |key: &str| {
        let mut written = clouds.aws(key);
        written["session_token"] = json!(AWS_TOKEN);
        written
    };
    let mut stranger = clouds.account();
    stranger["client_email"] = json!("stranger");
    let mut written = Said::default();
    for (path, body) in [
        ("/secrets/vault/good", vault(VAULT)),
        ("/secrets/vault/bad", vault(WRONG)),
        ("/secrets/aws/good", aws(AWS)),
        ("/secrets/aws/bad", aws(WRONG)),
        ("/secrets/gcp/good", json!({ "auth_config": clouds.account() })),
        ("/secrets/gcp/bad", json!({ "auth_config": stranger })),
        (
            "/secrets/vault/role",
            json!({ "uri": bao.url(""), "prefix": "kv/apisix",
                "auth": { "method": "approle", "role_id": "nobody", "secret_id": APPROLE } }),
        ),
        (
            "/secrets/acme/nowhere",
            json!({ "directory": "https://127.0.0.1:1/dir", "email": "a@b.test",
                "terms_agreed": true, "eab": { "kid": "1", "hmac_key": ACME } }),
        ),
    ] {
        gateway.put(path, body).await;
    }
    let consumer = |name: &str, key: &str| json!({ "username": name, "plugins": { "key-auth": { "key": key } } });
    for (name, key) in [
        ("jack", "$secret://vault/good/jack/key"),
        ("jill", "$secret://aws/good/jill/key"),
        ("bad1", "$secret://vault/bad/jack/key"),
        ("bad2", "$secret://aws/bad/jill/key"),
        ("bad3", "$secret://gcp/bad/jill/key"),
        ("bad4", "$secret://vault/role/jack/key"),
        ("none", "$secret://vault/good/jack/none"),
    ] {
        let answer = gateway.put(&format!("/consumers/{name}"), consumer(name, key)).await;
        written.add(format!("PUT {name}"), answer);
    }
    gateway.put("/consumers/john", consumer("john", INLINE)).await;
    let ssl = json!({ "snis": ["a.test"], "cert": "$secret://vault/good/ssl/cert",
                      "key": "$secret://vault/good/ssl/key" });
    written.add("PUT ssls/1", gateway.put("/ssls/1", ssl).await);
    let ssl = json!({ "snis": ["b.test"], "cert": inline_cert, "key": inline_key });
    written.add("PUT ssls/2", gateway.put("/ssls/2", ssl).await);
    let set = json!({ "x-field": "$secret://vault/good/jack/field",
                      "x-cloud": "$secret://gcp/good/joe" });
    let plugins = json!({ "key-auth": { "hide_credentials": true },
                          "proxy-rewrite": { "headers": { "set": set } } });
    let upstream = json!({ "nodes": { origin.node(): 1 } });
    let route = json!({ "uri": "/*", "plugins": plugins, "upstream": upstream });
    written.add("PUT routes/1", gateway.put_route("1", route).await);

    // All of them are in use.
    let get = async |key: &str| {
        let request = gateway.client().get(gateway.http_url("/get")).header("apikey", key);
        request.send().await.unwrap()
    };
    for key in [CONSUMER, CLOUD_CONSUMER] {
        eventually("a consumer is known", async || get(key).await.status() == 200).await;
    }
    let seen = origin.seen();
    assert!(seen.iter().any(|seen| seen.headers["x-field"] == FIELD));
    assert!(seen.iter().any(|seen| seen.headers["x-cloud"] == CLOUD_CONSUMER));
    gateway.serves_certificate("a.test", &authority.pem(), &cert).await;
    gateway.serves_certificate("b.test", &authority.pem(), &inline_cert).await;
    for bad in ["vault/bad", "vault/role", "aws/bad", "gcp/bad"] {
        eventually("the bad managers have failed", async || {
            let (_, told) = gateway.control("/v1/secrets").await;
            let mut all = told.as_array().unwrap().iter();
            all.any(|one| one["manager"] == bad && one["state"] == "failed")
        })
        .await;
    }
    let rotated = json!({ "key": "planted-rotated-key", "field": FIELD });
    bao.put("kv/apisix/jack", rotated).await;
    eventually("it rotates", async || get("planted-rotated-key").await.status() == 200).await;
    written.add("no such key", get(WRONG).await.text().await.unwrap());

    // What is wrong is told without it.
    for (path, body) in [
        ("/secrets/vault/x", vault("")),
        ("/secrets/vault/x", json!({ "uri": "x", "prefix": "p", "token": [MISPLACED] })),
        ("/secrets/vault/x", json!({ "uri": "x", "prefix": "p", "token": { "a": MISPLACED } })),
        ("/secrets/aws/x", json!({ "secret_access_key": MISPLACED })),
        ("/secrets/gcp/x", json!({ "auth_config": { "private_key": MISPLACED } })),
        ("/ssls/3", json!({ "sni": "c.test", "cert": inline_cert, "key": MISPLACED })),
        ("/ssls/3", json!({ "sni": "c.test", "cert": cert, "key": inline_key })),
        (
            "/consumers/x",
            json!({ "username": "x", "plugins": { "key-auth": { "key": [MISPLACED] } } }),
        ),
        (
            "/consumers/x",
            json!({ "username": "x", "plugins": { "key-auth": { "key": { "a": MISPLACED } } } }),
        ),
    ] {
        let (_, answer) = gateway.admin("PUT", path, Some(body)).await;
        written.add(format!("PUT {path}"), answer);
    }
    for key in [WRONG, VIEWER_KEY] {
        let (_, answer) = gateway.admin_as(key, "PUT", "/routes/2", Some(json!({}))).await;
        written.add("PUT by who may not", answer);
    }

    // Read by who may only look, and by all pages.
    let mut viewed = Said::default();
    let mut admins = Said::default();
    for path in [
        "/secrets",
        "/secrets/vault/good",
        "/secrets/vault/bad",
        "/secrets/vault/role",
        "/secrets/acme/nowhere",
        "/secrets/aws/good",
        "/secrets/gcp/good",
        "/consumers",
        "/consumers/john",
        "/consumers/jack",
        "/ssls",
        "/ssls/1",
        "/ssls/2",
        "/routes",
        "/routes/1",
        "/consumers/john/history",
        "/secrets/vault/good/history",
        "/ssls/2/history",
        "/plugins/list",
        "/openapi.json",
    ] {
        let (_, answer) = gateway.admin_as(VIEWER_KEY, "GET", path, None).await;
        viewed.add(format!("GET {path} by a viewer"), answer);
        let (_, answer) = gateway.admin("GET", path, None).await;
        admins.add(format!("GET {path}"), answer);
    }
    for path in [
        "status",
        "nodes",
        "rejected",
        "secrets",
        "certificates",
        "schema",
        "healthcheck",
        "routes",
        "route/1",
        "services",
        "upstreams",
        "plugin_metadatas",
        "explain?uri=/get",
        "explain?uri=/get&consumer=john",
        "secrets/refresh",
        "nothing",
    ] {
        viewed.add(path, gateway.control(&format!("/v1/{path}")).await.1);
    }
    let pull = format!("http://127.0.0.1:{}/v1/secrets/refresh", gateway.ports().control);
    let pulled = gateway.client().post(pull).send().await.unwrap().text().await.unwrap();
    assert!(pulled.contains("\"failed\":"), "{pulled}");
    viewed.add("pull", pulled);
    viewed.add("metrics", gateway.metrics().await);
    for path in ["/status", "/status/ready"] {
        viewed.add(path, gateway.status(path).await.1);
    }
    for arguments in [
        &["get", "secrets", "-o", "json"][..],
        &["get", "consumers", "-o", "yaml"],
        &["get", "ssls"],
        &["dump"],
        &["explain", "/get"],
        &["test"],
    ] {
        let text = sluice(&gateway, VIEWER_KEY, arguments);
        assert!(!text.is_empty(), "{arguments:?}");
        viewed.add(format!("sluice {arguments:?} by a viewer"), text);
        admins.add(format!("sluice {arguments:?}"), sluice(&gateway, ADMIN_KEY, arguments));
    }
    viewed.add("the logs", gateway.logs());
    viewed.add_files(&gateway.dir().join("logs"));
    let mut kept = Said::default();
    kept.add("etcd", etcd.etcdctl(&["get", "", "--prefix"]));
    kept.add_files(&gateway.dir().join("data"));

    let [key, inline_key, account_key] = [&key, &inline_key, &account_key].map(|pem| inside(pem));
    // What only the node knows, nobody is told: neither what references stand for, nor the keys of
    // its own.
    let inner = [
        CONSUMER,
        CLOUD_CONSUMER,
        FIELD,
        "planted-rotated-key",
        BEARER,
        ETCD,
        KEYRING,
        VIEWER_KEY,
        ADMIN_KEY,
        &key,
        MISPLACED,
    ];
    for said in [&written, &viewed, &admins, &kept] {
        said.hold_none_of(&inner);
    }
    // What was written into the config is told to administrators alone, and private keys and
    // fields that are encrypted at rest stand nowhere in clear.
    let outer = [VAULT, WRONG, APPROLE, ACME, AWS, AWS_TOKEN, &account_key, INLINE, &inline_key];
    viewed.hold_none_of(&outer);
    written.hold_none_of(&outer);
    kept.hold_none_of(&[INLINE, &inline_key]);
    let stored = Value::String(etcd.etcdctl(&["get", "/apisix/ssls/1"])).to_string();
    assert!(stored.contains("$secret://vault/good/ssl/key"), "{stored}");
}
