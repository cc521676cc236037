//! Request lines and header fields.

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::{Reaches, SMUGGLED, Site};

/// Heads without their empty line, and the status that refuses each.
const REFUSED: &[(&str, &str, u16)] = &[
    // The request line.
    ("no version", "GET /\r\nHost: a", 400),
    ("HTTP/0.9", "GET /", 400),
    ("HTTP/1.2", "GET / HTTP/1.2\r\nHost: a", 505),
    ("HTTP/1.10", "GET / HTTP/1.10\r\nHost: a", 400),
    ("HTTP/2.0 in text", "GET / HTTP/2.0\r\nHost: a", 505),
    ("a version in lower case", "GET / http/1.1\r\nHost: a", 400),
    ("another protocol", "GET / ICY/1.1\r\nHost: a", 400),
    ("two blanks before the target", "GET  / HTTP/1.1\r\nHost: a", 400),
    ("two blanks before the version", "GET /  HTTP/1.1\r\nHost: a", 400),
    ("a tab for a blank", "GET\t/ HTTP/1.1\r\nHost: a", 400),
    ("a blank at the end", "GET / HTTP/1.1 \r\nHost: a", 400),
    ("a blank at the start", " GET / HTTP/1.1\r\nHost: a", 400),
    ("a blank in the target", "GET /a b HTTP/1.1\r\nHost: a", 400),
    ("a NUL in the target", "GET /a\0b HTTP/1.1\r\nHost: a", 400),
    ("a CR in the target", "GET /a\rb HTTP/1.1\r\nHost: a", 400),
    ("a control character in the target", "GET /a\x7f HTTP/1.1\r\nHost: a", 400),
    ("no method", " / HTTP/1.1\r\nHost: a", 400),
    ("a method that is no token", "G(T / HTTP/1.1\r\nHost: a", 400),
    ("no target", "GET HTTP/1.1\r\nHost: a", 400),
    ("a relative target", "GET a HTTP/1.1\r\nHost: a", 400),
    ("an authority for a target", "GET a:80 HTTP/1.1\r\nHost: a", 400),
    ("an asterisk for a target", "GET * HTTP/1.1\r\nHost: a", 400),
    ("the whole server's options", "OPTIONS * HTTP/1.1\r\nHost: a", 400),
    ("a tunnel", "CONNECT a:80 HTTP/1.1\r\nHost: a:80", 405),
    ("a tunnel to a path", "CONNECT / HTTP/1.1\r\nHost: a", 405),
    ("a trace", "TRACE / HTTP/1.1\r\nHost: a", 405),
    ("an absolute target of another scheme", "GET ftp://a/ HTTP/1.1\r\nHost: a", 400),
    ("an absolute target with a user", "GET http://u@a/ HTTP/1.1\r\nHost: a", 400),
    ("an absolute target without a host", "GET http:///x HTTP/1.1\r\nHost: a", 400),
    ("an absolute target with a bad port", "GET http://a:b/ HTTP/1.1\r\nHost: a", 400),
    ("TLS", "\x16\x03\x01\x02\x00\x01\x00", 400),
    // The host.
    ("no host", "GET / HTTP/1.1", 400),
    ("an empty host", "GET / HTTP/1.1\r\nHost:", 400),
    ("two hosts", "GET / HTTP/1.1\r\nHost: a\r\nHost: b", 400),
    ("one host twice", "GET / HTTP/1.1\r\nHost: a\r\nHost: a", 400),
    ("two hosts and an absolute target", "GET http://a/ HTTP/1.1\r\nHost: a\r\nHost: b", 400),
    ("a list of hosts", "GET / HTTP/1.1\r\nHost: a, b", 400),
    ("a host with a path", "GET / HTTP/1.1\r\nHost: a/b", 400),
    ("a host with a user", "GET / HTTP/1.1\r\nHost: u@a", 400),
    ("a host with a blank", "GET / HTTP/1.1\r\nHost: a b", 400),
    ("a host with a query", "GET / HTTP/1.1\r\nHost: a?b", 400),
    ("a host with a bad port", "GET / HTTP/1.1\r\nHost: a:b", 400),
    ("a host with two ports", "GET / HTTP/1.1\r\nHost: a:80:80", 400),
    ("an address without brackets", "GET / HTTP/1.1\r\nHost: ::1", 400),
    ("half a bracket", "GET / HTTP/1.1\r\nHost: [::1", 400),
    ("text behind brackets", "GET / HTTP/1.1\r\nHost: [::1]a", 400),
    ("a host that begins with a port", "GET / HTTP/1.1\r\nHost: :80", 400),
    ("a host beyond ASCII", "GET / HTTP/1.1\r\nHost: \u{e4}", 400),
    ("a host with a NUL", "GET / HTTP/1.1\r\nHost: a\0", 400),
    // Fields.
    ("a blank before the colon", "GET / HTTP/1.1\r\nHost: a\r\nX-A : b", 400),
    ("a tab before the colon", "GET / HTTP/1.1\r\nHost: a\r\nX-A\t: b", 400),
    ("a blank in a name", "GET / HTTP/1.1\r\nHost: a\r\nX A: b", 400),
    ("a name that is no token", "GET / HTTP/1.1\r\nHost: a\r\nX(A): b", 400),
    ("a name beyond ASCII", "GET / HTTP/1.1\r\nHost: a\r\nX-\u{e4}: b", 400),
    ("an empty name", "GET / HTTP/1.1\r\nHost: a\r\n: b", 400),
    ("a line without a colon", "GET / HTTP/1.1\r\nHost: a\r\nX-A", 400),
    ("a folded line", "GET / HTTP/1.1\r\nHost: a\r\nX-A: b\r\n c", 400),
    ("a line folded with a tab", "GET / HTTP/1.1\r\nHost: a\r\nX-A: b\r\n\tc", 400),
    ("a fold in the first line", "GET / HTTP/1.1\r\n Host: a\r\nHost: a", 400),
    ("a folded host", "GET / HTTP/1.1\r\nHost:\r\n a", 400),
    ("a NUL in a value", "GET / HTTP/1.1\r\nHost: a\r\nX-A: b\0c", 400),
    ("a NUL in a name", "GET / HTTP/1.1\r\nHost: a\r\nX-A\0: b", 400),
    ("a CR in a value", "GET / HTTP/1.1\r\nHost: a\r\nX-A: b\rX-B: c", 400),
    ("a CR in a name", "GET / HTTP/1.1\r\nHost: a\r\nX\r-A: b", 400),
    ("CRs at the end of a line", "GET / HTTP/1.1\r\nHost: a\r\nX-A: b\r", 400),
    ("a control character in a value", "GET / HTTP/1.1\r\nHost: a\r\nX-A: b\x01c", 400),
    ("a DEL in a value", "GET / HTTP/1.1\r\nHost: a\r\nX-A: b\x7fc", 400),
    ("CRs for line ends", "GET / HTTP/1.1\rHost: a\r", 400),
    ("an unknown expectation", "GET / HTTP/1.1\r\nHost: a\r\nExpect: 200-ok", 417),
    ("one expectation more", "GET / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue, x", 417),
];

