//! Transactions: several writes, checked together and carried out together, or none of them.
//!
//! The body is a list of operations, `{"put": "routes/1", "value": {…}}` or
//! `{"delete": "upstreams/1"}`, in any order; `if_match` holds one to a `modifiedIndex`. What a
//! put would leave as it is, is not written. Everything that is wrong is told, each with the index
//! of its operation. `?dry_run=true` tells what would change, secrets hidden, and writes nothing.

use std::collections::{BTreeSet, HashSet};

use http::StatusCode;
use serde_json::{Value, json};

use super::answer::{Answer, Answered, full_key};
use super::check::{PATIENCE, refuse_times};
use super::history::Kept;
use super::path::Place;
use super::write::{TRIES, must_be_object, overtaken, set_times, settle_id};
use super::{Admin, Call, Condition};
use crate::resource::{Invalid, Kind};
use crate::snapshot::batch::{Proposed, Verdict};
use crate::snapshot::check::{HIDDEN, references};
use crate::store::{Entry, Expect, Read, Step, Transacted};

/// Operations a transaction may have, whatever the store takes.
const MOST: usize = 1000;

/// One of the caller's operations.
struct Operation {
    index: usize,
    place: Place,
    /// The store key: `routes/1`.
    key: String,
    id: String,
    /// `None` deletes.
    value: Option<Value>,
    condition: Condition,
    /// What stands there now.
    current: Option<Entry>,
}

/// What an operation comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Created,
    Updated,
    Unchanged,
    Deleted,
}

/// A problem of one operation.
struct Wrong {
    index: usize,
    key: String,
    invalid: Invalid,
    /// Whether a condition did not hold, rather than the operation being at fault.
    is_condition: bool,
}

// === impl Admin ===

impl Admin {
    /// Checks all operations and carries them out, or with `dry_run=true` tells what they would do.
    pub(super) async fn transaction(&self, call: &Call<'_>, body: Option<Value>) -> Answered {
        let dry_run = match call.args.get("dry_run") {
            None | Some("false") => false,
            Some("true") => true,
            Some(other) => {
                let said = format!("invalid argument dry_run: expected true or false, got {other}");
                return Err(Answer::bad(said));
            }
        };
        let body = body.ok_or_else(|| Answer::bad("missing configurations"))?;
        let Value::Array(items) = body else {
            return Err(Answer::bad("invalid transaction: expected an array of operations"));
        };
        if items.is_empty() || items.len() > MOST {
            let said = format!(
                "invalid transaction: expected 1 to {MOST} operations, got {}",
                items.len()
            );
            return Err(Answer::bad(said));
        }
        for _ in 0..TRIES {
            let (mut operations, mut wrong) = parse(&items);
            let keys: Vec<Read> =
                operations.iter().map(|operation| Read::Key(operation.key.clone())).collect();
            let currents = self.store.read(&keys).await?;
            for (operation, current) in operations.iter_mut().zip(currents) {
                operation.current = current.into_iter().next();
                wrong.extend(operation.misfit());
            }
            let (more, warnings) = self.check_all(&operations, call).await?;
            wrong.extend(more);
            wrong.sort_by_key(|wrong| wrong.index);
            if dry_run {
                let changes: Vec<Value> =
                    operations.iter().map(|operation| self.difference(operation)).collect();
                let body = json!({ "dry_run": true, "changes": changes });
                return if wrong.is_empty() {
                    Ok(Answer::json(body).warning(&warnings))
                } else {
                    Err(refused(&wrong, body))
                };
            }
            if !wrong.is_empty() {
                return Err(refused(&wrong, json!({})));
            }
            if let Some(answer) = self.write_all(&operations, call).await? {
                return Ok(answer.warning(&warnings));
            }
        }
        Err(overtaken("one of the resources"))
    }

