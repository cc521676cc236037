//! The dry compile of several changes together: references may lead from one to another.
//!
//! A scratch compiler gets what the changes refer to and then the changes themselves, so it costs
//! what they touch and not what there is.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;

use super::check::must_exist;
use super::compile::Compiler;
use super::parts::taken;
use super::publish::Shared;
use super::references::Key;
use crate::context::Consumers;
use crate::resource::{self, Invalid, Kind, Resource, Said, credential};

/// A change that somebody asks about.
pub struct Proposed<'p> {
    pub kind: Kind,
    pub id: &'p str,
    /// The new version, as a user writes it; `None` takes the resource away.
    pub value: Option<&'p Value>,
}

/// What there is to say of a batch, each with the index of its change.
#[derive(Default)]
pub struct Verdict {
    /// Everything that is wrong.
    pub wrong: Vec<(usize, Invalid)>,
    /// What whoever makes the change should know all the same.
    pub warnings: Vec<(usize, String)>,
}

/// What of the served config a batch is compiled with.
struct Ground {
    /// What the changes refer to and do not change.
    base: BTreeMap<Key, Bytes>,
    /// What the changes themselves refer to, by their index.
    referring: HashMap<usize, Vec<(Key, &'static str)>>,
    /// Changes whose references all lead somewhere.
    whole: BTreeSet<usize>,
    consumers: Consumers,
}

// === impl Shared ===

impl Shared {
    /// Whether all of `proposed` could be served together, with the rest as it is. `force` lets
    /// what is in use be deleted. No resource may come twice.
    ///
    /// The compiler is held only while it is looked at, not while the changes are decoded and
    /// compiled.
    pub fn check_together(&self, proposed: &[Proposed<'_>], force: bool) -> Verdict {
        let keys: Vec<Key> = proposed.iter().map(|one| (one.kind, Arc::from(one.id))).collect();
        let index: HashMap<&Key, usize> = keys.iter().zip(0..).collect();
        let mut scratch = self.lock().scratch();
        let mut wrong: Vec<(usize, Invalid)> = Vec::new();
        let mut decoded: Vec<(usize, Resource)> = Vec::new();
        for (at, one) in proposed.iter().enumerate() {
            let Some(value) = one.value else { continue };
            let mut opened = value.clone();
            scratch.open(one.kind, &mut opened);
            match resource::decode(one.kind, one.id, opened) {
                Ok(resource) => decoded.push((at, resource)),
                Err(reasons) => wrong.extend(reasons.into_iter().map(|reason| (at, reason))),
            }
        }
        let ground = {
            let compiler = self.lock();
            if !force {
                for (at, key) in
                    keys.iter().enumerate().filter(|(at, _)| proposed[*at].value.is_none())
                {
                    wrong.extend(compiler.still_used(key, &index).map(|user| (at, user)));
                }
            }
            compiler.ground(proposed, &decoded, &index, &mut wrong)
        };
        scratch.apply(1, ground.base.iter().map(|(key, bytes)| change(key, bytes)).collect());
        let news = ground.whole.iter().filter_map(|at| {
            let bytes = Bytes::from(proposed[*at].value?.to_string());
            Some(change(&keys[*at], &bytes))
        });
        scratch.apply(2, news.collect());
        let broken: BTreeSet<Key> =
            wrong.iter().map(|(at, _)| keys[*at].clone()).chain(rejected(&scratch)).collect();
        for (kind, id, why) in scratch.rejected() {
            let at = index.get(&(kind, Arc::from(id)));
            let Some(at) = at.filter(|at| ground.whole.contains(at)) else {
                continue;
            };
            // That it refers to a change that is wrong itself is no news.
            let is_news = |reason: &&Invalid| {
                let targets = ground.referring.get(at).into_iter().flatten();
                !targets.into_iter().any(|(to, path)| *path == reason.path && broken.contains(to))
            };
            wrong.extend(why.reasons.iter().filter(is_news).map(|reason| (*at, reason.clone())));
        }
        wrong.extend(shared_plugins(&keys, proposed, &ground.base));
        for at in &ground.whole {
            let taken = scratch.taken_credentials(&keys[*at], &ground.consumers, &index);
            wrong.extend(taken.map(|taken| (*at, taken)));
        }
        wrong.sort_by_key(|(at, _)| *at);
        let warnings = decoded.iter().filter(|(at, _)| ground.whole.contains(at)).flat_map(
            |(at, resource)| {
                let said = scratch.warnings_of(proposed[*at].id, resource);
                said.into_iter().map(|warning| (*at, warning))
            },
        );
        Verdict { warnings: warnings.collect(), wrong }
    }
}

// === impl Compiler ===

impl Compiler {
    /// What `decoded` is to be compiled with; what leads nowhere is among what is `wrong`.
    fn ground(
        &self,
        proposed: &[Proposed<'_>],
        decoded: &[(usize, Resource)],
        index: &HashMap<&Key, usize>,
        wrong: &mut Vec<(usize, Invalid)>,
    ) -> Ground {
        let stays = |key: &Key| match index.get(key) {
            Some(at) => proposed.get(*at).is_some_and(|one| one.value.is_some()),
            None => self.latest.contains_key(key),
        };
        let mut ground = Ground {
            base: BTreeMap::new(),
            referring: HashMap::new(),
            whole: BTreeSet::new(),
            consumers: self.current.consumers.clone(),
        };
        for (at, resource) in decoded {
            let id = proposed[*at].id;
            let mut targets = Vec::new();
            let mut is_whole = true;
            for target in must_exist(id, resource) {
                let to = (target.kind, target.id.clone());
                if !stays(&to) {
                    wrong.push((*at, target.missing()));
                    is_whole = false;
                }
                targets.push((to, target.path));
            }
            self.gather(id, resource, index, &mut ground.base);
            ground.referring.insert(*at, targets);
            if is_whole {
                ground.whole.insert(*at);
            }
        }
        // There are few of them, and no two may have one plugin.
        if index.keys().any(|key| key.0 == Kind::GlobalRule) {
            let all = self.latest.iter().filter(|(key, _)| key.0 == Kind::GlobalRule);
            let others = all.filter(|(key, _)| !index.contains_key(key));
            ground.base.extend(others.map(|(key, bytes)| (key.clone(), bytes.clone())));
        }
        ground
    }

    /// What `key`, a consumer or a credential of this scratch compiler, is known by and one of
    /// `consumers` is too, who is not changed in the same go.
    fn taken_credentials<'s>(
        &'s self,
        key: &Key,
        consumers: &'s Consumers,
        changed: &'s HashMap<&Key, usize>,
    ) -> impl Iterator<Item = Invalid> + 's {
        let known_by = match key.0 {
            Kind::Consumer => self.parts.consumers.get(&key.1).map(|part| &part.credentials),
            Kind::Credential => self.parts.credentials.get(&key.1).map(|part| &part.credentials),
            _ => None,
        };
        known_by.into_iter().flatten().filter_map(|(plugin, value)| {
            let owner = consumers.by_credential(plugin, value)?;
            let credential_id = owner.credential_id.as_ref().and_then(|id| id.to_str().ok());
            let owner_key = match credential_id {
                Some(id) => (Kind::Credential, credential::store_id(&owner.name, id).into()),
                None => (Kind::Consumer, owner.name.clone()),
            };
            (!changed.contains_key(&owner_key)).then(|| taken(plugin, owner))
        })
    }

