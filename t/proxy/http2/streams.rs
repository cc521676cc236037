//! Requests and responses of one connection: how many, how large, how they end (RFC 9113, sections
//! 5.1.2 and 8.1; RFC 9110, sections 10.1.1 and 15.2).

use serde_json::{Value, json};

use super::recorded;
use crate::proxy::one_origin;
use crate::support::gateway::Gateway;
use crate::support::h2::{
    CANCEL, Connection, DATA, END_STREAM, GOAWAY, HEADERS, INITIAL_WINDOW_SIZE, LARGEST_WINDOW,
    MAX_CONCURRENT_STREAMS, NO_ERROR, ORDINARY, Outcome, PROTOCOL_ERROR, REFUSED_STREAM,
    RST_STREAM, block, code, frame, request,
};
use crate::support::hpack::kept;
use crate::support::recorder::{OK, Recorder};
use crate::support::{PATIENCE, eventually};

async fn node_is_asked(recorder: &Recorder, path: &str) {
    eventually(&format!("the node was asked for {path}"), || async {
        String::from_utf8_lossy(&recorder.seen()).contains(&format!("{path} "))
    })
    .await;
}

#[tokio::test]
async fn one_request_more_than_there_may_be_is_refused() {
    let (gateway, recorder) = recorded(|_| {}).await;
    let mut client = Connection::open(gateway.ports().http).await;
    let most = client.setting(MAX_CONCURRENT_STREAMS).await.expect("a bound");
    assert!((100..10_000).contains(&most), "{most} streams");
    recorder.answers("");
    for at in 0..most {
        client.get(2 * at + 1, &format!("/{at}")).await;
    }
    node_is_asked(&recorder, &format!("/{}", most - 1)).await;
    // What it told of fields is remembered all the same.
    let next = 2 * most + 1;
    let parts = [block(&request("GET", "/more")), kept(b"x-kept", b"in step")].concat();
    client.send(HEADERS, ORDINARY, next, &parts).await;
    let outcome = client.outcome(next).await;
    let codes = [REFUSED_STREAM, PROTOCOL_ERROR];
    assert!(codes.map(Outcome::Reset).contains(&outcome), "{outcome:?}");
    assert!(!String::from_utf8_lossy(&recorder.seen()).contains("/more"), "the node was asked");
    // One that ends, however it ends, makes room for another.
    recorder.answers(OK);
    client.send(RST_STREAM, 0, 1, &CANCEL.to_be_bytes()).await;
    client.ping().await.unwrap();
    let parts = [block(&request("GET", "/again")), vec![0x80 | 62]].concat();
    client.send(HEADERS, ORDINARY, next + 2, &parts).await;
    assert_eq!(client.outcome(next + 2).await, Outcome::Status(200));
    let seen = recorder.seen();
    let seen = String::from_utf8_lossy(&seen);
    let again = seen.split("/again").nth(1).expect("the node was asked");
    assert!(again.contains("x-kept: in step"), "{again}");
}

#[tokio::test]
async fn a_reset_frees_the_node_wherever_the_exchange_is() {
    let (gateway, recorder) = recorded(|_| {}).await;
    let mut client = Connection::open(gateway.ports().http).await;
    let half = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf";
    let mut stream = 1;
    for (case, answer, method) in [
        ("in the request's body", "", "POST"),
        ("in the response's body", half, "GET"),
        ("in both", half, "POST"),
    ] {
        recorder.answers_early(answer);
        let ended = recorder.ended();
        let path = format!("/{stream}");
        client.headers(stream, &request(method, &path), method == "GET").await;
        node_is_asked(&recorder, &path).await;
        if !answer.is_empty() {
            let data = client.find(|frame| frame.kind == DATA && frame.stream == stream).await;
            assert_eq!(data.unwrap().payload, b"half", "{case}");
        }
        client.send(RST_STREAM, 0, stream, &CANCEL.to_be_bytes()).await;
        eventually(case, || async { recorder.ended() > ended }).await;
        stream += 2;
        recorder.answers(OK);
        client.get(stream, "/").await;
        assert!(client.answer(stream).await.is_ok(), "{case}");
        stream += 2;
    }
    // A node that breaks off, and a client that goes with all that it has under way.
    recorder.answers_and_closes(half);
    client.get(stream, "/").await;
    let answer = client.answer(stream).await;
    assert!(matches!(answer.broken, Some(Outcome::Reset(1..))), "{answer:?}");
    recorder.answers("");
    let open = recorder.connections() - recorder.ended();
    for at in 1..=10 {
        client.get(stream + 2 * at, "/last").await;
    }
    eventually("the nodes were asked", || async {
        String::from_utf8_lossy(&recorder.seen()).matches("/last").count() == 10
    })
    .await;
    drop(client);
    eventually("the nodes are let go", || async {
        recorder.connections() - recorder.ended() <= open
    })
    .await;
}

