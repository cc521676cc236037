//! Writing: PUT, POST and DELETE, each check, then compare-and-put.
//!
//! What is stored is what was sent, with its id and times: APISIX fills no defaults into it
//! either (it validates a copy). A write that another one overtakes reads again and tries once
//! more.
//!
//! Source: APISIX `admin/resource.lua`.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use http::StatusCode;
use serde_json::{Value, json};

use super::answer::{Answer, Answered};
use super::check::{refuse_times, same_id};
use super::history::Kept;
use super::path::{Place, own_id};
use super::read::id_text;
use super::{Admin, Call};
use crate::clock;
use crate::resource::{Invalid, Kind};
use crate::store::{Entry, Expect, Step, StoreError, Transacted};

/// How often a write is tried while others overtake it.
pub(super) const TRIES: usize = 2;

impl Admin {
    /// Creates or replaces a resource.
    pub(super) async fn put(
        &self,
        place: &Place,
        call: &Call<'_>,
        body: Option<Value>,
    ) -> Answered {
        refuse_rest(place)?;
        let kind = place.kind;
        let mut value = body.ok_or_else(|| Answer::bad("missing configurations"))?;
        must_be_object(&value)?;
        let id = settle_id(place, &mut value)?;
        if kind != Kind::PluginMetadata {
            refuse_times(&value)?;
        }
        self.check_owner(place).await?;
        let warnings = self.check(kind, &id, &value).await?;
        if kind == Kind::PluginMetadata {
            value["id"] = json!(id);
        }
        let key = format!("{}/{id}", kind.dir());
        for _ in 0..TRIES {
            let current = self.store.get(&key).await?;
            call.condition.check(current.as_ref())?;
            let mut value = value.clone();
            set_times(kind, &mut value, current.as_ref());
            if let Some(answer) = self.store(kind, &key, value, call, current.as_ref()).await? {
                return Ok(answer.warning(&warnings));
            }
        }
        Err(overtaken(&key))
    }

    /// Creates a resource under an id that the store generates.
    pub(super) async fn post(
        &self,
        place: &Place,
        call: &Call<'_>,
        body: Option<Value>,
    ) -> Answered {
        let kind = place.kind;
        let mut value = body.ok_or_else(|| Answer::bad("missing configurations"))?;
        must_be_object(&value)?;
        if place.id.is_some() || value.get("id").is_some() {
            return Err(Answer::bad(format!("wrong {} id, do not need it", place.noun())));
        }
        // What is new is not what a condition is about.
        call.condition.check(None)?;
        refuse_times(&value)?;
        name_service(place, &mut value)?;
        self.check_owner(place).await?;
        // Checked before an id is taken, so that what is refused leaves no trace.
        let unborn = place.store_id("new");
        let warnings = self.check(kind, &unborn, &value).await?;
        let now = clock::unix();
        value["create_time"] = now.into();
        value["update_time"] = now.into();
        for _ in 0..TRIES {
            let id = format!("{:020}", self.store.next_revision().await?);
            value["id"] = json!(id);
            let key = format!("{}/{}", kind.dir(), place.store_id(&id));
            if let Some(answer) = self.store(kind, &key, value.clone(), call, None).await? {
                return Ok(answer.warning(&warnings));
            }
        }
        Err(overtaken(kind.dir()))
    }

    /// Deletes a resource that nobody uses, or with `force=true` any.
    pub(super) async fn delete(&self, place: &Place, call: &Call<'_>) -> Answered {
        refuse_rest(place)?;
        let kind = place.kind;
        let id = place.one()?;
        let key = format!("{}/{id}", kind.dir());
        if call.args.get("force") != Some("true") {
            self.check_unused(kind, id).await?;
        }
        for _ in 0..TRIES {
            let Some(current) = self.store.get(&key).await? else {
                return Err(Answer::key_not_found());
            };
            call.condition.check(Some(&current))?;
            let expect = Expect::Revision(current.mod_revision);
            let mut steps = vec![Step::delete(&*key, expect)];
            steps.extend(self.below(kind, &key).await?);
            let kept = Kept { key: &key, current: Some(&current), value: None };
            let history = self.keep_one(&kept, call).await?;
            if let Transacted::Done { revision } = self.transact(steps, history).await? {
                self.note(&key, call.method.as_str(), revision, call);
                return Ok(Answer::deleted(&key, revision));
            }
        }
        Err(overtaken(&key))
    }

    /// What lies below something goes with it, also what another gateway wrote.
    pub(super) async fn below(&self, kind: Kind, key: &str) -> Result<Vec<Step>, StoreError> {
        let Some(owned) = kind.owned() else {
            return Ok(Vec::new());
        };
        let below = self.store.list(&format!("{key}/{}/", owned.name())).await?.entries;
        Ok(below.iter().map(|entry| Step::delete(&*entry.key, Expect::Any)).collect())
    }

    /// # Errors
    /// 404: what the place lies below is not there.
    async fn check_owner(&self, place: &Place) -> Result<(), Answer> {
        let (Some(owner), Some(id)) = (place.kind.owner(), &place.parent) else {
            return Ok(());
        };
        if !self.has_owner(place.kind, id).await? {
            let said = format!("{} not found", owner.noun());
            return Err(Answer::error(StatusCode::NOT_FOUND, said));
        }
        Ok(())
    }

