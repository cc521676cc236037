//! Putting what is compiled on the air, and taking it off.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use super::Compiler;
use crate::plugin::chain::{self, Chain};
use crate::resource::{self, Invalid, Kind, Resource};
use crate::snapshot::check::check_metadata;
use crate::snapshot::parts::{Held, SslPart, log_warnings};
use crate::snapshot::references::{Key, Resolver};
use crate::tls::Served;
use crate::upstream::Upstream;

// === impl Compiler ===

impl Compiler {
    /// Compiles one resource and puts it where workers find it.
    pub(super) fn put(
        &mut self,
        key: &Key,
        resource: &Resource,
        resolver: &mut Resolver<'_>,
    ) -> Result<(), Vec<Invalid>> {
        let (kind, id) = key;
        let source = format!("{}/{id}", kind.dir());
        let mut workshop = self.workshop(resolver);
        match resource {
            // A dry compile asks nobody.
            Resource::Secret(_) if self.dry => {}
            Resource::Secret(secret) => {
                self.secrets.set_manager(id, secret);
                self.issued.set_issuer(id, secret, self.current.revision);
            }
            Resource::Proto(proto) => {
                proto.compile().map_err(|invalid| vec![invalid])?;
                say_not_acted_on(&source);
            }
            Resource::CostDecoration(_) => say_not_acted_on(&source),
            Resource::PluginMetadata(metadata) => {
                let value = metadata.0.clone().into();
                check_metadata(id, &value)?;
                self.parts.metadata.insert(id.clone(), value);
            }
            Resource::Ssl(ssl) => {
                if !ssl.status.is_on() {
                    self.remove_ssl(id);
                    return Ok(());
                }
                match workshop.ssl(id, ssl)? {
                    SslPart::Server(names, served) => {
                        if !self.dry {
                            log_warnings(id, &names, &served);
                        }
                        if self.may_wait(id, &names, &served) {
                            let held = Held { names, served, is_watched: false };
                            self.parts.held.insert(id.clone(), held);
                        } else {
                            self.show_ssl(id, names, served);
                        }
                    }
                    SslPart::Client(pair, _) => {
                        self.remove_ssl(id);
                        self.parts.clients.insert(id.clone(), pair);
                    }
                    SslPart::Unresolved => self.remove_ssl(id),
                }
            }
            Resource::Upstream(upstream) => {
                let old = self.parts.upstreams.get(id);
                let compiled = workshop.upstream(&source, upstream, old)?;
                self.watch_names(&compiled);
                let old = self.parts.upstreams.insert(id.clone(), compiled);
                self.replaced.note(key, old);
            }
            Resource::Service(service) => {
                let part = workshop.service(id, service)?;
                if let Some(upstream) =
                    part.upstream.as_ref().filter(|_| service.upstream_id.is_none())
                {
                    self.watch_names(upstream);
                }
                let old = self.parts.services.insert(id.clone(), part);
                self.replaced.note(key, old.and_then(|old| old.upstream));
            }
            Resource::PluginConfig(config) => {
                let old = self.parts.plugin_configs.get(id);
                let plugins = workshop.plugins(&source, &config.plugins, old)?;
                self.parts.plugin_configs.insert(id.clone(), plugins);
            }
            Resource::GlobalRule(rule) => {
                let old = self.parts.globals.get(id);
                let plugins = workshop.plugins(&source, &rule.plugins, old)?;
                self.parts.globals.insert(id.clone(), plugins);
                self.join_globals();
            }
            Resource::ConsumerGroup(group) => {
                let old = self.parts.consumer_groups.get(id);
                let plugins = workshop.plugins(&source, &group.plugins, old)?;
                self.parts.consumer_groups.insert(id.clone(), plugins);
            }
            Resource::Consumer(consumer) => {
                let part = workshop.consumer(id, consumer)?;
                self.remove_consumer(id);
                let consumers = &mut self.current.consumers;
                consumers.insert(&part.consumer, &part.credentials);
                if !part.chain.is_empty() {
                    let chains = &mut self.current.consumer_chains;
                    chains.insert(part.consumer.name.clone(), part.chain.clone());
                }
                self.parts.consumers.insert(id.clone(), part);
            }
            Resource::Credential(credential) => {
                let part = workshop.credential(id, credential)?;
                self.remove_credential(id);
                self.current.consumers.insert(&part.consumer, &part.credentials);
                self.parts.credentials.insert(id.clone(), part);
            }
            Resource::StreamRoute(route) => {
                let protocol = workshop.stream_route(id, route)?;
                say_not_acted_on(&source);
                self.parts.stream_routes.insert(id.clone(), protocol);
            }
            Resource::Route(route) if !route.status.is_on() => self.remove_route(id),
            Resource::Route(route) => {
                let part = workshop.route(id, route)?;
                self.remove_route(id);
                // One that is shared is watched already.
                let is_own = route.upstream_id.is_none() && route.upstream.is_some();
                if let Some(upstream) = part.route.upstream.as_ref().filter(|_| is_own) {
                    self.watch_names(upstream);
                }
                self.current.router.insert(&part.matcher, &part.route);
                self.parts.routes.insert(id.clone(), part);
            }
        }
        Ok(())
    }

