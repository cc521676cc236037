//! Responses of a node that lies about where they end.

use super::{SMUGGLED, Site};
use crate::support::raw;
use crate::support::recorder::OK;

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

/// What a node might want taken for the answer to the next request.
const POISON: &str = "HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nsmuggled";

/// Sends `request` and returns what the client gets, without what the gateway says of itself.
async fn ask(site: &Site, request: &str) -> String {
    let answer = raw::until_closed(site.port(), request.as_bytes()).await;
    let answer = String::from_utf8_lossy(&answer.expect("the end of the connection")).into_owned();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let is_ours = |line: &&str| !["server: ", "date: "].iter().any(|name| line.starts_with(name));
    let lines: Vec<&str> = head.split("\r\n").filter(is_ours).collect();
    format!("{}\r\n\r\n{body}", lines.join("\r\n"))
}

/// Heads of responses that are refused, but for the empty line.
const REFUSED: &[(&str, &str)] = &[
    ("another protocol", "SSH-2.0-OpenSSH_9.0"),
    ("HTTP/2", "HTTP/2 200 OK\r\nContent-Length: 2"),
    ("HTTP/1.2", "HTTP/1.2 200 OK\r\nContent-Length: 2"),
    ("a status of two digits", "HTTP/1.1 20 OK\r\nContent-Length: 2"),
    ("a status of four digits", "HTTP/1.1 2000 OK\r\nContent-Length: 2"),
    ("a status below 100", "HTTP/1.1 099 OK\r\nContent-Length: 2"),
    ("a switch that nobody asked for", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x"),
    ("two lengths", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3"),
    ("a list of lengths", "HTTP/1.1 200 OK\r\nContent-Length: 2, 2"),
    ("a signed length", "HTTP/1.1 200 OK\r\nContent-Length: +2"),
    ("an empty length", "HTTP/1.1 200 OK\r\nContent-Length:"),
    ("a length of 2^63", "HTTP/1.1 200 OK\r\nContent-Length: 9223372036854775808"),
    ("an unknown coding", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip"),
    ("a coding below chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked"),
    ("a coding above chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, gzip"),
    ("chunks twice", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked"),
    ("a coding that is none", "HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked"),
    (
        "a coding and a length",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked\r\nContent-Length: 2",
    ),
    ("chunks of HTTP/1.0", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked"),
    ("chunks and a length", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 2"),
    ("a blank before the colon", "HTTP/1.1 200 OK\r\nContent-Length : 2"),
    ("a folded line", "HTTP/1.1 200 OK\r\nX-A: b\r\n c\r\nContent-Length: 2"),
    ("a CR in a value", "HTTP/1.1 200 OK\r\nX-A: b\rSet-Cookie: c\r\nContent-Length: 2"),
    ("a NUL in a value", "HTTP/1.1 200 OK\r\nX-A: b\0\r\nContent-Length: 2"),
    ("an empty name", "HTTP/1.1 200 OK\r\n: b\r\nContent-Length: 2"),
    ("a name that is none", "HTTP/1.1 200 OK\r\nX(A): b\r\nContent-Length: 2"),
    ("a line without a colon", "HTTP/1.1 200 OK\r\nX-A\r\nContent-Length: 2"),
];

#[tokio::test]
async fn what_can_be_read_in_two_ways_is_a_502() {
    let mut site = Site::start().await;
    for (name, head) in REFUSED {
        site.recorder.answers(format!("{head}\r\n\r\nok{POISON}"));
        let told = ask(&site, GET).await;
        if !told.starts_with("HTTP/1.1 502") || told.contains("smuggled") {
            site.wrong.push(format!("{name}: told {told:?}"));
        }
        site.recorder.answers(OK);
        let next = ask(&site, GET).await;
        if !next.ends_with("\r\n\r\nok") {
            site.wrong.push(format!("{name}: the next request was told {next:?}"));
        }
    }
    let fields = "X-A: b\r\n".repeat(40_000);
    site.recorder.answers(format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: 2\r\n\r\nok"));
    assert!(ask(&site, GET).await.starts_with("HTTP/1.1 502"));
    let long = "x".repeat(300_000);
    site.recorder.answers(format!("HTTP/1.1 200 OK\r\nX-A: {long}\r\n\r\nok"));
    assert!(ask(&site, GET).await.starts_with("HTTP/1.1 502"));
    let flood = "HTTP/1.1 100 Continue\r\n\r\n".repeat(1_000);
    site.recorder.answers(format!("{flood}{OK}"));
    assert!(ask(&site, GET).await.starts_with("HTTP/1.1 502"));
    site.end();
}

/// What a node sends, and what the client gets of it.
const PASSED: &[(&str, &str, &str)] = &[
    ("plain", OK, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok"),
    (
        "LFs for line ends",
        "HTTP/1.1 200 OK\nX-A: b\nContent-Length: 2\n\nok",
        "HTTP/1.1 200 OK\r\nx-a: b\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok",
    ),
    (
        "no reason",
        "HTTP/1.1 404\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok",
    ),
    (
        "one length twice",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 02\r\n\r\nok",
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok",
    ),
    (
        "chunks",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n2;a=b\r\nok\r\n00\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n\
         2\r\nok\r\n0\r\n\r\n",
    ),
    (
        "trailers",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum\r\n\r\n\
         2\r\nok\r\n0\r\nX-Sum: 1\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\
         Connection: x\r\nSet-Cookie: a=b\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntrailer: x-sum\r\ntransfer-encoding: chunked\r\n\
         connection: close\r\n\r\n2\r\nok\r\n0\r\nx-sum: 1\r\n\r\n",
    ),
    (
        "more than the length",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok, and more",
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok",
    ),
    (
        "more than the chunks",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\nand more",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n\
         2\r\nok\r\n0\r\n\r\n",
    ),
    (
        "the connection's own",
        "HTTP/1.1 200 OK\r\nConnection: x-a, keep-alive\r\nKeep-Alive: 5\r\nX-A: b\r\n\
         Proxy-Connection: x\r\nUpgrade: h2c\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok",
    ),
    (
        "interim responses",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\nX-A: b\r\n\r\n\
         HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n\
         HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok",
    ),
    (
        "a 204 with a body",
        "HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n",
    ),
    (
        "a 204 with chunks",
        "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n",
    ),
    (
        "a 304 with a body",
        "HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 304 Not Modified\r\ncontent-length: 2\r\nconnection: close\r\n\r\n",
    ),
];

#[tokio::test]
async fn what_may_pass_reaches_the_client_in_one_form_and_the_next_request_not_at_all() {
    let mut site = Site::start().await;
    for (name, answer, expected) in PASSED {
        for poison in ["", POISON] {
            site.recorder.answers(format!("{answer}{poison}"));
            let told = ask(&site, GET).await;
            if told != *expected {
                site.wrong.push(format!("{name}: told {told:?}"));
            }
            site.recorder.answers(OK);
            let next = ask(&site, GET).await;
            if !next.ends_with("\r\n\r\nok") {
                site.wrong.push(format!("{name}: the next request was told {next:?}"));
            }
        }
    }
    // HEAD has no body, whatever the node sends.
    let head = GET.replace("GET", "HEAD");
    for (answer, expected) in [
        (OK, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n"),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n",
        ),
    ] {
        for poison in ["", POISON] {
            site.recorder.answers(format!("{answer}{poison}"));
            assert_eq!(ask(&site, &head).await, expected);
            site.recorder.answers(OK);
            assert!(ask(&site, GET).await.ends_with("\r\n\r\nok"));
        }
    }
    // A body until the end of the connection is one, and the client can tell when it is cut.
    site.recorder.answers_and_closes("HTTP/1.0 200 OK\r\n\r\nok");
    assert!(ask(&site, GET).await.ends_with("\r\n\r\n2\r\nok\r\n0\r\n\r\n"));
    site.end();
}

#[tokio::test]
async fn chunks_that_are_none_cut_the_response_off() {
    let mut site = Site::start().await;
    for (name, body) in [
        ("no size", "2\r\nok\r\nx\r\n"),
        ("a sign", "2\r\nok\r\n+2\r\nok\r\n0\r\n\r\n"),
        ("a size of 2^64", "2\r\nok\r\n10000000000000002\r\nok\r\n0\r\n\r\n"),
        ("a LF for a line end", "2\r\nok\r\n2\nok\r\n0\r\n\r\n"),
        ("more than the size", "2\r\nok\r\n2\r\nokay\r\n0\r\n\r\n"),
        ("a bad trailer", "2\r\nok\r\n0\r\nX A: b\r\n\r\n"),
        ("an early end", "2\r\nok\r\n"),
    ] {
        let answer = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{body}");
        site.recorder.answers_and_closes(answer);
        let told = ask(&site, GET).await;
        if !told.starts_with("HTTP/1.1 200") || told.ends_with("\r\n0\r\n\r\n") {
            site.wrong.push(format!("{name}: told {told:?}"));
        }
    }
    site.end();
}

#[tokio::test]
async fn an_answer_that_nobody_asked_for_is_given_to_nobody() {
    let site = Site::start().await;
    site.recorder.answers(format!("{OK}{POISON}{SMUGGLED}"));
    ask(&site, GET).await;
    for _ in 0..20 {
        let before = site.recorder.connections();
        assert!(ask(&site, GET).await.ends_with("\r\n\r\nok"));
        assert_eq!(site.recorder.connections(), before + 1, "the connection was used again");
    }
}
