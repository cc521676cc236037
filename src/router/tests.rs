//! The order of preference, by example; [`oracle`] holds it against a sort and a scan,
//! [`variables`] what is looked up by conditions.

mod oracle;
mod variables;

use super::*;
use crate::expr::Pin;

const KINDS: [Kind; 3] = [Kind::HostUri, Kind::Uri, Kind::UriWithParameter];

/// Id, hosts, paths, methods, priority.
type Written<'w> = (&'w str, &'w [&'w str], &'w [&'w str], &'w [&'w str], i64);

fn matcher(kind: Kind, written: Written<'_>) -> Arc<Matcher> {
    pinning(kind, written, Vec::new())
}

fn pinning(
    kind: Kind,
    (id, hosts, paths, methods, priority): Written<'_>,
    pins: Vec<Pin>,
) -> Arc<Matcher> {
    let paths = paths.iter().map(|path| Pattern::parse(kind, path).unwrap());
    Arc::new(Matcher {
        id: id.into(),
        hosts: hosts.iter().map(|host| Arc::from(*host)).collect(),
        paths: paths.collect(),
        methods: Methods::new(methods.iter().copied()),
        priority,
        pins: pins.into(),
    })
}

fn router<'m>(kind: Kind, matchers: impl IntoIterator<Item = &'m Arc<Matcher>>) -> Router<String> {
    let mut router = Router::new(kind);
    for matcher in matchers {
        router.insert(matcher, &Arc::new(matcher.id.to_string()));
    }
    router
}

