//! Every way to log in to Vault: at first, before the token ends, and after it was revoked.

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use rcgen::{KeyPair, SigningKey as _};
use serde_json::{Value, json};
use sluice::secret::SecretError;

use super::stand_in::{Mood, StandIn, json as answer};
use super::{Node, vault};
use crate::support::authority::Authority;
use crate::support::bao::Bao;
use crate::support::{eventually, undisturbed};

/// How long a test of tokens that live for two seconds may have to wait for the processor: they are
/// renewed after two thirds of that.
const STALL: Duration = Duration::from_millis(250);

const POLICY: &str = r#"path "kv/*" { capabilities = ["read"] }"#;

/// Enables a method at `auth/{method}`, and a policy `reader` for its roles.
async fn enable(bao: &Bao, method: &str) {
    bao.set_policy("reader", POLICY).await;
    bao.api("POST", &format!("/v1/sys/auth/{method}"), json!({ "type": method })).await;
}

/// The `auth` of a new AppRole, whose role has `settings` besides its policy.
pub async fn approle(bao: &Bao, mut settings: Value) -> Value {
    enable(bao, "approle").await;
    settings["token_policies"] = json!("reader");
    bao.api("POST", "/v1/auth/approle/role/web", settings).await;
    let id = bao.api("GET", "/v1/auth/approle/role/web/role-id", Value::Null).await;
    let secret = bao.api("POST", "/v1/auth/approle/role/web/secret-id", json!({})).await;
    json!({
        "method": "approle",
        "role_id": id["data"]["role_id"],
        "secret_id": secret["data"]["secret_id"],
    })
}

fn by(bao: &Bao, auth: &Value) -> Value {
    json!({ "uri": bao.url(""), "prefix": "kv/apisix", "auth": auth })
}

