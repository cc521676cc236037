//! `configs`: the whole configuration of a node without a store, pushed by a client such as ADC or
//! the ingress controller.
//!
//! A push is checked whole before anything of it is carried out, and carried out at one revision.
//! `X-Digest` is the client's name for what it sends: the same one twice is answered 204. Each list
//! has a version; a list whose version is what it was stays as it is, and an older one is refused.
//! An item whose `modifiedIndex` is what it was stays as it is too. As in APISIX, what items refer
//! to is not asked for here: an item that cannot be served is refused alone, and `/v1/rejected` of
//! the control API names it.
//!
//! Source: APISIX `admin/standalone.lua`, `core/config_yaml.lua`, `t/admin/standalone.spec.ts`.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde_json::{Map, Value, json};

use super::answer::{Answer, Answered};
use super::check::PATIENCE;
use super::configs::{INDEX, Verdict, Wrong, lists, version_of};
use super::{Admin, Call, Role};
use crate::clock;
use crate::resource::{Kind, credential, yaml};
use crate::store::{Expect, Step, StoreError, Transacted, file};

const DIGEST: HeaderName = HeaderName::from_static("x-digest");
const LAST_MODIFIED: HeaderName = HeaderName::from_static("x-last-modified");

/// The list of plugins that may be used: taken and shown, but the config file decides.
const PLUGINS: &str = "plugins";

/// What was pushed last, held while the next is carried out.
pub(super) type Last = tokio::sync::Mutex<Option<Pushed>>;

/// A configuration that was pushed.
pub(super) struct Pushed {
    /// Its lists and their versions.
    fields: Map<String, Value>,
    digest: HeaderValue,
    /// Seconds since 1970.
    last_modified: i64,
    /// What is applied of each item, by store key.
    applied: HashMap<String, Applied>,
}

#[derive(Clone)]
struct Applied {
    /// The item's `modifiedIndex`, or else the version of its list.
    index: Value,
    item: Value,
}

// === impl Admin ===

impl Admin {
    /// What was pushed last, or its headers alone.
    pub(super) async fn pushed(&self, call: &Call<'_>, headers: &HeaderMap) -> Answered {
        let last = self.pushed.lock().await;
        let mut shown = match &*last {
            Some(pushed) => pushed.fields.clone(),
            None => names().map(|dir| (version_of(dir), 0.into())).collect(),
        };
        if call.role != Role::Admin {
            self.hide_all(&mut shown);
        }
        if let Some(pushed) = &*last {
            // They stand in the body too.
            shown.insert("X-Digest".to_owned(), text(&pushed.digest).into());
            shown.insert("X-Last-Modified".to_owned(), pushed.last_modified.into());
        }
        let accept = headers.get(header::ACCEPT).map(text).unwrap_or_default();
        let answer = if call.method == http::Method::HEAD {
            Answer::empty(StatusCode::OK)
        } else if accept.starts_with("application/yaml") {
            Answer::yaml(yaml::text(&shown.into()))
        } else {
            Answer::json(shown.into())
        };
        Ok(match &*last {
            Some(pushed) => pushed.sign(answer),
            None => answer,
        })
    }

    /// Replaces the configuration of this node.
    pub(super) async fn push(
        &self,
        call: &Call<'_>,
        headers: &HeaderMap,
        body: Option<Value>,
    ) -> Answered {
        let digest = headers.get(DIGEST).ok_or_else(|| Answer::bad("missing digest header"))?;
        let body = body.ok_or_else(|| Answer::bad("invalid request body: empty request body"))?;
        let mut last = self.pushed.lock().await;
        if last.as_ref().is_some_and(|last| last.digest == digest) {
            return Ok(Answer::empty(StatusCode::NO_CONTENT));
        }
        let Verdict { wrong, warnings } = self.judge(&body);
        if let Some(first) = wrong.first() {
            let errors: Vec<Value> = wrong.iter().map(Wrong::shown).collect();
            let body = json!({ "error_msg": first.said(), "errors": errors });
            return Err(Answer::with(StatusCode::BAD_REQUEST, body));
        }
        let Value::Object(body) = body else {
            // Refused above.
            return Err(Answer::bad("invalid request body: expected lists of resources by kind"));
        };
        tell_unknown(&body);
        let mut next = self.merge(body, last.as_ref())?;
        next.digest = digest.clone();
        let revision = self.carry_over(&mut next).await?;
        self.note("configs", "PUT", revision, call);
        let answer = Answer::empty(StatusCode::ACCEPTED).at(revision);
        let answer = next.sign(answer).warning(&warnings);
        *last = Some(next);
        drop(last);
        // "Takes effect immediately": that is a matter of milliseconds, and clients rely on it.
        let _ = self.cluster.applied(revision, PATIENCE).await;
        Ok(answer)
    }

