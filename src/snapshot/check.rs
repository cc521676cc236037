//! The dry compile: what the Admin API asks before it writes, by the code that will compile the
//! resource later, so that what is accepted is what runs.

use std::sync::Arc;

use serde_json::Value;

use super::compile::Compiler;
use super::parts::Workshop;
use super::references::{MAY_BE_ABSENT, Resolver, targets};
use crate::plugin::registry;
use crate::resource::{self, Invalid, Keyring, Kind, Resource, Said};
use crate::secret::Reference;

/// What is shown in place of a secret.
pub const HIDDEN: &str = "(hidden)";

/// Another resource that one refers to by id.
pub struct Target {
    pub(super) kind: Kind,
    pub(super) id: Arc<str>,
    /// The property that refers to it.
    pub(super) path: &'static str,
}

/// What `value` refers to as `kind/id`. Needs no compiler: whether the targets are there is asked
/// of the store, which knows before the compiler does.
///
/// # Errors
/// Everything that the schema refuses.
pub fn references(kind: Kind, id: &str, value: &Value) -> Result<Vec<Target>, Vec<Invalid>> {
    let resource = resource::decode(kind, id, value.clone())?;
    Ok(must_exist(id, &resource).collect())
}

pub(super) fn must_exist(id: &str, resource: &Resource) -> impl Iterator<Item = Target> {
    let must = targets(id, resource).into_iter();
    let must = must.filter(|(_, path)| *path != MAY_BE_ABSENT);
    must.map(|((kind, id), path)| Target { kind, id, path })
}

// === impl Target ===

impl Target {
    /// Its key in the store.
    pub fn key(&self) -> String {
        format!("{}/{}", self.kind.dir(), self.id)
    }

    /// The problem of its not being there.
    pub fn missing(&self) -> Invalid {
        let expected = format!("the id of one of the {} that are there", self.kind.dir());
        let id = &self.id;
        let said = match self.kind {
            Kind::StreamRoute => format!("failed to fetch stream routes[{id}]: there is none"),
            kind => {
                let noun = kind.noun();
                format!("failed to fetch {noun} info by {noun} id [{id}], response code: 404")
            }
        };
        Invalid::new(self.path, id, expected).saying(Said::Whole(said))
    }
}

// === impl Compiler ===

