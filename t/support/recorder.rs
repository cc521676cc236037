//! A node that records every byte that it is sent, and answers with exactly the bytes that it is
//! told to. Not a real server: one would hide what it was sent, and would not lie.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// What a recorder answers when it was told nothing else.
pub const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// A recording node.
pub struct Recorder {
    addr: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    bytes: Mutex<Vec<u8>>,
    answer: Mutex<Answer>,
    connections: AtomicUsize,
    /// Connections that the gateway has ended.
    ended: AtomicUsize,
    /// The other ends of connections of the recorder's own: see [`Recorder::settle`].
    marks: Mutex<HashSet<SocketAddr>>,
}

/// How requests are answered.
#[derive(Clone, Default)]
struct Answer {
    bytes: Vec<u8>,
    /// Whether it is given as soon as the head is there.
    early: bool,
    /// Whether the connection is closed behind it.
    closes: bool,
}

// === impl Recorder ===

impl Recorder {
    /// Starts a recorder that answers each complete request with [`OK`].
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let shared = Arc::<Shared>::default();
        let recorder = Self { addr, shared: shared.clone() };
        recorder.answers(OK);
        tokio::spawn(async move {
            loop {
                let (mut socket, peer) = listener.accept().await.unwrap();
                if shared.marks.lock().unwrap().remove(&peer) {
                    tokio::spawn(async move { socket.read_u8().await });
                    continue;
                }
                shared.connections.fetch_add(1, Ordering::SeqCst);
                let shared = shared.clone();
                tokio::spawn(async move {
                    record(socket, &shared).await;
                    shared.ended.fetch_add(1, Ordering::SeqCst);
                });
            }
        });
        recorder
    }

    /// `127.0.0.1:{port}`, as a node is written.
    pub fn node(&self) -> String {
        self.addr.to_string()
    }

    /// The upstream of this node alone, which is asked once.
    pub fn upstream(&self) -> Value {
        json!({ "type": "roundrobin", "nodes": { self.addr.to_string(): 1 }, "retries": 0 })
    }

    /// Answers each complete request with `bytes`; with nothing, not at all.
    pub fn answers(&self, bytes: impl AsRef<[u8]>) {
        self.set(Answer { bytes: bytes.as_ref().to_vec(), early: false, closes: false });
    }

    /// The same, and closes the connection then.
    pub fn answers_and_closes(&self, bytes: impl AsRef<[u8]>) {
        self.set(Answer { bytes: bytes.as_ref().to_vec(), early: false, closes: true });
    }

    /// Answers each head with `bytes` and reads on.
    pub fn answers_early(&self, bytes: impl AsRef<[u8]>) {
        self.set(Answer { bytes: bytes.as_ref().to_vec(), early: true, closes: false });
    }

    fn set(&self, answer: Answer) {
        *self.shared.answer.lock().unwrap() = answer;
    }

    /// Every byte that was sent since the last call, of all connections in the order in which they
    /// came.
    pub async fn taken(&self) -> Vec<u8> {
        self.settle().await;
        std::mem::take(&mut *self.shared.bytes.lock().unwrap())
    }

    /// Waits until all that the gateway has sent by now is recorded: by a connection of its own,
    /// which is accepted behind those that came before and read behind what came on them.
    async fn settle(&self) {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
        self.shared.marks.lock().unwrap().insert(socket.local_addr().unwrap());
        let mut socket = socket.connect(self.addr).await.unwrap();
        socket.write_all(b"!").await.unwrap();
        let end = socket.read(&mut [0]).await.unwrap();
        assert_eq!(end, 0, "nothing is said there");
    }

    /// What was recorded so far and not taken.
    pub fn seen(&self) -> Vec<u8> {
        self.shared.bytes.lock().unwrap().clone()
    }

    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// How many of them have ended.
    pub fn ended(&self) -> usize {
        self.shared.ended.load(Ordering::SeqCst)
    }
}

async fn record(mut socket: TcpStream, shared: &Shared) {
    let mut buffer = vec![0; 64 * 1024];
    let mut pending = Vec::new();
    let mut answered = false;
    while let Ok(read @ 1..) = socket.read(&mut buffer).await {
        shared.bytes.lock().unwrap().extend_from_slice(&buffer[..read]);
        pending.extend_from_slice(&buffer[..read]);
        let answer = shared.answer.lock().unwrap().clone();
        let complete = is_complete(&pending);
        if !answered && (complete || answer.early && has_head(&pending)) {
            answered = true;
            if socket.write_all(&answer.bytes).await.is_err() || answer.closes {
                return;
            }
        }
        if complete {
            pending.clear();
            answered = false;
        }
    }
}

fn has_head(bytes: &[u8]) -> bool {
    bytes.windows(4).any(|window| window == b"\r\n\r\n")
}

/// Whether a whole request stands in `bytes`, as the gateway frames requests.
pub fn is_complete(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let field = |name: &str| head.lines().find_map(|line| line.strip_prefix(name).map(str::trim));
    if field("transfer-encoding:") == Some("chunked") {
        let last = body.rfind("\r\n0\r\n").map(|at| at + 2);
        let last = last.or_else(|| body.starts_with("0\r\n").then_some(0));
        return last.is_some() && body.ends_with("\r\n\r\n");
    }
    let length = field("content-length:").map_or(0, |length| length.parse().unwrap());
    body.len() >= length
}

#[tokio::test]
async fn what_was_sent_is_taken_though_nobody_had_time_to_read_it() {
    use std::io::Write as _;
    let recorder = Recorder::start().await;
    // Nothing of the recorder runs meanwhile: it shares this thread.
    let mut socket = std::net::TcpStream::connect(recorder.addr).unwrap();
    socket.write_all(b"GET / HTTP/1.1\r\n").unwrap();
    assert_eq!(recorder.taken().await, b"GET / HTTP/1.1\r\n");
    socket.write_all(b"\r\n").unwrap();
    assert_eq!(recorder.taken().await, b"\r\n");
    assert_eq!(recorder.connections(), 1, "its own do not count");
}