#[tokio::test]
async fn what_one_client_does_not_take_is_not_given_to_the_next() {
    let builder =
        Gateway::builder().config(|config| config["nginx_config"]["worker_processes"] = json!(1));
    let gateway = builder.start().await;
    let asks: Vec<u8> = (0..50).flat_map(|at| super::judge::asks(2 * at + 1)).collect();
    for round in 0..50 {
        // It is gone when the gateway has answered, which it does at once: there is no route.
        let mut leaving = Connection::open(gateway.ports().http).await;
        leaving.ping().await.unwrap();
        leaving.write(&asks).await;
        leaving.break_off();
        let mut client = Connection::open(gateway.ports().http).await;
        client.get(1, "/").await;
        loop {
            // That settings come first is looked after by `Connection`.
            let frame = client.next().await.expect("an answer");
            assert!(frame.stream <= 1, "round {round}: {frame:?}");
            if frame.stream == 1 && frame.flags & END_STREAM != 0 {
                break;
            }
        }
    }
}

#[tokio::test]
async fn what_was_accepted_before_the_end_was_told_is_answered() {
    let (mut gateway, origin) = one_origin().await;
    let mut client = Connection::open(gateway.ports().http).await;
    let asked = origin.requests();
    client.get(1, "/held").await;
    eventually("the node was asked", || async { origin.requests() > asked }).await;
    gateway.signal("QUIT");
    // The client does not know yet, and asks on.
    let mut streams = vec![1];
    let (mut last, mut over) = (u32::MAX, Vec::new());
    loop {
        let stream = streams.last().unwrap() + 2;
        if last == u32::MAX && stream < 400 {
            client.get(stream, &format!("/anything/{stream}")).await;
            streams.push(stream);
        }
        let Some(frame) = client.next().await else {
            break;
        };
        match frame.kind {
            GOAWAY => {
                assert_eq!(code(&frame.payload[4..]), NO_ERROR);
                let named = code(&frame.payload);
                assert!(named <= last, "it may not grow");
                // The first may name none, to be followed by one that does.
                last = if named == LARGEST_WINDOW { last } else { named };
                origin.release();
            }
            RST_STREAM => {
                assert!(frame.stream > last || code(&frame.payload) == REFUSED_STREAM, "{frame:?}");
            }
            DATA | HEADERS if frame.flags & END_STREAM != 0 => over.push(frame.stream),
            _ => {}
        }
    }
    assert!(last < u32::MAX, "nobody told the last stream");
    over.sort_unstable();
    streams.retain(|stream| *stream <= last);
    assert_eq!(over, streams, "those up to {last}");
    assert!(gateway.ended().await.success());
    let late = |uri: &str| uri.rsplit('/').next().unwrap().parse::<u32>().is_ok_and(|at| at > last);
    assert!(
        !origin
            .seen()
            .iter()
            .any(|seen| { seen.uri.path().starts_with("/anything") && late(seen.uri.path()) })
    );
}

