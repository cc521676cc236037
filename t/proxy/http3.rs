//! HTTP/3, with a client that others have written: aioquic, driven line by line (`http3.py`).

mod pace;

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::catch_all;
use crate::support::authority::Authority;
use crate::support::gateway::{Builder, Gateway};
use crate::support::origin::Origin;
use crate::support::recorder::Recorder;
use crate::support::{PATIENCE, client, eventually};

/// Codes of RFC 9114, section 8.1.
const NO_ERROR: u64 = 0x100;
const FRAME_UNEXPECTED: u64 = 0x105;
const FRAME_ERROR: u64 = 0x106;
const EXCESSIVE_LOAD: u64 = 0x107;
const REQUEST_REJECTED: u64 = 0x10b;
const REQUEST_CANCELLED: u64 = 0x10c;
const MESSAGE_ERROR: u64 = 0x10e;

/// The program, with the connections that it has.
struct Quic {
    child: Child,
    input: ChildStdin,
    answers: mpsc::UnboundedReceiver<String>,
}

// === impl Quic ===

impl Quic {
    fn start(gateway: &Gateway, ca: &Authority) -> Self {
        let ca_file = gateway.dir().join("ca.pem");
        std::fs::write(&ca_file, ca.pem()).unwrap();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("t/proxy/http3.py");
        let mut child = Command::new(client("python"))
            .arg(script)
            .arg(gateway.https_port().to_string())
            .arg(ca_file)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (answer, answers) = mpsc::unbounded_channel();
        std::thread::spawn(move || {
            let lines = output.lines().map_while(Result::ok);
            lines.take_while(|line| answer.send(line.clone()).is_ok()).for_each(drop);
        });
        Self { child, input, answers }
    }

    async fn command(&mut self, command: Value) -> Value {
        self.input.write_all(format!("{command}\n").as_bytes()).unwrap();
        // It gives up by itself, and says at what.
        let line = tokio::time::timeout(PATIENCE * 2, self.answers.recv()).await;
        let line = line.expect("an answer in time");
        serde_json::from_str(&line.unwrap_or_else(|| panic!("no answer to {command}"))).unwrap()
    }

    async fn connect(&mut self, conn: &str, name: &str) -> bool {
        self.connect_with(conn, name, json!({})).await
    }

    async fn connect_with(&mut self, conn: &str, name: &str, windows: Value) -> bool {
        let mut command = json!({ "do": "connect", "conn": conn, "name": name });
        command.as_object_mut().unwrap().extend(windows.as_object().unwrap().clone());
        self.command(command).await["refused"].is_null()
    }

    /// A client with a connection `a` for test.com.
    async fn connected(gateway: &Gateway, ca: &Authority) -> Self {
        let mut quic = Self::start(gateway, ca);
        assert!(quic.connect("a", "test.com").await);
        quic
    }

    async fn begin(&mut self, conn: &str, headers: Value, more: Value) -> Value {
        let mut command = json!({ "do": "begin", "conn": conn, "headers": headers });
        command.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.command(command).await["stream"].clone()
    }

    async fn end(&mut self, conn: &str, stream: Value) -> Value {
        self.command(json!({ "do": "end", "conn": conn, "stream": stream })).await
    }

    /// Sends a request on connection `a` and waits for what becomes of it.
    async fn ask(&mut self, headers: Value, more: Value) -> Value {
        let stream = self.begin("a", headers, more).await;
        self.end("a", stream).await
    }

    async fn get(&mut self, path: &str) -> Value {
        self.ask(request("GET", path), json!({})).await
    }

    /// Sends bytes as a request's stream on connection `conn`.
    async fn raw(&mut self, conn: &str, bytes: &[u8], ends: bool) -> Value {
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let command = json!({ "do": "raw", "conn": conn, "hex": hex, "ends": ends });
        self.command(command).await["stream"].clone()
    }
}

