//! Session tickets, given out and shown again by `openssl s_client`.

use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine;
use serde_json::{Value, json};

use super::ssl;
use crate::proxy::catch_all;
use crate::support::authority::Authority;
use crate::support::etcd::Etcd;
use crate::support::eventually;
use crate::support::gateway::Gateway;
use crate::support::origin::Origin;

const TICKET_KEYS: &str = "/apisix-sluice/ticket_keys";

/// A client that keeps sessions and certificates in a folder.
pub struct Client {
    dir: tempfile::TempDir,
    more: Vec<String>,
}

// === impl Client ===

impl Client {
    pub fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), more: Vec::new() }
    }

    /// One that shows a certificate.
    fn with((cert, key): &(String, String)) -> Self {
        let mut client = Self::new();
        for (option, text) in [("cert", cert), ("key", key)] {
            let path = client.dir.path().join(option);
            std::fs::write(&path, text).unwrap();
            client.more.extend([format!("-{option}"), path.display().to_string()]);
        }
        client
    }

    /// Sends one request to `name` and keeps the session that it gets; whether it was resumed from
    /// `session`, or `None` when there was no answer.
    fn visit(
        &self,
        gateway: &Gateway,
        name: &str,
        version: &str,
        session: Option<&Path>,
    ) -> Option<(bool, PathBuf)> {
        use std::io::Write as _;
        let kept = self.dir.path().join(format!("session-{}", fastrand::u64(..)));
        let mut command = Command::new("openssl");
        command
            .args(["s_client", "-connect", &format!("127.0.0.1:{}", gateway.https_port())])
            .args(["-servername", name, version, "-ign_eof", "-sess_out"])
            .arg(&kept)
            .args(&self.more);
        if let Some(session) = session {
            command.arg("-sess_in").arg(session);
        }
        let mut child = command
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let request = format!("GET /get HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n");
        // Whoever is refused in the handshake reads nothing.
        let _ = child.stdin.take().unwrap().write_all(request.as_bytes());
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.contains("HTTP/1.1 200").then(|| (text.contains("\nReused, "), kept))
    }

    /// The same, of one that has to be answered; whether it was resumed.
    pub fn resumes(&self, gateway: &Gateway, name: &str, version: &str, session: &Path) -> bool {
        self.visit(gateway, name, version, Some(session)).expect("an answer").0
    }

    /// A session of a first visit.
    pub fn session(&self, gateway: &Gateway, name: &str, version: &str) -> PathBuf {
        let (resumed, session) = self.visit(gateway, name, version, None).expect("an answer");
        assert!(!resumed);
        session
    }
}

/// Whether a session was kept, and with a ticket.
fn has_ticket(session: &Path) -> bool {
    let mut command = Command::new("openssl");
    let output = command.args(["sess_id", "-noout", "-text", "-in"]).arg(session).output().unwrap();
    String::from_utf8_lossy(&output.stdout).contains("TLS session ticket:")
}