    /// Has the names of an upstream's nodes resolved, if it is going to be served.
    fn watch_names(&self, upstream: &Arc<Upstream>) {
        if !self.dry {
            self.dns.watch(upstream);
        }
    }

    /// Takes a deleted resource off the air.
    pub(super) fn remove(&mut self, key: &Key) {
        let (kind, id) = key;
        self.users.set(key, BTreeSet::new());
        for unused in self.references.set(key, BTreeSet::new()) {
            self.secrets.release(&unused);
        }
        match kind {
            Kind::Secret if self.dry => {}
            Kind::Secret => {
                self.secrets.remove_manager(id);
                self.issued.remove_issuer(id);
            }
            Kind::Proto | Kind::CostDecoration => {}
            Kind::StreamRoute => drop(self.parts.stream_routes.remove(id)),
            Kind::PluginMetadata => drop(self.parts.metadata.remove(id)),
            Kind::Ssl => {
                if !self.dry {
                    self.issued.retain(id, None, self.current.revision);
                }
                self.remove_ssl(id);
            }
            Kind::Upstream => {
                let old = self.parts.upstreams.remove(id);
                self.replaced.note(key, old);
            }
            Kind::Service => {
                let old = self.parts.services.remove(id);
                self.replaced.note(key, old.and_then(|old| old.upstream));
            }
            Kind::PluginConfig => drop(self.parts.plugin_configs.remove(id)),
            Kind::GlobalRule => {
                self.parts.globals.remove(id);
                self.join_globals();
            }
            Kind::ConsumerGroup => drop(self.parts.consumer_groups.remove(id)),
            Kind::Consumer => {
                self.remove_consumer(id);
                self.remove_credentials_of(id);
            }
            Kind::Credential => self.remove_credential(id),
            Kind::Route => self.remove_route(id),
        }
    }

    /// Whether an ssl object is better shown when it has its staples: what there is of it goes on
    /// being served until then, to the same clients.
    fn may_wait(&self, id: &str, names: &[String], served: &Served) -> bool {
        let is_as_before = |(before, old): &(Vec<String>, Arc<Served>)| {
            before == names && !old.verifies_clients && !served.verifies_clients
        };
        served.awaits_staple() && self.parts.served.get(id).is_some_and(is_as_before)
    }

    /// What waits for its staples since this was asked last: ssl id, and what is to be served.
    pub(in crate::snapshot) fn newly_held(&mut self) -> Vec<(Arc<str>, Arc<Served>)> {
        let new = self.parts.held.iter_mut().filter(|(_, held)| !held.is_watched);
        new.map(|(id, held)| {
            held.is_watched = true;
            (id.clone(), held.served.clone())
        })
        .collect()
    }