    /// Who refers to `key` and is not changed in the same go: a problem each.
    fn still_used<'s>(
        &'s self,
        key: &'s Key,
        changed: &'s HashMap<&Key, usize>,
    ) -> impl Iterator<Item = Invalid> + 's {
        // Plugins do without their metadata.
        let users = self.users.of(key).filter(|_| key.0 != Kind::PluginMetadata);
        let users = users.filter(move |user| user.0.owner() != Some(key.0));
        users.filter(|user| !changed.contains_key(user)).map(|(kind, id)| {
            let used = format!("a resource that {}/{id} still refers to", kind.dir());
            Invalid::new("", used, "one that nothing refers to")
        })
    }

    /// What `resource` refers to and is not changed in the same go, near and far, into `base`.
    fn gather(
        &self,
        id: &str,
        resource: &Resource,
        changed: &HashMap<&Key, usize>,
        base: &mut BTreeMap<Key, Bytes>,
    ) {
        let targets = super::references::targets(id, resource).into_iter().map(|(key, _)| key);
        for key in targets {
            let Some(bytes) = self.latest.get(&key).filter(|_| !changed.contains_key(&key)) else {
                continue;
            };
            if base.insert(key.clone(), bytes.clone()).is_some() {
                continue;
            }
            let decoded = self.open_stored(key.0, bytes).ok();
            let read = |value| resource::read(key.0, &key.1, value).ok();
            if let Some(further) = decoded.and_then(read) {
                self.gather(&key.1, &further, changed, base);
            }
        }
    }
}

/// A plugin runs once a request, so two global rules cannot both have it.
fn shared_plugins(
    keys: &[Key],
    proposed: &[Proposed<'_>],
    base: &BTreeMap<Key, Bytes>,
) -> Vec<(usize, Invalid)> {
    let names = |value: &Value| -> Vec<String> {
        let plugins = value.get("plugins").and_then(Value::as_object);
        plugins.into_iter().flatten().map(|(name, _)| name.clone()).collect()
    };
    let mut owners: HashMap<String, Arc<str>> = HashMap::new();
    for ((_, id), bytes) in base.iter().filter(|(key, _)| key.0 == Kind::GlobalRule) {
        let value = resource::parse(bytes).unwrap_or_default();
        owners.extend(names(&value).into_iter().map(|name| (name, id.clone())));
    }
    let mut wrong = Vec::new();
    for (at, (key, one)) in keys.iter().zip(proposed).enumerate() {
        let Some(value) = one.value.filter(|_| key.0 == Kind::GlobalRule) else {
            continue;
        };
        for name in names(value) {
            let path = format!("/plugins/{name}");
            if let Some(other) = owners.insert(name.clone(), key.1.clone()) {
                let said =
                    format!("plugin '{name}' already exists in global rule with id '{other}'");
                let expected = format!("a plugin that global rule {other} does not have");
                wrong.push((at, Invalid::new(path, name, expected).saying(Said::Whole(said))));
            }
        }
    }
    wrong
}

fn change(key: &Key, bytes: &Bytes) -> super::compile::KeyChange {
    (format!("{}/{}", key.0.dir(), key.1).into(), Some((bytes.clone(), 1)))
}

fn rejected(compiler: &Compiler) -> impl Iterator<Item = Key> {
    compiler.rejected().map(|(kind, id, _)| (kind, Arc::from(id)))
}