impl Drop for Quic {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn request(method: &str, path: &str) -> Value {
    json!([[":method", method], [":scheme", "https"], [":authority", "test.com"], [":path", path],])
}

/// `head` with `field` at its end.
fn with(mut head: Value, field: [&str; 2]) -> Value {
    head.as_array_mut().unwrap().push(json!(field));
    head
}

fn speaking() -> Builder {
    Gateway::builder().config(|config| {
        config["apisix"]["ssl"]["listen"][0]["enable_http3"] = json!(true);
    })
}

/// A gateway that speaks HTTP/3 for test.com and sends everything to an origin.
async fn one_origin() -> (Gateway, Origin, Authority) {
    let origin = Origin::start().await;
    let gateway = speaking().start().await;
    catch_all(&gateway, &origin).await;
    let ca = serve(&gateway).await;
    (gateway, origin, ca)
}

/// The same, whose node says what it is told to and keeps what it is sent.
async fn recorded() -> (Gateway, Recorder, Authority) {
    let recorder = Recorder::start().await;
    let gateway = speaking().start().await;
    gateway.put_route("1", json!({ "uri": "/*", "upstream": recorder.upstream() })).await;
    gateway.served("/").await;
    let ca = serve(&gateway).await;
    (gateway, recorder, ca)
}

async fn serve(gateway: &Gateway) -> Authority {
    let ca = Authority::new("ROOT");
    let (cert, key) = ca.issue(&["test.com"]);
    let ssl = json!({ "snis": ["test.com"], "cert": cert, "key": key });
    gateway.put("/ssls/1", ssl).await;
    gateway.serves_certificate("test.com", &ca.pem(), &cert).await;
    ca
}

fn field<'a>(told: &'a Value, name: &str) -> Option<&'a str> {
    let fields = told["headers"].as_array()?;
    fields.iter().find(|field| field[0] == name)?[1].as_str()
}

#[tokio::test]
async fn requests_run_the_same_road() {
    let (gateway, origin, ca) = one_origin().await;
    let mut quic = Quic::connected(&gateway, &ca).await;
    let told = quic.get("/get?a=1").await;
    assert_eq!(told["status"], 200, "{told}");
    let echo: Value = serde_json::from_str(told["body"].as_str().unwrap()).unwrap();
    assert_eq!(echo["uri"], "/get?a=1");
    assert_eq!(echo["headers"]["host"], "test.com");
    assert_eq!(echo["headers"]["x-forwarded-proto"], "https");
    // A request without a body is none with an empty one.
    assert!(echo["headers"].get("transfer-encoding").is_none());
    assert!(field(&told, "date").is_some() && field(&told, "connection").is_none());
    assert_eq!(field(&told, "server").map(|name| name.starts_with("Sluice")), Some(true));

    let head = quic.ask(request("HEAD", "/bytes/1000"), json!({})).await;
    assert_eq!((&head["status"], &head["body_bytes"]), (&json!(200), &json!(0)));
    assert_eq!(field(&head, "content-length"), Some("1000"));
    assert_eq!(quic.get("/status/204").await["status"], 204);
    let gone = quic.ask(request("HEAD", "/drop"), json!({})).await;
    assert_eq!((&gone["status"], &gone["body_bytes"]), (&json!(502), &json!(0)));

    let connect = json!([[":method", "CONNECT"], [":authority", "test.com"]]);
    assert_eq!(quic.ask(connect, json!({})).await["status"], 405);
    let asked = origin.requests();
    let other = json!([
        [":method", "GET"],
        [":scheme", "https"],
        [":authority", "test.com"],
        [":path", "/get"],
        ["host", "other.com"],
    ]);
    assert_eq!(quic.ask(other, json!({})).await["reset"], MESSAGE_ERROR);
    assert_eq!(origin.requests(), asked);
}

#[tokio::test]
async fn bodies_of_any_size_go_both_ways() {
    let (gateway, _origin, ca) = one_origin().await;
    let mut quic = Quic::connected(&gateway, &ca).await;
    let told = quic.get("/bytes/3000000").await;
    assert_eq!(told["body_bytes"], 3_000_000, "{told}");
    assert_eq!(quic.get("/stream/50/10000").await["body_bytes"], 500_000);
    // Larger than every window, as a whole and in pieces, with and without its length.
    let told = quic.ask(request("POST", "/echo"), json!({ "parts": [2_000_000] })).await;
    assert_eq!((&told["status"], &told["body_bytes"]), (&json!(200), &json!(2_000_000)), "{told}");
    let long = with(request("POST", "/echo"), ["content-length", "600000"]);
    let told = quic.ask(long, json!({ "parts": [0, 300_000, 0, 300_000] })).await;
    assert_eq!(told["body_bytes"], 600_000, "{told}");
}

#[tokio::test]
async fn many_requests_share_a_connection() {
    let (gateway, origin, ca) = one_origin().await;
    let mut quic = Quic::connected(&gateway, &ca).await;
    let asked = origin.requests();
    let mut streams = Vec::new();
    for _ in 0..150 {
        streams.push(quic.begin("a", request("GET", "/delay/50"), json!({})).await);
    }
    for stream in streams {
        assert_eq!(quic.end("a", stream).await["status"], 200);
    }
    assert_eq!(origin.requests() - asked, 150);
}

