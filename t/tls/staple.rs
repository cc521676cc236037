//! OCSP stapling, with a responder and a client that are openssl.

use std::process::{Command, Stdio};

use rcgen::{CertificateParams, CustomExtension, SerialNumber};
use serde_json::{Value, json};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::{shown, ssl};
use crate::support::authority::{Authority, der};
use crate::support::gateway::Gateway;
use crate::support::{Server, eventually, free_port};

/// An authority that answers for its certificates.
pub struct Issuer {
    ca: Authority,
    dir: tempfile::TempDir,
    port: u16,
}

// === impl Issuer ===

impl Issuer {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ca = Authority::new("ROOT");
        std::fs::write(dir.path().join("ca.crt"), ca.pem()).unwrap();
        std::fs::write(dir.path().join("ca.key"), ca.key_pem()).unwrap();
        Self { ca, dir, port: free_port() }
    }

    /// A chain for `name` whose certificate has the number `serial` and names the responder.
    pub fn issue(&self, name: &str, serial: u8, must_staple: bool) -> (String, String) {
        let url = format!("http://127.0.0.1:{}/", self.port);
        let (cert, key) = self.ca.issue_as(&[name], |params: &mut CertificateParams| {
            params.serial_number = Some(SerialNumber::from(vec![serial]));
            // AuthorityInfoAccess: the address of the OCSP responder.
            let length = u8::try_from(url.len()).unwrap();
            let mut access = vec![0x30, length + 14, 0x30, length + 12];
            access.extend([0x06, 8, 0x2b, 6, 1, 5, 5, 7, 0x30, 1, 0x86, length]);
            access.extend(url.bytes());
            let oid = &[1, 3, 6, 1, 5, 5, 7, 1, 1];
            params.custom_extensions.push(CustomExtension::from_oid_content(oid, access));
            if must_staple {
                let oid = &[1, 3, 6, 1, 5, 5, 7, 1, 24];
                let feature = CustomExtension::from_oid_content(oid, vec![0x30, 3, 2, 1, 5]);
                params.custom_extensions.push(feature);
            }
        });
        (cert + &self.ca.pem(), key)
    }

    /// Starts to answer: the certificate 1 is good, 2 is revoked, any other not known.
    pub fn respond(&self) -> Server {
        self.respond_on(self.port)
    }

    fn respond_on(&self, port: u16) -> Server {
        let path = |name: &str| self.dir.path().join(name).display().to_string();
        let index = "V\t491231235959Z\t\t01\tunknown\t/CN=good\n\
                     R\t491231235959Z\t240101000000Z\t02\tunknown\t/CN=revoked\n";
        std::fs::write(path("index.txt"), index).unwrap();
        let port = port.to_string();
        let mut command = Command::new("openssl");
        command
            .args(["ocsp", "-index", &path("index.txt"), "-port", &port, "-ndays", "1"])
            .args(["-rsigner", &path("ca.crt"), "-rkey", &path("ca.key"), "-CA", &path("ca.crt")])
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        Server::spawn("openssl ocsp", &mut command)
    }
}