    /// Serves what was held back, unless something else is to be served for that ssl object by now.
    /// Returns whether that changed anything.
    pub(in crate::snapshot) fn release(&mut self, id: &Arc<str>, awaited: &Arc<Served>) -> bool {
        let held = self.parts.held.get(id);
        if !held.is_some_and(|held| Arc::ptr_eq(&held.served, awaited)) {
            return false;
        }
        if let Some(Held { names, served, .. }) = self.parts.held.remove(id) {
            self.show_ssl(id, names, served);
        }
        true
    }

    /// Puts an ssl object in the place of what there is of it.
    fn show_ssl(&mut self, id: &Arc<str>, names: Vec<String>, served: Arc<Served>) {
        self.tell_replaced(id, &served);
        self.remove_ssl(id);
        self.current.sni.insert(names.iter().map(String::as_str), &served);
        self.parts.served.insert(id.clone(), (names, served));
    }

    /// Logs what takes the place of an ssl object's certificates, if they are others.
    fn tell_replaced(&self, id: &str, new: &Served) {
        let Some((_, old)) = self.parts.served.get(id).filter(|_| !self.dry) else {
            return;
        };
        let prints = |served: &Served| -> Vec<String> {
            served.certificates.iter().map(|one| one.fingerprint.clone()).collect()
        };
        let (before, after) = (prints(old), prints(new));
        if before == after {
            return;
        }
        let names = new.certificates.iter().flat_map(|one| one.names.iter().cloned());
        let names: BTreeSet<String> = names.collect();
        let ends = new.certificates.iter().map(|one| one.not_after).min().unwrap_or_default();
        let ends = UNIX_EPOCH + Duration::from_secs(u64::try_from(ends).unwrap_or_default());
        tracing::info!(
            ssl = id,
            old = before.join(" "),
            new = after.join(" "),
            names = Vec::from_iter(names).join(" "),
            not_after = %httpdate::fmt_http_date(ends),
            "a certificate has changed"
        );
    }

    fn remove_ssl(&mut self, id: &str) {
        self.parts.clients.remove(id);
        self.parts.held.remove(id);
        if let Some((names, _)) = self.parts.served.remove(id) {
            self.current.sni.remove(id, names.iter().map(String::as_str));
        }
    }

    fn join_globals(&mut self) {
        let steps = self.parts.globals.values().flat_map(chain::Plugins::steps);
        self.current.globals = Chain::new(steps.cloned().collect());
    }

    fn remove_consumer(&mut self, id: &str) {
        if let Some(part) = self.parts.consumers.remove(id) {
            self.current.consumers.remove(&part.consumer, &part.credentials);
            self.current.consumer_chains.remove(id);
        }
    }

    /// Nobody may be taken for a consumer that is gone, also when its credentials are still stored.
    fn remove_credentials_of(&mut self, consumer: &str) {
        let start: Arc<str> = resource::credential::store_id(consumer, "").into();
        let after = self.parts.credentials.range(start.clone()..).map(|(id, _)| id);
        let theirs: Vec<_> = after.take_while(|id| id.starts_with(&*start)).cloned().collect();
        for id in theirs {
            self.remove_credential(&id);
        }
    }

    fn remove_credential(&mut self, id: &str) {
        if let Some(part) = self.parts.credentials.remove(id) {
            self.current.consumers.remove(&part.consumer, &part.credentials);
        }
    }

    fn remove_route(&mut self, id: &str) {
        if let Some(part) = self.parts.routes.remove(id) {
            self.current.router.remove(&part.matcher);
            let key = (Kind::Route, part.matcher.id.clone());
            self.replaced.note(&key, part.route.upstream.clone());
        }
    }
}

fn say_not_acted_on(resource: &str) {
    tracing::warn!(resource, "stored, but this version does not act on resources of its kind yet");
}
