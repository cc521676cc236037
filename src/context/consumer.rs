//! Consumers: who may call, and by which credential they are found.

use std::sync::Arc;

use foldhash::fast::FixedState;
use http::HeaderValue;
use imbl::GenericHashMap;
use imbl::shared_ptr::DefaultSharedPtr;

/// A consumer as an exchange sees it.
#[derive(Debug)]
pub struct Consumer {
    pub name: Arc<str>,
    /// The value of `X-Consumer-Username`.
    pub username: HeaderValue,
    /// The value of `X-Consumer-Custom-ID`: the label `custom_id`.
    pub custom_id: Option<HeaderValue>,
    /// Id of the consumer's group.
    pub group_id: Option<Arc<str>>,
    /// The value of `X-Credential-Identifier`: set when it is known by a credential of its own.
    pub credential_id: Option<HeaderValue>,
}

/// Every consumer, by name and by credential. Clones are cheap and share everything.
#[derive(Clone, Default)]
pub struct Consumers {
    by_name: Map<Arc<str>>,
    by_credential: Map<Credential>,
}

/// Only config is put in, so that no client can choose what collides.
type Map<K> = GenericHashMap<K, Arc<Consumer>, FixedState, DefaultSharedPtr>;

/// A credential of one plugin: `("key-auth", the key)`.
#[derive(Clone, PartialEq, Eq)]
struct Credential {
    plugin: &'static str,
    value: Arc<str>,
}

// By hand, so that it is the hash of the borrowed form below.
impl std::hash::Hash for Credential {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.parts().hash(state);
    }
}

// === impl Consumers ===

impl Consumers {
    /// The consumer called `name`.
    pub fn by_name(&self, name: &str) -> Option<&Arc<Consumer>> {
        self.by_name.get(name)
    }

    /// The consumer that `value` belongs to, among the credentials of `plugin`.
    pub fn by_credential(&self, plugin: &'static str, value: &str) -> Option<&Arc<Consumer>> {
        self.by_credential.get(&(plugin, value) as &dyn AsCredential)
    }

    /// Adds a consumer with its credentials, each a plugin's name and the credential's value; or,
    /// where it is known by a credential of its own, that one alone.
    pub fn insert(&mut self, consumer: &Arc<Consumer>, credentials: &[(&'static str, Arc<str>)]) {
        if consumer.credential_id.is_none() {
            self.by_name.insert(consumer.name.clone(), consumer.clone());
        }
        for (plugin, value) in credentials {
            let credential = Credential { plugin, value: value.clone() };
            self.by_credential.insert(credential, consumer.clone());
        }
    }

    /// Takes out what was added. A credential that meanwhile belongs to another one stays.
    pub fn remove(&mut self, consumer: &Arc<Consumer>, credentials: &[(&'static str, Arc<str>)]) {
        if consumer.credential_id.is_none() {
            self.by_name.remove(&consumer.name);
        }
        for (plugin, value) in credentials {
            let owner = self.by_credential(plugin, value);
            if owner.is_some_and(|owner| Arc::ptr_eq(owner, consumer)) {
                self.by_credential.remove(&(*plugin, &**value) as &dyn AsCredential);
            }
        }
    }
}

// A map keyed by an owned pair is asked with a borrowed one through this trait, which saves an
// allocation of the credential on every authenticated request.
trait AsCredential {
    fn parts(&self) -> (&str, &str);
}

impl AsCredential for Credential {
    fn parts(&self) -> (&str, &str) {
        (self.plugin, &self.value)
    }
}

impl AsCredential for (&'static str, &str) {
    fn parts(&self) -> (&str, &str) {
        *self
    }
}

impl<'a> std::borrow::Borrow<dyn AsCredential + 'a> for Credential {
    fn borrow(&self) -> &(dyn AsCredential + 'a) {
        self
    }
}

impl std::hash::Hash for dyn AsCredential + '_ {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.parts().hash(state);
    }
}

impl PartialEq for dyn AsCredential + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.parts() == other.parts()
    }
}

impl Eq for dyn AsCredential + '_ {}

#[cfg(test)]
mod tests {
    use super::*;

    fn consumer(name: &str) -> Arc<Consumer> {
        Arc::new(Consumer {
            name: name.into(),
            username: HeaderValue::from_str(name).unwrap(),
            custom_id: None,
            group_id: None,
            credential_id: None,
        })
    }

    #[test]
    fn finds_a_consumer_by_name_and_by_the_credential_of_the_right_plugin() {
        let mut consumers = Consumers::default();
        consumers.insert(&consumer("jack"), &[("key-auth", "k1".into())]);
        assert_eq!(&*consumers.by_name("jack").unwrap().name, "jack");
        assert_eq!(&*consumers.by_credential("key-auth", "k1").unwrap().name, "jack");
        assert!(consumers.by_credential("basic-auth", "k1").is_none());
        assert!(consumers.by_credential("key-auth", "k2").is_none());
    }

    #[test]
    fn removing_a_consumer_leaves_a_credential_that_another_took_over() {
        let mut consumers = Consumers::default();
        let key: [(&'static str, Arc<str>); 1] = [("key-auth", "k1".into())];
        let jack = consumer("jack");
        consumers.insert(&jack, &key);
        consumers.insert(&consumer("rose"), &key);
        consumers.remove(&jack, &key);
        assert!(consumers.by_name("jack").is_none());
        assert_eq!(&*consumers.by_credential("key-auth", "k1").unwrap().name, "rose");
    }
}
