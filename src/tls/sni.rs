//! Server names and what is served for them.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::Served;

/// Every server name with its certificates. Clones share everything.
///
/// An exact name goes before wildcards, a longer wildcard before a shorter one. When several ssl
/// objects have one name, the one with the smallest id is served.
#[derive(Clone, Default)]
pub struct SniMap {
    exact: imbl::HashMap<Arc<str>, BySsl>,
    /// By what stands after `*`.
    wildcard: imbl::HashMap<Arc<str>, BySsl>,
    /// Names whose clients have to show a certificate.
    verifying: usize,
}

type BySsl = BTreeMap<Arc<str>, Arc<Served>>;

// === impl SniMap ===

impl SniMap {
    /// Serves `served` for `names`.
    pub fn insert<'n>(
        &mut self,
        ssl: &Arc<str>,
        names: impl IntoIterator<Item = &'n str>,
        served: &Arc<Served>,
    ) {
        for name in names {
            self.verifying += usize::from(served.verifies_clients);
            let (map, key) = self.place(name);
            map.entry(key).or_default().insert(ssl.clone(), served.clone());
        }
    }

    /// Takes out what `ssl` served for `names`.
    pub fn remove<'n>(&mut self, ssl: &str, names: impl IntoIterator<Item = &'n str>) {
        let mut verifying = 0;
        for name in names {
            let (map, key) = self.place(name);
            let unused = map.get_mut(&key).is_some_and(|by_ssl| {
                let removed = by_ssl.remove(ssl);
                verifying += usize::from(removed.is_some_and(|served| served.verifies_clients));
                by_ssl.is_empty()
            });
            if unused {
                map.remove(&key);
            }
        }
        self.verifying -= verifying;
    }

    /// What is served for a server name: case and a trailing dot do not matter.
    pub fn find(&self, name: &str) -> Option<&Arc<Served>> {
        let name = name.strip_suffix('.').unwrap_or(name);
        let name = if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
            Cow::Owned(name.to_ascii_lowercase())
        } else {
            Cow::Borrowed(name)
        };
        if let Some(served) = self.exact.get(&*name).and_then(|all| all.values().next()) {
            return Some(served);
        }
        let dots = name.match_indices('.').map(|(at, _)| at);
        dots.chain([name.len()])
            .filter(|at| *at > 0)
            .filter_map(|at| self.wildcard.get(&name[at..]))
            .find_map(|all| all.values().next())
    }

    /// Whether any name's clients have to show a certificate.
    pub fn verifies_clients(&self) -> bool {
        self.verifying > 0
    }

    /// How many names there are.
    pub fn len(&self) -> usize {
        self.exact.len() + self.wildcard.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn place(&mut self, name: &str) -> (&mut imbl::HashMap<Arc<str>, BySsl>, Arc<str>) {
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        match name.strip_prefix('*') {
            Some(suffix) => (&mut self.wildcard, suffix.into()),
            None => (&mut self.exact, name.into()),
        }
    }
}
