//! Paths of the Admin API: what each asks for.

use super::answer::Answer;
use crate::resource::Kind;

/// Kinds of APISIX that this version does not serve.
const UNSERVED: [&str; 5] =
    ["stream_routes", "protos", "consumer_groups", "credentials", "graphql_cost_decorations"];

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
    /// `openapi.json`.
    OpenApi,
    /// `reseal`.
    Reseal,
    /// `transactions`.
    Transactions,
    /// A resource, or all of a kind.
    Resource(Place),
    /// A kind that this version does not serve.
    Unserved(String),
    /// No kind at all.
    Unknown(String),
    /// Outside the Admin API.
    Elsewhere,
}

/// A resource's place, as far as the path tells it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) kind: Kind,
    /// Of a secret: the manager.
    pub(super) manager: Option<String>,
    /// As in the store; a secret's begins with its manager.
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
            ("plugins", names) | ("schema", ["plugins", names @ ..]) => {
                Self::Plugins(names.first().map(|name| (*name).to_owned()))
            }
            ("schema", ["validate", kind, ..]) => Self::Validate((*kind).to_owned()),
            ("schema", names) => {
                Self::Schema(names.first().copied().unwrap_or_default().to_owned())
            }
            ("consumers" | "services", [_, sub, ..]) if UNSERVED.contains(sub) => {
                Self::Unserved((*sub).to_owned())
            }
            (kind, _) if UNSERVED.contains(&kind) => Self::Unserved(kind.to_owned()),
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
        let (manager, segments) = match (kind, segments) {
            (Kind::Secret, [manager, more @ ..]) => (Some(*manager), more),
            (_, segments) => (None, segments),
        };
        let id = segments.first().map(|id| match manager {
            Some(manager) => format!("{manager}/{id}"),
            None => (*id).to_owned(),
        });
        Self {
            kind,
            manager: manager.map(str::to_owned),
            id,
            rest: segments.iter().skip(1).map(|segment| (*segment).to_owned()).collect(),
        }
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
        noun(self.kind)
    }
}

/// What a kind is called in messages.
pub(super) fn noun(kind: Kind) -> &'static str {
    match kind {
        Kind::Secret => "secret",
        Kind::PluginMetadata => "plugin_metadata",
        Kind::Ssl => "ssl",
        Kind::Upstream => "upstream",
        Kind::Service => "service",
        Kind::PluginConfig => "plugin config",
        Kind::GlobalRule => "global rule",
        Kind::Consumer => "consumer",
        Kind::Route => "route",
    }
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
            ("/apisix/admin/stream_routes/1", Target::Unserved(text("stream_routes"))),
            ("/apisix/admin/consumers/a/credentials/b", Target::Unserved(text("credentials"))),
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