#[tokio::test]
async fn an_answer_may_come_before_its_request_has_ended() {
    // Each worker keeps connections of its own.
    let one_worker = |config: &mut Value| config["nginx_config"]["worker_processes"] = json!(1);
    let (gateway, recorder) = recorded(one_worker).await;
    let mut client = Connection::open(gateway.ports().http).await;
    client.setting(INITIAL_WINDOW_SIZE).await;
    recorder.answers_early("HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno");
    for at in 0..5 {
        let stream = 4 * at + 1;
        client.headers(stream, &request("POST", "/"), false).await;
        client.data(stream, b"some", false).await;
        let answer = client.answer(stream).await;
        assert_eq!((answer.status, answer.body.as_slice(), answer.broken), (404, &b"no"[..], None));
        // The rest is on its way, or is not sent: either is fine, and a reset of the stream says
        // that it is for nothing (RFC 9113, section 8.1).
        if at % 2 == 0 {
            client.data(stream, &[b'x'; 1000], false).await;
            client.data(stream, &[b'x'; 1000], true).await;
        }
        let frames = client.ping().await.expect("the connection goes on");
        for frame in frames.iter().filter(|frame| frame.stream == stream) {
            let is_reset = frame.kind == RST_STREAM && code(&frame.payload) == NO_ERROR;
            // What comes behind its own end is STREAM_CLOSED to it.
            assert!(is_reset || frame.kind != RST_STREAM || at % 2 == 0, "{frame:?}");
        }
        client.get(stream + 2, "/").await;
        assert_eq!(client.outcome(stream + 2).await, Outcome::Status(404));
    }
    eventually("those that were asked are let go", || async {
        recorder.connections() - recorder.ended() <= 1
    })
    .await;
}

#[tokio::test]
async fn responses_that_have_no_body_have_none() {
    let (gateway, recorder) = recorded(|_| {}).await;
    let mut client = Connection::open(gateway.ports().http).await;
    let length = "Content-Length: 1000\r\n";
    let mut stream = 1;
    for (method, line, fields, told) in [
        ("HEAD", "200 OK", length, Some("1000")),
        ("HEAD", "200 OK", "Transfer-Encoding: chunked\r\n", None),
        ("HEAD", "404 Not Found", length, Some("1000")),
        ("GET", "204 No Content", "", None),
        ("GET", "304 Not Modified", length, Some("1000")),
        ("GET", "304 Not Modified", "", None),
        ("GET", "200 OK", "Content-Length: 0\r\n", Some("0")),
    ] {
        recorder.answers(format!("HTTP/1.1 {line}\r\n{fields}X-A: b\r\n\r\n"));
        client.headers(stream, &request(method, "/"), true).await;
        let answer = client.answer(stream).await;
        let case = format!("{method}, {line}, {fields:?}: {answer:?}");
        assert_eq!(answer.outcome(), Outcome::Status(line[..3].parse().unwrap()), "{case}");
        assert!(answer.body.is_empty() && answer.broken.is_none(), "{case}");
        assert_eq!(answer.field("content-length"), told, "{case}");
        assert_eq!(answer.field("x-a"), Some("b"), "{case}");
        stream += 2;
    }
}