#[tokio::test]
async fn trailers_go_both_ways() {
    let (gateway, recorder, ca) = recorded().await;
    let mut quic = Quic::connected(&gateway, &ca).await;
    recorder.taken().await;
    recorder.answers(
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n\
         2\r\nok\r\n0\r\nx-sum: 7\r\n\r\n",
    );
    let more = json!({ "body": "hello", "trailers": [["x-up", "1"], ["x-real-ip", "6.6.6.6"]] });
    let told = quic.ask(request("POST", "/"), more).await;
    assert_eq!((&told["status"], &told["body"]), (&json!(200), &json!("ok")), "{told}");
    assert_eq!(told["trailers"], json!([["x-sum", "7"]]));
    let seen = String::from_utf8(recorder.taken().await).unwrap();
    assert!(seen.contains("x-up: 1\r\n") && !seen.contains("6.6.6.6"), "{seen}");
}

#[tokio::test]
async fn malformed_requests_reach_no_node() {
    let (gateway, origin, ca) = one_origin().await;
    let mut quic = Quic::connected(&gateway, &ca).await;
    let asked = origin.requests();
    let get = || request("GET", "/get");
    for bad in [
        with(get(), [":path", "/other"]),
        with(with(get(), ["accept", "x"]), [":path", "/other"]),
        with(get(), [":status", "200"]),
        with(get(), [":protocol", "websocket"]),
        with(get(), ["connection", "close"]),
        with(get(), ["transfer-encoding", "chunked"]),
        with(get(), ["upgrade", "websocket"]),
        with(get(), ["te", "gzip"]),
        with(get(), ["content-length", "+1"]),
        with(get(), ["Accept", "x"]),
        json!([[":method", "GET"], [":authority", "test.com"]]),
        json!([[":scheme", "https"], [":authority", "test.com"], [":path", "/get"]]),
        json!([[":method", "GET"], [":scheme", "https"], [":path", "/get"]]),
    ] {
        let told = quic.ask(bad.clone(), json!({})).await;
        assert_eq!(told["reset"], MESSAGE_ERROR, "{bad}: {told}");
    }
    assert_eq!(origin.requests(), asked);
    for (length, body) in [("3", "hello"), ("9", "hello"), ("1", "")] {
        let head = with(request("POST", "/echo"), ["content-length", length]);
        let told = quic.ask(head, json!({ "body": body })).await;
        assert_eq!(told["reset"], MESSAGE_ERROR, "{length} {body}: {told}");
    }
    assert_eq!(quic.get("/get").await["status"], 200);
}

/// A DATA frame that breaks off passed for the end of the body, and then brought the node down.
#[tokio::test]
async fn streams_that_are_not_framed_well_do_no_harm() {
    let (gateway, _origin, ca) = one_origin().await;
    let mut quic = Quic::connected(&gateway, &ca).await;
    // POST, https, test.com, / of the static table and a literal.
    let head = [&[1, 14, 0, 0, 0xd4, 0xd7, 0x50, 8][..], b"test.com", &[0xc1]].concat();
    let head = [&[1, u8::try_from(head.len() - 2).unwrap()][..], &head[2..]].concat();
    let good = quic.raw("a", &[&head[..], &[0, 2, b'h', b'i']].concat(), true).await;
    assert_eq!(quic.end("a", good).await["status"], 200);

    let cut = quic.raw("a", &[&head[..], &[0, 9, b'h', b'i']].concat(), false).await;
    assert_eq!(quic.get("/get").await["status"], 200);
    let more = json!({ "do": "more", "conn": "a", "stream": cut, "hex": "", "ends": true });
    quic.command(more).await;
    assert_eq!(quic.end("a", cut).await["reset"], FRAME_ERROR);

    // A head that says that it is endless.
    let endless = [&[1, 0x80, 0xff, 0xff, 0xff][..], &[0; 70_000]].concat();
    let stream = quic.raw("a", &endless, false).await;
    assert_eq!(quic.end("a", stream).await["reset"], EXCESSIVE_LOAD);
    assert_eq!(quic.get("/get").await["status"], 200);

    // DATA before the head, and the settings of a control stream, end the connection.
    assert!(quic.connect("b", "test.com").await);
    quic.raw("b", &[0, 1, b'x'], true).await;
    let ended = quic.command(json!({ "do": "ended", "conn": "b" })).await;
    assert_eq!(ended["code"], FRAME_UNEXPECTED);
    assert!(quic.connect("c", "test.com").await);
    let long = json!({ "do": "control", "conn": "c", "hex": "04bfffffff" });
    quic.command(long).await;
    quic.command(json!({ "do": "ended", "conn": "c" })).await;
    assert_eq!(quic.get("/get").await["status"], 200);
}