#[tokio::test]
async fn what_can_be_read_in_two_ways_is_refused_with_all_that_follows() {
    let mut site = Site::start().await;
    for (name, head, status) in REFUSED {
        let sent = format!("{head}\r\n\r\n{SMUGGLED}");
        site.check(name, sent, &[*status], Reaches::Nothing).await;
    }
    site.end();
}

/// `head` without the line that begins with `start`.
fn without_line(head: &str, start: &str) -> String {
    head.split_inclusive("\r\n").filter(|line| !line.starts_with(start)).collect()
}

/// Lines of a head to host `a` (its request line first), and the line and fields that reach the
/// node of them.
const PASSED: &[(&str, &str, &str, &str)] = &[
    ("plain", "GET /?a=b HTTP/1.1\r\nHost: a", "GET /?a=b", ""),
    ("an empty line before", "\r\nGET / HTTP/1.1\r\nHost: a", "GET /", ""),
    ("LFs for line ends", "GET / HTTP/1.1\nHost: a\nX-A: b", "GET /", "x-a: b\r\n"),
    (
        "a LF in a value",
        "GET / HTTP/1.1\r\nHost: a\r\nX-A: b\nX-B: c",
        "GET /",
        "x-a: b\r\nx-b: c\r\n",
    ),
    ("an absolute target", "GET http://a/x?y HTTP/1.1\r\nHost: b", "GET /x?y", ""),
    ("an absolute target without a path", "GET http://a HTTP/1.1\r\nHost: b", "GET /", ""),
    ("an absolute target of a query", "GET http://a?x=1 HTTP/1.1\r\nHost: b", "GET /?x=1", ""),
    ("an absolute target over https", "GET https://a/x HTTP/1.1\r\nHost: b", "GET /x", ""),
    ("a fragment", "GET /a#b HTTP/1.1\r\nHost: a", "GET /a", ""),
    ("a path beyond ASCII", "GET /\u{e4} HTTP/1.1\r\nHost: a", "GET /\u{e4}", ""),
    ("a query beyond ASCII", "GET /?\u{e4} HTTP/1.1\r\nHost: a", "GET /?\u{e4}", ""),
    ("a target in a query", "GET /?http://b/ HTTP/1.1\r\nHost: a", "GET /?http://b/", ""),
    ("the options of a path", "OPTIONS /x HTTP/1.1\r\nHost: a", "OPTIONS /x", ""),
    ("a method of its own", "PURGE /x HTTP/1.1\r\nHost: a", "PURGE /x", ""),
    ("no value", "GET / HTTP/1.1\r\nHost: a\r\nX-A:\r\nX-B: ", "GET /", "x-a: \r\nx-b: \r\n"),
    (
        "blanks around a value",
        "GET / HTTP/1.1\r\nHost: a\r\nX-A:\t b c \t",
        "GET /",
        "x-a: b c\r\n",
    ),
    (
        "one name twice",
        "GET / HTTP/1.1\r\nHost: a\r\nX-A: 1\r\nX-A: 2",
        "GET /",
        "x-a: 1\r\nx-a: 2\r\n",
    ),
    ("a name of odd tokens", "GET / HTTP/1.1\r\nHost: a\r\nX!#.~: b", "GET /", "x!#.~: b\r\n"),
    ("an underscore", "GET / HTTP/1.1\r\nHost: a\r\nX_A: b", "GET /", "x_a: b\r\n"),
    // To a node that takes underscores for hyphens these would frame the request.
    (
        "framing with underscores",
        "GET / HTTP/1.1\r\nHost: a\r\nTransfer_Encoding: chunked\r\nContent_Length: 9\r\nContent_length: 9",
        "GET /",
        "",
    ),
    (
        "what the connection owns",
        "GET / HTTP/1.1\r\nHost: a\r\nKeep-Alive: 5\r\nTE: trailers\r\nProxy-Connection: x\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\nConnection: Upgrade, HTTP2-Settings",
        "GET /",
        "",
    ),
    (
        "what the connection names",
        "GET / HTTP/1.1\r\nHost: a\r\nX-A: b\r\nX-B: c\r\nConnection: x-a, host, content-length",
        "GET /",
        "x-b: c\r\n",
    ),
    (
        "what the gateway says itself",
        "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: b\r\nX-Forwarded-Port: 1\r\nForwarded: for=b",
        "GET /",
        "",
    ),
];