    /// The configuration that comes of `body` after `last`.
    ///
    /// # Errors
    /// 400: a list is older than what is there.
    fn merge(&self, mut body: Map<String, Value>, last: Option<&Pushed>) -> Result<Pushed, Answer> {
        let mut next = Pushed {
            fields: Map::new(),
            digest: HeaderValue::from_static(""),
            last_modified: clock::unix(),
            applied: HashMap::new(),
        };
        for dir in names() {
            let name = version_of(dir);
            let current = last.and_then(|last| last.fields.get(&name)).cloned();
            let current = current.unwrap_or_else(|| 0.into());
            let number = |value: &Value| value.as_f64().unwrap_or_default();
            let version = match body.remove(&name) {
                Some(sent) if number(&sent) < number(&current) => {
                    let said = format!("{name} must be greater than or equal to ({current})");
                    return Err(Answer::bad(said));
                }
                Some(sent) => sent,
                None => match current.as_i64() {
                    Some(current) => current.saturating_add(1).into(),
                    None => (number(&current) + 1.0).into(),
                },
            };
            let old = last.and_then(|last| last.fields.get(dir));
            if number(&version) == number(&current) {
                // Nothing of it is looked at.
                if let Some(old) = old {
                    next.fields.insert(dir.to_owned(), old.clone());
                }
                let ours = format!("{dir}/");
                let kept = last.into_iter().flat_map(|last| &last.applied);
                let kept = kept.filter(|(key, _)| key.starts_with(&ours));
                next.applied.extend(kept.map(|(key, applied)| (key.clone(), applied.clone())));
            } else if let Some(Value::Array(items)) = body.remove(dir)
                && !items.is_empty()
            {
                for (index, item) in items.iter().enumerate().filter(|_| dir != PLUGINS) {
                    let key = format!("{dir}/{}", file::id(dir, item, index));
                    let sent = item.get(INDEX);
                    let old = last.and_then(|last| last.applied.get(&key));
                    let is_same = old.is_some_and(|old| Some(&old.index) == sent);
                    let applied = match old.filter(|_| is_same) {
                        Some(old) => old.clone(),
                        None => Applied {
                            index: sent.cloned().unwrap_or_else(|| version.clone()),
                            item: without_index(item),
                        },
                    };
                    next.applied.insert(key, applied);
                }
                next.fields.insert(dir.to_owned(), items.into());
            }
            next.fields.insert(name, version);
        }
        Ok(next)
    }

    /// Makes the store hold what `next` holds; the revision at which it does.
    async fn carry_over(&self, next: &mut Pushed) -> Result<i64, StoreError> {
        let there = self.store.list("").await?.entries;
        let there: BTreeMap<&str, &Bytes> =
            there.iter().map(|entry| (&*entry.key, &entry.value)).collect();
        let mut steps = Vec::new();
        for (key, applied) in &next.applied {
            let Some((kind, _)) = Kind::of_key(key) else { continue };
            let mut value = applied.item.clone();
            // The copy on disk is as encrypted as any other store.
            self.compiler.lock().seal(kind, &mut value);
            let bytes = Bytes::from(value.to_string());
            if there.get(key.as_str()) != Some(&&bytes) {
                steps.push(Step::put(key, bytes, Expect::Any));
            }
        }
        let gone = there.keys().filter(|key| !next.applied.contains_key(**key));
        steps.extend(gone.map(|key| Step::delete(*key, Expect::Any)));
        match self.store.transact(steps).await? {
            Transacted::Done { revision } => Ok(revision),
            Transacted::Conflict { .. } => Err(StoreError::Broken {
                backend: "pushed",
                reason: "a conflict where nothing was expected".to_owned(),
            }),
        }
    }

    /// Hides the secrets of every list from who may only look.
    fn hide_all(&self, fields: &mut Map<String, Value>) {
        let compiler = self.compiler.lock();
        for kind in lists() {
            let items = fields.get_mut(kind.dir()).and_then(Value::as_array_mut);
            for item in items.into_iter().flatten() {
                let id = item["id"].as_str().unwrap_or_default();
                let is_credential = kind == Kind::Consumer && credential::split(id).is_some();
                compiler.hide(if is_credential { Kind::Credential } else { kind }, item);
            }
        }
    }
}

// === impl Pushed ===

impl Pushed {
    fn sign(&self, answer: Answer) -> Answer {
        answer.header(DIGEST, self.digest.clone()).header(LAST_MODIFIED, self.last_modified.into())
    }
}

/// The lists of a configuration, by name.
fn names() -> impl Iterator<Item = &'static str> {
    lists().map(Kind::dir).chain([PLUGINS])
}

/// What APISIX passes over in silence: a list that is spelt wrong is a list that is not there.
fn tell_unknown(body: &Map<String, Value>) {
    for name in body.keys() {
        if !names().any(|dir| dir == name || version_of(dir) == *name) {
            tracing::warn!(name, "pushed configuration: no such list; it is ignored");
        }
    }
}

fn without_index(item: &Value) -> Value {
    let mut item = item.clone();
    if let Some(fields) = item.as_object_mut() {
        fields.remove(INDEX);
    }
    item
}

fn text(value: &HeaderValue) -> &str {
    value.to_str().unwrap_or_default()
}
