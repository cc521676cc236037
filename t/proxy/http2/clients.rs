//! Clients that others have written, in the clear and over TLS: curl, nghttp, h2load, reqwest (h2 in
//! Rust) and h2 in Python (`http2.py`).

use std::path::PathBuf;
use std::process::Command;

use http_body_util::BodyExt;
use serde_json::{Value, json};

use crate::proxy::catch_all;
use crate::support::authority::Authority;
use crate::support::gateway::Gateway;
use crate::support::origin::Origin;
use crate::support::recorder::Recorder;
use crate::support::{PATIENCE, client};

/// What `/trailers` answers.
const TRAILERS: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
                        2\r\nok\r\n0\r\nX-Sum: 1\r\n\r\n";

/// A gateway for test.com in front of an origin, and of a node for `/trailers`.
struct Site {
    gateway: Gateway,
    ca: Authority,
    recorder: Recorder,
    _origin: Origin,
}

// === impl Site ===

impl Site {
    async fn start() -> Self {
        let (origin, recorder) = (Origin::start().await, Recorder::start().await);
        recorder.answers(TRAILERS);
        let gateway = Gateway::start().await;
        let route = json!({ "uri": "/trailers", "priority": 1, "upstream": recorder.upstream() });
        gateway.put_route("trailers", route).await;
        catch_all(&gateway, &origin).await;
        let ca = Authority::new("ROOT");
        let (cert, key) = ca.issue(&["test.com"]);
        let ssl = json!({ "snis": ["test.com"], "cert": cert, "key": key });
        gateway.put("/ssls/1", ssl).await;
        gateway.serves_certificate("test.com", &ca.pem(), &cert).await;
        std::fs::write(gateway.dir().join("ca.pem"), ca.pem()).unwrap();
        std::fs::write(gateway.dir().join("body"), body()).unwrap();
        std::fs::write(gateway.dir().join("text"), "text ".repeat(10_000)).unwrap();
        Self { gateway, ca, recorder, _origin: origin }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.gateway.dir().join(name)
    }

    fn url(&self, tls: bool, path: &str) -> String {
        if tls { self.gateway.https_url("test.com", path) } else { self.gateway.http_url(path) }
    }
}

/// A megabyte that is not the same everywhere.
fn body() -> Vec<u8> {
    (0..1 << 20).map(|n: u32| (n * 7 % 251) as u8).collect()
}

/// Runs a program off the test's own thread and returns what it wrote.
async fn run(mut command: Command) -> Vec<u8> {
    let output = tokio::task::spawn_blocking(move || {
        let output = command.output();
        output.unwrap_or_else(|error| panic!("{command:?}: {error}; `make tools` installs it"))
    });
    let output = output.await.unwrap();
    let (told, wrong) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}: {told}{wrong}", output.status);
    output.stdout
}

#[tokio::test]
async fn curl() {
    let site = Site::start().await;
    for tls in [false, true] {
        let curl = |arguments: &[&str]| {
            let mut command = Command::new("curl");
            let limit = PATIENCE.as_secs().to_string();
            command.args(["-sS", "--fail", "--max-time", &limit, "--noproxy", "*"]);
            let https = site.gateway.https_port();
            if tls {
                command.args(["--http2", "--resolve", &format!("test.com:{https}:127.0.0.1")]);
                command.arg("--cacert").arg(site.file("ca.pem"));
            } else {
                command.arg("--http2-prior-knowledge");
            }
            command.args(arguments);
            run(command)
        };
        let told = curl(&["-w", " %{http_version}", &site.url(tls, "/bytes/3")]).await;
        assert_eq!(told, b"xxx 2", "TLS: {tls}");
        let sent = format!("@{}", site.file("body").display());
        let echoed = curl(&["--data-binary", &sent, &site.url(tls, "/echo")]).await;
        assert!(echoed == body(), "TLS: {tls}, {} bytes", echoed.len());
        // One that would wait for a 100.
        let expect = ["-H", "Expect: 100-continue", "--data-binary", &sent];
        let echoed = curl(&[&expect[..], &[&site.url(tls, "/echo")]].concat()).await;
        assert!(echoed == body(), "TLS: {tls}, {} bytes", echoed.len());
        let told = curl(&["-i", &site.url(tls, "/trailers")]).await;
        let told = String::from_utf8(told).unwrap().replace('\r', "");
        assert!(told.starts_with("HTTP/2 200") && told.ends_with("okx-sum: 1\n"), "{told}");
        // In the clear, curl 7.88 fails at that with every server.
        if tls {
            let many = site.url(tls, "/bytes/1?[1-100]");
            let side_by_side = ["--parallel", "--parallel-max", "100", "-w", "%{http_version}\n"];
            let told = curl(&[&side_by_side[..], &[&many]].concat()).await;
            let told = String::from_utf8(told).unwrap();
            assert_eq!(told.matches('x').count(), 100, "{told}");
            assert_eq!(told.matches("2\n").count(), 100, "{told}");
        }
    }
}

