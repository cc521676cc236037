//! Paths of the Admin API: what each asks for.

use super::answer::Answer;
use crate::resource::Kind;

/// What a path asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// `/apisix/admin` itself.
    Root,
    /// `plugins/list`.
    PluginNames,
    /// `plugins`, `plugins/{name}` and `schema/plugins/{name}`.
    Plugins(Option<String>),
    /// `schema/{resource}`.
    Schema(String),
    /// `schema/validate/{resource}`.
    Validate(String),
    /// `plugins/reload`.
    Reload,
    /// `configs`.
    Configs,
    /// `configs/validate`.
    ValidateConfigs,
    /// `openapi.json`.
    OpenApi,
    /// `reseal`.
    Reseal,
    /// `transactions`.
    Transactions,
    /// A resource, or all of a kind.
    Resource(Place),
    /// No kind at all.
    Unknown(String),
    /// Outside the Admin API.
    Elsewhere,
}

/// A resource's place, as far as the path tells it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) kind: Kind,
    /// What it lies below: a secret's manager, a credential's consumer.
    pub(super) parent: Option<String>,
    /// As in the store, with the parent before it where there is one.
    pub(super) id: Option<String>,
    /// What follows: the property that PATCH changes.
    pub(super) rest: Vec<String>,
}

// === impl Target ===

impl Target {
    /// Reads a decoded path. Empty segments count for nothing, as nginx merges slashes.
    pub(super) fn parse(path: &str) -> Self {
        let mut segments = path.split('/').filter(|segment| !segment.is_empty());
        if segments.next() != Some("apisix") || segments.next() != Some("admin") {
            return Self::Elsewhere;
        }
        let segments: Vec<&str> = segments.collect();
        let [first, more @ ..] = segments.as_slice() else {
            return Self::Root;
        };
        match (*first, more) {
            ("openapi.json", []) => Self::OpenApi,
            ("reseal", []) => Self::Reseal,
            ("transactions", []) => Self::Transactions,
            ("plugins", ["list"]) => Self::PluginNames,
            ("plugins", ["reload"]) => Self::Reload,
            ("configs", []) => Self::Configs,
            ("configs", ["validate"]) => Self::ValidateConfigs,
            ("plugins", names) | ("schema", ["plugins", names @ ..]) => {
                Self::Plugins(names.first().map(|name| (*name).to_owned()))
            }
            ("schema", ["validate", kind, ..]) => Self::Validate((*kind).to_owned()),
            ("schema", names) => {
                Self::Schema(names.first().copied().unwrap_or_default().to_owned())
            }
            ("consumers", [consumer, "credentials", more @ ..]) => {
                Self::Resource(Place::below(Kind::Credential, consumer, more))
            }
            ("services", [service, "graphql_cost_decorations", more @ ..]) => {
                Self::Resource(Place::below(Kind::CostDecoration, service, more))
            }
            (dir, more) => match Kind::of_dir(dir) {
                Some(kind) => Self::Resource(Place::of(kind, more)),
                None => Self::Unknown(dir.to_owned()),
            },
        }
    }
}

// === impl Place ===

impl Place {
    /// The place of a store key such as `routes/1`; `None` where that names no resource.
    pub(super) fn of_key(key: &str) -> Option<Self> {
        match Target::parse(&format!("/apisix/admin/{key}")) {
            Target::Resource(place) if place.id.is_some() && place.rest.is_empty() => Some(place),
            _ => None,
        }
    }

    fn of(kind: Kind, segments: &[&str]) -> Self {
        match (kind, segments) {
            (Kind::Secret, [manager, more @ ..]) => Self::below(kind, manager, more),
            (_, segments) => Self { kind, parent: None, id: None, rest: Vec::new() }.at(segments),
        }
    }

    fn below(kind: Kind, parent: &str, segments: &[&str]) -> Self {
        let parent = Some(parent.to_owned());
        Self { kind, parent, id: None, rest: Vec::new() }.at(segments)
    }

