//! What each kind of body gives its variables.

use http::{Uri, Version};
use serde_json::json;

use super::*;
use crate::expr::Variable;

fn request(method: Method, target: &str, content_type: &str) -> Request {
    let mut headers = HeaderMap::new();
    if !content_type.is_empty() {
        headers.insert(header::CONTENT_TYPE, content_type.parse().unwrap());
    }
    Request {
        method,
        uri: target.parse::<Uri>().unwrap(),
        version: Version::HTTP_11,
        headers,
        normalized_path: None,
        matched_path: None,
        host: None,
        unread: None,
    }
}

fn variable(name: &str) -> BodyVariable {
    match Variable::parse(name) {
        Variable::Body(variable) => variable,
        other => panic!("{name} is {other:?}"),
    }
}

fn filled(body: &str) -> Payload {
    let mut payload = Payload::default();
    payload.fill(Need::Any, Limits::default(), Some(Bytes::copy_from_slice(body.as_bytes())));
    payload
}

/// Checks text and type of variables of a posted body.
fn check(content_type: &str, body: &str, expected: &[(&str, Option<&str>, Option<Datum<'_>>)]) {
    let (payload, request) = (filled(body), request(Method::POST, "/", content_type));
    for (name, text, datum) in expected {
        let name = variable(name);
        assert_eq!(payload.text(&name, &request).as_deref(), *text, "{name:?} of {body}");
        assert_eq!(payload.datum(&name, &request), *datum, "{name:?} of {body}");
    }
}

fn text(text: &str) -> Option<Datum<'_>> {
    Some(Datum::Text(text.into()))
}

fn list(items: &[&'static str]) -> Option<Datum<'static>> {
    Some(Datum::List(items.iter().map(|item| Datum::Text((*item).into())).collect()))
}

#[test]
fn reads_fields_of_urlencoded_forms() {
    for content_type in
        ["application/x-www-form-urlencoded", "Application/x-www-form-urlencoded;charset=utf-8"]
    {
        check(
            content_type,
            "k=v&k=w&a+b=%31&bare",
            &[
                ("post_arg_k", Some("v"), text("v")),
                ("post_arg_a b", Some("1"), text("1")),
                ("post_arg_bare", Some(""), Some(Datum::Bool(true))),
                ("post_arg_none", None, None),
                ("post_arg.k", Some(r#"["v","w"]"#), list(&["v", "w"])),
                ("post_arg.a b", Some("1"), text("1")),
                ("graphql_name", None, None),
            ],
        );
    }
}

#[test]
fn reads_json() {
    let body = json!({
        "model": "m", "n": 18, "stream": true, "none": null, "o": { "k": "v" }, "tags": ["a", "b"],
        "messages": [{ "content": [{ "type": "text" }, { "type": "image_url" }] }],
    });
    check(
        "application/json; charset=utf-8",
        &body.to_string(),
        &[
            ("post_arg.model", Some("m"), text("m")),
            ("post_arg.n", Some("18"), Some(Datum::Number(18.0))),
            ("post_arg.stream", Some("true"), Some(Datum::Bool(true))),
            ("post_arg.none", Some("null"), Some(Datum::Null)),
            ("post_arg.o", Some(r#"{"k":"v"}"#), Some(Datum::Object)),
            ("post_arg.o.k", Some("v"), text("v")),
            ("post_arg.tags", Some(r#"["a","b"]"#), list(&["a", "b"])),
            ("post_arg.tags[1]", Some(r#"["b"]"#), list(&["b"])),
            (
                "post_arg.messages[*].content[*].type",
                Some(r#"["text","image_url"]"#),
                list(&["text", "image_url"]),
            ),
            ("post_arg.messages[*].nothing", None, None),
            ("post_arg.model.deeper", None, None),
            // The form variables are of forms only.
            ("post_arg_model", None, None),
        ],
    );
    check("application/json", "{", &[("post_arg.model", None, None)]);
}

#[test]
fn reads_multipart_forms_and_nothing_else() {
    let body = "--b\nContent-Disposition: form-data; name=\"model\"\n\nopenai\n--b--\n";
    check(
        "multipart/form-data; boundary=b",
        body,
        &[("post_arg.model", Some("openai"), text("openai")), ("post_arg_model", None, None)],
    );
    for other in ["", "text/plain", "multipart/mixed; boundary=b"] {
        check(
            other,
            body,
            &[("post_arg.model", None, None), ("request_body", Some(body), text(body))],
        );
    }
}

#[test]
fn reads_graphql() {
    let names: [(&str, Option<&str>, Option<Datum<'_>>); 3] = [
        ("graphql_operation", Some("query"), text("query")),
        ("graphql_name", Some("q"), text("q")),
        ("graphql_root_fields", Some(r#"["owner","repo"]"#), list(&["owner", "repo"])),
    ];
    let document = "query q { owner { name } repo { id } }";
    check("application/graphql", document, &names);
    check("", document, &names);
    let body = json!({ "query": document }).to_string();
    check("application/json", &body, &names);
    let nothing = [("graphql_operation", None, None), ("graphql_root_fields", None, None)];
    check("application/json", "{}", &nothing);
    check("application/json", document, &nothing);
    check("", "", &nothing);
    // A GET has it in its query, and needs no body.
    let get = |target: &str| request(Method::GET, target, "");
    let payload = Payload::default();
    let target = get("/?query=query%20q{a}&query={b}");
    assert_eq!(payload.text(&variable("graphql_name"), &target).as_deref(), Some("q"));
    assert!(!payload.is_missed());
    let payload = Payload::default();
    assert_eq!(payload.text(&variable("graphql_name"), &get("/")), None);
    let put = request(Method::PUT, "/", "");
    assert_eq!(filled(document).text(&variable("graphql_name"), &put), None);
}

#[test]
fn says_what_it_lacks() {
    let post = request(Method::POST, "/", "application/json");
    let mut payload = Payload::default();
    assert_eq!(payload.text(&variable("graphql_name"), &post), None);
    assert!(payload.is_missed());
    assert_eq!(payload.take_missed(), Some(Need::Graphql));
    assert!(!payload.is_missed() && !payload.serves(Need::Graphql));
    // A body that is too large for GraphQL may be small enough for the others.
    payload.fill(Need::Graphql, Limits::default(), None);
    assert_eq!(payload.text(&variable("graphql_name"), &post), None);
    assert_eq!(payload.take_missed(), None);
    assert_eq!(payload.datum(&variable("post_arg.k"), &post), None);
    assert_eq!(payload.take_missed(), Some(Need::Any));
    payload.fill(Need::Any, Limits::default(), Some(Bytes::from_static(br#"{"k":1}"#)));
    assert_eq!(payload.datum(&variable("post_arg.k"), &post), Some(Datum::Number(1.0)));
    assert!(payload.serves(Need::Any) && !payload.is_missed());
}

#[test]
fn bodies_above_a_limit_have_no_variables() {
    let post = request(Method::POST, "/", "application/json");
    let body = json!({ "query": "query q { a }" }).to_string();
    let of = |graphql, post_args| {
        let mut payload = Payload::default();
        let limits = Limits { graphql, post_args };
        payload.fill(Need::Any, limits, Some(Bytes::from(body.clone())));
        let has = |name| payload.text(&variable(name), &post).is_some();
        (has("graphql_name"), has("post_arg.query"))
    };
    let length = body.len() as u64;
    assert_eq!(of(length, length), (true, true));
    assert_eq!(of(length - 1, length), (false, true));
    assert_eq!(of(length, length - 1), (true, false));
    assert_eq!(of(0, 0), (true, true));
    let limits = Limits { graphql: 1, post_args: 2 };
    assert_eq!((limits.of(Need::Graphql), limits.of(Need::Any)), (1, 2));
    assert_eq!(Limits { graphql: 0, post_args: 2 }.of(Need::Any), 0);
}