fn with_tickets(config: &mut Value) {
    config["apisix"]["ssl"]["ssl_session_tickets"] = json!(true);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_resumed_where_tickets_are_on_and_only_there() {
    let origin = Origin::start().await;
    let ca = Authority::new("ROOT");
    let pair = ca.issue(&["test.com"]);
    let client = Client::new();
    for is_on in [true, false] {
        let gateway = Gateway::builder()
            .config(|config| config["apisix"]["ssl"]["ssl_session_tickets"] = json!(is_on))
            .start()
            .await;
        catch_all(&gateway, &origin).await;
        gateway.put("/ssls/1", ssl(&["test.com", "other.com"], &pair)).await;
        gateway.serves_certificate("test.com", &ca.pem(), &pair.0).await;
        for version in ["-tls1_3", "-tls1_2"] {
            let session = client.session(&gateway, "test.com", version);
            assert_eq!(has_ticket(&session), is_on, "{version}");
            if !is_on {
                continue;
            }
            // Several workers, one set of keys.
            for _ in 0..4 {
                assert!(client.resumes(&gateway, "test.com", version, &session), "{version}");
            }
            let elsewhere = client.resumes(&gateway, "other.com", version, &session);
            assert!(!elsewhere, "a ticket is for the name that it was given out for ({version})");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_does_not_pass_by_how_clients_are_verified() {
    let origin = Origin::start().await;
    let gateway = Gateway::builder().config(with_tickets).start().await;
    catch_all(&gateway, &origin).await;
    let (ca, authority) = (Authority::new("ROOT"), Authority::new("A"));
    let (pair, mutual) = (ca.issue(&["test.com"]), ca.issue(&["mutual.com"]));
    gateway.put("/ssls/open", ssl(&["test.com"], &pair)).await;
    let mut asking = ssl(&["mutual.com"], &mutual);
    asking["client"] = json!({ "ca": authority.pem() });
    gateway.put("/ssls/mutual", asking).await;
    gateway.serves_certificate("test.com", &ca.pem(), &pair.0).await;
    let (known, nobody) = (Client::with(&authority.issue(&["someone"])), Client::new());
    eventually("mutual.com is served", async || {
        known.visit(&gateway, "mutual.com", "-tls1_3", None).is_some()
    })
    .await;
    for version in ["-tls1_3", "-tls1_2"] {
        assert!(nobody.visit(&gateway, "mutual.com", version, None).is_none());
        // Who resumes is not verified again, so there is nothing to resume by.
        let (_, session) = known.visit(&gateway, "mutual.com", version, None).unwrap();
        assert!(!has_ticket(&session));
        let open = nobody.session(&gateway, "test.com", version);
        assert!(nobody.resumes(&gateway, "test.com", version, &open));
        // Neither does it lead from one name to the other.
        assert!(nobody.visit(&gateway, "mutual.com", version, Some(&open)).is_none());
        assert!(!known.resumes(&gateway, "mutual.com", version, &open));

        // A name that has given out tickets, and asks for certificates from now on.
        let mut closed = ssl(&["test.com"], &pair);
        closed["client"] = json!({ "ca": authority.pem() });
        gateway.put("/ssls/open", closed).await;
        eventually("test.com asks for certificates", async || {
            nobody.visit(&gateway, "test.com", version, None).is_none()
        })
        .await;
        assert!(nobody.visit(&gateway, "test.com", version, Some(&open)).is_none());
        gateway.put("/ssls/open", ssl(&["test.com"], &pair)).await;
        eventually("test.com asks for none", async || {
            nobody.visit(&gateway, "test.com", version, None).is_some()
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_of_a_cluster_resume_each_others_sessions_also_by_the_key_before() {
    let origin = Origin::start().await;
    let etcd = Etcd::start().await;
    let builder = || Gateway::builder().config(with_tickets).etcd(&[etcd.endpoint()]);
    let (one, mut two) = tokio::join!(builder().start(), builder().start());
    let ca = Authority::new("ROOT");
    let pair = ca.issue(&["test.com"]);
    catch_all(&one, &origin).await;
    one.put("/ssls/1", ssl(&["test.com"], &pair)).await;
    for gateway in [&one, &two] {
        gateway.served("/get").await;
        gateway.serves_certificate("test.com", &ca.pem(), &pair.0).await;
    }
    let client = Client::new();
    let crossing = async || {
        let session = client.session(&one, "test.com", "-tls1_3");
        client.resumes(&two, "test.com", "-tls1_3", &session).then_some(session)
    };
    eventually("both have the same keys", async || crossing().await.is_some()).await;
    let session = crossing().await.expect("a session that both know");
    let early = client.session(&two, "test.com", "-tls1_2");
    assert!(client.resumes(&one, "test.com", "-tls1_2", &early));

    // What is stored is sealed, and its time has come: whichever node sees that first renews it.
    let stored = etcd.etcdctl(&["get", "--print-value-only", TICKET_KEYS]);
    let mut value: Value = serde_json::from_str(stored.trim()).unwrap();
    let sealed = value["keys"].as_str().unwrap().to_owned();
    let bytes = base64::engine::general_purpose::STANDARD.decode(&sealed).unwrap();
    assert_eq!(bytes.len() % 16, 0);
    assert!(!bytes.is_ascii(), "the keyring has sealed them");
    let made = value["made"].as_u64().unwrap();
    value["made"] = json!(made - 13 * 60 * 60);
    etcd.etcdctl(&["put", TICKET_KEYS, &value.to_string()]);
    eventually("the keys are renewed", async || {
        let now = etcd.etcdctl(&["get", "--print-value-only", TICKET_KEYS]);
        let now: Value = serde_json::from_str(now.trim()).unwrap();
        now["made"].as_u64().unwrap() >= made && now["keys"] != value["keys"]
    })
    .await;
    for gateway in [&one, &two] {
        assert!(client.resumes(gateway, "test.com", "-tls1_3", &session), "by the key before");
    }
    // A node that starts again has the keys from the store.
    two.restart().await;
    two.served("/get").await;
    eventually("it has the keys", async || client.resumes(&two, "test.com", "-tls1_3", &session))
        .await;

    // Without the store they go on with what they have.
    drop(etcd);
    assert!(client.resumes(&one, "test.com", "-tls1_3", &session));
    let logs = one.logs() + &two.logs();
    assert!(!logs.contains(&sealed) && !logs.contains("SSL-Session"));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_keyring_no_key_leaves_its_node() {
    let origin = Origin::start().await;
    let etcd = Etcd::start().await;
    let gateway = Gateway::builder()
        .config(with_tickets)
        .config(|config| config["apisix"]["data_encryption"] = json!({ "keyring": [] }))
        .etcd(&[etcd.endpoint()])
        .start()
        .await;
    let ca = Authority::new("ROOT");
    let pair = ca.issue(&["test.com"]);
    catch_all(&gateway, &origin).await;
    gateway.put("/ssls/1", ssl(&["test.com"], &pair)).await;
    gateway.serves_certificate("test.com", &ca.pem(), &pair.0).await;
    let client = Client::new();
    let session = client.session(&gateway, "test.com", "-tls1_3");
    assert!(client.resumes(&gateway, "test.com", "-tls1_3", &session));
    assert!(gateway.logs().contains("this node's own"), "{}", gateway.logs());
    assert_eq!(etcd.etcdctl(&["get", "--print-value-only", TICKET_KEYS]).trim(), "");
}