#[tokio::test]
async fn heads_have_a_bound() {
    let origin = Origin::start().await;
    let at_once = |config: &mut Value| {
        config["nginx_config"]["http"] = json!({ "access_log_buffer": 0 });
    };
    let gateway = speaking().config(at_once).start().await;
    catch_all(&gateway, &origin).await;
    let ca = serve(&gateway).await;
    let mut quic = Quic::connected(&gateway, &ca).await;
    let asked = origin.requests();
    let long = "x".repeat(10_000);
    let fits = with(request("GET", "/get"), ["x-long", &long]);
    assert_eq!(quic.ask(fits, json!({})).await["status"], 200);
    // One that is too long as it comes, and one that is once it is decoded.
    let mut large = request("GET", "/get");
    for _ in 0..20 {
        large = with(large, ["x-long", &long]);
    }
    let told = quic.ask(large, json!({})).await;
    assert!(told["status"] == 431 || told["reset"] == EXCESSIVE_LOAD, "{told}");
    let mut many = request("GET", "/get");
    for _ in 0..2_000 {
        many = with(many, ["accept", "*/*"]);
    }
    assert_eq!(quic.ask(many, json!({})).await["status"], 431);
    assert_eq!(origin.requests(), asked + 1);
    // What was asked is not known any more.
    eventually("the refusal is logged", || async {
        let log = std::fs::read_to_string(gateway.dir().join("logs/access.log"));
        log.unwrap_or_default().contains(" \"-\" 431 ")
    })
    .await;
}

#[tokio::test]
async fn a_request_that_is_taken_back_frees_the_node() {
    let (gateway, recorder, ca) = recorded().await;
    let mut quic = Quic::connected(&gateway, &ca).await;
    recorder.answers("");
    let ended = recorder.ended();
    let stream = quic.begin("a", request("GET", "/slow"), json!({})).await;
    eventually("the node was asked", || async {
        String::from_utf8_lossy(&recorder.seen()).contains("/slow")
    })
    .await;
    quic.command(json!({ "do": "take_back", "conn": "a", "stream": stream })).await;
    eventually("the node is let go", || async { recorder.ended() > ended }).await;
    recorder.answers(crate::support::recorder::OK);
    assert_eq!(quic.get("/").await["status"], 200);
}

#[tokio::test]
async fn a_client_that_takes_back_more_than_it_lets_be_answered_is_sent_away() {
    let (gateway, recorder, ca) = recorded().await;
    let mut quic = Quic::connected(&gateway, &ca).await;
    recorder.answers("");
    let headers = request("GET", "/");
    let all = json!({ "do": "take_all_back", "conn": "a", "headers": headers, "most": 2_000 });
    quic.command(all).await;
    let ended = quic.command(json!({ "do": "ended", "conn": "a" })).await;
    assert_eq!(ended["code"], EXCESSIVE_LOAD);
}

#[tokio::test]
async fn an_answer_before_the_requests_end_stops_the_request() {
    let (gateway, recorder, ca) = recorded().await;
    let mut quic = Quic::connected(&gateway, &ca).await;
    recorder.answers_early("HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno");
    let more = json!({ "parts": [1_000], "ends": false });
    let stream = quic.begin("a", request("POST", "/"), more).await;
    let told = quic.end("a", stream).await;
    assert_eq!((&told["status"], &told["body"]), (&json!(403), &json!("no")), "{told}");
    assert_eq!(told["stopped"], NO_ERROR, "{told}");
}

#[tokio::test]
async fn a_client_that_waits_for_a_100_gets_one() {
    let (gateway, _origin, ca) = one_origin().await;
    let mut quic = Quic::connected(&gateway, &ca).await;
    let head = |path| with(request("POST", path), ["expect", "100-Continue"]);
    let stream = quic.begin("a", head("/post"), json!({ "ends": false })).await;
    let interim = json!({ "do": "interim", "conn": "a", "stream": stream });
    assert_eq!(quic.command(interim).await["status"], 100);
    // A frame of DATA: two bytes.
    let more =
        json!({ "do": "more", "conn": "a", "stream": stream, "hex": "00026869", "ends": true });
    quic.command(more).await;
    let told = quic.end("a", stream).await;
    assert_eq!(told["status"], 200, "{told}");
    let echo: Value = serde_json::from_str(told["body"].as_str().unwrap()).unwrap();
    assert_eq!(echo["body"], "hi");
    // Where the answer is clear without the body there is none: an interim response after the
    // answer would be told as trailers.
    let told = quic.ask(head("/a/../.."), json!({ "ends": false })).await;
    assert_eq!((&told["status"], &told["trailers"]), (&json!(400), &Value::Null), "{told}");
}