    /// Everything that is wrong with what the operations say, seen together, and what their writer
    /// should know.
    async fn check_all(
        &self,
        operations: &[Operation],
        call: &Call<'_>,
    ) -> Result<(Vec<Wrong>, Vec<String>), Answer> {
        self.catch_up().await;
        // The compiler trails the store: what is there already it must have seen.
        let currents = operations.iter().filter_map(|operation| operation.current.as_ref());
        let mut newest = currents.map(|entry| entry.mod_revision).max().unwrap_or_default();
        let targets = operations.iter().filter_map(|operation| {
            references(operation.place.kind, &operation.id, operation.value.as_ref()?).ok()
        });
        let targets: BTreeSet<String> = targets.flatten().map(|target| target.key()).collect();
        let reads: Vec<Read> = targets.into_iter().map(Read::Key).collect();
        for entry in self.store.read(&reads).await?.into_iter().flatten() {
            newest = newest.max(entry.mod_revision);
        }
        self.compiler.reach(newest, PATIENCE).await;
        let proposed: Vec<Proposed<'_>> = operations
            .iter()
            .map(|operation| Proposed {
                kind: operation.place.kind,
                id: &operation.id,
                value: operation.value.as_ref(),
            })
            .collect();
        let force = call.args.get("force") == Some("true");
        let Verdict { wrong, warnings } = self.compiler.check_together(&proposed, force);
        let wrong = wrong.into_iter().map(|(at, invalid)| operations[at].wrong(invalid));
        let warnings = warnings.into_iter().map(|(at, warning)| operations[at].about(&warning));
        Ok((wrong.collect(), warnings.collect()))
    }

    /// Writes what the operations change; `None` when another write was faster.
    async fn write_all(
        &self,
        operations: &[Operation],
        call: &Call<'_>,
    ) -> Result<Option<Answer>, Answer> {
        let mut steps = Vec::new();
        let mut history = Vec::new();
        let mut told = Vec::new();
        let mut changed = Vec::new();
        for operation in operations {
            let outcome = self.outcome(operation);
            told.push(json!({ "key": full_key(&operation.key), "change": outcome.word() }));
            if outcome != Outcome::Unchanged {
                changed.push(operation);
            }
        }
        let versions =
            self.versions(changed.iter().map(|operation| operation.key.as_str())).await?;
        for (operation, versions) in changed.iter().zip(&versions) {
            let current = operation.current.as_ref();
            let expect = Expect::unchanged(current);
            let kind = operation.place.kind;
            let sealed = operation.value.clone().map(|mut value| {
                set_times(kind, &mut value, current);
                self.compiler.lock().seal(kind, &mut value);
                value
            });
            match &sealed {
                Some(value) => {
                    let (key, life) = (&*operation.key, call.ttl.into());
                    steps.push(Step::put_for(key, value.to_string(), life, expect));
                }
                None => {
                    steps.push(Step::delete(&*operation.key, expect));
                    let below = self.below(kind, &operation.key).await?;
                    // Some of it may have an operation of its own.
                    let is_own = |step: &Step| operations.iter().any(|one| one.key == step.key);
                    steps.extend(below.into_iter().filter(|step| !is_own(step)));
                }
            }
            let kept = Kept { key: &operation.key, current, value: sealed.as_ref() };
            history.extend(self.keep(&kept, versions, call));
        }
        let done = |revision| json!({ "revision": revision, "changes": told });
        if steps.is_empty() {
            let currents = operations.iter().filter_map(|operation| operation.current.as_ref());
            let newest = currents.map(|entry| entry.mod_revision).max().unwrap_or_default();
            return Ok(Some(Answer::done(done(newest), newest)));
        }
        match self.transact(steps, history).await? {
            Transacted::Conflict { .. } => Ok(None),
            Transacted::Done { revision } => {
                for operation in changed {
                    let method = operation.value.as_ref().map_or("DELETE", |_| "PUT");
                    self.note(&operation.key, method, revision, call);
                }
                Ok(Some(Answer::done(done(revision), revision)))
            }
        }
    }

