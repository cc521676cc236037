//! Lengths, transfer codings, chunks and trailers of requests.

use super::{Reaches, SMUGGLED, Site};

const POST: &str = "POST / HTTP/1.1\r\nHost: a\r\n";

/// Values of `Content-Length` that are no lengths.
const NO_LENGTHS: &[&str] = &[
    "+2",
    "-2",
    "2,2",
    "2, 2",
    "2, 3",
    "2 2",
    "2;",
    "2.0",
    "0x2",
    "2e0",
    "\"2\"",
    "",
    " ",
    "a",
    "\u{ff12}",
    "9223372036854775808",
    "18446744073709551616",
    "99999999999999999999999999",
];

#[tokio::test]
async fn a_length_is_one_number() {
    let mut site = Site::start().await;
    for value in NO_LENGTHS {
        let sent = format!("{POST}Content-Length: {value}\r\n\r\nab{SMUGGLED}");
        site.check(value, sent, &[400], Reaches::Nothing).await;
    }
    for (name, lines) in [
        ("two", "Content-Length: 2\r\nContent-Length: 3"),
        ("one twice", "Content-Length: 2\r\nContent-Length: 2"),
        ("one and none", "Content-Length: 2\r\nContent-Length:"),
        ("in two cases", "Content-Length: 2\r\ncontent-length: 0"),
        ("behind a blank", "Content-Length : 2"),
        ("in a fold", "Content-Length:\r\n 2"),
        ("behind a fold", "X-A: b\r\n Content-Length: 2"),
    ] {
        let sent = format!("{POST}{lines}\r\n\r\nab{SMUGGLED}");
        site.check(name, sent, &[400], Reaches::Nothing).await;
    }
    for value in ["2", "02", "0000000000000000000002", "\t2 "] {
        let sent = format!("{POST}Content-Length: {value}\r\nConnection: close\r\n\r\nab");
        let expected = site.request("POST /", "content-length: 2\r\n", "ab");
        site.check(value, sent, &[200], Reaches::Exactly(expected)).await;
    }
    site.end();
}

/// `Transfer-Encoding` in disguise, and the status that refuses it. Each comes with a length, of
/// which a node that looks through the disguise would see what is behind it as a request.
const CODINGS: &[(&str, u16)] = &[
    ("Transfer-Encoding: chunked", 400),
    ("TRANSFER-ENCODING: CHUNKED", 400),
    ("Transfer-Encoding:chunked", 400),
    ("Transfer-Encoding:\tchunked", 400),
    ("Transfer-Encoding: chunked\t", 400),
    ("Transfer-Encoding : chunked", 400),
    ("Transfer-Encoding\t: chunked", 400),
    ("Transfer-Encoding\0: chunked", 400),
    (" Transfer-Encoding: chunked", 400),
    ("\tTransfer-Encoding: chunked", 400),
    ("X-A: b\nTransfer-Encoding: chunked", 400),
    ("X-A: b\rTransfer-Encoding: chunked", 400),
    ("X-A: b\r\n Transfer-Encoding: chunked", 400),
    ("Transfer-Encoding:\r\n chunked", 400),
    ("Transfer-Encoding: \x0bchunked", 400),
    ("Transfer-Encoding: chunked\x0b", 400),
    ("Transfer-Encoding: \0chunked", 400),
    ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", 400),
    ("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", 501),
    ("Transfer-Encoding: chunked\r\nTransfer-Encoding: x", 501),
    ("Transfer-Encoding: identity\r\nTransfer-Encoding: chunked", 501),
    ("Transfer-Encoding: xchunked", 501),
    ("Transfer-Encoding: chunkedx", 501),
    ("Transfer-Encoding: chunked, identity", 501),
    ("Transfer-Encoding: identity, chunked", 501),
    ("Transfer-Encoding: gzip, chunked", 501),
    ("Transfer-Encoding: chunked, chunked", 501),
    ("Transfer-Encoding: chunked,", 501),
    ("Transfer-Encoding: ,chunked", 501),
    ("Transfer-Encoding: chunked;q=1", 501),
    ("Transfer-Encoding: \"chunked\"", 501),
    ("Transfer-Encoding: 'chunked'", 501),
    ("Transfer-Encoding: chun ked", 501),
    ("Transfer-Encoding: gzip", 501),
    ("Transfer-Encoding: identity", 501),
    ("Transfer-Encoding:", 501),
    ("Transfer-Encoding: \u{17f}chunked", 501),
];