    /// Takes the id and what follows it from the end of a path.
    fn at(mut self, segments: &[&str]) -> Self {
        if let [id, rest @ ..] = segments {
            self.id = Some(self.store_id(id));
            self.rest = rest.iter().map(|segment| (*segment).to_owned()).collect();
        }
        self
    }

    /// The id in the store of the resource that is called `own` at this place.
    pub(super) fn store_id(&self, own: &str) -> String {
        match (self.kind, &self.parent) {
            (kind, Some(owner)) if kind.owner().is_some() => kind.store_id(owner, own),
            (_, Some(parent)) => format!("{parent}/{own}"),
            (_, None) => own.to_owned(),
        }
    }

    /// What the keys of all that stand at this place begin with.
    pub(super) fn prefix(&self) -> String {
        format!("{}/{}", self.kind.dir(), self.store_id(""))
    }

    /// The id, where the call is of one resource.
    ///
    /// # Errors
    /// 400 when there is none.
    pub(super) fn one(&self) -> Result<&str, Answer> {
        let missing = || Answer::bad(format!("missing {} id", self.noun()));
        self.id.as_deref().ok_or_else(missing)
    }

    /// What the kind is called in messages.
    pub(super) fn noun(&self) -> &'static str {
        self.kind.noun()
    }
}

/// The id that the body has of what is stored under `id`: without what it lies below.
pub(super) fn own_id(kind: Kind, id: &str) -> &str {
    kind.split(id).map_or(id, |(_, own)| own)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &str, kind: Kind, id: Option<&str>, rest: &[&str]) {
        let Target::Resource(place) = Target::parse(path) else {
            panic!("{path} is no resource");
        };
        let rest: Vec<String> = rest.iter().map(|segment| (*segment).to_owned()).collect();
        assert_eq!((place.kind, place.id.as_deref(), place.rest), (kind, id, rest), "{path}");
    }

    #[test]
    fn finds_kind_id_and_property() {
        check("/apisix/admin/routes", Kind::Route, None, &[]);
        check("/apisix/admin/routes/", Kind::Route, None, &[]);
        check("/apisix/admin/routes/1", Kind::Route, Some("1"), &[]);
        check(
            "/apisix/admin//routes/1/upstream/nodes",
            Kind::Route,
            Some("1"),
            &["upstream", "nodes"],
        );
        check("/apisix/admin/secrets/vault", Kind::Secret, None, &[]);
        check("/apisix/admin/secrets/vault/1/token", Kind::Secret, Some("vault/1"), &["token"]);
        check("/apisix/admin/consumers/jack", Kind::Consumer, Some("jack"), &[]);
        let credential = "/apisix/admin/consumers/jack/credentials/1";
        check(credential, Kind::Credential, Some("jack/credentials/1"), &[]);
        check("/apisix/admin/consumers/jack/credentials", Kind::Credential, None, &[]);
        let below = "/apisix/admin/services/1/graphql_cost_decorations";
        check(below, Kind::CostDecoration, None, &[]);
        let id = Some("1/graphql_cost_decorations/2");
        check(&format!("{below}/2"), Kind::CostDecoration, id, &[]);
    }

    #[test]
    fn tells_what_is_no_resource() {
        let text = |text: &str| text.to_owned();
        for (path, target) in [
            ("/apisix/admin", Target::Root),
            ("/apisix/admin/", Target::Root),
            ("/other", Target::Elsewhere),
            ("/apisix/adminx/routes", Target::Elsewhere),
            ("/apisix/admin/routs/1", Target::Unknown(text("routs"))),
            ("/apisix/admin/transactions", Target::Transactions),
            ("/apisix/admin/plugins/list", Target::PluginNames),
            ("/apisix/admin/plugins", Target::Plugins(None)),
            ("/apisix/admin/plugins/key-auth", Target::Plugins(Some(text("key-auth")))),
            ("/apisix/admin/schema/plugins/cors", Target::Plugins(Some(text("cors")))),
            ("/apisix/admin/schema/route", Target::Schema(text("route"))),
            ("/apisix/admin/schema/validate/routes", Target::Validate(text("routes"))),
        ] {
            assert_eq!(Target::parse(path), target, "{path}");
        }
    }
}