#[tokio::test]
async fn fields_of_a_response_are_those_of_http_2() {
    let (gateway, recorder) = recorded(|_| {}).await;
    let mut client = Connection::open(gateway.ports().http).await;
    recorder.answers(
        "HTTP/1.1 200 OK\r\nX-Upper: Case\r\nConnection: keep-alive, x-mine\r\nX-Mine: 1\r\n\
         Keep-Alive: timeout=5\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum\r\n\
         Set-Cookie: a=1\r\nSet-Cookie: b=2\r\n\r\n\
         2\r\nok\r\n0\r\nX-Sum: 1\r\nX-More: 2\r\n\r\n",
    );
    client.get(1, "/").await;
    let answer = client.answer(1).await;
    assert!(answer.is_ok() && answer.body == b"ok", "{answer:?}");
    for (name, value) in answer.fields.iter().chain(&answer.trailers) {
        assert_eq!(*name, name.to_ascii_lowercase());
        assert_eq!(value.trim(), value, "{name}");
        let own = ["connection", "keep-alive", "transfer-encoding", "x-mine", "upgrade"];
        assert!(!own.contains(&name.as_str()), "{name}");
    }
    assert_eq!(answer.fields.iter().filter(|field| field.0.starts_with(':')).count(), 1);
    assert_eq!(answer.field("x-upper"), Some("Case"));
    let cookies = answer.fields.iter().filter(|field| field.0 == "set-cookie");
    assert_eq!(cookies.map(|field| field.1.as_str()).collect::<Vec<_>>(), ["a=1", "b=2"]);
    let trailer = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(answer.trailers, [trailer("x-sum", "1"), trailer("x-more", "2")]);
    // A body of nothing, but trailers.
    recorder.answers(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nGrpc-Status: 0\r\n\r\n",
    );
    client.get(3, "/").await;
    let answer = client.answer(3).await;
    assert!(answer.is_ok() && answer.body.is_empty(), "{answer:?}");
    assert_eq!(answer.trailers, [trailer("grpc-status", "0")]);
    // A head that does not fit into a frame.
    let value = "v".repeat(15_000);
    recorder.answers(format!(
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-A: {value}a\r\nX-B: {value}b\r\n\r\nok"
    ));
    client.get(5, "/").await;
    let answer = client.answer(5).await;
    assert!(answer.is_ok() && answer.body == b"ok", "{answer:?}");
    assert_eq!(answer.field("x-a"), Some(format!("{value}a").as_str()));
    assert_eq!(answer.field("x-b"), Some(format!("{value}b").as_str()));
}

#[tokio::test]
async fn interim_responses_of_a_node_are_not_taken_for_the_answer() {
    let (gateway, recorder) = recorded(|_| {}).await;
    let mut client = Connection::open(gateway.ports().http).await;
    let hints = "HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\n\r\n";
    for (stream, interim) in [
        (1, hints.to_owned()),
        (3, hints.repeat(3)),
        (5, format!("HTTP/1.1 100 Continue\r\n\r\n{hints}")),
    ] {
        recorder.answers(format!("{interim}{OK}"));
        client.get(stream, "/").await;
        let answer = client.answer(stream).await;
        assert!(answer.is_ok() && answer.body == b"ok", "{answer:?}");
        assert!(answer.interim.iter().all(|status| *status == 103), "{answer:?}");
    }
}

#[tokio::test]
async fn a_client_that_waits_for_a_100_gets_it_or_an_answer() {
    let (gateway, recorder) = recorded(|config| {
        config["nginx_config"]["http"] = json!({ "client_max_body_size": 1000 });
    })
    .await;
    let mut client = Connection::open(gateway.ports().http).await;
    let expecting = |length: &'static [u8]| {
        let mut fields = request("POST", "/");
        fields.extend([(&b"expect"[..], &b"100-continue"[..]), (b"content-length", length)]);
        fields
    };
    // What is refused is refused at once, without a body.
    client.headers(1, &expecting(b"1001"), false).await;
    let answer = client.answer(1).await;
    assert_eq!((answer.status, answer.interim), (413, vec![]));
    // Nothing is expected where there is no body.
    let fields = [&request("GET", "/")[..], &[(b"expect", b"100-continue")]].concat();
    client.headers(3, &fields, true).await;
    let answer = client.answer(3).await;
    assert_eq!((answer.status, answer.interim), (200, vec![]));
    // A body that is on its way already.
    recorder.taken().await;
    client.headers(5, &expecting(b"4"), false).await;
    client.data(5, b"body", true).await;
    let answer = client.answer(5).await;
    assert!(answer.is_ok() && answer.interim.iter().all(|status| *status == 100), "{answer:?}");
    let reached = String::from_utf8(recorder.taken().await).unwrap();
    assert!(reached.ends_with("\r\n\r\nbody") && !reached.contains("expect"), "{reached}");
    // And one that waits.
    client.headers(7, &expecting(b"4"), false).await;
    let waits = tokio::time::timeout(PATIENCE, client.outcome(7));
    assert_eq!(waits.await.expect("a 100"), Outcome::Status(100));
    client.data(7, b"body", true).await;
    let answer = client.answer(7).await;
    assert!(answer.is_ok() && answer.interim.is_empty(), "{answer:?}");
}

