//! The order of preference, by example and against an oracle that sorts and scans.

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::HashMap;

use proptest::prelude::*;
use regex::Regex;

use super::*;

const KINDS: [Kind; 3] = [Kind::HostUri, Kind::Uri, Kind::UriWithParameter];

/// Id, hosts, paths, methods, priority.
type Written<'w> = (&'w str, &'w [&'w str], &'w [&'w str], &'w [&'w str], i64);

fn matcher(kind: Kind, (id, hosts, paths, methods, priority): Written<'_>) -> Arc<Matcher> {
    let paths = paths.iter().map(|path| Pattern::parse(kind, path).unwrap());
    Arc::new(Matcher {
        id: id.into(),
        hosts: hosts.iter().map(|host| Arc::from(*host)).collect(),
        paths: paths.collect(),
        methods: Methods::new(methods.iter().copied()),
        priority,
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
    Target { host: name, authority: Some(host), path }
}

fn check(router: &Router<String>, host: &str, path: &str, method: &Method) -> Option<String> {
    let found = router.find(target(host, path), method, |_| true);
    found.map(|found| found.value.to_string())
}

/// What is walked: id, path and host of each candidate.
fn walked(router: &Router<String>, host: &str, path: &str) -> Vec<(String, String, String)> {
    let mut all = Vec::new();
    let walk: ControlFlow<()> = router.candidates(target(host, path), |found| {
        let host = found.host.map(ToString::to_string).unwrap_or_default();
        all.push((found.matcher.id.to_string(), found.path.text().to_string(), host));
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
        found.map(|found| found.value.to_string())
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

/// One pattern of a matcher, as the oracle sees it: less is better.
type Place = (Reverse<usize>, Reverse<usize>, Reverse<i64>, Reverse<usize>, String, usize, usize);

thread_local! {
    static EXPRESSIONS: RefCell<HashMap<String, Regex>> = RefCell::default();
}

/// How well a path is meant by a pattern, by APISIX's own expression for it.
fn path_rank(kind: Kind, pattern: &str, path: &str) -> Option<usize> {
    let is_special = |c| c == '*' || (c == ':' && kind == Kind::UriWithParameter);
    let Some(key) = pattern.find(is_special) else {
        return (pattern == path).then_some(usize::MAX);
    };
    let segments = pattern.split('/');
    let has_names = segments.clone().any(|segment| segment.starts_with([':', '*']));
    let expressions = segments.map(|segment| match segment.as_bytes().first() {
        Some(b':') => "([^/]+)".to_owned(),
        Some(b'*') => r"((.|\n)*)".to_owned(),
        _ => regex::escape(segment),
    });
    let expression = expressions.collect::<Vec<_>>().join("/");
    let fits = || {
        EXPRESSIONS.with_borrow_mut(|known| {
            let regex = known.entry(expression.clone());
            let regex = regex.or_insert_with(|| Regex::new(&expression).unwrap());
            regex.find(path).is_some_and(|found| found.as_str() == path)
        })
    };
    (path.starts_with(&pattern[..key]) && (!has_names || fits())).then_some(key)
}

/// The rules, said as a sort: every (route, path, host) that is meant, best first.
fn oracle(
    kind: Kind,
    matchers: &[&Arc<Matcher>],
    authority: &str,
    path: &str,
) -> Vec<(String, String, String)> {
    let name = authority.split(':').next().unwrap();
    let mut ranked: Vec<(Place, (String, String, String))> = Vec::new();
    for matcher in matchers {
        let host_rank = |pattern: &str| {
            let by_port = pattern.contains(':') && kind != Kind::HostUri;
            let asked = if by_port { authority } else { name };
            match pattern.strip_prefix('*') {
                None => (pattern == asked).then_some(usize::MAX),
                Some(suffix) => asked.ends_with(suffix).then_some(suffix.len() + 1),
            }
        };
        let hosts = matcher.hosts.iter().enumerate();
        let hosts = hosts.filter_map(|(at, host)| Some((host_rank(host)?, at, host.to_string())));
        let mut hosts: Vec<_> = hosts.collect();
        if matcher.hosts.is_empty() {
            hosts.push((0, 0, String::new()));
        }
        if kind != Kind::HostUri {
            hosts.truncate(1);
        }
        for (host_rank, host_at, host) in &hosts {
            let host_rank = if kind == Kind::HostUri { *host_rank } else { 0 };
            for (path_at, pattern) in matcher.paths.iter().enumerate() {
                let text = pattern.text();
                let Some(path_rank) = path_rank(kind, text, path) else {
                    continue;
                };
                let place = (
                    Reverse(host_rank),
                    Reverse(path_rank),
                    Reverse(matcher.priority),
                    Reverse(text.len()),
                    matcher.id.to_string(),
                    path_at,
                    *host_at,
                );
                ranked.push((place, (matcher.id.to_string(), text.to_string(), host.clone())));
            }
        }
    }
    ranked.sort();
    ranked.into_iter().map(|(_, step)| step).collect()
}

/// Hosts, paths, methods and priority of a route.
type Drawn = (Vec<&'static str>, Vec<&'static str>, Vec<&'static str>, i64);

fn drawn() -> impl Strategy<Value = Drawn> {
    let host = prop::sample::select(vec![
        "a.com",
        "b.a.com",
        "*.a.com",
        "*.b.a.com",
        "*a.com",
        "*com",
        "a.com:81",
        "*.a.com:81",
    ]);
    let path = prop::sample::select(vec![
        "/",
        "/a",
        "/a*",
        "/a/*",
        "/a/b",
        "/a/b/*",
        "/ab",
        "/ab/*",
        "/abc",
        "/b",
        "/:x",
        "/a/:x",
        "/a/:x/c",
        "/:x/b",
        "/:x/b/*rest",
        "/a/*/c",
        "/*x/c",
        "/a/:x/",
        "/a:x",
        "/a/:x/*/d",
    ]);
    // Often enough more routes on one path than are asked one after the other.
    let path = prop_oneof![3 => path, 2 => Just("/*"), 1 => Just("/a/b/c")];
    let methods = prop::sample::select(vec![vec![], vec!["GET"], vec!["POST", "GET"]]);
    let hosts = prop::collection::btree_set(host, 0..4).prop_map(|all| all.into_iter().collect());
    let paths = prop::collection::btree_set(path, 1..4).prop_map(|all| all.into_iter().collect());
    (hosts, paths, methods, 0..3_i64)
}

proptest! {
    #[test]
    fn any_sequence_of_changes_walks_what_a_scan_finds(
        kind in prop::sample::select(KINDS.to_vec()),
        all in prop::collection::vec(drawn(), 1..48),
        toggled in prop::collection::vec(any::<prop::sample::Index>(), 0..80),
    ) {
        let mut matchers = Vec::new();
        for (number, (hosts, paths, methods, priority)) in all.iter().enumerate() {
            let id = format!("{number:02}");
            matchers.push((matcher(kind, (&id, hosts, paths, methods, *priority)), true));
        }
        let mut router = router(kind, matchers.iter().map(|(matcher, _)| matcher));
        let (before, whole) = (router.clone(), oracle_of(kind, &matchers));
        for index in toggled {
            let (matcher, is_in) = index.get(&matchers).clone();
            if is_in {
                router.remove(&matcher);
            } else {
                router.insert(&matcher, &Arc::new(matcher.id.to_string()));
            }
            matchers[index.index(all.len())].1 = !is_in;
        }
        prop_assert_eq!(router.len(), matchers.iter().filter(|(_, is_in)| *is_in).count());
        prop_assert_eq!(walk_of(&before), whole);
        prop_assert_eq!(walk_of(&router), oracle_of(kind, &matchers));
        for method in [Method::GET, Method::PUT] {
            for host in HOSTS {
                for path in PATHS {
                    let takes = |id: &str| {
                        let (matcher, _) = &matchers[id.parse::<usize>().unwrap()];
                        matcher.methods.has(&method)
                    };
                    let mut walk = walked(&router, host, path).into_iter();
                    let expected = walk.find(|(id, ..)| takes(id)).map(|(id, ..)| id);
                    prop_assert_eq!(check(&router, host, path, &method), expected);
                }
            }
        }
    }
}

const HOSTS: [&str; 6] = ["a.com", "b.a.com", "c.b.a.com:81", "xa.com", "org", "a.com:81"];

const PATHS: [&str; 14] = [
    "/", "/a", "/a/", "/a/b", "/a/b/c", "/ab", "/abc", "/abcd", "/b", "/c", "/x/b", "/x/b/c/d",
    "/a/b/c/d", "/a/:x",
];

type Walk = Vec<Vec<(String, String, String)>>;

fn oracle_of(kind: Kind, matchers: &[(Arc<Matcher>, bool)]) -> Walk {
    let present = matchers.iter().filter(|(_, is_in)| *is_in);
    let present: Vec<_> = present.map(|(matcher, _)| matcher).collect();
    each_request(|host, path| oracle(kind, &present, host, path))
}

fn walk_of(router: &Router<String>) -> Walk {
    each_request(|host, path| walked(router, host, path))
}

fn each_request(of: impl Fn(&str, &str) -> Vec<(String, String, String)>) -> Walk {
    let requests = HOSTS.iter().flat_map(|host| PATHS.iter().map(move |path| (host, path)));
    requests.map(|(host, path)| of(host, path)).collect()
}
