//! Ugly paths: what a route matched, what plugins saw and what the node was asked are one resource.

use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

use super::upstream;
use crate::support::gateway::Gateway;
use crate::support::origin::{Origin, Seen};
use crate::support::raw;

/// A target as sent, and what becomes of it: route, `$uri` and the target that the node is asked;
/// `None` when it is refused.
type Case = (&'static str, Option<(&'static str, &'static str, &'static str)>);

const CORPUS: &[Case] = &[
    ("/public/x", Some(("public", "/public/x", "/public/x"))),
    // Dot segments, plain and encoded.
    ("/public/../admin/x", Some(("admin", "/admin/x", "/admin/x"))),
    ("/public/%2e%2e/admin/x", Some(("admin", "/admin/x", "/admin/x"))),
    ("/public/.%2E/admin/x", Some(("admin", "/admin/x", "/admin/x"))),
    ("/public/..%2Fadmin/x", Some(("admin", "/admin/x", "/admin/x"))),
    ("/public%2F..%2Fadmin%2Fx", Some(("admin", "/admin/x", "/admin/x"))),
    ("/public/./../admin/x", Some(("admin", "/admin/x", "/admin/x"))),
    ("/public/a/b/../../../admin/x", Some(("admin", "/admin/x", "/admin/x"))),
    ("/admin/../public/x", Some(("public", "/public/x", "/public/x"))),
    ("/admin/x/..", Some(("admin", "/admin/", "/admin/"))),
    ("/admin/.", Some(("admin", "/admin/", "/admin/"))),
    ("/public/.../x", Some(("public", "/public/.../x", "/public/.../x"))),
    ("/public/..x", Some(("public", "/public/..x", "/public/..x"))),
    ("/..", None),
    ("/../admin/x", None),
    ("/public/../../admin/x", None),
    ("/%2e%2e/admin/x", None),
    // Slashes.
    ("//admin/x", Some(("admin", "/admin/x", "/admin/x"))),
    ("/admin//x", Some(("admin", "/admin/x", "/admin/x"))),
    ("/public///secret", Some(("secret", "/public/secret", "/public/secret"))),
    ("/public/%2Fsecret", Some(("secret", "/public/secret", "/public/secret"))),
    ("/admin%2Fx", Some(("admin", "/admin/x", "/admin%2Fx"))),
    ("/public/secret/", Some(("public", "/public/secret/", "/public/secret/"))),
    ("/public/\\..\\admin/x", Some(("public", "/public/\\..\\admin/x", "/public/\\..\\admin/x"))),
    ("/public/%5c..%5cx", Some(("public", "/public/\\..\\x", "/public/%5c..%5cx"))),
    // Escapes.
    ("/%61dmin/x", Some(("admin", "/admin/x", "/%61dmin/x"))),
    ("/public/secre%74", Some(("secret", "/public/secret", "/public/secre%74"))),
    (
        "/public/%252e%252e/admin",
        Some(("public", "/public/%2e%2e/admin", "/public/%252e%252e/admin")),
    ),
    ("/%2561dmin/x", Some(("all", "/%61dmin/x", "/%2561dmin/x"))),
    ("/public/a%3Fb", Some(("public", "/public/a?b", "/public/a%3Fb"))),
    ("/public/x/../a%3Fb", Some(("public", "/public/a?b", "/public/a%3Fb"))),
    ("/public/x/../a%23b%25", Some(("public", "/public/a#b%", "/public/a%23b%25"))),
    ("/public/%C3%A4", Some(("public", "/public/ä", "/public/%C3%A4"))),
    ("/public/./%C3%A4%20b", Some(("public", "/public/ä b", "/public/%C3%A4%20b"))),
    ("/public/%00", None),
    ("/public/secret%00.png", None),
    ("/public/%", None),
    ("/public/%zz", None),
    ("/public/%2", None),
    // Parameters of segments mean nothing unless servlets are asked for.
    ("/admin;/x", Some(("all", "/admin;/x", "/admin;/x"))),
    ("/public/..;/admin/x", Some(("public", "/public/..;/admin/x", "/public/..;/admin/x"))),
    ("/public/secret;a=b", Some(("public", "/public/secret;a=b", "/public/secret;a=b"))),
    // Case tells paths apart.
    ("/ADMIN/x", Some(("all", "/ADMIN/x", "/ADMIN/x"))),
    // A query is no path.
    ("/public/x?y=/../admin", Some(("public", "/public/x", "/public/x?y=/../admin"))),
    ("/public/../admin/x?y=//", Some(("admin", "/admin/x", "/admin/x?y=//"))),
    ("/public/x?", Some(("public", "/public/x", "/public/x?"))),
    ("/?/../admin", Some(("all", "/", "/?/../admin"))),
    // Absolute form.
    ("http://a/public/../admin/x", Some(("admin", "/admin/x", "/admin/x"))),
    ("http://a//admin%2Fx", Some(("admin", "/admin/x", "/admin/x"))),
];