/// Stands before the responder of `issuer`; nothing comes through until the answer is told to open.
async fn gate(issuer: &Issuer) -> (Server, watch::Sender<bool>) {
    let behind = free_port();
    let responder = issuer.respond_on(behind);
    let listener = TcpListener::bind(("127.0.0.1", issuer.port)).await.unwrap();
    let (open, opened) = watch::channel(false);
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let mut opened = opened.clone();
            tokio::spawn(async move {
                opened.wait_for(|open| *open).await.unwrap();
                let mut server = TcpStream::connect(("127.0.0.1", behind)).await.unwrap();
                // Whoever gave up waiting has gone.
                let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    (responder, open)
}

/// What `openssl s_client -status` tells of the staple.
fn status(gateway: &Gateway, name: &str, more: &[&str]) -> String {
    let output = Command::new("openssl")
        .args(["s_client", "-connect", &format!("127.0.0.1:{}", gateway.https_port())])
        .args(["-servername", name])
        .args(more)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub fn is_stapled(gateway: &Gateway, name: &str) -> bool {
    status(gateway, name, &["-status"]).contains("OCSP Response Status: successful")
}

async fn start() -> Gateway {
    let with_plugin = |config: &mut Value| config["plugins"] = json!(["ocsp-stapling"]);
    Gateway::builder().config(with_plugin).start().await
}

pub fn stapled(name: &str, pair: &(String, String), stapling: Value) -> Value {
    let mut object = ssl(&[name], pair);
    object["ocsp_stapling"] = stapling;
    object
}

/// What the control API tells of the certificate of `ssl`.
pub async fn told(gateway: &Gateway, ssl: &str) -> Value {
    let (_, all) = gateway.control("/v1/certificates").await;
    let mut all = all.as_array().unwrap().iter();
    all.find(|one| one["ssl"] == ssl).cloned().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn staples_a_good_answer_to_those_who_ask() {
    let issuer = Issuer::new();
    let gateway = start().await;
    let good = issuer.issue("good.com", 1, true);
    gateway.put("/ssls/good", stapled("good.com", &good, json!({ "enabled": true }))).await;
    // Nobody answers yet: it is served all the same, and said.
    eventually("the failure is told", async || {
        told(&gateway, "good").await["staple"]["last_error"].is_string()
    })
    .await;
    let before = told(&gateway, "good").await;
    assert_eq!(before["must_staple"], true, "{before}");
    assert!(before["warnings"].to_string().contains("must-staple"), "{before}");
    let answer = status(&gateway, "good.com", &["-status"]);
    assert!(answer.contains("OCSP response: no response sent"), "{answer}");
    assert!(answer.contains("BEGIN CERTIFICATE"), "{answer}");

    let _responder = issuer.respond();
    eventually("it is stapled", async || is_stapled(&gateway, "good.com")).await;
    for version in ["-tls1_2", "-tls1_3"] {
        let answer = status(&gateway, "good.com", &["-status", version]);
        assert!(answer.contains("Cert Status: good"), "{answer}");
        let answer = status(&gateway, "good.com", &[version]);
        assert!(!answer.contains("OCSP"), "{answer}");
    }
    let after = told(&gateway, "good").await;
    assert_eq!((&after["staple"]["last_error"], &after["warnings"]), (&Value::Null, &json!([])));
    assert!(after["staple"]["until"].as_i64().unwrap() > 0, "{after}");

    // A change of the ssl object takes the staple over: no handshake is without it.
    let mut again = stapled("good.com", &good, json!({ "enabled": true }));
    again["labels"] = json!({ "a": "b" });
    drop(_responder);
    gateway.put("/ssls/good", again).await;
    assert!(is_stapled(&gateway, "good.com"));

    gateway.put("/ssls/good", stapled("good.com", &good, json!({ "enabled": false }))).await;
    eventually("nothing is stapled", async || !is_stapled(&gateway, "good.com")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_has_to_have_a_staple_is_not_shown_before_it_was_asked_for() {
    let issuer = Issuer::new();
    let gateway = start().await;
    let name = &["-servername", "good.com"];
    let first = issuer.issue("good.com", 1, false);
    gateway.put("/ssls/good", stapled("good.com", &first, json!({ "enabled": false }))).await;
    eventually("the first one is served", async || {
        shown(&gateway, name).as_deref() == Some(&*der(&first.0))
    })
    .await;

    // Nobody answers. What is new has nothing that could be served meanwhile.
    let (_responder, open) = gate(&issuer).await;
    let late = issuer.issue("late.com", 1, true);
    let late_object = |pair| stapled("late.com", pair, json!({ "enabled": true }));
    gateway.put("/ssls/late", late_object(&late)).await;
    let name_of_late = &["-servername", "late.com"];
    assert_eq!(shown(&gateway, name_of_late).as_deref(), Some(&*der(&late.0)));
    // The next one is served without a staple after a while, and not because that has failed.
    let later = issuer.issue("late.com", 1, true);
    gateway.put("/ssls/late", late_object(&later)).await;
    assert_eq!(shown(&gateway, name_of_late).as_deref(), Some(&*der(&late.0)));
    eventually("it is served without", async || {
        shown(&gateway, name_of_late).as_deref() == Some(&*der(&later.0))
    })
    .await;
    assert_eq!(told(&gateway, "late").await["staple"]["last_error"], Value::Null);
    // Whom it is for does not wait.
    let stranger = Authority::new("CLIENTS");
    let last = issuer.issue("late.com", 1, true);
    let mut strict = late_object(&last);
    strict["client"] = json!({ "ca": stranger.pem() });
    gateway.put("/ssls/late", strict).await;
    assert_eq!(shown(&gateway, name_of_late).as_deref(), Some(&*der(&last.0)));

    let second = issuer.issue("good.com", 1, true);
    let body = stapled("good.com", &second, json!({ "enabled": true }));
    gateway.put("/ssls/good", body).await;
    assert_eq!(shown(&gateway, name).as_deref(), Some(&*der(&first.0)), "until it is stapled");
    open.send_replace(true);
    eventually("the second one is shown", async || {
        let answer = status(&gateway, "good.com", &["-status"]);
        let is_second = answer.contains("OCSP Response Status: successful");
        let is_first = shown(&gateway, name).as_deref() == Some(&*der(&first.0));
        assert!(is_first || is_stapled(&gateway, "good.com"), "never without");
        is_second
    })
    .await;
    assert_eq!(shown(&gateway, name).as_deref(), Some(&*der(&second.0)));
}

#[tokio::test(flavor = "multi_thread")]
async fn staples_nothing_that_is_not_good_unless_told_to() {
    let issuer = Issuer::new();
    let _responder = issuer.respond();
    let gateway = start().await;
    for (name, serial, reason) in
        [("revoked.com", 2, "is revoked"), ("unknown.com", 3, "does not know the certificate")]
    {
        let pair = issuer.issue(name, serial, false);
        gateway.put("/ssls/1", stapled(name, &pair, json!({ "enabled": true }))).await;
        eventually("the reason is told", async || {
            let error = told(&gateway, "1").await["staple"]["last_error"].clone();
            error.as_str().is_some_and(|error| error.contains(reason))
        })
        .await;
        assert!(!is_stapled(&gateway, name));
        assert!(gateway.logs().contains(reason), "{}", gateway.logs());

        let blind = json!({ "enabled": true, "skip_verify": true, "cache_ttl": 60 });
        gateway.put("/ssls/1", stapled(name, &pair, blind)).await;
        eventually("it is stapled unchecked", async || is_stapled(&gateway, name)).await;
        let answer = status(&gateway, name, &["-status"]);
        let state = name.trim_end_matches(".com");
        assert!(answer.contains(&format!("Cert Status: {state}")), "{answer}");
    }
    // Signed by somebody else.
    let impostor = Issuer { port: issuer.port, ..Issuer::new() };
    let pair = impostor.issue("other.com", 1, false);
    gateway.put("/ssls/1", stapled("other.com", &pair, json!({ "enabled": true }))).await;
    eventually("the reason is told", async || {
        told(&gateway, "1").await["staple"]["last_error"].is_string()
    })
    .await;
    assert!(!is_stapled(&gateway, "other.com"));
}

#[tokio::test]
async fn the_field_is_the_plugins() {
    let gateway = Gateway::start().await;
    let pair = Issuer::new().issue("good.com", 1, false);
    let object = stapled("good.com", &pair, json!({}));
    let (status, answer) = gateway.admin("PUT", "/ssls/1", Some(object)).await;
    assert_eq!(status, 400, "{answer}");
    let said = "invalid configuration: additional properties forbidden, found ocsp_stapling";
    assert_eq!(answer["error_msg"], said);
    let gateway = start().await;
    let object = stapled("good.com", &pair, json!({ "cache_ttl": 59 }));
    let (status, answer) = gateway.admin("PUT", "/ssls/1", Some(object)).await;
    assert_eq!(status, 400, "{answer}");
    assert!(answer["error_msg"].as_str().unwrap().contains("at least 60"), "{answer}");
}
