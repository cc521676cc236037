//! Who refers to what: other resources by id, secrets by reference.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use serde_json::Value;

use crate::issue::{Found, Issued, Order};
use crate::resource::fields::Plugins;
use crate::resource::{Id, Invalid, Kind, Resource, credential};
use crate::secret::{Lookup, Reference, Secrets};

/// A resource's place: kind and id.
pub(super) type Key = (Kind, Arc<str>);

/// An index from what is referred to, to who does.
pub(super) struct Users<T> {
    by_target: HashMap<T, BTreeSet<Key>>,
    /// Sorted.
    by_user: HashMap<Key, Box<[T]>>,
}

// === impl Users ===

impl<T> Default for Users<T> {
    fn default() -> Self {
        Self { by_target: HashMap::new(), by_user: HashMap::new() }
    }
}

impl<T: Clone + Eq + Ord + std::hash::Hash> Users<T> {
    /// Says what `user` refers to now; returns what nobody refers to any more.
    pub(super) fn set(&mut self, user: &Key, targets: BTreeSet<T>) -> Vec<T> {
        let old = self.by_user.remove(user).unwrap_or_default();
        let mut kept = Vec::with_capacity(targets.len());
        for target in targets {
            // The target as the index has it: one text for all who refer to it.
            let known = self.by_target.get_key_value(&target).map(|(known, _)| known.clone());
            let target = known.unwrap_or(target);
            self.by_target.entry(target.clone()).or_default().insert(user.clone());
            kept.push(target);
        }
        let mut unused = Vec::new();
        for target in old.iter().filter(|target| kept.binary_search(target).is_err()) {
            if let Some(users) = self.by_target.get_mut(target) {
                users.remove(user);
                if users.is_empty() {
                    self.by_target.remove(target);
                    unused.push(target.clone());
                }
            }
        }
        if !kept.is_empty() {
            self.by_user.insert(user.clone(), kept.into());
        }
        unused
    }

    /// Says what `user` refers to besides what it does already.
    pub(super) fn add(&mut self, user: &Key, targets: BTreeSet<T>) {
        let mut all = targets;
        all.extend(self.by_user.get(user).into_iter().flatten().cloned());
        // Nothing can fall out of use by that.
        self.set(user, all);
    }

    /// Everything that is referred to, and by whom.
    pub(super) fn all(&self) -> impl Iterator<Item = (&T, &BTreeSet<Key>)> {
        self.by_target.iter()
    }

    /// Who refers to `target`.
    pub(super) fn of(&self, target: &T) -> impl Iterator<Item = &Key> {
        self.by_target.get(target).into_iter().flatten()
    }
}

/// The resources that `resource`, stored under `id`, refers to, each with the property that does.
pub(super) fn targets(id: &str, resource: &Resource) -> Vec<(Key, &'static str)> {
    let mut targets = Vec::new();
    let mut add = |kind: Kind, id: &Option<Id>, path: &'static str| {
        if let Some(id) = id {
            targets.push(((kind, id.0.clone()), path));
        }
    };
    let client_cert = |upstream: &crate::resource::Upstream| {
        upstream.tls.as_ref().and_then(|tls| tls.client_cert_id.clone())
    };
    match resource {
        Resource::Route(route) => {
            add(Kind::Upstream, &route.upstream_id, "/upstream_id");
            add(Kind::Service, &route.service_id, "/service_id");
            add(Kind::PluginConfig, &route.plugin_config_id, "/plugin_config_id");
            let cert = route.upstream.as_ref().and_then(client_cert);
            add(Kind::Ssl, &cert, "/upstream/tls/client_cert_id");
        }
        Resource::StreamRoute(route) => {
            add(Kind::Upstream, &route.upstream_id, "/upstream_id");
            add(Kind::Service, &route.service_id, "/service_id");
            let superior = route.protocol.as_ref().and_then(|it| it.superior_id.clone());
            add(Kind::StreamRoute, &superior, "/protocol/superior_id");
            let cert = route.upstream.as_ref().and_then(client_cert);
            add(Kind::Ssl, &cert, "/upstream/tls/client_cert_id");
        }
        Resource::Service(service) => {
            add(Kind::Upstream, &service.upstream_id, "/upstream_id");
            let cert = service.upstream.as_ref().and_then(client_cert);
            add(Kind::Ssl, &cert, "/upstream/tls/client_cert_id");
        }
        Resource::Consumer(consumer) => {
            add(Kind::ConsumerGroup, &consumer.group_id, "/group_id");
        }
        Resource::Credential(_) => {
            let consumer = credential::split(id).map(|(consumer, _)| Id(consumer.into()));
            add(Kind::Consumer, &consumer, "/id");
        }
        Resource::CostDecoration(_) => {
            let service = Kind::CostDecoration.split(id).map(|(service, _)| Id(service.into()));
            add(Kind::Service, &service, "/service_id");
        }
        Resource::Upstream(upstream) => {
            add(Kind::Ssl, &client_cert(upstream), "/tls/client_cert_id");
        }
        _ => {}
    }
    for (name, config) in plugins(resource).into_iter().flatten() {
        targets.push(((Kind::PluginMetadata, name.as_str().into()), MAY_BE_ABSENT));
        named_by_plugin(name, config, &mut targets);
    }
    targets
}

/// What stands for the property of a reference to something that need not be there.
pub(super) const MAY_BE_ABSENT: &str = "";