/// A route that tells the node its id and the `$uri` that its plugin saw.
fn telling(id: &str, uri: &str, origin: &Origin) -> Value {
    let rewrite = json!({ "headers": { "set": { "x-route": id, "x-uri": "$uri" } } });
    json!({ "uri": uri, "plugins": { "proxy-rewrite": rewrite }, "upstream": upstream(origin) })
}

/// What the origin saw of the last request, when the gateway answered it with 200.
async fn seen(gateway: &Gateway, origin: &Origin, target: &str) -> Option<Seen> {
    let before = origin.requests();
    let answer = raw::ask(gateway.ports().http, target).await;
    let is_refused = answer.starts_with("HTTP/1.1 400");
    assert!(is_refused || answer.starts_with("HTTP/1.1 200"), "{target}: {answer}");
    assert_eq!(origin.requests() - before, usize::from(!is_refused), "{target}");
    (!is_refused).then(|| origin.seen().pop().unwrap())
}

fn header(seen: &Seen, name: &str) -> String {
    let value = seen.headers.get(name).map(|value| value.as_bytes().to_vec());
    String::from_utf8(value.unwrap_or_default()).unwrap()
}

/// What a node that knows its trade takes a path for: decoded, then resolved.
fn resource(path: &str) -> String {
    let decoded = percent_decode_str(path).decode_utf8().unwrap();
    let mut kept = Vec::new();
    let mut segments = decoded.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        match segment {
            ".." => drop(kept.pop()),
            "." | "" => {}
            other => kept.push(other),
        }
        if segments.peek().is_none() && matches!(segment, ".." | "." | "") {
            kept.push("");
        }
    }
    format!("/{}", kept.join("/"))
}

#[tokio::test]
async fn route_plugins_and_node_see_one_resource() {
    let origin = Origin::start().await;
    let gateway = Gateway::start().await;
    for (id, uri) in [
        ("admin", "/admin/*"),
        ("secret", "/public/secret"),
        ("public", "/public/*"),
        ("all", "/*"),
    ] {
        gateway.put_route(id, telling(id, uri, &origin)).await;
    }
    for (target, expected) in CORPUS {
        let seen = seen(&gateway, &origin, target).await;
        let became = seen
            .as_ref()
            .map(|seen| (header(seen, "x-route"), header(seen, "x-uri"), seen.uri.to_string()));
        let expected = expected
            .map(|(route, uri, asked)| (route.to_owned(), uri.to_owned(), asked.to_owned()));
        assert_eq!(became, expected, "{target}");
        if let Some((_, uri, _)) = became {
            assert_eq!(resource(seen.unwrap().uri.path()), uri, "{target}");
        }
    }
}

#[tokio::test]
async fn a_rewritten_path_is_the_same_resource_below_another() {
    let origin = Origin::start().await;
    let gateway = Gateway::start().await;
    let rewritten = |rewrite: Value| {
        let mut rewrite = rewrite;
        rewrite["headers"] = json!({ "set": { "x-uri": "$uri" } });
        let plugins = json!({ "proxy-rewrite": rewrite });
        json!({ "uri": "/*", "plugins": plugins, "upstream": upstream(&origin) })
    };
    for rewrite in
        [json!({ "uri": "/moved$uri" }), json!({ "regex_uri": ["(?s)^/(.*)$", "/moved/$1"] })]
    {
        gateway.put_route("all", rewritten(rewrite.clone())).await;
        for (target, expected) in CORPUS {
            let seen = seen(&gateway, &origin, target).await;
            assert_eq!(seen.is_some(), expected.is_some(), "{target}");
            let Some(seen) = seen else {
                continue;
            };
            let mut uri = header(&seen, "x-uri");
            if rewrite["regex_uri"].is_null() {
                // APISIX escapes a `?` out of a variable twice, and its tests insist on that
                // (`t/plugin/proxy-rewrite3.t`, test 24).
                uri = uri.replace('?', "%3F");
            }
            assert_eq!(resource(seen.uri.path()), format!("/moved{uri}"), "{rewrite} {target}");
        }
        // A line end that was encoded stays one path, and is no header.
        let seen = seen(&gateway, &origin, "/a%0d%0ax-evil:%201").await.unwrap();
        assert_eq!(seen.uri.path(), "/moved/a%0D%0Ax-evil:%201");
        assert_eq!(seen.headers.get("x-evil"), None);
    }
}