    fn outcome(&self, operation: &Operation) -> Outcome {
        match (&operation.value, self.opened(operation)) {
            (None, _) => Outcome::Deleted,
            (Some(_), None) => Outcome::Created,
            (Some(value), Some(current)) if *value == timeless(current.clone()) => {
                Outcome::Unchanged
            }
            (Some(_), Some(_)) => Outcome::Updated,
        }
    }

    /// What stands there now, decrypted.
    fn opened(&self, operation: &Operation) -> Option<Value> {
        let entry = operation.current.as_ref()?;
        let mut value = serde_json::from_slice(&entry.value).unwrap_or_default();
        self.compiler.lock().open(operation.place.kind, &mut value);
        Some(value)
    }

    /// What an operation would do, before and after, secrets hidden.
    fn difference(&self, operation: &Operation) -> Value {
        let kind = operation.place.kind;
        let before = self.opened(operation);
        let hidden = |value: &Value| {
            let mut value = value.clone();
            self.compiler.lock().hide(kind, &mut value);
            value
        };
        let shown_before = before.as_ref().map(hidden);
        let mut shown_after = operation.value.as_ref().map(hidden);
        if let (Some(before), Some(after), Some(shown)) =
            (&before, &operation.value, &mut shown_after)
        {
            mark_changed(before, after, shown);
        }
        json!({
            "index": operation.index,
            "key": full_key(&operation.key),
            "change": self.outcome(operation).word(),
            "modifiedIndex": operation.current.as_ref().map(|entry| entry.mod_revision),
            "before": shown_before.map(timeless),
            "after": shown_after,
        })
    }
}

// === impl Outcome ===

impl Outcome {
    fn word(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Updated => "updated",
            Self::Unchanged => "unchanged",
            Self::Deleted => "deleted",
        }
    }
}

// === impl Operation ===

impl Operation {
    fn wrong(&self, invalid: Invalid) -> Wrong {
        Wrong { index: self.index, key: self.key.clone(), invalid, is_condition: false }
    }

    /// `said`, with what it is about.
    fn about(&self, said: &str) -> String {
        format!("[{}] {}: {said}", self.index, self.key)
    }

    /// What does not fit to what stands there.
    fn misfit(&self) -> Option<Wrong> {
        if let Err(answer) = self.condition.check(self.current.as_ref()) {
            let invalid = Invalid::new("/if_match", answer.message(), "what stands there now");
            return Some(Wrong { is_condition: true, ..self.wrong(invalid) });
        }
        (self.value.is_none() && self.current.is_none())
            .then(|| self.wrong(Invalid::new("", "nothing to delete", "a resource that is there")))
    }
}

/// Reads the operations; what cannot be read is among the problems.
fn parse(items: &[Value]) -> (Vec<Operation>, Vec<Wrong>) {
    let mut operations: Vec<Operation> = Vec::new();
    let mut keys = HashSet::new();
    let mut wrong = Vec::new();
    for (index, item) in items.iter().enumerate() {
        match operation(index, item) {
            Ok(one) => {
                if !keys.insert(one.key.clone()) {
                    let expected = "each resource once";
                    wrong.push(one.wrong(Invalid::new("", &one.key, expected)));
                } else {
                    operations.push(one);
                }
            }
            Err(invalid) => {
                let key = ["put", "delete"].iter().find_map(|verb| item[*verb].as_str());
                let key = key.unwrap_or_default().to_owned();
                wrong.push(Wrong { index, key, invalid, is_condition: false });
            }
        }
    }
    (operations, wrong)
}