#[tokio::test]
async fn nghttp_and_h2load() {
    let site = Site::start().await;
    for tls in [false, true] {
        let command = |program: &str, arguments: &[&str]| {
            let mut command = Command::new(program);
            command.args(arguments);
            run(command)
        };
        let at = |path: &str| {
            let port = site.gateway.https_port();
            if tls { format!("https://127.0.0.1:{port}{path}") } else { site.url(false, path) }
        };
        // It takes the name that it asks a certificate for from its URL.
        let load_of = |arguments: &[&str], path: &str| {
            let ports = site.gateway.ports();
            let port = if tls { ports.https } else { ports.http };
            let to = format!("--connect-to=127.0.0.1:{port}");
            command("h2load", &[arguments, &[&to, &site.url(tls, path)]].concat())
        };
        let host = "-H:authority: test.com";
        let told = command("nghttp", &[host, &at("/bytes/3")]).await;
        assert_eq!(told, b"xxx", "TLS: {tls}");
        let file = site.file("body").display().to_string();
        let echoed = command("nghttp", &[host, "-d", &file, &at("/echo")]).await;
        assert!(echoed == body(), "TLS: {tls}, {} bytes", echoed.len());
        // Trailers both ways.
        site.recorder.taken().await;
        // A body whose length was told has none in HTTP/1.1.
        let text = site.file("text").display().to_string();
        let upload = ["-v", "--no-dep", "--no-content-length", host, "-d", &text];
        let trailer = ["--trailer", "x-mine: 2", &at("/trailers")];
        let told = command("nghttp", &[&upload[..], &trailer].concat()).await;
        let told = String::from_utf8_lossy(&told);
        assert!(told.contains("x-sum: 1"), "{told}");
        let reached = site.recorder.taken().await;
        assert!(reached.ends_with(b"\r\n0\r\nx-mine: 2\r\n\r\n"), "{} bytes", reached.len());
        let told = command("nghttp", &[host, "-n", "-s", "-m", "100", &at("/bytes/1")]).await;
        let told = String::from_utf8_lossy(&told);
        assert_eq!(told.matches(" 200 ").count(), 100, "{told}");
        for path in ["/bytes/100", "/bytes/100000"] {
            let load = ["-n", "1000", "-c", "10", "-m", "100"];
            let told = load_of(&load, path).await;
            let told = String::from_utf8_lossy(&told);
            let all = "1000 total, 1000 started, 1000 done, 1000 succeeded, 0 failed, 0 errored";
            assert!(told.contains(all) && told.contains("1000 2xx"), "{told}");
        }
        let told = load_of(&["-n", "100", "-c", "2", "-m", "50", "-d", &file], "/echo").await;
        let told = String::from_utf8_lossy(&told);
        assert!(told.contains("100 succeeded, 0 failed"), "{told}");
    }
}

#[tokio::test]
async fn reqwest() {
    let site = Site::start().await;
    for tls in [false, true] {
        let builder = reqwest::Client::builder()
            .no_proxy()
            .timeout(PATIENCE)
            .resolve("test.com", ([127, 0, 0, 1], site.gateway.https_port()).into());
        let authority = reqwest::Certificate::from_pem(site.ca.pem().as_bytes()).unwrap();
        let builder = match tls {
            true => builder.tls_certs_only([authority]),
            false => builder.http2_prior_knowledge(),
        };
        let client = builder.build().unwrap();
        let got = client.get(site.url(tls, "/bytes/3")).send().await.unwrap();
        assert_eq!((got.status().as_u16(), got.version()), (200, http::Version::HTTP_2));
        assert_eq!(got.bytes().await.unwrap(), "xxx");
        let post = client.post(site.url(tls, "/echo")).body(body());
        let echoed = post.send().await.unwrap().bytes().await.unwrap();
        assert!(echoed == body(), "TLS: {tls}, {} bytes", echoed.len());
        let got = client.get(site.url(tls, "/trailers")).send().await.unwrap();
        let got = http::Response::from(got).into_body().collect().await.unwrap();
        assert_eq!(got.trailers().unwrap()["x-sum"], "1");
        assert_eq!(got.to_bytes(), "ok");
        let many = (0..100).map(|at| {
            let post = client.post(site.url(tls, &format!("/anything/{at}"))).body(at.to_string());
            async move {
                let echo: Value = post.send().await.unwrap().json().await.unwrap();
                assert_eq!(echo["uri"], format!("/anything/{at}"));
                assert_eq!(echo["body"], at.to_string());
            }
        });
        futures_util::future::join_all(many).await;
    }
}

#[tokio::test]
async fn h2_in_python() {
    let site = Site::start().await;
    for tls in [false, true] {
        site.recorder.taken().await;
        let mut command = Command::new(client("python"));
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/t/proxy/http2/http2.py");
        let ports = site.gateway.ports();
        command.arg(script).arg(if tls { ports.https } else { ports.http }.to_string());
        if tls {
            command.arg(site.file("ca.pem"));
        }
        let told: Value = serde_json::from_slice(&run(command).await).unwrap();
        let expected = json!({
            "get": [200, "GET"],
            "post": [200, true],
            "many": true,
            "trailers": [200, "ok", [["x-sum", "1"]]],
            "tables were used": [true, true],
        });
        assert_eq!(told, expected, "TLS: {tls}");
        assert!(site.recorder.taken().await.ends_with(b"4\r\nbody\r\n0\r\nx-sum: 1\r\n\r\n"));
    }
}
