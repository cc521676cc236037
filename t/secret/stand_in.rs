//! A stand-in for Vault: a real one cannot be made to hang, to talk garbage or to count.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json as object};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// How it answers.
#[derive(Debug, Clone, PartialEq)]
pub enum Mood {
    /// As a KV version 1 mounted at `kv`, with what a path [holds](StandIn::holds), else with one
    /// field `key`.
    Well(&'static str),
    /// So many milliseconds later than it should.
    Slow(u64),
    /// These bytes, after which it closes the connection.
    Raw(String),
}

/// A server on a port of its own.
pub struct StandIn {
    pub uri: String,
    shared: Arc<Shared>,
}

struct Shared {
    mood: Mutex<Mood>,
    /// Fields by path.
    held: Mutex<HashMap<String, Value>>,
    /// The only token that is good; each login makes another.
    token: Mutex<String>,
    logins: AtomicUsize,
    /// Reads by path.
    reads: Mutex<HashMap<String, usize>>,
    under_way: AtomicUsize,
    most_at_once: AtomicUsize,
}

// === impl StandIn ===

impl StandIn {
    pub async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let uri = format!("http://{}", listener.local_addr().unwrap());
        let shared = Arc::new(Shared {
            mood: Mutex::new(Mood::Well("good")),
            held: Mutex::default(),
            token: Mutex::new("given".to_owned()),
            logins: AtomicUsize::new(0),
            reads: Mutex::default(),
            under_way: AtomicUsize::new(0),
            most_at_once: AtomicUsize::new(0),
        });
        let serving = shared.clone();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(serving.clone().serve(socket));
            }
        });
        Self { uri, shared }
    }

    pub fn is(&self, mood: Mood) {
        *self.shared.mood.lock().unwrap() = mood;
    }

    /// Gives `path` (`apisix/ssl`, below the mount) these fields.
    pub fn holds(&self, path: &str, fields: Value) {
        self.shared.held.lock().unwrap().insert(path.to_owned(), fields);
    }

    /// Makes the token of the last login worthless.
    pub fn revoke(&self) {
        *self.shared.token.lock().unwrap() = "none".to_owned();
    }

    pub fn logins(&self) -> usize {
        self.shared.logins.load(Ordering::SeqCst)
    }

    /// Paths that were read at least `times` times.
    pub fn read_paths(&self, times: usize) -> usize {
        self.shared.reads.lock().unwrap().values().filter(|count| **count >= times).count()
    }

    pub fn most_at_once(&self) -> usize {
        self.shared.most_at_once.load(Ordering::SeqCst)
    }
}

// === impl Shared ===

impl Shared {
    async fn serve(self: Arc<Self>, mut socket: TcpStream) {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            match socket.read_u8().await {
                Ok(byte) => head.push(byte),
                Err(_) => return,
            }
        }
        let head = String::from_utf8(head).unwrap();
        let length = header(&head, "content-length").and_then(|text| text.parse().ok());
        let mut body = vec![0; length.unwrap_or(0)];
        if socket.read_exact(&mut body).await.is_err() {
            return;
        }
        let mood = self.mood.lock().unwrap().clone();
        let answer = match mood {
            Mood::Raw(bytes) => bytes,
            Mood::Slow(pause) => {
                tokio::time::sleep(Duration::from_millis(pause)).await;
                return;
            }
            Mood::Well(value) => self.answer(&head, value).await,
        };
        let _ = socket.write_all(answer.as_bytes()).await;
    }

    async fn answer(&self, head: &str, value: &str) -> String {
        let path = head.split(' ').nth(1).unwrap();
        if path == "/v1/auth/approle/login" {
            let number = self.logins.fetch_add(1, Ordering::SeqCst) + 1;
            let token = format!("login-{number}");
            *self.token.lock().unwrap() = token.clone();
            return json(
                200,
                &format!(r#"{{"auth": {{"client_token": "{token}", "lease_duration": 3600}}}}"#),
            );
        }
        if header(head, "x-vault-token") != Some(&*self.token.lock().unwrap()) {
            return json(403, r#"{"errors": ["permission denied"]}"#);
        }
        if path.starts_with("/v1/sys/internal/ui/mounts/") {
            return json(200, r#"{"data": {"path": "kv/", "options": {"version": "1"}}}"#);
        }
        let Some(below) = path.strip_prefix("/v1/kv/") else {
            return json(404, r#"{"errors": []}"#);
        };
        let under_way = self.under_way.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_at_once.fetch_max(under_way, Ordering::SeqCst);
        // Long enough for all that come at once to meet.
        tokio::time::sleep(Duration::from_millis(5)).await;
        self.under_way.fetch_sub(1, Ordering::SeqCst);
        *self.reads.lock().unwrap().entry(path.to_owned()).or_default() += 1;
        let held = self.held.lock().unwrap().get(below).cloned();
        let fields = held.unwrap_or_else(|| object!({ "key": value }));
        json(200, &object!({ "data": fields }).to_string())
    }
}

/// A whole answer with `body`.
pub fn json(status: u16, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status} X\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}")
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines()
        .filter_map(|line| line.split_once(": "))
        .find_map(|(key, value)| key.eq_ignore_ascii_case(name).then_some(value))
}
