//! HTTP/2 requests that HTTP/1.1 would read in another way (RFC 9113, sections 8.2, 8.3, 10.3).

use super::{Reaches, SMUGGLED, Site};
use crate::support::h2::{Connection, Field, Outcome, request};

const A: Field<'static> = (b":authority", b"a");
const GET: Field<'static> = (b":method", b"GET");
const HTTP: Field<'static> = (b":scheme", b"http");
const ROOT: Field<'static> = (b":path", b"/");

/// What may become of a request that is refused.
fn is_refused(outcome: Outcome) -> bool {
    match outcome {
        Outcome::Status(status) => status == 400,
        // PROTOCOL_ERROR and COMPRESSION_ERROR.
        Outcome::Reset(code) | Outcome::GoAway(code) => matches!(code, 1 | 9),
        Outcome::Closed => false,
    }
}

/// Sends one header block on a connection of its own.
async fn ask(site: &Site, fields: &[Field<'_>], ends: bool) -> (Connection, Outcome) {
    let mut connection = Connection::open(site.port()).await;
    connection.headers(1, fields, ends).await;
    let outcome = if ends { connection.outcome(1).await } else { Outcome::Closed };
    (connection, outcome)
}

#[tokio::test]
async fn a_head_that_http_1_could_not_say_is_refused() {
    let mut site = Site::start().await;
    let plain = request("GET", "/");
    let with = |fields: &[Field<'static>]| [&plain[..], fields].concat();
    let crlf: Field<'_> = (b"x-a", b"b\r\ntransfer-encoding: chunked");
    let smuggling = format!("/ HTTP/1.1\r\nhost: a\r\n\r\n{SMUGGLED}");
    let by_path = [GET, HTTP, A, (b":path", smuggling.as_bytes())];
    let method = format!("GET {smuggling}");
    let by_method = [(&b":method"[..], method.as_bytes()), HTTP, A, ROOT];
    let cases: Vec<(&str, Vec<Field<'_>>)> = vec![
        // The connection's own fields.
        ("connection", with(&[(b"connection", b"close")])),
        ("keep-alive", with(&[(b"keep-alive", b"timeout=5")])),
        ("proxy-connection", with(&[(b"proxy-connection", b"keep-alive")])),
        ("transfer-encoding", with(&[(b"transfer-encoding", b"chunked")])),
        ("upgrade", with(&[(b"upgrade", b"h2c")])),
        ("te other than trailers", with(&[(b"te", b"gzip")])),
        // Names and values.
        ("a name in upper case", with(&[(b"X-A", b"b")])),
        ("an empty name", with(&[(b"", b"b")])),
        ("a colon in a name", with(&[(b"x:a", b"b")])),
        ("a blank in a name", with(&[(b"x a", b"b")])),
        ("a line end in a name", with(&[(b"x: a\r\ny", b"b")])),
        ("a line end in a value", with(&[crlf])),
        ("a CR in a value", with(&[(b"x-a", b"b\rc")])),
        ("a LF in a value", with(&[(b"x-a", b"b\nc")])),
        ("a NUL in a value", with(&[(b"x-a", b"b\0c")])),
        // Pseudo-fields.
        ("no method", vec![HTTP, A, ROOT]),
        ("no scheme", vec![GET, A, ROOT]),
        ("no path", vec![GET, HTTP, A]),
        ("an empty path", vec![GET, HTTP, A, (b":path", b"")]),
        ("two paths", vec![GET, HTTP, A, ROOT, (b":path", b"/smuggled")]),
        ("two methods", vec![GET, (b":method", b"POST"), HTTP, A, ROOT]),
        ("two authorities", vec![GET, HTTP, A, A, ROOT]),
        ("an unknown one", vec![GET, HTTP, A, ROOT, (b":x", b"y")]),
        ("one of responses", vec![GET, HTTP, A, ROOT, (b":status", b"200")]),
        ("one behind a field", vec![GET, HTTP, ROOT, (b"x-a", b"b"), A]),
        ("a method that is no token", vec![(b":method", b"G T"), HTTP, A, ROOT]),
        ("a request for a method", by_method.to_vec()),
        ("a request for a path", by_path.to_vec()),
        ("a blank in the path", vec![GET, HTTP, A, (b":path", b"/a b")]),
        ("a relative path", vec![GET, HTTP, A, (b":path", b"smuggled")]),
        ("a path that joins the host", vec![GET, HTTP, A, (b":path", b".b/smuggled")]),
        ("a query for a path", vec![GET, HTTP, A, (b":path", b"?smuggled")]),
        ("an absolute path", vec![GET, HTTP, A, (b":path", b"http://b/")]),
        ("an asterisk", vec![GET, HTTP, A, (b":path", b"*")]),
        ("an asterisk of OPTIONS", vec![(b":method", b"OPTIONS"), HTTP, A, (b":path", b"*")]),
        ("a scheme that is none", vec![GET, (b":scheme", b"http://b/?"), A, ROOT]),
        ("another scheme", vec![GET, (b":scheme", b"ftp"), A, ROOT]),
        // The host.
        ("no host", vec![GET, HTTP, ROOT]),
        ("an empty authority", vec![GET, HTTP, (b":authority", b""), ROOT]),
        ("another host", with(&[(b"host", b"b")])),
        ("another port", with(&[(b"host", b"a:81")])),
        ("two hosts", vec![GET, HTTP, ROOT, (b"host", b"a"), (b"host", b"b")]),
        ("the host twice", with(&[(b"host", b"a"), (b"host", b"a")])),
        ("an authority with a path", vec![GET, HTTP, (b":authority", b"a/b"), ROOT]),
        ("an authority with a user", vec![GET, HTTP, (b":authority", b"u@a"), ROOT]),
        ("an authority with a blank", vec![GET, HTTP, (b":authority", b"a b"), ROOT]),
        ("a line end in the authority", vec![GET, HTTP, (b":authority", b"a\r\nx: y"), ROOT]),
        ("a tunnel with a path", vec![(b":method", b"CONNECT"), HTTP, A, ROOT]),
        (
            "a tunnel for a protocol",
            vec![(b":method", b"CONNECT"), HTTP, A, ROOT, (b":protocol", b"websocket")],
        ),
        // Lengths.
        ("a length without a body", with(&[(b"content-length", b"2")])),
        ("a signed length", with(&[(b"content-length", b"+0")])),
        ("a list of lengths", with(&[(b"content-length", b"0, 0")])),
        ("two lengths", with(&[(b"content-length", b"0"), (b"content-length", b"2")])),
    ];
    for (name, fields) in cases {
        site.recorder.taken().await;
        let (_connection, outcome) = ask(&site, &fields, true).await;
        if !is_refused(outcome) {
            site.wrong.push(format!("{name}: {outcome:?}"));
        }
        site.reached(name, &Reaches::Nothing).await;
    }
    let tunnel: [Field<'_>; 2] = [(b":method", b"CONNECT"), (b":authority", b"a:80")];
    assert_eq!(ask(&site, &tunnel, true).await.1, Outcome::Status(405));
    assert_eq!(ask(&site, &request("TRACE", "/"), true).await.1, Outcome::Status(405));
    let expecting: Field<'_> = (b"expect", b"x");
    assert_eq!(ask(&site, &with(&[expecting]), true).await.1, Outcome::Status(417));
    site.reached("methods and expectations", &Reaches::Nothing).await;
    site.end();
}

#[tokio::test]
async fn what_may_pass_reaches_the_node_as_http_1() {
    let mut site = Site::start().await;
    let plain = request("GET", "/x?y");
    let with = |fields: &[Field<'static>]| [&plain[..], fields].concat();
    for (name, fields, reaches) in [
        ("plain", plain.clone(), ""),
        ("the host besides", with(&[(b"host", b"a")]), ""),
        ("the host alone", vec![GET, HTTP, (b":path", b"/x?y"), (b"host", b"a")], ""),
        ("te", with(&[(b"te", b"trailers")]), ""),
        ("an underscore", with(&[(b"x_a", b"b")]), "x_a: b\r\n"),
        ("framing with underscores", with(&[(b"transfer_encoding", b"chunked")]), ""),
        ("blanks around a value", with(&[(b"x-a", b"b")]), "x-a: b\r\n"),
        ("crumbs", with(&[(b"cookie", b"a=1"), (b"cookie", b"b=2")]), "cookie: a=1; b=2\r\n"),
        ("no length", with(&[(b"content-length", b"0")]), "content-length: 0\r\n"),
    ] {
        site.recorder.taken().await;
        let (_connection, outcome) = ask(&site, &fields, true).await;
        if outcome != Outcome::Status(200) {
            site.wrong.push(format!("{name}: {outcome:?}"));
        }
        let expected = site.request("GET /x?y", reaches, "");
        site.reached(name, &Reaches::Exactly(expected)).await;
    }
    site.end();
}

#[tokio::test]
async fn a_body_is_as_long_as_its_length_says() {
    let mut site = Site::start().await;
    let post = request("POST", "/");
    for (name, length, body) in [
        ("H2.CL", &b"0"[..], SMUGGLED.as_bytes()),
        ("longer", b"1", b"ab"),
        ("shorter", b"5", b"ab"),
        ("none at all", b"2", b""),
    ] {
        site.recorder.taken().await;
        let fields = [&post[..], &[(b"content-length", length)]].concat();
        let (mut connection, _) = ask(&site, &fields, false).await;
        connection.data(1, body, true).await;
        let outcome = connection.outcome(1).await;
        if !is_refused(outcome) {
            site.wrong.push(format!("{name}: {outcome:?}"));
        }
        let reached = String::from_utf8_lossy(&site.recorder.taken().await).into_owned();
        if reached.contains("smuggled") || reached.ends_with("ab") && length != b"5" {
            site.wrong.push(format!("{name}: reached {reached:?}"));
        }
    }
    for (length, framing, body) in [
        (Some(&b"2"[..]), "content-length: 2\r\n", "ab"),
        (None, "transfer-encoding: chunked\r\n", "2\r\nab\r\n0\r\n\r\n"),
    ] {
        site.recorder.taken().await;
        let length: Vec<Field<'_>> =
            length.into_iter().map(|length| (&b"content-length"[..], length)).collect();
        let fields = [&post[..], &length].concat();
        let (mut connection, _) = ask(&site, &fields, false).await;
        connection.data(1, b"ab", true).await;
        assert_eq!(connection.outcome(1).await, Outcome::Status(200));
        let expected = site.request("POST /", framing, body);
        site.reached(framing, &Reaches::Exactly(expected)).await;
    }
    site.end();
}

#[tokio::test]
async fn trailers_are_held_to_the_same_rules() {
    let mut site = Site::start().await;
    let post = request("POST", "/");
    site.recorder.taken().await;
    let (mut connection, _) = ask(&site, &post, false).await;
    connection.data(1, b"ab", false).await;
    let trailers: [Field<'_>; 4] =
        [(b"x-sum", b"1"), (b"host", b"b"), (b"content-length", b"9"), (b"x-real-ip", b"1.1.1.1")];
    connection.headers(1, &trailers, true).await;
    assert_eq!(connection.outcome(1).await, Outcome::Status(200));
    let expected = site.request(
        "POST /",
        "transfer-encoding: chunked\r\n",
        "2\r\nab\r\n0\r\nx-sum: 1\r\n\r\n",
    );
    site.reached("plain", &Reaches::Exactly(expected)).await;
    for (name, trailers) in [
        ("upper case", &[(&b"X-A"[..], &b"b"[..])][..]),
        ("a pseudo-field", &[(b":path", b"/smuggled")]),
        ("a line end", &[(b"x-a", b"b\r\nc: d")]),
        ("connection", &[(b"connection", b"close")]),
    ] {
        site.recorder.taken().await;
        let (mut connection, _) = ask(&site, &post, false).await;
        connection.data(1, b"ab", false).await;
        connection.headers(1, trailers, true).await;
        let outcome = connection.outcome(1).await;
        if !is_refused(outcome) {
            site.wrong.push(format!("{name}: {outcome:?}"));
        }
        site.reached(name, &Reaches::Broken(String::new())).await;
    }
    site.end();
}