fn operation(index: usize, item: &Value) -> Result<Operation, Invalid> {
    let shape = "an object with put and value, or with delete, and perhaps if_match";
    let Some(fields) = item.as_object() else {
        return Err(Invalid::new("", "something else", shape));
    };
    if let Some(name) =
        fields.keys().find(|name| !["put", "delete", "value", "if_match"].contains(&name.as_str()))
    {
        return Err(Invalid::new("", format!("a field {name}"), shape));
    }
    let (verb, name, value) = match (fields.get("put"), fields.get("delete"), fields.get("value")) {
        (Some(name), None, Some(value)) => ("/put", name, Some(value)),
        (None, Some(name), None) => ("/delete", name, None),
        _ => return Err(Invalid::new("", "other fields", shape)),
    };
    let place = name.as_str().and_then(Place::of_key).ok_or_else(|| {
        let expected = "kind and id of a resource, such as \"routes/1\"";
        Invalid::new(verb, short(name), expected)
    })?;
    let condition = match fields.get("if_match") {
        None => Condition::None,
        Some(Value::String(any)) if any == "*" => Condition::Exists,
        Some(other) => Condition::Revision(
            other
                .as_i64()
                .ok_or_else(|| Invalid::new("/if_match", other, "a modifiedIndex or \"*\""))?,
        ),
    };
    let mut id = place.id.clone().unwrap_or_default();
    let value = match value.cloned() {
        None => None,
        Some(mut value) => {
            let said =
                |answer: Answer| Invalid::new("", answer.message(), "a body as PUT takes it");
            must_be_object(&value).map_err(said)?;
            if place.kind == Kind::Consumer && value.get("username").is_none() {
                value["username"] = json!(id);
            }
            if place.kind == Kind::PluginMetadata {
                value["id"] = json!(id);
            } else {
                refuse_times(&value).map_err(said)?;
            }
            id = settle_id(&place, &mut value).map_err(said)?;
            Some(value)
        }
    };
    let key = format!("{}/{id}", place.kind.dir());
    Ok(Operation { index, place, key, id, value, condition, current: None })
}

/// What stands where a short text or a number should, if it is that.
fn short(value: &Value) -> String {
    let text = value.to_string();
    if text.len() > 80 || value.is_object() || value.is_array() {
        return "something else".to_owned();
    }
    text
}

/// 400, or 412 when it was only a condition, with everything that is wrong.
fn refused(wrong: &[Wrong], body: Value) -> Answer {
    let one = |wrong: &Wrong| format!("[{}] {}: {}", wrong.index, wrong.key, wrong.invalid);
    let all: Vec<String> = wrong.iter().map(one).collect();
    let errors: Value = wrong
        .iter()
        .map(|wrong| {
            let Invalid { path, value, expected, .. } = &wrong.invalid;
            json!({ "index": wrong.index, "key": wrong.key, "path": path, "value": value,
                "expected": expected, "message": wrong.invalid.to_string() })
        })
        .collect();
    let status = if wrong.iter().all(|wrong| wrong.is_condition) {
        StatusCode::PRECONDITION_FAILED
    } else {
        StatusCode::BAD_REQUEST
    };
    let said = format!("invalid transaction: {}", all.join("; "));
    Answer::with(status, body).but(status, json!({ "error_msg": said, "errors": errors }))
}

/// Without the times that the Admin API sets.
fn timeless(mut value: Value) -> Value {
    if let Some(fields) = value.as_object_mut() {
        fields.remove("create_time");
        fields.remove("update_time");
    }
    value
}

/// Says of each hidden value in `shown` (which is `after`, hidden) whether it is another than
/// before.
fn mark_changed(before: &Value, after: &Value, shown: &mut Value) {
    match shown {
        Value::String(text) if text == HIDDEN && before != after => {
            *text = "(hidden, another than before)".to_owned();
        }
        Value::Object(fields) => {
            for (name, shown) in fields {
                mark_changed(&before[name.as_str()], &after[name.as_str()], shown);
            }
        }
        Value::Array(items) => {
            for (index, shown) in items.iter_mut().enumerate() {
                mark_changed(&before[index], &after[index], shown);
            }
        }
        _ => {}
    }
}
