//! What a compiler tells of itself: for metrics, the control API and the log.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::{Compiler, Rejected, name};
use crate::resource::Kind;
use crate::secret::{self, Reference};
use crate::snapshot::parts::warnings;
use crate::tls::Served;

// === impl Compiler ===

impl Compiler {
    /// What is rejected now: kind, id and why.
    pub fn rejected(&self) -> impl Iterator<Item = (Kind, &str, &Rejected)> {
        self.rejected.iter().map(|((kind, id), why)| (*kind, &**id, why))
    }

    /// How many resources of each kind there are.
    pub fn counts(&self) -> BTreeMap<&'static str, usize> {
        let mut counts = BTreeMap::new();
        for (kind, _) in self.latest.keys() {
            *counts.entry(kind.name()).or_default() += 1;
        }
        counts
    }

    /// Keys in the store whose kind is not served.
    pub fn ignored(&self) -> impl Iterator<Item = &str> {
        self.ignored.iter().map(|key| &**key)
    }

    /// Every certificate that is served: ssl id, first name, end in seconds since 1970.
    pub fn certificates(&self) -> impl Iterator<Item = (&str, &str, i64)> {
        self.parts.served.iter().flat_map(|(id, (names, served))| {
            let name = names.first().map_or("", String::as_str);
            let ends = served.certificates.iter().map(|certificate| certificate.not_after);
            ends.min().map(|end| (&**id, name, end))
        })
    }

    /// Every reference to a secret, and the resources that have it: `ssls/1`.
    pub fn secret_users(&self) -> BTreeMap<Reference, BTreeSet<String>> {
        let all = self.references.all();
        all.map(|(reference, users)| (reference.clone(), users.iter().map(name).collect()))
            .collect()
    }

    /// How every reference stands that a secret manager answers.
    pub fn secret_status(&self) -> Vec<secret::Status> {
        self.secrets.status()
    }

    /// What is served for names: ssl id, names, certificates.
    pub fn served(&self) -> impl Iterator<Item = (&str, &[String], &Served)> {
        let served = self.parts.served.iter();
        served.map(|(id, (names, served))| (&**id, names.as_slice(), &**served))
    }

    /// What whoever runs this should know of the certificates that are served: ssl id, warning.
    pub fn warnings(&self) -> impl Iterator<Item = (&str, String)> {
        self.served().flat_map(|(id, names, served)| {
            warnings(names, served).into_iter().map(move |warning| (id, warning))
        })
    }

    /// What the `route` label of metrics may be: ids of routes, and their names.
    pub fn live_routes(&self) -> HashSet<String> {
        let routes = self.parts.routes.values();
        routes
            .flat_map(|part| part.route.all_labels())
            .flat_map(|labels| [&labels.id, &labels.name])
            .map(ToString::to_string)
            .collect()
    }
}