#[tokio::test]
async fn a_silent_client_is_sent_away() {
    let origin = Origin::start().await;
    let impatient = |config: &mut Value| {
        config["nginx_config"]["http"] = json!({ "keepalive_timeout": "4s" });
    };
    let gateway = speaking().config(impatient).start().await;
    catch_all(&gateway, &origin).await;
    let ca = serve(&gateway).await;
    let mut quic = Quic::connected(&gateway, &ca).await;
    assert_eq!(quic.get("/get").await["status"], 200);
    let ended = quic.command(json!({ "do": "ended", "conn": "a" })).await;
    assert_eq!(ended["code"], NO_ERROR);
}

/// Or else whoever makes addresses up has the node sign for nobody.
#[tokio::test]
async fn clients_prove_their_addresses_while_many_shake_hands() {
    let origin = Origin::start().await;
    let alone = |config: &mut Value| config["nginx_config"]["worker_processes"] = json!(1);
    let gateway = speaking().config(alone).start().await;
    catch_all(&gateway, &origin).await;
    let ca = serve(&gateway).await;
    let mut quic = Quic::connected(&gateway, &ca).await;
    let asked_twice = |conn: &str| json!({ "do": "was_asked_twice", "conn": conn });
    assert_eq!(quic.command(asked_twice("a")).await["retried"], false);
    quic.command(json!({ "do": "half", "name": "test.com", "count": 100 })).await;
    assert!(quic.connect("b", "test.com").await);
    assert_eq!(quic.command(asked_twice("b")).await["retried"], true);
    let stream = quic.begin("b", request("GET", "/get"), json!({})).await;
    assert_eq!(quic.end("b", stream).await["status"], 200);
}

#[tokio::test]
async fn lengths_are_those_of_what_comes() {
    let (gateway, recorder, ca) = recorded().await;
    let plugins = json!({ "proxy-rewrite": { "method": "HEAD" } });
    let route = json!({ "uri": "/head", "plugins": plugins, "upstream": recorder.upstream() });
    gateway.put_route("2", route).await;
    recorder.answers("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n");
    let told = Quic::connected(&gateway, &ca).await.get("/head").await;
    assert_eq!(
        (&told["status"], field(&told, "content-length")),
        (&json!(200), Some("0")),
        "{told}"
    );
}

/// A response that its node breaks off must not look whole.
#[tokio::test]
async fn responses_that_break_off_are_reset() {
    let (gateway, _origin, ca) = one_origin().await;
    let mut quic = Quic::connected(&gateway, &ca).await;
    let told = quic.get("/truncate/5000").await;
    assert_eq!((&told["status"], &told["reset"]), (&json!(200), &json!(0x102)), "{told}");
    assert_eq!(quic.get("/get").await["status"], 200);
}

#[tokio::test]
async fn certificates_are_those_served_now() {
    let (gateway, _origin, ca) = one_origin().await;
    let mut quic = Quic::connected(&gateway, &ca).await;
    assert!(!quic.connect("b", "unknown.com").await);
    // Swapped for one that this client does not trust: who is connected stays so.
    let stream = quic.begin("a", request("GET", "/stream/50/1000?ms=10"), json!({})).await;
    let other = Authority::new("OTHER");
    let (cert, key) = other.issue(&["test.com"]);
    gateway.put("/ssls/1", json!({ "snis": ["test.com"], "cert": cert, "key": key })).await;
    gateway.serves_certificate("test.com", &other.pem(), &cert).await;
    assert_eq!(quic.end("a", stream).await["body_bytes"], 50_000);
    assert_eq!(quic.get("/get").await["status"], 200);
    assert!(!quic.connect("b", "test.com").await);
    let mut trusting = Quic::start(&gateway, &other);
    assert!(trusting.connect("a", "test.com").await);
}