/// A JWT with `claims`, signed by an RSA key.
fn jwt(key: &KeyPair, claims: &Value) -> String {
    let encode = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
    let head = encode(br#"{"alg": "RS256", "typ": "JWT"}"#);
    let signed = format!("{head}.{}", encode(claims.to_string().as_bytes()));
    let signature = key.sign(signed.as_bytes()).unwrap();
    format!("{signed}.{}", encode(&signature))
}

/// Revokes every token of the method mounted at `auth/{mount}`, and its leases.
async fn revoke_logins(bao: &Bao, mount: &str) {
    let path = format!("/v1/sys/leases/revoke-prefix/auth/{mount}/login");
    bao.api("PUT", &path, json!({})).await;
}

/// Reads by `auth`, and again by a new login after the first one's lease was revoked.
async fn reads_and_recovers(bao: &Bao, written: Value, mount: &str) -> Node {
    bao.put("kv/apisix/ssl", json!({ "key": "one" })).await;
    let node = Node::lasting(Duration::from_secs(1), Duration::from_secs(1));
    node.manage(written);
    assert_eq!(node.read("ssl/key").await.unwrap(), "one", "{mount}");
    revoke_logins(bao, mount).await;
    bao.put("kv/apisix/ssl", json!({ "key": "two" })).await;
    node.becomes("ssl/key", "two").await;
    assert_eq!(node.failures(), 0, "{mount}");
    node
}

async fn tokens(bao: &Bao) -> usize {
    let listed = bao.api("GET", "/v1/auth/token/accessors?list=true", Value::Null).await;
    listed["data"]["keys"].as_array().unwrap().len()
}

#[tokio::test]
async fn approle_logs_in_and_recovers_from_a_revoked_lease() {
    let bao = Bao::dev().await;
    let auth = approle(&bao, json!({})).await;
    reads_and_recovers(&bao, by(&bao, &auth), "approle").await;
}

#[tokio::test]
async fn a_token_is_renewed_before_it_ends_and_another_got_before_its_last_end() {
    undisturbed(STALL, async || {
        let bao = Bao::dev().await;
        bao.put("kv/apisix/ssl", json!({ "key": "one" })).await;
        let auth = approle(&bao, json!({ "token_ttl": "2s", "token_max_ttl": "60s" })).await;
        let before = tokens(&bao).await;
        let node = Node::lasting(Duration::from_millis(300), Duration::from_secs(1));
        node.manage(by(&bao, &auth));
        node.read("ssl/key").await.unwrap();
        // Three seconds by one token that lives for two unless it is renewed.
        node.reads(13).await;
        assert_eq!(tokens(&bao).await, before + 1);
        assert_eq!(node.failures(), 0);

        let settings =
            json!({ "token_ttl": "2s", "token_max_ttl": "3s", "token_policies": "reader" });
        bao.api("POST", "/v1/auth/approle/role/web", settings).await;
        let node = Node::lasting(Duration::from_millis(300), Duration::from_secs(1));
        node.manage(by(&bao, &auth));
        node.read("ssl/key").await.unwrap();
        node.reads(25).await;
        assert_eq!(node.failures(), 0);
    })
    .await;
}

#[tokio::test]
async fn a_given_token_is_renewed_though_nothing_is_read() {
    undisturbed(STALL, async || {
        let bao = Bao::dev().await;
        bao.put("kv/apisix/ssl", json!({ "key": "one" })).await;
        bao.set_policy("reader", POLICY).await;
        let body = json!({ "policies": ["reader"], "period": "2s" });
        let made = bao.api("POST", "/v1/auth/token/create", body).await;
        let token = made["auth"]["client_token"].as_str().unwrap();
        let node = Node::lasting(Duration::from_secs(600), Duration::from_secs(600));
        node.manage(vault(&bao.url(""), "kv/apisix", token));
        node.read("ssl/key").await.unwrap();
        let renewed = async || {
            let looked = bao.api("POST", "/v1/auth/token/lookup", json!({ "token": token })).await;
            looked["data"]["last_renewal_time"].as_i64()
        };
        eventually("it is renewed", async || renewed().await.is_some()).await;
        let first = renewed().await;
        // Past its first life.
        eventually("it is renewed again", async || renewed().await > first).await;
        // A manager that is gone renews no more, so that the token ends.
        node.secrets.remove_manager("vault/1");
        eventually("it ends", async || {
            let url = bao.url("/v1/auth/token/lookup-self");
            let client = reqwest::Client::builder().no_proxy().build().unwrap();
            client.get(url).header("X-Vault-Token", token).send().await.unwrap().status() == 403
        })
        .await;
    })
    .await;
}

#[tokio::test]
async fn a_given_token_that_is_revoked_says_what_to_do() {
    let bao = Bao::dev().await;
    bao.put("kv/apisix/ssl", json!({ "key": "one" })).await;
    let token = bao.token_with("reader", POLICY).await;
    let auth = json!({ "method": "token", "token": token });
    let node = Node::with(by(&bao, &auth));
    assert_eq!(node.read("ssl/key").await.unwrap(), "one");
    bao.revoke(&token).await;
    let said = node.fails().await.to_string();
    assert!(said.contains("403") && said.contains("another `token`"), "{said}");
    assert!(!said.contains(&token));
    assert_eq!(node.read("ssl/key").await.unwrap(), "one");
}

#[tokio::test]
async fn a_login_that_is_refused_is_named_and_shows_nothing() {
    let bao = Bao::dev().await;
    let mut auth = approle(&bao, json!({})).await;
    auth["secret_id"] = json!("planted-secret");
    let said = Node::with(by(&bao, &auth)).read("ssl/key").await.unwrap_err().to_string();
    let url = bao.url("/v1/auth/approle/login");
    assert!(said.contains(&url) && said.contains("invalid role or secret ID"), "{said}");
    assert!(!said.contains("planted"), "{said}");

    auth["secret_id"] = json!("$env://SLUICE_NOT_SET");
    let error = Node::with(by(&bao, &auth)).read("ssl/key").await.unwrap_err();
    assert!(matches!(error, SecretError::NoVariable(_)), "{error}");
    auth["secret_id"] = json!("$secret://vault/2/a/b");
    let said = Node::with(by(&bao, &auth)).read("ssl/key").await.unwrap_err().to_string();
    assert!(said.contains("auth/secret_id") && said.contains("$env://"), "{said}");
    auth["mount"] = json!("no where#?");
    let said = Node::with(by(&bao, &auth)).read("ssl/key").await.unwrap_err().to_string();
    assert!(said.contains("auth/secret_id"), "{said}");

    // A role that may log in, but not read.
    let auth = approle_of(&bao, "other").await;
    let said = Node::with(by(&bao, &auth)).read("ssl/key").await.unwrap_err().to_string();
    assert!(said.contains("the role at auth/approle"), "{said}");
}

/// The `auth` of another role, without policies.
async fn approle_of(bao: &Bao, role: &str) -> Value {
    let path = format!("/v1/auth/approle/role/{role}");
    bao.api(
        "POST",
        &path,
        json!({ "bind_secret_id": false, "secret_id_bound_cidrs": [],
        "token_bound_cidrs": ["127.0.0.1/32"] }),
    )
    .await;
    let id = bao.api("GET", &format!("{path}/role-id"), Value::Null).await;
    json!({ "method": "approle", "role_id": id["data"]["role_id"] })
}

#[tokio::test]
async fn a_wrapped_secret_id_is_unwrapped_once_and_kept() {
    let bao = Bao::dev().await;
    let mut auth = approle(&bao, json!({})).await;
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let url = bao.url("/v1/auth/approle/role/web/secret-id");
    let request = client.post(url).header("X-Vault-Token", "root");
    let wrapped = request.header("X-Vault-Wrap-TTL", "60").json(&json!({})).send().await.unwrap();
    let wrapped: Value = wrapped.json().await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("wrapped");
    std::fs::write(&file, format!("{}\n", wrapped["wrap_info"]["token"].as_str().unwrap()))
        .unwrap();
    auth.as_object_mut().unwrap().remove("secret_id");
    (auth["secret_id_file"], auth["wrapped"]) = (json!(file), json!(true));
    // A second login, after the lease of the first was revoked, needs the same secret id.
    reads_and_recovers(&bao, by(&bao, &auth), "approle").await;
    let said = Node::with(by(&bao, &auth)).read("ssl/key").await.unwrap_err().to_string();
    assert!(said.contains("sys/wrapping/unwrap") && said.contains("unwrapped once"), "{said}");
}

/// The API of Kubernetes is a stand-in that knows every token.
#[tokio::test]
async fn a_service_account_logs_in_with_its_file_as_it_is_now() {
    let bao = Bao::dev().await;
    enable(&bao, "kubernetes").await;
    let api = StandIn::start().await;
    let user = "system:serviceaccount:edge:gateway";
    let review =
        json!({ "status": { "authenticated": true, "user": { "username": user, "uid": "u1" } } });
    api.is(Mood::Raw(answer(201, &review.to_string())));
    let config = json!({
        "kubernetes_host": api.uri,
        "kubernetes_ca_cert": Authority::new("cluster").pem(),
        "disable_local_ca_jwt": true,
        "token_reviewer_jwt": "reviewer",
    });
    bao.api("POST", "/v1/auth/kubernetes/config", config).await;
    let role = json!({
        "bound_service_account_names": "gateway",
        "bound_service_account_namespaces": "edge",
        "token_policies": "reader",
    });
    bao.api("POST", "/v1/auth/kubernetes/role/web", role).await;
    let key = KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
    let account = json!({
        "iss": "kubernetes/serviceaccount", "sub": user, "exp": 4_000_000_000_i64, "iat": 1, "nbf": 1,
        "kubernetes.io": { "namespace": "edge", "serviceaccount": { "name": "gateway", "uid": "u1" } },
    });
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    let auth = json!({ "method": "kubernetes", "role": "web", "jwt_file": file });
    let said = Node::with(by(&bao, &auth)).read("ssl/key").await.unwrap_err().to_string();
    assert!(said.contains(&file.display().to_string()), "{said}");

    std::fs::write(&file, jwt(&key, &account)).unwrap();
    let node = reads_and_recovers(&bao, by(&bao, &auth), "kubernetes").await;
    // The kubelet replaces the file; a login with what stands there now is one that is refused.
    std::fs::write(&file, "no-jwt").unwrap();
    revoke_logins(&bao, "kubernetes").await;
    // Refused tokens are replaced only now and then: the first error may be that of the read.
    eventually("the login is what is refused", async || {
        node.fails().await.to_string().contains("/v1/auth/kubernetes/login")
    })
    .await;
    std::fs::write(&file, jwt(&key, &account)).unwrap();
    bao.put("kv/apisix/ssl", json!({ "key": "three" })).await;
    node.becomes("ssl/key", "three").await;
}

#[tokio::test]
async fn a_signed_jwt_logs_in() {
    let bao = Bao::dev().await;
    enable(&bao, "jwt").await;
    let key = KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
    let public = json!({ "jwt_validation_pubkeys": [key.public_key_pem()] });
    bao.api("POST", "/v1/auth/jwt/config", public).await;
    let role = json!({
        "role_type": "jwt", "user_claim": "sub", "bound_audiences": ["vault"],
        "token_policies": "reader",
    });
    bao.api("POST", "/v1/auth/jwt/role/web", role).await;
    let claims = json!({ "sub": "gateway", "aud": "vault", "exp": 4_000_000_000_i64, "iat": 1 });
    let auth = json!({ "method": "jwt", "role": "web", "jwt": jwt(&key, &claims) });
    reads_and_recovers(&bao, by(&bao, &auth), "jwt").await;

    let other = KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
    let auth = json!({ "method": "jwt", "role": "web", "jwt": jwt(&other, &claims) });
    let said = Node::with(by(&bao, &auth)).read("ssl/key").await.unwrap_err().to_string();
    assert!(said.contains("/v1/auth/jwt/login"), "{said}");
}

#[tokio::test]
async fn a_client_certificate_logs_in_and_may_be_replaced_in_its_file() {
    let authority = Authority::new("private CA");
    let bao = Bao::tls(&authority).await;
    enable(&bao, "cert").await;
    let role = json!({ "certificate": authority.pem(), "token_policies": "reader" });
    bao.api("POST", "/v1/auth/cert/certs/web", role).await;
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let place = |(cert, key): (String, String)| {
        std::fs::write(at("crt"), cert).unwrap();
        std::fs::write(at("key"), key).unwrap();
    };
    std::fs::write(at("ca"), authority.pem()).unwrap();
    place(Authority::new("another CA").issue(&["gateway"]));
    let auth = json!({ "method": "cert", "cert_file": at("crt"), "key_file": at("key") });
    let mut written = by(&bao, &auth);
    written["ca_file"] = json!(at("ca"));
    let said = Node::with(written.clone()).read("ssl/key").await.unwrap_err().to_string();
    assert!(said.contains("/v1/auth/cert/login"), "{said}");
    place(authority.issue(&["gateway"]));
    let node = reads_and_recovers(&bao, written.clone(), "cert").await;

    // The next login reads the files again.
    place(authority.issue(&["gateway", "renewed"]));
    revoke_logins(&bao, "cert").await;
    bao.put("kv/apisix/ssl", json!({ "key": "three" })).await;
    node.becomes("ssl/key", "three").await;

    let (cert, key) = authority.issue(&["gateway"]);
    written["auth"] = json!({ "method": "cert", "role": "web", "cert": cert, "key": key });
    assert_eq!(Node::with(written.clone()).read("ssl/key").await.unwrap(), "three");
    written["auth"]["key"] = json!("planted, no PEM");
    let said = Node::with(written).read("ssl/key").await.unwrap_err().to_string();
    assert!(
        said.contains("expected a certificate and its key") && !said.contains("planted"),
        "{said}"
    );
}

#[tokio::test]
async fn the_file_of_an_agent_is_followed() {
    let bao = Bao::dev().await;
    bao.put("kv/apisix/ssl", json!({ "key": "one" })).await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("sink");
    let auth = json!({ "method": "agent", "token_file": file });
    let node = Node::lasting(Duration::from_secs(1), Duration::from_secs(1));
    node.manage(by(&bao, &auth));
    // The agent comes up after the gateway.
    let said = node.read("ssl/key").await.unwrap_err().to_string();
    assert!(said.contains(&file.display().to_string()), "{said}");
    let first = bao.token_with("reader", POLICY).await;
    std::fs::write(&file, format!("{first}\n")).unwrap();
    node.becomes("ssl/key", "one").await;

    bao.revoke(&first).await;
    let said = node.fails().await.to_string();
    assert!(said.contains("look at the agent") && !said.contains(&first), "{said}");
    assert_eq!(node.read("ssl/key").await.unwrap(), "one");
    bao.put("kv/apisix/ssl", json!({ "key": "two" })).await;
    std::fs::write(&file, bao.token_with("reader", POLICY).await).unwrap();
    node.becomes("ssl/key", "two").await;
}

#[tokio::test]
async fn a_login_is_in_the_namespace() {
    let bao = Bao::dev().await;
    bao.api("POST", "/v1/sys/namespaces/team", json!({})).await;
    let api = async |method, path, body| bao.api_in("team", method, path, body).await;
    api("PUT", "/v1/sys/policies/acl/reader", json!({ "policy": POLICY })).await;
    let mount = json!({ "type": "kv", "options": { "version": "1" } });
    api("POST", "/v1/sys/mounts/kv", mount).await;
    api("POST", "/v1/kv/apisix/ssl", json!({ "key": "theirs" })).await;
    api("POST", "/v1/sys/auth/approle", json!({ "type": "approle" })).await;
    api("POST", "/v1/auth/approle/role/web", json!({ "token_policies": "reader" })).await;
    let id = api("GET", "/v1/auth/approle/role/web/role-id", Value::Null).await;
    let secret = api("POST", "/v1/auth/approle/role/web/secret-id", json!({})).await;
    let (id, secret) = (&id["data"]["role_id"], &secret["data"]["secret_id"]);
    let auth = json!({ "method": "approle", "role_id": id, "secret_id": secret });
    let mut written = by(&bao, &auth);
    written["namespace"] = json!("team");
    assert_eq!(Node::with(written).read("ssl/key").await.unwrap(), "theirs");
}
