//! Server names and what is served for them.

use std::borrow::Cow;
use std::sync::Arc;

use foldhash::fast::FixedState;
use imbl::GenericHashMap;
use imbl::shared_ptr::DefaultSharedPtr;
use smallvec::SmallVec;

use super::Served;

/// Every server name with its certificates. Clones share everything.
///
/// An exact name goes before wildcards, and a longer wildcard before a shorter one. A `*` stands
/// for what is left of one label, `*` alone for any name. When several ssl objects have one name,
/// the one with the smallest id is served, whatever keys the others have: APISIX does not join
/// them either.
///
/// Source: APISIX `ssl/router/radixtree_sni.lua`. Not followed: there `*` alone in `snis`, rather
/// than in `sni`, takes names of one label only; a name that a wildcard is too short for does not
/// get the object of `*`; and long names beside a wildcard in `snis` let it cover several labels.
#[derive(Clone, Default)]
pub struct SniMap {
    exact: Names,
    /// By what stands after `*`.
    wildcard: Names,
    /// What `*` alone gets.
    any: BySsl,
    /// Wildcards whose `*` is not followed by a dot; while there are any, everything that the
    /// first label of a name ends with is looked up.
    odd_wildcards: usize,
    /// Names whose clients have to show a certificate.
    verifying: usize,
}

/// Only config is put in, so that no client can choose what collides.
type Names = GenericHashMap<Arc<str>, BySsl, FixedState, DefaultSharedPtr>;

/// By id of the ssl object. One is the rule, and needs no memory of its own.
type BySsl = SmallVec<[Arc<Served>; 1]>;

// === impl SniMap ===

impl SniMap {
    /// Serves `served` for `names`.
    pub fn insert<'n>(&mut self, names: impl IntoIterator<Item = &'n str>, served: &Arc<Served>) {
        for name in names {
            self.change(name, |by_ssl| {
                let at = by_ssl.binary_search_by(|other| other.ssl.cmp(&served.ssl));
                match at {
                    // The same name, written twice.
                    Ok(at) => by_ssl[at] = served.clone(),
                    Err(at) => by_ssl.insert(at, served.clone()),
                }
            });
        }
    }

    /// Takes out what `ssl` served for `names`.
    pub fn remove<'n>(&mut self, ssl: &str, names: impl IntoIterator<Item = &'n str>) {
        for name in names {
            self.change(name, |by_ssl| by_ssl.retain(|served| *served.ssl != *ssl));
        }
    }

    /// What is served for a server name: case and a trailing dot do not matter.
    ///
    /// One look-up for an exact name, two for others; allocates for a name with capitals only.
    pub fn find(&self, name: &str) -> Option<&Arc<Served>> {
        let name = without_dot(name);
        let name = if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
            Cow::Owned(name.to_ascii_lowercase())
        } else {
            Cow::Borrowed(name)
        };
        let exact = self.exact.get(&*name);
        let found = exact.or_else(|| self.wildcard(&name)).unwrap_or(&self.any);
        found.first()
    }

    /// Whether any name's clients have to show a certificate.
    pub fn verifies_clients(&self) -> bool {
        self.verifying > 0
    }

    /// How many names there are.
    pub fn len(&self) -> usize {
        self.exact.len() + self.wildcard.len() + usize::from(!self.any.is_empty())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn wildcard(&self, name: &str) -> Option<&BySsl> {
        if self.wildcard.is_empty() {
            return None;
        }
        let first = name.find('.').unwrap_or(name.len());
        let from = if self.odd_wildcards > 0 { 0 } else { first };
        (from..=first).find_map(|at| self.wildcard.get(name.get(at..)?))
    }

    fn change(&mut self, name: &str, change: impl FnOnce(&mut BySsl)) {
        let verifying = |by_ssl: &BySsl| by_ssl.iter().filter(|s| s.verifies_clients).count();
        let name = without_dot(name).to_ascii_lowercase();
        let (map, key, is_odd) = match name.strip_prefix('*') {
            Some("") => {
                self.verifying -= verifying(&self.any);
                change(&mut self.any);
                self.verifying += verifying(&self.any);
                return;
            }
            Some(suffix) => (&mut self.wildcard, suffix, !suffix.starts_with('.')),
            None => (&mut self.exact, name.as_str(), false),
        };
        let was = map.get(key);
        let (was_there, before) = (was.is_some(), was.map_or(0, verifying));
        let mut by_ssl = was.cloned().unwrap_or_default();
        change(&mut by_ssl);
        let (is_there, after) = (!by_ssl.is_empty(), verifying(&by_ssl));
        if is_there {
            map.insert(key.into(), by_ssl);
        } else {
            map.remove(key);
        }
        self.verifying = self.verifying - before + after;
        if is_odd {
            self.odd_wildcards =
                self.odd_wildcards - usize::from(was_there) + usize::from(is_there);
        }
    }
}