impl Compiler {
    /// Whether `value` could be served as `kind/id`; returns what its writer should know all the
    /// same. References to secrets are checked by their
    /// grammar only: nobody waits for a secret manager here. Private keys may be encrypted, as
    /// they are at rest.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn check(&self, kind: Kind, id: &str, value: &Value) -> Result<Vec<String>, Vec<Invalid>> {
        let mut value = value.clone();
        self.open_keys(kind, &mut value);
        let resource = resource::decode(kind, id, value)?;
        let missing = must_exist(id, &resource)
            .filter(|target| !self.latest.contains_key(&(target.kind, target.id.clone())));
        let missing: Vec<Invalid> = missing.map(|target| target.missing()).collect();
        if !missing.is_empty() {
            return Err(missing);
        }
        self.check_resource(kind, id, &resource)
    }

    /// As [`Compiler::check`], but for what `value` refers to: that may come with it.
    ///
    /// # Errors
    /// Everything else that is wrong with it.
    pub fn check_alone(
        &self,
        kind: Kind,
        id: &str,
        value: &Value,
    ) -> Result<Vec<String>, Vec<Invalid>> {
        let mut value = value.clone();
        self.open_keys(kind, &mut value);
        let mut resource = resource::decode(kind, id, value)?;
        forget_references(&mut resource);
        self.check_resource(kind, id, &resource)
    }

    /// What the writer of a resource that is well should know of it.
    pub(super) fn warnings_of(&self, id: &str, resource: &Resource) -> Vec<String> {
        match resource {
            // Nothing else has any.
            Resource::Ssl(_) => self.check_resource(Kind::Ssl, id, resource).unwrap_or_default(),
            _ => Vec::new(),
        }
    }

    fn check_resource(
        &self,
        kind: Kind,
        id: &str,
        resource: &Resource,
    ) -> Result<Vec<String>, Vec<Invalid>> {
        let mut resolver = Resolver::new(None);
        let mut workshop = Workshop { dry: true, ..self.workshop(&mut resolver) };
        let source = format!("{}/{id}", kind.dir());
        let id: Arc<str> = id.into();
        let checked = match resource {
            Resource::Secret(_) | Resource::CostDecoration(_) => Ok(()),
            Resource::Proto(proto) => proto.compile().map(drop).map_err(|invalid| vec![invalid]),
            Resource::StreamRoute(route) => workshop.stream_route(&id, route).map(drop),
            Resource::PluginMetadata(metadata) => check_metadata(&id, &metadata.0.clone().into()),
            Resource::Ssl(ssl) => return Ok(workshop.ssl(&id, ssl)?.warnings()),
            Resource::Upstream(upstream) => workshop.upstream(&source, upstream, None).map(drop),
            Resource::Service(service) => workshop.service(&id, service).map(drop),
            Resource::PluginConfig(config) => {
                workshop.plugins(&source, &config.plugins, None).map(drop)
            }
            Resource::ConsumerGroup(group) => {
                workshop.plugins(&source, &group.plugins, None).map(drop)
            }
            Resource::GlobalRule(rule) => workshop.plugins(&source, &rule.plugins, None).map(drop),
            // Whose it is has been looked at, where that was asked.
            Resource::Credential(credential) if !self.parts.has_consumer_of(&id) => {
                workshop.credential_values(credential).map(drop)
            }
            Resource::Credential(credential) => workshop.credential(&id, credential).map(drop),
            Resource::Consumer(consumer) => workshop.consumer(&id, consumer).map(drop),
            Resource::Route(route) => workshop.route(&id, route).map(drop),
        };
        checked.map(|()| Vec::new())
    }

    /// Encrypts in place what is encrypted at rest.
    pub fn seal(&self, kind: Kind, value: &mut Value) {
        each_private_key(kind, value, |holder| resource::ssl::seal(holder, &self.keyring));
        if !self.settings.encrypt_fields {
            return;
        }
        each_encrypted(kind, value, |text| {
            let is_reference = Reference::parse(text).is_some();
            (!is_reference).then(|| self.keyring.encrypt(text))
        });
    }

    /// Encrypts anew, with the newest key, what is encrypted at rest. Returns whether all of it
    /// could be decrypted; what could not stays as it is.
    pub fn reseal(&self, kind: Kind, value: &mut Value) -> bool {
        self.open_keys(kind, value);
        let mut is_readable = true;
        each_private_key(kind, value, |holder| {
            is_readable &= !resource::ssl::is_sealed(holder);
            resource::ssl::seal(holder, &self.keyring);
        });
        if !self.settings.encrypt_fields {
            return is_readable;
        }
        each_encrypted(kind, value, |text| match self.keyring.decrypt(text) {
            Some(plain) => Some(self.keyring.encrypt(&plain)),
            None if Keyring::may_have_written(text) => {
                is_readable = false;
                None
            }
            None if Reference::parse(text).is_some() => None,
            // From a time when fields were not encrypted.
            None => Some(self.keyring.encrypt(text)),
        });
        is_readable
    }

    /// Encrypts anew, with the newest key, what is encrypted as a whole; `None` when no key fits.
    pub fn reseal_whole(&self, stored: &[u8]) -> Option<String> {
        let text = std::str::from_utf8(stored).ok()?;
        match self.keyring.decrypt(text) {
            Some(plain) => Some(self.keyring.encrypt(&plain)),
            None if Keyring::may_have_written(text) => None,
            // From a time without keys.
            None => Some(self.keyring.encrypt(text)),
        }
    }

    /// Decrypts in place what is encrypted at rest; what does not decrypt stays as it is.
    pub fn open(&self, kind: Kind, value: &mut Value) {
        self.open_keys(kind, value);
        self.open_plugins(kind, value);
    }

    /// As [`Compiler::open`], but for private keys, which no answer of the Admin API shows.
    pub fn open_plugins(&self, kind: Kind, value: &mut Value) {
        each_encrypted(kind, value, |text| self.keyring.decrypt(text));
    }

    /// Hides in place what is secret: what is encrypted at rest, and keys shown to nodes.
    pub fn hide(&self, kind: Kind, value: &mut Value) {
        each_encrypted(kind, value, |_| Some(HIDDEN.to_owned()));
        for key in [
            "/tls/client_key",
            "/upstream/tls/client_key",
            "/key",
            "/token",
            "/secret_access_key",
            "/session_token",
            "/auth_config/private_key",
            "/auth/token",
            "/auth/secret_id",
            "/auth/jwt",
            "/auth/key",
            "/eab/hmac_key",
        ] {
            if let Some(slot) = value.pointer_mut(key).filter(|slot| slot.is_string()) {
                let is_reference = slot.as_str().and_then(Reference::parse).is_some();
                // `key` of an upstream is what chash hashes.
                if !is_reference && (key != "/key" || kind == Kind::Ssl) {
                    *slot = HIDDEN.into();
                }
            }
        }
        if kind == Kind::Ssl
            && let Some(keys) = value.get_mut("keys").and_then(Value::as_array_mut)
        {
            keys.fill(HIDDEN.into());
        }
    }

    fn open_keys(&self, kind: Kind, value: &mut Value) {
        each_private_key(kind, value, |holder| resource::ssl::open(holder, &self.keyring));
    }

    /// The store keys of the resources that refer to `kind/id`.
    pub fn users_of(&self, kind: Kind, id: &str) -> Vec<String> {
        let target = (kind, Arc::from(id));
        let users = self.users.of(&target);
        users.map(|(kind, id)| format!("{}/{id}", kind.dir())).collect()
    }
}