/// A gateway with one more option of `apisix`, whose routes are told by their id.
async fn optioned(option: &str, router: &str, routes: &[(&str, &str)]) -> (Gateway, Origin) {
    let origin = Origin::start().await;
    let builder = Gateway::builder().config(|config| {
        config["apisix"][option] = json!(true);
        config["apisix"]["router"] = json!({ "http": router });
    });
    let gateway = builder.start().await;
    for (id, uri) in routes {
        gateway.put_route(id, telling(id, uri, &origin)).await;
    }
    (gateway, origin)
}

async fn check(gateway: &Gateway, origin: &Origin, cases: &[Case]) {
    for (target, expected) in cases {
        let seen = seen(gateway, origin, target).await;
        let became = seen
            .map(|seen| (header(&seen, "x-route"), header(&seen, "x-uri"), seen.uri.to_string()));
        let expected = expected
            .map(|(route, uri, asked)| (route.to_owned(), uri.to_owned(), asked.to_owned()));
        assert_eq!(became, expected, "{target}");
    }
}

#[tokio::test]
async fn a_slash_at_the_end_is_dropped_for_matching_where_asked() {
    let routes = [("rest", "/*"), ("a", "/a"), ("slash", "/a/"), ("root", "/")];
    let (gateway, origin) = optioned("delete_uri_tail_slash", "radixtree_host_uri", &routes).await;
    let cases: &[Case] = &[
        ("/a", Some(("a", "/a", "/a"))),
        ("/a/", Some(("a", "/a", "/a/"))),
        ("/a//", Some(("a", "/a", "/a/"))),
        ("/a/b/..", Some(("a", "/a", "/a/"))),
        ("/a%2F", Some(("a", "/a", "/a%2F"))),
        ("/", Some(("root", "/", "/"))),
        ("/b/", Some(("rest", "/b", "/b/"))),
    ];
    check(&gateway, &origin, cases).await;
}

#[tokio::test]
async fn parameters_of_segments_are_dropped_for_matching_where_asked() {
    let routes = [("rest", "/*"), ("admin", "/admin/*"), ("ab", "/a/b")];
    let (gateway, origin) = optioned("normalize_uri_like_servlet", "radixtree_uri", &routes).await;
    let cases: &[Case] = &[
        ("/a;x=1/b;y", Some(("ab", "/a/b", "/a;x=1/b;y"))),
        ("/a/;/b", None),
        ("/public/..;/admin/x", None),
        ("/public/%2e%2e;/admin/x", None),
        ("/public/..%3B/admin/x", None),
        ("/public/%252e%252e;/admin/x", None),
        ("/admin;/x", Some(("admin", "/admin/x", "/admin;/x"))),
        // What was dropped for matching is dropped by the node too.
        ("/admin%3B/x", Some(("admin", "/admin/x", "/admin;/x"))),
        ("/admin/x;", Some(("admin", "/admin/x", "/admin/x;"))),
        ("/b;x/../admin/x", Some(("admin", "/admin/x", "/admin/x"))),
        ("/c%20d", Some(("rest", "/c d", "/c%20d"))),
    ];
    check(&gateway, &origin, cases).await;
}

#[tokio::test]
async fn slashes_stay_encoded_for_matching_where_asked() {
    let routes = [
        ("rest", "/*"),
        ("one", "/blog/:name"),
        ("two", "/blog/:name/:page"),
        ("exact", "/blog/x%2Fy"),
    ];
    let (gateway, origin) =
        optioned("match_uri_encoded_slash", "radixtree_uri_with_parameter", &routes).await;
    let cases: &[Case] = &[
        ("/blog/cat/dog", Some(("two", "/blog/cat/dog", "/blog/cat/dog"))),
        ("/blog/cat%2Fdog", Some(("one", "/blog/cat/dog", "/blog/cat%2Fdog"))),
        ("/blog/cat%2fdog%20x", Some(("one", "/blog/cat/dog x", "/blog/cat%2fdog%20x"))),
        ("/blog/x%2fy", Some(("exact", "/blog/x/y", "/blog/x%2fy"))),
        ("/blog/cat%252Fdog", Some(("one", "/blog/cat%2Fdog", "/blog/cat%252Fdog"))),
        // Wherever more than decoding was needed, a slash is a slash.
        ("/blog/a%2F..%2Fcat%2Fdog", Some(("two", "/blog/cat/dog", "/blog/cat/dog"))),
        ("/blog//cat%2Fdog", Some(("two", "/blog/cat/dog", "/blog/cat/dog"))),
        ("/blog/./cat%2Fdog", Some(("two", "/blog/cat/dog", "/blog/cat/dog"))),
        ("/blog%2F%2e%2e%2Fcat", Some(("rest", "/cat", "/cat"))),
    ];
    check(&gateway, &origin, cases).await;
}
