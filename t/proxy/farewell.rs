//! The end of an HTTP/2 connection whose client was told to go.

use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpSocket;
use tokio_rustls::TlsConnector;

use crate::support::authority::Authority;
use crate::support::gateway::Gateway;
use crate::support::h2::{
    ACK, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, INITIAL_WINDOW_SIZE, PING, SETTINGS,
    WINDOW_UPDATE, block, request,
};
use crate::support::recorder::Recorder;
use crate::support::{PATIENCE, eventually, undisturbed};

const HOST: &str = "a.test";

/// More than the client's side of the connection holds, so that the rest waits at the gateway's: a
/// reset throws that away.
const ANSWER_BYTES: usize = 200_000;

/// States of a connection as `/proc/net/tcp` has them; of one that was ended, before the other side
/// has taken notice and after.
const ESTABLISHED: &str = "01";
const ENDED: &[&str] = &["04", "05"];

/// Why the client is told to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Because {
    /// It has asked nothing for too long.
    Idle,
    /// The node stops.
    Stopping,
}

trait Socket: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Socket for S {}

/// A client whose side of the connection holds very little.
struct Client {
    socket: Box<dyn Socket>,
    /// Its own port.
    port: u16,
}

// === impl Client ===

impl Client {
    async fn open(gateway: &Gateway, authority: Option<&Authority>) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        let ports = gateway.ports();
        let to = if authority.is_some() { ports.https } else { ports.http };
        let tcp = socket.connect(([127, 0, 0, 1], to).into()).await.unwrap();
        let port = tcp.local_addr().unwrap().port();
        let socket: Box<dyn Socket> = match authority {
            None => Box::new(tcp),
            Some(authority) => {
                let mut roots = RootCertStore::empty();
                let root = CertificateDer::from_pem_slice(authority.pem().as_bytes()).unwrap();
                roots.add(root).unwrap();
                let mut config =
                    ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
                config.alpn_protocols = vec![b"h2".to_vec()];
                let connector = TlsConnector::from(Arc::new(config));
                let name = ServerName::try_from(HOST).unwrap();
                Box::new(connector.connect(name, tcp).await.unwrap())
            }
        };
        let mut client = Self { socket, port };
        client.socket.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        let window = 1_u32 << 20;
        let settings = [&INITIAL_WINDOW_SIZE.to_be_bytes()[..], &window.to_be_bytes()].concat();
        client.send(SETTINGS, 0, 0, &settings).await;
        client.send(WINDOW_UPDATE, 0, 0, &window.to_be_bytes()).await;
        client
    }

    async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let mut frame = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
        frame.extend([kind, flags]);
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        self.socket.write_all(&frame).await.expect("no reset");
        self.socket.flush().await.expect("no reset");
    }

    /// The next frame: kind, flags, payload. `None` at the end, which has to be a proper one.
    async fn next(&mut self) -> Option<(u8, u8, Vec<u8>)> {
        let read = async {
            let mut head = [0; 9];
            if self.socket.read(&mut head[..1]).await.expect("no reset") == 0 {
                return None;
            }
            self.socket.read_exact(&mut head[1..]).await.expect("the whole of a frame");
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; length as usize];
            self.socket.read_exact(&mut payload).await.expect("the whole of a frame");
            Some((head[3], head[4], payload))
        };
        tokio::time::timeout(PATIENCE, read).await.expect("a frame, or the end")
    }

    /// Reads on to the next frame of this kind.
    async fn find(&mut self, kind: u8) -> Vec<u8> {
        loop {
            let (found, _, payload) = self.next().await.expect("the connection goes on");
            if found == kind {
                return payload;
            }
        }
    }
}

/// Whether the gateway's side of the connection from `port` is in one of these states: the kernel's
/// table says that it has ended before the client has read anything. A busy table may pass a
/// connection over.
fn is_in(states: &[&str], gateway: u16, port: u16) -> bool {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let ends = [format!("0100007F:{gateway:04X}"), format!("0100007F:{port:04X}")];
    table.lines().any(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        fields[1..3] == ends && states.contains(&fields[3])
    })
}

/// A client that has been told to go is still at an upload that nobody reads when it is answered.
async fn the_last_answer_arrives(because: Because, is_tls: bool) {
    let recorder = Recorder::start().await;
    let gateway = Gateway::builder().config(|config| {
        if because == Because::Idle {
            config["nginx_config"]["http"] = json!({ "keepalive_timeout": "1s" });
        }
    });
    let mut gateway = gateway.start().await;
    gateway.put_route("1", json!({ "uri": "/*", "upstream": recorder.upstream() })).await;
    gateway.served("/").await;
    let authority = Authority::new("ROOT");
    let (cert, key) = authority.issue(&[HOST]);
    gateway.put("/ssls/1", json!({ "snis": [HOST], "cert": cert, "key": key })).await;
    gateway.serves_certificate(HOST, &authority.pem(), &cert).await;

    let mut client = Client::open(&gateway, is_tls.then_some(&authority)).await;
    client.send(HEADERS, END_HEADERS | END_STREAM, 1, &block(&request("GET", "/first"))).await;
    client.find(HEADERS).await;
    recorder.answers("");
    let upload = block(&request("POST", "/upload"));
    let port = if is_tls { gateway.ports().https } else { gateway.ports().http };
    let from = client.port;
    eventually("the table is read as it is written", || async {
        is_in(&[ESTABLISHED], port, from)
    })
    .await;
    let ping = match because {
        Because::Idle => {
            // It asks before it knows that it is to go.
            client.find(GOAWAY).await;
            client.send(HEADERS, END_HEADERS, 3, &upload).await;
            client.find(PING).await
        }
        Because::Stopping => {
            client.send(HEADERS, END_HEADERS, 3, &upload).await;
            eventually("the node is asked", || async {
                String::from_utf8_lossy(&recorder.seen()).contains("/upload")
            })
            .await;
            gateway.signal("QUIT");
            client.find(PING).await
        }
    };
    client.send(PING, ACK, 0, &ping).await;
    let last = client.find(GOAWAY).await;
    assert_eq!(last[..4], 3_u32.to_be_bytes(), "it is served what it had asked for");
    let body = "x".repeat(ANSWER_BYTES);
    recorder.answers_early(format!(
        "HTTP/1.1 413 Too Large\r\nContent-Length: {ANSWER_BYTES}\r\n\r\n{body}"
    ));
    client.send(DATA, 0, 3, &[b'u'; 1000]).await;

    eventually("the gateway has said all", || async { is_in(ENDED, port, from) }).await;
    for _ in 0..3 {
        client.send(DATA, 0, 3, &[b'u'; 1000]).await;
    }
    let (mut read, mut is_whole) = (0, false);
    while let Some((kind, flags, payload)) = client.next().await {
        if kind == DATA {
            read += payload.len();
            is_whole = flags & END_STREAM != 0;
        }
    }
    assert_eq!((read, is_whole), (ANSWER_BYTES, true), "{because:?}, TLS: {is_tls}");
    if because == Because::Stopping {
        drop(client);
        assert!(gateway.ended().await.success());
    }
}

#[tokio::test]
async fn the_last_answer_arrives_when_the_client_still_sends() {
    for is_tls in [false, true] {
        for because in [Because::Idle, Because::Stopping] {
            // A node that stops reads on for a second.
            let most = Duration::from_millis(250);
            undisturbed(most, || the_last_answer_arrives(because, is_tls)).await;
        }
    }
}