#[tokio::test]
async fn what_may_pass_reaches_the_node_in_one_form() {
    let mut site = Site::start().await;
    for (name, head, line, fields) in PASSED {
        let end = if head.contains("\r\n") { "\r\n" } else { "\n" };
        let sent = format!("{head}{end}Connection: close{end}{end}");
        let expected = site.request(line, fields, "");
        site.check(name, sent, &[200], Reaches::Exactly(expected)).await;
    }
    for host in ["a:81", "A.b-c_d.e", "[::1]:81", "[::ffff:1.2.3.4]", "127.0.0.1", "a."] {
        let sent = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        let mut expected = site.request_to(host, "GET /", "", "");
        if host.ends_with(":81") {
            let local = format!("x-forwarded-port: {}", site.port());
            expected = expected.replace(&local, "x-forwarded-port: 81");
        }
        site.check(host, sent, &[200], Reaches::Exactly(expected)).await;
    }
    let old = "GET /old HTTP/1.0\r\n\r\n";
    let expected = site.request_to(&site.recorder.node(), "GET /old", "", "");
    let expected = without_line(&expected, "x-forwarded-host: ");
    site.check("HTTP/1.0 without a host", old, &[200], Reaches::Exactly(expected)).await;
    // Bytes beyond ASCII are no text, and nobody's to change.
    site.recorder.taken().await;
    let sent = b"GET / HTTP/1.1\r\nHost: a\r\nX-A: \x80\xff\r\nConnection: close\r\n\r\n";
    crate::support::raw::until_closed(site.port(), sent).await.unwrap();
    let reached = site.recorder.taken().await;
    assert!(reached.windows(9).any(|bytes| bytes == b"x-a: \x80\xff\r\n"), "{reached:?}");
    site.end();
}

#[tokio::test]
async fn it_does_not_matter_how_the_bytes_come() {
    let site = Site::start().await;
    let sent = b"POST /slow HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\
                 Connection: close\r\n\r\n2;x\r\nhi\r\n0\r\nX-Sum: 1\r\n\r\n";
    site.recorder.taken().await;
    let mut client = TcpStream::connect(("127.0.0.1", site.port())).await.unwrap();
    client.set_nodelay(true).unwrap();
    for byte in sent {
        client.write_all(&[*byte]).await.unwrap();
    }
    let answer = crate::support::raw::read_until(&mut client, "\r\n\r\nok").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let reached = String::from_utf8(site.recorder.taken().await).unwrap();
    let (head, body) = reached.split_once("\r\n\r\n").unwrap();
    let expected = site.request("POST /slow", "transfer-encoding: chunked\r\n", "");
    assert_eq!(format!("{head}\r\n\r\n"), expected);
    let bodies = ["2\r\nhi\r\n", "1\r\nh\r\n1\r\ni\r\n"];
    let bodies = bodies.map(|data| format!("{data}0\r\nx-sum: 1\r\n\r\n"));
    assert!(bodies.iter().any(|expected| body == expected), "{body:?}");
    site.end();
}

#[tokio::test]
async fn underscores_go_no_further_where_they_are_switched_off() {
    let mut site = Site::with(|config| {
        config["nginx_config"]["http"]["underscores_in_headers"] = "off".into();
    })
    .await;
    let sent = "GET / HTTP/1.1\r\nHost: a\r\nX_A: b\r\nX-B: c\r\nConnection: close\r\n\r\n";
    let expected = site.request("GET /", "x-b: c\r\n", "");
    site.check("an underscore", sent, &[200], Reaches::Exactly(expected)).await;
    site.end();
}