#[tokio::test]
async fn names_that_ask_for_certificates_are_not_served() {
    let (gateway, _origin, ca) = one_origin().await;
    let (cert, key) = ca.issue(&["mutual.com", "old.com"]);
    let client = json!({ "ca": ca.pem() });
    let mutual = json!({ "snis": ["mutual.com"], "cert": cert, "key": key, "client": client });
    gateway.put("/ssls/2", mutual).await;
    let old =
        json!({ "snis": ["old.com"], "cert": cert, "key": key, "ssl_protocols": ["TLSv1.2"] });
    gateway.put("/ssls/3", old).await;
    gateway.serves_certificate("old.com", &ca.pem(), &cert).await;
    let mut quic = Quic::connected(&gateway, &ca).await;
    assert!(!quic.connect("b", "mutual.com").await);
    assert!(!quic.connect("b", "old.com").await);
    // Nor over a connection for another name.
    let mut head = request("GET", "/get");
    head[2][1] = json!("mutual.com");
    assert_eq!(quic.ask(head, json!({})).await["status"], 400);

    let told = |name: &'static str| {
        let client = gateway.https_client(name, &ca.pem());
        let url = gateway.https_url(name, "/get");
        async move { client.get(url).send().await.unwrap().headers().get("alt-svc").cloned() }
    };
    let expected = format!("h3=\":{}\"; ma=86400", gateway.https_port());
    assert_eq!(told("test.com").await.unwrap(), expected.as_str());
    assert_eq!(told("old.com").await, None);
    assert_eq!(field(&quic.get("/get").await, "alt-svc"), Some(&*expected));
    assert!(!gateway.get("/get").await.headers().contains_key("alt-svc"));
}

#[tokio::test]
async fn nobody_is_told_where_that_is_not_wanted() {
    let origin = Origin::start().await;
    let quiet = |config: &mut Value| config["sluice"]["http3"] = json!({ "alt_svc": false });
    let gateway = speaking().config(quiet).start().await;
    catch_all(&gateway, &origin).await;
    let ca = serve(&gateway).await;
    let mut quic = Quic::connected(&gateway, &ca).await;
    let told = quic.get("/get").await;
    assert_eq!((&told["status"], field(&told, "alt-svc")), (&json!(200), None));
}

#[tokio::test]
async fn what_is_under_way_is_finished_when_the_node_stops() {
    let (mut gateway, origin, ca) = one_origin().await;
    let mut quic = Quic::connected(&gateway, &ca).await;
    assert!(quic.connect("idle", "test.com").await);
    let stream = quic.begin("idle", request("GET", "/get"), json!({})).await;
    assert_eq!(quic.end("idle", stream).await["status"], 200);
    let asked = origin.requests();
    let slow = quic.begin("a", request("GET", "/held"), json!({})).await;
    let long = quic.begin("a", request("GET", "/stream/4/1000?held=1"), json!({})).await;
    eventually("the node was asked", || async { origin.requests() >= asked + 2 }).await;
    gateway.signal("QUIT");
    // The first that is not taken: the third of this connection.
    let told = quic.command(json!({ "do": "goaway", "conn": "a" })).await;
    assert_eq!(told["id"], 8);
    let late = quic.begin("a", request("GET", "/get"), json!({})).await;
    assert_eq!(quic.end("a", late).await["reset"], REQUEST_REJECTED);
    origin.release();
    assert_eq!(quic.end("a", slow).await["status"], 200);
    assert_eq!(quic.end("a", long).await["body_bytes"], 4_000);
    for conn in ["a", "idle"] {
        let ended = quic.command(json!({ "do": "ended", "conn": conn })).await;
        assert_eq!(ended["code"], NO_ERROR, "{conn}");
    }
    assert!(gateway.ended().await.success());
}

#[tokio::test]
async fn variables_and_the_log_tell_of_it() {
    let origin = Origin::start().await;
    let format = "$server_protocol $http3 $scheme $ssl_protocol $status $uri";
    let told = |config: &mut Value| {
        config["nginx_config"]["http"] =
            json!({ "access_log_format": format, "access_log_buffer": 0 });
    };
    let gateway = speaking().config(told).start().await;
    catch_all(&gateway, &origin).await;
    let ca = serve(&gateway).await;
    let mut quic = Quic::connected(&gateway, &ca).await;
    assert_eq!(quic.get("/bytes/3").await["status"], 200);
    eventually("the access log has a line", || async {
        let log = std::fs::read_to_string(gateway.dir().join("logs/access.log"));
        log.unwrap_or_default().contains("HTTP/3.0 h3 https TLSv1.3 200 /bytes/3")
    })
    .await;
}
