//! Any sequence of changes, against an oracle that sorts and scans.

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::HashMap;

use proptest::prelude::*;
use regex::Regex;

use super::*;

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
pub(super) fn oracle(
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
pub(super) type Drawn = (Vec<&'static str>, Vec<&'static str>, Vec<&'static str>, i64);

pub(super) fn drawn() -> impl Strategy<Value = Drawn> {
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

/// Takes out what is in of `toggled`, and puts in what is not.
pub(super) fn toggle(
    router: &mut Router<String>,
    matchers: &mut [(Arc<Matcher>, bool)],
    toggled: &[prop::sample::Index],
) {
    for index in toggled {
        let (matcher, is_in) = index.get_mut(matchers);
        if *is_in {
            router.remove(matcher);
        } else {
            router.insert(matcher, &Arc::new(matcher.id.to_string()));
        }
        *is_in = !*is_in;
    }
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
        toggle(&mut router, &mut matchers, &toggled);
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

pub(super) const HOSTS: [&str; 6] =
    ["a.com", "b.a.com", "c.b.a.com:81", "xa.com", "org", "a.com:81"];

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
