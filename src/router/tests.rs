//! The order of preference, by example and against an oracle that sorts and scans.

use proptest::prelude::*;

use super::*;

fn matcher(id: &str, hosts: &[&str], paths: &[&str], methods: &[&str], priority: i64) -> Matcher {
    Matcher {
        id: id.into(),
        hosts: hosts.iter().map(|host| Arc::from(*host)).collect(),
        paths: paths.iter().map(|path| Arc::from(*path)).collect(),
        methods: Methods::new(methods.iter().copied()),
        priority,
    }
}

fn router(matchers: &[Matcher]) -> Router<String> {
    let mut router = Router::default();
    for matcher in matchers {
        router.insert(matcher, &Arc::new(matcher.id.to_string()));
    }
    router
}

fn check(router: &Router<String>, host: &str, path: &str, method: &Method) -> Option<String> {
    let found = router.find(Some(host), path, method, |_| true);
    found.map(|found| found.value.to_string())
}

#[test]
fn prefers_hosts_then_paths_then_priority() {
    let router = router(&[
        matcher("any", &[], &["/*"], &[], 100),
        matcher("wild", &["*.foo.com"], &["/*"], &[], 0),
        matcher("deep", &["*.a.foo.com"], &["/x"], &[], 0),
        matcher("exact", &["www.foo.com"], &["/a", "/b/*"], &[], 0),
        matcher("low", &["www.foo.com"], &["/b/c/*"], &[], 0),
        matcher("high", &["www.foo.com"], &["/b/c/*"], &["POST"], 9),
        matcher("all", &["*"], &["/all"], &[], 0),
    ]);
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
fn asks_the_next_candidate_when_one_is_not_accepted() {
    let router = router(&[
        matcher("1", &["a.com"], &["/x"], &[], 0),
        matcher("2", &["a.com"], &["/*"], &[], 0),
        matcher("3", &[], &["/x"], &[], 0),
    ]);
    let without = |refused: &[&str]| {
        let accept = |value: &String| !refused.contains(&value.as_str());
        let found = router.find(Some("a.com"), "/x", &Method::GET, accept);
        found.map(|found| found.value.to_string())
    };
    assert_eq!(without(&[]).as_deref(), Some("1"));
    assert_eq!(without(&["1"]).as_deref(), Some("2"));
    assert_eq!(without(&["1", "2"]).as_deref(), Some("3"));
    assert_eq!(without(&["1", "2", "3"]), None);
}

#[test]
fn a_clone_does_not_see_later_changes() {
    let first = matcher("1", &[], &["/a/b"], &[], 0);
    let old = router(std::slice::from_ref(&first));
    let mut new = old.clone();
    new.remove(&first);
    new.insert(&matcher("2", &[], &["/a/c"], &[], 0), &Arc::new("2".to_owned()));
    assert_eq!(check(&old, "x", "/a/b", &Method::GET).as_deref(), Some("1"));
    assert_eq!(check(&old, "x", "/a/c", &Method::GET), None);
    assert_eq!(check(&new, "x", "/a/b", &Method::GET), None);
    assert_eq!(check(&new, "x", "/a/c", &Method::GET).as_deref(), Some("2"));
}

/// The rules, said as a sort: every (route, host, path) that matches, best first.
fn oracle(matchers: &[Matcher], host: &str, path: &str, method: &Method) -> Option<String> {
    let mut ranked = Vec::new();
    for matcher in matchers.iter().filter(|matcher| matcher.methods.has(method)) {
        let hosts = matcher.hosts.iter().filter_map(|pattern| match pattern.strip_prefix('*') {
            None => (**pattern == *host).then_some(usize::MAX),
            Some(suffix) => {
                (host.len() > suffix.len() && host.ends_with(suffix)).then_some(suffix.len() + 1)
            }
        });
        let hosts: Vec<usize> = if matcher.hosts.is_empty() { vec![0] } else { hosts.collect() };
        for host_rank in hosts {
            for pattern in &matcher.paths {
                let path_rank = match pattern.strip_suffix('*') {
                    None if **pattern == *path => usize::MAX,
                    Some(prefix) if path.starts_with(prefix) => prefix.len(),
                    _ => continue,
                };
                let worse = std::cmp::Reverse(matcher.id.to_string());
                ranked.push((host_rank, path_rank, matcher.priority, worse));
            }
        }
    }
    ranked.into_iter().max().map(|(.., id)| id.0)
}

fn hosts() -> impl Strategy<Value = Vec<Arc<str>>> {
    let host =
        prop::sample::select(vec!["a.com", "b.a.com", "*.a.com", "*.b.a.com", "*a.com", "*"]);
    prop::collection::btree_set(host, 0..3)
        .prop_map(|hosts| hosts.into_iter().map(Arc::from).collect())
}

fn paths() -> impl Strategy<Value = Vec<Arc<str>>> {
    let path = prop::sample::select(vec![
        "/", "/*", "/a", "/a*", "/a/*", "/a/b", "/a/b/*", "/ab", "/ab/*", "/abc", "/b",
    ]);
    prop::collection::btree_set(path, 1..3)
        .prop_map(|paths| paths.into_iter().map(Arc::from).collect())
}

fn matchers() -> impl Strategy<Value = Vec<Matcher>> {
    let methods = prop::sample::select(vec![vec![], vec!["GET"], vec!["POST", "GET"]]);
    let one = (hosts(), paths(), methods, 0..3_i64);
    prop::collection::vec(one, 0..12).prop_map(|all| {
        let numbered = all.into_iter().enumerate();
        numbered
            .map(|(number, (hosts, paths, methods, priority))| Matcher {
                id: format!("{number:02}").into(),
                hosts,
                paths,
                methods: Methods::new(methods),
                priority,
            })
            .collect()
    })
}

proptest! {
    #[test]
    fn any_sequence_of_changes_finds_what_a_scan_finds(
        all in matchers(),
        gone in prop::collection::vec(any::<bool>(), 12),
    ) {
        let mut router = router(&all);
        let mut left = Vec::new();
        for (matcher, gone) in all.iter().zip(gone) {
            if gone {
                router.remove(matcher);
            } else {
                left.push(matcher.clone());
            }
        }
        prop_assert_eq!(router.len(), left.len());
        for host in ["a.com", "b.a.com", "c.b.a.com", "xa.com", "org"] {
            for path in ["/", "/a", "/a/", "/a/b", "/a/b/c", "/ab", "/abc", "/abcd", "/b", "/c"] {
                for method in [Method::GET, Method::PUT] {
                    let found = check(&router, host, path, &method);
                    prop_assert_eq!(found, oracle(&left, host, path, &method), "{} {}", host, path);
                }
            }
        }
    }
}