/// The name of a host in DNS ends with a dot, which nobody writes.
pub fn without_dot(name: &str) -> &str {
    name.strip_suffix('.').unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::{ServerSpec, Terms, provider};

    /// Something served by the ssl object `id`.
    fn served(id: &str, verifies_clients: bool) -> Arc<Served> {
        let issued = rcgen::generate_simple_self_signed(vec!["test.com".to_owned()]).unwrap();
        let pair = (issued.cert.pem(), issued.signing_key.serialize_pem());
        let protocols = ["TLSv1.3".to_owned()];
        let spec = ServerSpec {
            ssl: id.into(),
            pairs: vec![(&*pair.0, &*pair.1)],
            protocols: &protocols,
            clients: None,
            http2: true,
            stapling: None,
            terms: &Terms::default(),
        };
        Arc::new(Served { verifies_clients, ..Served::new(&spec).unwrap() })
    }

    /// A map of names, each of an ssl object of its own, with the name as its id.
    fn map(names: &[&str]) -> SniMap {
        provider();
        let mut map = SniMap::default();
        for name in names {
            map.insert([*name], &served(name, false));
        }
        map
    }

    fn check(map: &SniMap, name: &str, expected: Option<&str>) {
        assert_eq!(map.find(name).map(|served| &*served.ssl), expected, "{name}");
    }

    #[test]
    fn takes_an_exact_name_before_a_wildcard_and_a_wildcard_for_one_label() {
        let map = map(&["www.test.com", "*.test.com", "*.a.test.com", "Upper.Test.Org."]);
        check(&map, "www.test.com", Some("www.test.com"));
        check(&map, "WWW.Test.com.", Some("www.test.com"));
        check(&map, "b.test.com", Some("*.test.com"));
        check(&map, "b.a.test.com", Some("*.a.test.com"));
        check(&map, "a.test.com", Some("*.test.com"));
        check(&map, "c.b.test.com", None);
        check(&map, "test.com", None);
        check(&map, "upper.test.org", Some("Upper.Test.Org."));
        check(&map, "", None);
    }

    #[test]
    fn takes_a_star_alone_for_every_name() {
        let map = map(&["*", "*.test.com"]);
        check(&map, "b.test.com", Some("*.test.com"));
        for name in ["c.b.test.com", "test.com", "localhost", "::1"] {
            check(&map, name, Some("*"));
        }
        assert_eq!(map.len(), 2);
    }

    #[test]
    fn takes_a_star_within_a_label() {
        let mut map = map(&["*test.com", "*.com", "*st.com"]);
        check(&map, "mytest.com", Some("*test.com"));
        check(&map, "test.com", Some("*test.com"));
        check(&map, "rest.com", Some("*st.com"));
        check(&map, "a.mytest.com", None);
        map.remove("*test.com", ["*test.com"]);
        map.remove("*st.com", ["*st.com"]);
        check(&map, "mytest.com", Some("*.com"));
        assert_eq!(map.odd_wildcards, 0);
    }

    #[test]
    fn serves_the_smallest_id_of_several_and_the_next_when_it_is_gone() {
        let mut map = SniMap::default();
        for id in ["2", "1", "3"] {
            map.insert(["test.com", "test.com"], &served(id, id == "1"));
        }
        check(&map, "test.com", Some("1"));
        assert!(map.verifies_clients());
        map.remove("1", ["test.com", "test.com"]);
        check(&map, "test.com", Some("2"));
        assert!(!map.verifies_clients());
        map.remove("3", ["test.com"]);
        map.remove("2", ["test.com"]);
        assert!(map.is_empty());
    }
}