    /// Encrypts and stores `value`, as long as `current` is what stands there; `None` when
    /// another write was faster.
    pub(super) async fn store(
        &self,
        kind: Kind,
        key: &str,
        mut value: Value,
        call: &Call<'_>,
        current: Option<&Entry>,
    ) -> Result<Option<Answer>, Answer> {
        self.compiler.lock().seal(kind, &mut value);
        let expect = Expect::unchanged(current);
        let bytes = Bytes::from(value.to_string());
        let mut steps = vec![Step::put_for(key, bytes, call.ttl.into(), expect)];
        if current.is_none() {
            // What another gateway left there must not become the new one's.
            steps.extend(self.below(kind, key).await?);
        }
        let history = self.keep_one(&Kept { key, current, value: Some(&value) }, call).await?;
        match self.transact(steps, history).await? {
            Transacted::Conflict { .. } => Ok(None),
            Transacted::Done { revision } => {
                self.note(key, call.method.as_str(), revision, call);
                if kind == Kind::Ssl {
                    hide_keys_in_clear(&mut value);
                }
                let status = if current.is_some() { StatusCode::OK } else { StatusCode::CREATED };
                Ok(Some(Answer::written(status, key, value, revision)))
            }
        }
    }

    /// Remembers the write for the checks to come, and tells the log who did what.
    pub(super) fn note(&self, key: &str, method: &str, revision: i64, call: &Call<'_>) {
        self.written.fetch_max(revision, Ordering::Relaxed);
        tracing::info!(
            key_name = call.caller, method, resource = key, revision,
            peer = %call.peer, "admin write"
        );
    }
}

/// Sets the times of what replaces `current`; plugin metadata has none.
pub(super) fn set_times(kind: Kind, value: &mut Value, current: Option<&Entry>) {
    if kind != Kind::PluginMetadata {
        let created = current.and_then(create_time).unwrap_or_else(clock::unix);
        value["create_time"] = created.into();
        value["update_time"] = clock::unix().into();
    }
}

/// Finds the id of what is written and puts it where it is stored.
pub(super) fn settle_id(place: &Place, value: &mut Value) -> Result<String, Answer> {
    name_service(place, value)?;
    let missing = || Answer::bad(format!("missing {} id", place.noun()));
    match place.kind {
        Kind::Consumer => {
            let username = value["username"].as_str().unwrap_or_default();
            match &place.id {
                // A body without a name is refused by the schema, which says it better.
                Some(id) if id != username && !value["username"].is_null() => {
                    Err(Answer::bad("wrong username"))
                }
                _ => Ok(username.to_owned()),
            }
        }
        Kind::PluginMetadata => place.id.clone().ok_or_else(|| Answer::bad("missing plugin name")),
        kind => match &place.id {
            Some(id) => {
                same_id(kind, id, value)?;
                value["id"] = json!(own_id(kind, id));
                Ok(id.clone())
            }
            None if kind == Kind::Secret => Err(missing()),
            // A number stays one, as in APISIX.
            None => value.get("id").map(|own| place.store_id(&id_text(own))).ok_or_else(missing),
        },
    }
}

/// Writes into a cost decoration whose it is.
///
/// # Errors
/// 400: it says that it is another one's.
fn name_service(place: &Place, value: &mut Value) -> Result<(), Answer> {
    let Some(service) = place.parent.as_ref().filter(|_| place.kind == Kind::CostDecoration) else {
        return Ok(());
    };
    if value.get("service_id").is_some_and(|written| id_text(written) != *service) {
        return Err(Answer::bad("wrong service_id, it is taken from the path"));
    }
    value["service_id"] = json!(service);
    Ok(())
}

/// A path below a resource means one of its properties, which only PATCH changes. APISIX takes
/// it for the whole resource, so that `DELETE routes/1/plugins` deletes the route.
fn refuse_rest(place: &Place) -> Result<(), Answer> {
    if place.rest.is_empty() {
        return Ok(());
    }
    let message = format!("invalid sub-path: /{}: only PATCH takes one", place.rest.join("/"));
    Err(Answer::bad(message))
}

/// # Errors
/// 400: no resource is anything but an object.
pub(super) fn must_be_object(value: &Value) -> Result<(), Answer> {
    if value.is_object() {
        return Ok(());
    }
    let found = if value.is_array() { "an array" } else { "a single value" };
    Err(Answer::invalid(&[Invalid::new("", found, "an object")]))
}

/// A keyring of nothing encrypts nothing; a private key is then not repeated to the caller.
fn hide_keys_in_clear(value: &mut Value) {
    let Some(fields) = value.as_object_mut() else {
        return;
    };
    let in_clear = |key: &Value| key.as_str().is_some_and(|key| key.starts_with("---"));
    if fields.get("key").is_some_and(in_clear) {
        fields.remove("key");
    }
    if fields.get("keys").and_then(Value::as_array).is_some_and(|keys| keys.iter().any(in_clear)) {
        fields.remove("keys");
    }
}

/// The answer to a write that lost every race.
pub(super) fn overtaken(key: &str) -> Answer {
    let message = format!("{key} was changed by others meanwhile: read it and try again");
    Answer::error(StatusCode::CONFLICT, message)
}

fn create_time(entry: &Entry) -> Option<i64> {
    let value: Value = serde_json::from_slice(&entry.value).ok()?;
    value["create_time"].as_i64()
}