fn written(kind: Kind, all: &[Written<'_>]) -> Router<String> {
    router(kind, &all.iter().map(|one| matcher(kind, *one)).collect::<Vec<_>>())
}

fn target<'a>(host: &'a str, path: &'a str) -> Target<'a> {
    let name = host.split(':').next();
    Target { host: name, authority: Some(host), path, ..Target::default() }
}

fn check(router: &Router<String>, host: &str, path: &str, method: &Method) -> Option<String> {
    let found = router.find(target(host, path), method, |_| true);
    found.map(|found| found.value().to_string())
}

/// What is walked: id, path and host of each candidate.
fn walked(router: &Router<String>, host: &str, path: &str) -> Vec<(String, String, String)> {
    let mut all = Vec::new();
    let walk: ControlFlow<()> = router.candidates(target(host, path), |found| {
        let host = found.host().map(ToString::to_string).unwrap_or_default();
        all.push((found.matcher().id.to_string(), found.path().text().to_string(), host));
        ControlFlow::Continue(())
    });
    assert!(walk.is_continue());
    all
}

#[test]
fn prefers_hosts_then_paths_then_priority() {
    let router = written(
        Kind::HostUri,
        &[
            ("any", &[], &["/*"], &[], 100),
            ("wild", &["*.foo.com"], &["/*"], &[], 0),
            ("deep", &["*.a.foo.com"], &["/x"], &[], 0),
            ("exact", &["www.foo.com"], &["/a", "/b/*"], &[], 0),
            ("low", &["www.foo.com"], &["/b/c/*"], &[], 0),
            ("high", &["www.foo.com"], &["/b/c/*"], &["POST"], 9),
            ("all", &["*"], &["/all"], &[], 0),
        ],
    );
    let get = |host, path| check(&router, host, path, &Method::GET);
    assert_eq!(get("www.foo.com", "/a").as_deref(), Some("exact"));
    assert_eq!(get("WWW.Foo.com", "/a").as_deref(), Some("exact"));
    assert_eq!(get("www.foo.com", "/a/").as_deref(), Some("wild"));
    assert_eq!(get("www.foo.com", "/b/").as_deref(), Some("exact"));
    assert_eq!(get("www.foo.com", "/b").as_deref(), Some("wild"));
    assert_eq!(get("www.foo.com", "/b/c/d").as_deref(), Some("low"));
    let post = check(&router, "www.foo.com", "/b/c/d", &Method::POST);
    assert_eq!(post.as_deref(), Some("high"));
    assert_eq!(get("x.a.foo.com", "/x").as_deref(), Some("deep"));
    assert_eq!(get("x.a.foo.com", "/y").as_deref(), Some("wild"));
    assert_eq!(get("foo.com", "/y").as_deref(), Some("any"));
    assert_eq!(get("other.org", "/all").as_deref(), Some("all"));
    assert_eq!(get("other.org", "/").as_deref(), Some("any"));
}

#[test]
fn paths_go_before_hosts_where_hosts_only_refuse() {
    let all: [Written<'_>; 5] = [
        ("exact host", &["www.foo.com"], &["/a/*"], &[], 0),
        ("any host", &[], &["/a/*"], &[], 1),
        ("longer", &["*.foo.com"], &["/a/b/*"], &[], 0),
        ("full", &["*.COM"], &["/a/b/c"], &[], -1),
        ("port", &["foo.org:8080"], &["/a/*"], &[], 2),
    ];
    for kind in [Kind::Uri, Kind::UriWithParameter] {
        let router = written(kind, &all);
        let get = |host, path| check(&router, host, path, &Method::GET);
        assert_eq!(get("www.foo.com", "/a/x").as_deref(), Some("any host"));
        assert_eq!(get("www.foo.com", "/a/b/x").as_deref(), Some("longer"));
        assert_eq!(get("www.foo.com", "/a/b/c").as_deref(), Some("full"));
        assert_eq!(get("www.foo.org", "/a/b/c").as_deref(), Some("any host"));
        assert_eq!(get("foo.org:8080", "/a/b/c").as_deref(), Some("port"));
        assert_eq!(get("foo.org:81", "/a/b/c").as_deref(), Some("any host"));
    }
    let router = written(Kind::HostUri, &all);
    assert_eq!(check(&router, "www.foo.com", "/a/x", &Method::GET).unwrap(), "exact host");
}

#[test]
fn asks_the_next_candidate_when_one_is_not_accepted() {
    let router = written(
        Kind::HostUri,
        &[
            ("1", &["a.com"], &["/x"], &[], 0),
            ("2", &["a.com"], &["/*"], &[], 0),
            ("3", &[], &["/x"], &[], 0),
        ],
    );
    let without = |refused: &[&str]| {
        let accept = |value: &String| !refused.contains(&value.as_str());
        let found = router.find(target("a.com", "/x"), &Method::GET, accept);
        found.map(|found| found.value().to_string())
    };
    assert_eq!(without(&[]).as_deref(), Some("1"));
    assert_eq!(without(&["1"]).as_deref(), Some("2"));
    assert_eq!(without(&["1", "2"]).as_deref(), Some("3"));
    assert_eq!(without(&["1", "2", "3"]), None);
}

#[test]
fn a_route_is_walked_once_by_each_pattern_that_fits() {
    let all: [Written<'_>; 2] = [
        ("1", &["a.com", "A.com", "*.com"], &["/x", "/*"], &["PUT"], 0),
        ("2", &[], &["/x"], &[], 0),
    ];
    let step = |id: &str, path: &str, host: &str| (id.into(), path.into(), host.into());
    let by_host = walked(&written(Kind::HostUri, &all), "a.com", "/x");
    let expected = [
        step("1", "/x", "a.com"),
        step("1", "/x", "A.com"),
        step("1", "/*", "a.com"),
        step("1", "/*", "A.com"),
        step("1", "/x", "*.com"),
        step("1", "/*", "*.com"),
        step("2", "/x", ""),
    ];
    assert_eq!(by_host, expected);
    let by_path = walked(&written(Kind::Uri, &all), "a.com", "/x");
    assert_eq!(by_path, [step("1", "/x", "a.com"), step("2", "/x", ""), step("1", "/*", "a.com")]);
}

#[test]
fn a_clone_does_not_see_later_changes() {
    let first = matcher(Kind::HostUri, ("1", &[], &["/a/b"], &[], 0));
    let old = router(Kind::HostUri, [&first]);
    let mut new = old.clone();
    new.remove(&first);
    let second = matcher(Kind::HostUri, ("2", &[], &["/a/c"], &[], 0));
    new.insert(&second, &Arc::new("2".to_owned()));
    assert_eq!(check(&old, "x", "/a/b", &Method::GET).as_deref(), Some("1"));
    assert_eq!(check(&old, "x", "/a/c", &Method::GET), None);
    assert_eq!(check(&new, "x", "/a/b", &Method::GET), None);
    assert_eq!(check(&new, "x", "/a/c", &Method::GET).as_deref(), Some("2"));
}

/// Paths of a leaf are told apart by their lengths and ends before they are compared.
#[test]
fn finds_paths_of_any_length() {
    // Below, at and above what an end and a length are told by.
    let lengths = [1, 2, 7, 8, 9, 23, 254, 256, 65_534, 65_535, 65_536, 70_000];
    let path = |length: usize, last: &str| format!("/{}{last}", "a".repeat(length - last.len()));
    for length in lengths {
        let router = written(
            Kind::HostUri,
            &[
                ("exact", &[], &[&path(length, "b")], &[], 0),
                ("prefix", &[], &[&format!("{}*", path(length, "c"))], &[], 0),
            ],
        );
        let find = |path: &str| check(&router, "a.com", path, &Method::GET);
        assert_eq!(find(&path(length, "b")).as_deref(), Some("exact"), "{length}");
        assert_eq!(find(&path(length + 1, "bb")), None, "{length}");
        assert_eq!(find(&path(length, "d")), None, "{length}");
        assert_eq!(find(&path(length, "")), None, "{length}");
        let prefix = path(length, "c");
        assert_eq!(find(&prefix).as_deref(), Some("prefix"), "{length}");
        assert_eq!(find(&format!("{prefix}/b")).as_deref(), Some("prefix"), "{length}");
    }
}
