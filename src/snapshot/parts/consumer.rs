//! Consumers and credentials, compiled: who may call, and by what each is known.

use std::borrow::Cow;
use std::sync::Arc;

use http::HeaderValue;

use super::{ConsumerPart, CredentialPart, Credentials, Workshop, Wrong};
use crate::context::Consumer;
use crate::plugin::chain::{self, Chain};
use crate::plugin::registry;
use crate::resource::{self, Invalid, Said};

// === impl Workshop ===

impl Workshop<'_, '_> {
    pub(in crate::snapshot) fn consumer(
        &mut self,
        id: &str,
        written: &resource::Consumer,
    ) -> Result<ConsumerPart, Wrong> {
        let source = format!("consumers/{id}");
        // Serving it without what its group says would serve it without its limits.
        let group = match &written.group_id {
            None => None,
            Some(group) => Some(self.parts.consumer_groups.get(&group.0).ok_or_else(|| {
                let expected = "the id of a consumer group that is there";
                vec![Invalid::new("/group_id", group, expected)]
            })?),
        };
        let (credentials, others) = self.credentials(&written.plugins)?;
        let old = self.parts.consumers.get(id);
        let plugins = self.plugins(&source, &others, old.map(|old| &old.plugins))?;
        // A consumer may take over what one of its own credentials has.
        self.refuse_shared(&credentials, |owner| *owner.name == *id)?;
        let header = |text: &str| HeaderValue::try_from(text).ok();
        let username = header(&written.username).ok_or_else(|| {
            vec![Invalid::new("/username", &written.username, "text that fits a header")]
        })?;
        // The name's identity keys metric series, so it stays.
        let name = old.map_or_else(|| id.into(), |old| old.consumer.name.clone());
        Ok(ConsumerPart {
            consumer: Arc::new(Consumer {
                name,
                username,
                custom_id: written.labels.get("custom_id").and_then(|value| header(value)),
                credential_id: None,
                group_id: written.group_id.as_ref().map(|group| group.0.clone()),
            }),
            chain: Chain::merge([&plugins].into_iter().chain(group)),
            plugins,
            credentials,
        })
    }

    /// Compiles the credential with `id` in the store: `jack/credentials/1`.
    pub(in crate::snapshot) fn credential(
        &mut self,
        id: &str,
        written: &resource::Credential,
    ) -> Result<CredentialPart, Wrong> {
        let consumer = resource::credential::split(id)
            .and_then(|(name, own)| Some((self.parts.consumers.get(name)?, own)));
        let (consumer, own) = consumer.ok_or_else(|| {
            vec![Invalid::new("/id", id, "the name of a consumer that is there, and an id")]
        })?;
        let credentials = self.credential_values(written)?;
        let own = HeaderValue::try_from(own)
            .map_err(|_| vec![Invalid::new("/id", own, "text that fits a header")])?;
        self.refuse_shared(&credentials, |owner| {
            owner.name == consumer.consumer.name && owner.credential_id.as_ref() == Some(&own)
        })?;
        let consumer = Consumer {
            name: consumer.consumer.name.clone(),
            username: consumer.consumer.username.clone(),
            custom_id: consumer.consumer.custom_id.clone(),
            group_id: consumer.consumer.group_id.clone(),
            credential_id: Some(own),
        };
        Ok(CredentialPart { consumer: Arc::new(consumer), credentials })
    }

    /// What a request shows of a credential, which has no other plugins.
    pub(in crate::snapshot) fn credential_values(
        &mut self,
        written: &resource::Credential,
    ) -> Result<Credentials, Wrong> {
        let (credentials, others) = self.credentials(&written.plugins)?;
        let refused = others.into_keys().map(|name| {
            let expected = "a plugin that authenticates: a credential has no others";
            let said =
                format!("only supports auth type plugins in consumer credential, got {name}");
            let path = format!("/plugins/{name}");
            Invalid::new(path, name, expected).saying(Said::Whole(said))
        });
        let refused: Wrong = refused.collect();
        if refused.is_empty() { Ok(credentials) } else { Err(refused) }
    }

    /// The credentials among a consumer's plugins, and the plugins that are none.
    fn credentials(
        &mut self,
        written: &resource::fields::Plugins,
    ) -> Result<(Credentials, resource::fields::Plugins), Wrong> {
        let resolved = self.resolver.plugins(written);
        self.resolver.finish()?;
        let mut credentials = Vec::new();
        let mut others = resource::fields::Plugins::new();
        let mut wrong = Vec::new();
        for (name, config) in written {
            let Some(entry) = registry::find(name) else {
                wrong.push(chain::unknown(name));
                continue;
            };
            let Some(spec) = &entry.consumer else {
                others.insert(name.clone(), config.clone());
                continue;
            };
            match spec.credential(without_meta(&resolved[name]).as_ref()) {
                Ok(value) => credentials.push((entry.name, Arc::from(value))),
                Err(problems) => {
                    let path = format!("/plugins/{name}");
                    wrong.extend(problems.into_iter().map(|problem| problem.under(&path)));
                }
            }
        }
        if wrong.is_empty() { Ok((credentials, others)) } else { Err(wrong) }
    }

    /// Two consumers with one key would make either of them the other.
    fn refuse_shared(
        &self,
        credentials: &[(&'static str, Arc<str>)],
        is_own: impl Fn(&Consumer) -> bool,
    ) -> Result<(), Wrong> {
        for (plugin, value) in credentials {
            let owner = self.consumers.by_credential(plugin, value);
            if let Some(owner) = owner.filter(|owner| !is_own(owner)) {
                return Err(vec![taken(plugin, owner)]);
            }
        }
        Ok(())
    }
}

/// That what somebody is known by is another one's already.
pub(in crate::snapshot) fn taken(plugin: &str, owner: &Consumer) -> Invalid {
    let consumer = registry::find(plugin).and_then(|entry| entry.consumer.as_ref());
    let field = consumer.and_then(|spec| spec.validator.schema()["required"][0].as_str());
    let field = field.unwrap_or("credential");
    let of = owner.credential_id.as_ref().and_then(|id| id.to_str().ok());
    let of = of.map(|id| format!("credential: {id} of ")).unwrap_or_default();
    let said =
        format!("duplicate {field} of plugin {plugin} found with {of}consumer: {}", owner.name);
    let expected = format!("a {field} that nobody else has");
    let path = format!("/plugins/{plugin}/{field}");
    Invalid::new(path, "a credential (not shown)", expected).saying(Said::Whole(said))
}

fn without_meta(config: &serde_json::Value) -> Cow<'_, serde_json::Value> {
    match config.as_object() {
        Some(fields) if fields.contains_key("_meta") => {
            let mut fields = fields.clone();
            fields.remove("_meta");
            Cow::Owned(fields.into())
        }
        _ => Cow::Borrowed(config),
    }
}
