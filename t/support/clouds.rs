//! AWS Secrets Manager and Google Cloud Secret Manager, as far as they are read from: a stand-in
//! in Python (`clouds.py`), which checks every signature by code that is not ours.

use std::process::Command;

use rcgen::KeyPair;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Server, client, eventually};

/// Both services on one port. Stopped when dropped.
pub struct Clouds {
    _server: Server,
    folder: TempDir,
    port: u16,
    key: KeyPair,
}

pub const KEY_ID: &str = "AKIDPLANTED";
pub const REGION: &str = "eu-central-1";
pub const PROJECT: &str = "apisix";
pub const EMAIL: &str = "gateway@apisix.iam.gserviceaccount.com";

// === impl Clouds ===

impl Clouds {
    /// Starts both with nothing in them. `key` is the secret access key of AWS.
    pub async fn start(key: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let rsa = KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
        let state = json!({
            "secrets": {},
            "aws": { "key_id": KEY_ID, "key": key, "region": REGION },
            "gcp": {
                "project": PROJECT, "email": EMAIL, "public": rsa.public_key_pem(),
                "scope": "https://www.googleapis.com/auth/cloud-platform",
            },
        });
        std::fs::write(folder.path().join("state.json"), state.to_string()).unwrap();
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/t/support/clouds.py");
        let mut command = Command::new(client("python3"));
        let server = Server::spawn("clouds", command.arg(script).arg(folder.path()));
        let port = folder.path().join("port");
        eventually("the clouds listen", async || port.exists()).await;
        let port = std::fs::read_to_string(port).unwrap().parse().unwrap();
        Self { _server: server, folder, port, key: rsa }
    }

    /// Changes what they hold and how they answer.
    pub fn change(&self, change: impl FnOnce(&mut Value)) {
        let path = self.folder.path().join("state.json");
        let mut state = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        change(&mut state);
        let new = self.folder.path().join("state.new");
        std::fs::write(&new, state.to_string()).unwrap();
        std::fs::rename(new, path).unwrap();
    }

    /// Gives the secret `name` a value, in both.
    pub fn put(&self, name: &str, value: &str) {
        self.change(|state| state["secrets"][name] = json!(value));
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The private key of the service account, PEM.
    pub fn account_key(&self) -> String {
        self.key.serialize_pem()
    }

    /// What was asked for so far, a line a request: `aws name`, `gcp token`, `gcp name`.
    pub fn seen(&self) -> Vec<String> {
        let seen = std::fs::read_to_string(self.folder.path().join("seen")).unwrap_or_default();
        seen.lines().map(str::to_owned).collect()
    }

    /// A manager of AWS as it is written in config.
    pub fn aws(&self, key: &str) -> Value {
        json!({ "access_key_id": KEY_ID, "secret_access_key": key, "region": REGION,
                "endpoint_url": self.url() })
    }

    /// The service account of Google as it is written in config.
    pub fn account(&self) -> Value {
        json!({
            "client_email": EMAIL, "private_key": self.account_key(), "project_id": PROJECT,
            "token_uri": format!("{}/token", self.url()), "entries_uri": format!("{}/v1", self.url()),
        })
    }
}