#[tokio::test]
async fn a_transfer_coding_is_chunked_and_alone() {
    let mut site = Site::start().await;
    for (lines, status) in CODINGS {
        for with_length in [true, false] {
            let alone = lines.eq_ignore_ascii_case("Transfer-Encoding: chunked")
                || matches!(
                    *lines,
                    "Transfer-Encoding:chunked"
                        | "Transfer-Encoding:\tchunked"
                        | "Transfer-Encoding: chunked\t"
                        | "X-A: b\nTransfer-Encoding: chunked"
                );
            if alone && !with_length {
                continue;
            }
            let body = format!("0\r\n\r\n{SMUGGLED}");
            let length = if with_length {
                format!("Content-Length: {}\r\n", body.len())
            } else {
                String::new()
            };
            let sent = format!("{POST}{length}{lines}\r\n\r\n{body}");
            site.check(lines, sent, &[*status], Reaches::Nothing).await;
            let sent = format!("{POST}{lines}\r\n{length}\r\n{body}");
            site.check(lines, sent, &[*status], Reaches::Nothing).await;
        }
    }
    // CL.TE and TE.CL as they are told in books.
    let body = "0\r\n\r\nG";
    let sent = format!("{POST}Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n{body}");
    site.check("CL.TE", sent, &[400], Reaches::Nothing).await;
    let sent = format!(
        "{POST}Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{SMUGGLED}\r\n0\r\n\r\n",
        SMUGGLED.len()
    );
    site.check("TE.CL", sent, &[400], Reaches::Nothing).await;
    let sent = "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    site.check("chunks of HTTP/1.0", sent, &[400], Reaches::Nothing).await;

    // A node may take what is none of both for a length or a coding.
    let sent = format!(
        "{POST}Content-Length: 2\r\nTransfer_Encoding: chunked\r\nContent-Encoding: chunked\r\n\
         Connection: close\r\n\r\nab"
    );
    let fields = "content-encoding: chunked\r\ncontent-length: 2\r\n";
    let expected = site.request("POST /", fields, "ab");
    site.check("lookalikes", sent, &[200], Reaches::Exactly(expected)).await;
    site.end();
}

/// Chunked bodies that are none. The first chunk is well-formed in those that reach the node.
const NO_CHUNKS: &[(&str, &str)] = &[
    ("no size", "\r\nab\r\n0\r\n\r\n"),
    ("a sign", "+2\r\nab\r\n0\r\n\r\n"),
    ("a minus", "-2\r\nab\r\n0\r\n\r\n"),
    ("a prefix", "0x2\r\nab\r\n0\r\n\r\n"),
    ("a blank before the size", " 2\r\nab\r\n0\r\n\r\n"),
    ("an underscore in the size", "0_2\r\nab\r\n0\r\n\r\n"),
    ("a letter behind the size", "2g\r\nab\r\n0\r\n\r\n"),
    ("a size of 2^64", "10000000000000002\r\nab\r\n0\r\n\r\n"),
    ("a size of 2^63", "8000000000000000\r\nab\r\n0\r\n\r\n"),
    ("a size of many digits", "fffffffffffffffffffff\r\nab\r\n0\r\n\r\n"),
    ("a LF behind the size", "2\nab\r\n0\r\n\r\n"),
    ("a LF in an extension", "2;a=b\nab\r\n0\r\n\r\n"),
    ("a CR in an extension", "2;a=\rb\r\nab\r\n0\r\n\r\n"),
    ("a NUL in an extension", "2;a=\0b\r\nab\r\n0\r\n\r\n"),
    ("two CRs behind the size", "2\r\r\nab\r\n0\r\n\r\n"),
    ("a CR and a letter behind the size", "2\rx\nab\r\n0\r\n\r\n"),
    ("text without a semicolon", "2 a\r\nab\r\n0\r\n\r\n"),
];