/// The resources that plugins' configs name by id. They are known here also where the plugin is
/// not: another gateway on the same store may have it, and needs them.
///
/// Source: APISIX `admin/utils.lua`, `admin/proto.lua`.
fn named_by_plugin(name: &str, config: &Value, targets: &mut Vec<(Key, &'static str)>) {
    let mut add = |kind: Kind, id: &Value| {
        let id = match id {
            Value::String(id) => id.as_str().into(),
            Value::Number(id) => id.to_string().into(),
            _ => return,
        };
        targets.push(((kind, id), MAY_BE_ABSENT));
    };
    let items = |value: &'_ Value| value.as_array().cloned().unwrap_or_default();
    match name {
        "traffic-split" => {
            for rule in items(&config["rules"]) {
                for weighted in items(&rule["weighted_upstreams"]) {
                    add(Kind::Upstream, &weighted["upstream_id"]);
                }
            }
        }
        "grpc-transcode" => add(Kind::Proto, &config["proto_id"]),
        _ => {}
    }
}

/// The plugins of a resource that can have some.
pub(super) fn plugins(resource: &Resource) -> Option<&Plugins> {
    match resource {
        Resource::Route(route) => Some(&route.plugins),
        Resource::StreamRoute(route) => Some(&route.plugins),
        Resource::Service(service) => Some(&service.plugins),
        Resource::Consumer(consumer) => Some(&consumer.plugins),
        Resource::Credential(credential) => Some(&credential.plugins),
        Resource::GlobalRule(rule) => Some(&rule.plugins),
        Resource::PluginConfig(config) => Some(&config.plugins),
        Resource::ConsumerGroup(group) => Some(&group.plugins),
        _ => None,
    }
}

/// What is said of a reference that is being read for the first time.
pub(super) const PENDING: &str = "a secret that can be read: it is being read";

/// Resolves references while noting which there were.
pub(super) struct Resolver<'s> {
    secrets: Option<&'s Secrets>,
    /// What was asked for, resolved or not.
    pub(super) seen: BTreeSet<Reference>,
    /// What has no value yet, and why.
    pub(super) missing: Vec<Invalid>,
}

// === impl Resolver ===

impl<'s> Resolver<'s> {
    /// A resolver; without secrets, references stay as they are (a dry compile).
    pub(super) fn new(secrets: Option<&'s Secrets>) -> Self {
        Self { secrets, seen: BTreeSet::new(), missing: Vec::new() }
    }

    /// The value that `text` stands for: itself unless it is a reference.
    ///
    /// What cannot be resolved is noted as missing and gives `None`, never the text.
    pub(super) fn text(&mut self, text: &str, path: &str) -> Option<String> {
        let reference = match Reference::parse(text) {
            None => return Some(text.to_owned()),
            Some(Err(error)) => {
                self.missing.push(Invalid::new(path, text, error.to_string()));
                return None;
            }
            Some(Ok(reference)) => reference,
        };
        let Some(secrets) = self.secrets else {
            return Some(text.to_owned());
        };
        let lookup = secrets.lookup(&reference);
        self.seen.insert(reference);
        match lookup {
            Lookup::Ready(secret) => Some(secret.expose().to_owned()),
            Lookup::Pending => {
                self.missing.push(Invalid::new(path, text, PENDING));
                None
            }
            Lookup::Failed(error) => {
                let expected = format!("a secret that can be read: {error}");
                self.missing.push(Invalid::new(path, text, expected));
                None
            }
        }
    }

    /// Chain and key of the certificate that the ssl object `ssl` has ordered; the references
    /// themselves in a dry compile.
    pub(super) fn issued(
        &mut self,
        issued: &Issued,
        ssl: &Arc<str>,
        order: &Order,
    ) -> Option<(String, String)> {
        let reference = order.reference();
        let text = order.issuer.to_string();
        if self.secrets.is_none() {
            return Some((text.clone(), text));
        }
        self.seen.insert(reference);
        let expected = match issued.lookup(ssl, order) {
            Found::Ready(chain, key) => return Some((chain, key.expose().to_owned())),
            Found::Pending => PENDING.to_owned(),
            Found::Failed(error) => format!("a certificate that can be issued: {error}"),
        };
        self.missing.push(Invalid::new("/cert", text, expected));
        None
    }

    /// `value` with every reference in it resolved.
    pub(super) fn value(&mut self, value: &Value, path: &str) -> Value {
        match value {
            Value::String(text) => self.text(text, path).map_or(Value::Null, Value::String),
            Value::Array(items) => items
                .iter()
                .enumerate()
                .map(|(index, item)| self.value(item, &format!("{path}/{index}")))
                .collect(),
            Value::Object(fields) => fields
                .iter()
                .map(|(name, field)| (name.clone(), self.value(field, &format!("{path}/{name}"))))
                .collect(),
            other => other.clone(),
        }
    }

    /// The plugins with every reference in them resolved.
    pub(super) fn plugins(&mut self, plugins: &Plugins) -> Plugins {
        plugins
            .iter()
            .map(|(name, config)| (name.clone(), self.value(config, &format!("/plugins/{name}"))))
            .collect()
    }

    /// The reasons, if anything is missing.
    pub(super) fn finish(&mut self) -> Result<(), Vec<Invalid>> {
        if self.missing.is_empty() { Ok(()) } else { Err(std::mem::take(&mut self.missing)) }
    }
}