#[tokio::test]
async fn ten_thousand_requests_take_one_connection() {
    let (gateway, origin) = one_origin().await;
    let mut client = Connection::open(gateway.ports().http).await.taking();
    let asked = origin.requests();
    let mut stream = 1;
    for _ in 0..200 {
        let streams: Vec<u32> = (0..50).map(|at| stream + 2 * at).collect();
        for stream in &streams {
            assert!(client.get(*stream, "/bytes/10").await);
        }
        for (stream, answer) in streams.iter().zip(client.answers(&streams).await) {
            assert!(answer.is_ok() && answer.body == b"xxxxxxxxxx", "{stream}: {answer:?}");
        }
        stream += 100;
    }
    assert_eq!(origin.requests() - asked, 10_000);
    assert!(origin.connections() < 200, "{} connections to the node", origin.connections());
}

#[tokio::test]
async fn large_bodies_pass_both_ways() {
    const SIZE: usize = 64 << 20;
    let (gateway, _origin) = one_origin().await;
    let settings = [(INITIAL_WINDOW_SIZE, 1 << 20)];
    let mut client = Connection::with(gateway.ports().http, &settings).await.taking();
    client.update(0, 4 << 20).await;
    client.get(1, &format!("/bytes/{SIZE}")).await;
    let answer = client.answer(1).await;
    assert!(answer.is_ok() && answer.body.len() == SIZE, "{} bytes", answer.body.len());
    assert_eq!(answer.field("content-length"), Some("67108864"));
    let before = super::floods::memory_bytes(&gateway);
    let part: Vec<u8> = (0..1 << 20).map(|n: u32| (n * 7 % 251) as u8).collect();
    let mut fields = request("POST", "/echo");
    let length = SIZE.to_string();
    fields.push((b"content-length", length.as_bytes()));
    client.headers(3, &fields, false).await;
    for at in 1..=SIZE / part.len() {
        assert!(client.upload(3, &part, at == SIZE / part.len()).await);
    }
    let answer = client.answer(3).await;
    assert!(answer.is_ok() && answer.body.len() == SIZE, "{} bytes", answer.body.len());
    assert!(answer.body.chunks(part.len()).all(|chunk| chunk == part), "bytes have changed");
    let after = super::floods::memory_bytes(&gateway);
    assert!(after < before + (32 << 20), "from {before} to {after} bytes");
}

#[tokio::test]
async fn requests_run_side_by_side() {
    let (gateway, _origin) = one_origin().await;
    let mut client = Connection::open(gateway.ports().http).await.taking();
    // A quick one passes slow ones, with a body and without.
    client.get(1, "/delay/60000").await;
    client.headers(3, &request("POST", "/anything"), false).await;
    client.data(3, b"half", false).await;
    for at in 0..20 {
        let stream = 2 * at + 5;
        client.headers(stream, &request("POST", &format!("/anything/{at}")), false).await;
        client.data(stream, format!("body {at}").as_bytes(), true).await;
    }
    let streams: Vec<u32> = (0..20).map(|at| 2 * at + 5).collect();
    for (at, answer) in client.answers(&streams).await.iter().enumerate() {
        let echo: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(echo["uri"], format!("/anything/{at}"));
        assert_eq!(echo["body"], format!("body {at}"));
    }
    client.data(3, b" whole", true).await;
    let answer = client.answer(3).await;
    let echo: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(echo["body"], "half whole");
}

#[tokio::test]
async fn a_connection_of_the_last_stream_comes_to_an_end() {
    let gateway = Gateway::start().await;
    // There is no stream behind it (RFC 9113, section 5.1.1): the client has to connect again.
    let mut client = Connection::open(gateway.ports().http).await;
    client.get(LARGEST_WINDOW, "/").await;
    assert_eq!(client.outcome(LARGEST_WINDOW).await, Outcome::Status(404));
    client.write(&frame(HEADERS, ORDINARY, 1, &block(&request("GET", "/")))).await;
    assert!(matches!(client.outcome(1).await, Outcome::GoAway(_) | Outcome::Closed));
}