/// The same, when the first chunk was one.
const CHUNKS_THAT_BREAK: &[(&str, &str)] = &[
    ("data longer than the size", "2\r\nabc\r\n0\r\n\r\n"),
    ("data shorter than the size", "2\r\na\r\n0\r\n\r\n"),
    ("a LF behind the data", "2\r\nab\n0\r\n\r\n"),
    ("a LF behind the last size", "2\r\nab\r\n0\n\r\n"),
    ("CRs behind the data", "2\r\nab\r\r\n0\r\n\r\n"),
    ("a request for a trailer", "2\r\nab\r\n0\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("a trailer without a name", "2\r\nab\r\n0\r\n: a\r\n\r\n"),
    ("a folded trailer", "2\r\nab\r\n0\r\nX-A: b\r\n c\r\n\r\n"),
    ("a blank before a trailer's colon", "2\r\nab\r\n0\r\nX-A : b\r\n\r\n"),
    ("a NUL in a trailer", "2\r\nab\r\n0\r\nX-A: \0\r\n\r\n"),
];

#[tokio::test]
async fn a_chunk_is_as_long_as_it_says() {
    let mut site = Site::start().await;
    let head = format!("{POST}Transfer-Encoding: chunked\r\n\r\n");
    let reaches = site.request("POST /", "transfer-encoding: chunked\r\n", "");
    for (name, body) in NO_CHUNKS.iter().chain(CHUNKS_THAT_BREAK) {
        let sent = format!("{head}{body}{SMUGGLED}");
        // The head may be on its way already: then the node is not told that the body is whole.
        let broken = Reaches::Broken(String::new());
        site.check(name, sent, &[400], broken).await;
    }
    let sent = format!("{head}2;{}", "x".repeat(100_000));
    site.check("an endless extension", sent, &[400], Reaches::Broken(String::new())).await;
    let sent = format!("{head}2\r\nab\r\n0\r\n{}\r\n", "X-A: b\r\n".repeat(5_000));
    site.check("endless trailers", sent, &[400], Reaches::Broken(String::new())).await;

    for (name, body) in [
        ("plain", "2\r\nab\r\n0\r\n\r\n"),
        ("zeros before the sizes", "0002\r\nab\r\n0000\r\n\r\n"),
        ("blanks behind the sizes", "2 \t\r\nab\r\n0 \r\n\r\n"),
        ("extensions", "2;a;b=c;d=\"e\"\r\nab\r\n0;x\r\n\r\n"),
    ] {
        let head = head.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
        let reaches = format!("{reaches}2\r\nab\r\n0\r\n\r\n");
        site.check(name, format!("{head}{body}"), &[200], Reaches::Exactly(reaches)).await;
    }
    site.end();
}

#[tokio::test]
async fn many_small_chunks_reach_the_node_as_they_are() {
    let site = Site::start().await;
    let chunks: String = (0..5_000).map(|n| format!("2;{n}\r\n{:02}\r\n", n % 100)).collect();
    let plain: String = (0..5_000).map(|n| format!("2\r\n{:02}\r\n", n % 100)).collect();
    let head = "Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n";
    let sent = format!("{POST}{head}{chunks}0\r\n\r\n");
    // A chunk that came in two reads goes on as two.
    site.recorder.taken().await;
    let answer = crate::support::raw::until_closed(site.port(), sent.as_bytes()).await;
    assert_eq!(crate::support::raw::statuses(&answer.unwrap()), [200]);
    let reached = String::from_utf8(site.recorder.taken().await).unwrap();
    let (_, body) = reached.split_once("\r\n\r\n").unwrap();
    let digits = |body: &str| {
        let mut lines = body.split("\r\n");
        let mut all = String::new();
        while let (Some(size), Some(data)) = (lines.next(), lines.next()) {
            assert_eq!(size.parse::<usize>().unwrap(), data.len());
            all += data;
        }
        all
    };
    assert_eq!(digits(body), digits(&plain));
    site.recorder.taken().await;
    site.end();
}

#[tokio::test]
async fn trailers_reach_the_node_but_for_those_that_would_be_more_than_trailers() {
    let mut site = Site::start().await;
    let check = async |site: &mut Site, name: &str, fields: &str, trailers: &str, reach: &str| {
        let sent = format!(
            "{POST}{fields}Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n\
             2\r\nab\r\n0\r\n{trailers}\r\n"
        );
        let told = format!("{}transfer-encoding: chunked\r\n", fields.to_lowercase());
        let body = format!("2\r\nab\r\n0\r\n{reach}\r\n");
        let reaches = site.request("POST /", &told, &body);
        site.check(name, sent, &[200], Reaches::Exactly(reaches)).await;
    };
    let plain = "X-Sum: 1\r\nX-Sum: 2\r\nX-B: c\r\n";
    let lower = "x-sum: 1\r\nx-sum: 2\r\nx-b: c\r\n";
    check(&mut site, "plain", "", plain, lower).await;
    check(&mut site, "announced", "Trailer: x-sum\r\n", plain, lower).await;
    let framing = "Content-Length: 9\r\nTransfer-Encoding: chunked\r\nHost: b\r\nTrailer: x\r\n\
                   Connection: close\r\nTE: x\r\nUpgrade: x\r\nKeep-Alive: x\r\n\
                   Content_Length: 9\r\nTransfer_Encoding: chunked\r\nExpect: 100-continue\r\n";
    check(&mut site, "framing", "", framing, "").await;
    let trusted = "X-Real-IP: 1.1.1.1\r\nX-Forwarded-For: 1.1.1.1\r\nX-Forwarded-Proto: x\r\n\
                   X-Forwarded-Host: b\r\nX-Forwarded-Port: 1\r\nForwarded: for=b\r\n\
                   X-Consumer-Username: jack\r\nX-Credential-Identifier: x\r\n\
                   Authorization: x\r\nCookie: x\r\nContent-Type: x\r\nRange: x\r\n";
    check(&mut site, "trusted", "", trusted, "").await;
    check(&mut site, "of the head", "X-B: a\r\n", plain, "x-sum: 1\r\nx-sum: 2\r\n").await;
    site.end();
}

#[tokio::test]
async fn a_body_that_nobody_asked_for_is_no_request() {
    let mut site = Site::start().await;
    // CL.0: methods that have no body have one when they say so.
    for method in ["GET", "HEAD", "DELETE", "OPTIONS"] {
        let length = SMUGGLED.len();
        let sent = format!(
            "{method} / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\
             Connection: close\r\n\r\n{SMUGGLED}"
        );
        site.recorder.taken().await;
        let line = format!("{method} /");
        let framing = format!("content-length: {length}\r\n");
        let expected = site.request(&line, &framing, SMUGGLED);
        let answer = crate::support::raw::until_closed(site.port(), sent.as_bytes()).await;
        assert_eq!(crate::support::raw::statuses(&answer.unwrap()), [200], "{method}");
        assert_eq!(String::from_utf8_lossy(&site.recorder.taken().await), expected);
    }
    // Without framing, what follows the head is the next request.
    let sent =
        "POST / HTTP/1.1\r\nHost: a\r\n\r\nGET /b HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let both = site.request("POST /", "", "") + &site.request("GET /b", "", "");
    site.check("two requests", sent, &[200, 200], Reaches::Exactly(both)).await;
    let sent = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n\
                GET /b HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let both =
        site.request("POST /", "content-length: 0\r\n", "") + &site.request("GET /b", "", "");
    site.check("an empty body", sent, &[200, 200], Reaches::Exactly(both)).await;
    site.end();
}