/// Takes away what a resource refers to by id.
fn forget_references(resource: &mut Resource) {
    let forget_certificate = |upstream: &mut Option<resource::Upstream>| {
        if let Some(tls) = upstream.as_mut().and_then(|upstream| upstream.tls.as_mut()) {
            tls.client_cert_id = None;
        }
    };
    match resource {
        Resource::Route(route) => {
            (route.upstream_id, route.service_id, route.plugin_config_id) = (None, None, None);
            forget_certificate(&mut route.upstream);
        }
        Resource::StreamRoute(route) => {
            (route.upstream_id, route.service_id) = (None, None);
            if let Some(protocol) = &mut route.protocol {
                protocol.superior_id = None;
            }
            forget_certificate(&mut route.upstream);
        }
        Resource::Service(service) => {
            service.upstream_id = None;
            forget_certificate(&mut service.upstream);
        }
        Resource::Upstream(upstream) => {
            if let Some(tls) = &mut upstream.tls {
                tls.client_cert_id = None;
            }
        }
        Resource::Consumer(consumer) => consumer.group_id = None,
        _ => {}
    }
}

/// Shows each private key of `value` to `change`, as the `key` of an object.
fn each_private_key(kind: Kind, value: &mut Value, mut change: impl FnMut(&mut Value)) {
    let upstream = match kind {
        Kind::Ssl => return change(value),
        Kind::Upstream => value.pointer_mut("/tls/client_key"),
        Kind::Route | Kind::Service | Kind::StreamRoute => {
            value.pointer_mut("/upstream/tls/client_key")
        }
        _ => None,
    };
    if let Some(slot) = upstream {
        let mut holder = serde_json::json!({ "key": slot.take() });
        change(&mut holder);
        *slot = holder["key"].take();
    }
}

/// Changes every plugin field that is declared to be encrypted at rest.
fn each_encrypted(kind: Kind, value: &mut Value, mut change: impl FnMut(&str) -> Option<String>) {
    let Some(plugins) = value.get_mut("plugins").and_then(Value::as_object_mut) else {
        return;
    };
    for (name, config) in plugins {
        let Some(entry) = registry::find(name) else {
            continue;
        };
        let fields = match (&entry.consumer, kind) {
            (Some(consumer), Kind::Consumer | Kind::Credential) => consumer.encrypted,
            _ => entry.encrypted,
        };
        for field in fields {
            let pointer = format!("/{}", field.replace('.', "/"));
            if let Some(slot) = config.pointer_mut(&pointer)
                && let Some(changed) = slot.as_str().and_then(&mut change)
            {
                *slot = Value::String(changed);
            }
        }
    }
}

/// Checks what is stored of a plugin for all of its places.
pub(super) fn check_metadata(id: &str, value: &Value) -> Result<(), Vec<Invalid>> {
    let Some(entry) = crate::plugin::registry::find(id) else {
        let expected = "the name of a plugin that this version has";
        return Err(vec![Invalid::new("/id", id, expected)]);
    };
    let Some(validator) = &entry.metadata else {
        return Ok(());
    };
    let mut value = value.clone();
    if let Some(fields) = value.as_object_mut() {
        fields.remove("id");
    }
    validator.check(&value)
}
