//! PATCH: a merge into a resource, or one of its properties replaced.
//!
//! Source: RFC 7396; APISIX `core/table.lua`, `merge` and `patch`.

use serde_json::{Map, Value};

use super::answer::{Answer, Answered};
use super::check::same_id;
use super::path::{Place, own_id};
use super::write::{TRIES, must_be_object, overtaken};
use super::{Admin, Call};
use crate::clock;
use crate::resource::Kind;

impl Admin {
    /// Changes a resource that is there.
    pub(super) async fn patch(
        &self,
        place: &Place,
        call: &Call<'_>,
        body: Option<Value>,
    ) -> Answered {
        let kind = place.kind;
        let id = place.one()?;
        let change = body.ok_or_else(|| Answer::bad("missing new configuration"))?;
        if place.rest.is_empty() && !change.is_object() {
            return Err(Answer::bad("invalid configuration"));
        }
        if kind == Kind::CostDecoration
            && (change.get("service_id").is_some() || !place.rest.is_empty())
        {
            return Err(Answer::bad("service_id can not be patched"));
        }
        let key = format!("{}/{id}", kind.dir());
        for _ in 0..TRIES {
            let current = self.store.get(&key).await?.ok_or_else(Answer::key_not_found)?;
            call.condition.check(Some(&current))?;
            let mut value: Value = serde_json::from_slice(&current.value).unwrap_or_default();
            self.compiler.lock().open(kind, &mut value);
            if place.rest.is_empty() {
                merge(&mut value, change.clone());
            } else {
                replace(&mut value, &place.rest, change.clone())?;
            }
            must_be_object(&value)?;
            same_id(kind, id, &value)?;
            value["id"] = own_id(kind, id).into();
            stamp(&mut value, place.rest.is_empty().then_some(&change));
            let warnings = self.check(kind, id, &value).await?;
            if let Some(answer) = self.store(kind, &key, value, call, Some(&current)).await? {
                return Ok(answer.warning(&warnings));
            }
        }
        Err(overtaken(&key))
    }
}

/// Sets `update_time` unless the merged `change` brings one, and `create_time` where there was none.
fn stamp(value: &mut Value, change: Option<&Value>) {
    if value.get("create_time").is_none() {
        value["create_time"] = clock::unix().into();
    }
    if change.is_none_or(|change| change.get("update_time").is_none_or(Value::is_null)) {
        value["update_time"] = clock::unix().into();
    }
}

/// Merges `change` into `value`: objects by property, null takes away, all else replaces.
fn merge(value: &mut Value, change: Value) {
    let Value::Object(change) = change else {
        *value = change;
        return;
    };
    if !value.is_object() {
        *value = Map::new().into();
    }
    let Some(fields) = value.as_object_mut() else {
        return;
    };
    for (name, change) in change {
        if change.is_null() {
            fields.remove(&name);
        } else {
            merge(fields.entry(name).or_insert(Value::Null), change);
        }
    }
}

/// Replaces the property at `path`, making objects on the way to it.
fn replace(value: &mut Value, path: &[String], change: Value) -> Result<(), Answer> {
    let mut slot = value;
    for (depth, name) in path.iter().enumerate() {
        let fields = slot.as_object_mut().ok_or_else(|| {
            Answer::bad(format!("invalid sub-path: /{}", path[..depth.max(1)].join("/")))
        })?;
        let is_last = depth + 1 == path.len();
        let absent = if is_last { Value::Null } else { Map::new().into() };
        slot = fields.entry(name.as_str()).or_insert(absent);
    }
    *slot = change;
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn merges_objects_and_replaces_the_rest() {
        for (value, change, merged) in [
            (json!({"a": {"b": 1}}), json!({"a": {"c": 2}}), json!({"a": {"b": 1, "c": 2}})),
            (json!({"a": {"b": 1, "c": 2}}), json!({"a": {"b": null}}), json!({"a": {"c": 2}})),
            (json!({"a": [1, 2]}), json!({"a": [3]}), json!({"a": [3]})),
            (json!({"a": [1]}), json!({"a": {"b": null, "c": 1}}), json!({"a": {"c": 1}})),
            (json!({"a": {"b": 1}}), json!({"a": [1]}), json!({"a": [1]})),
            (json!({}), json!({"a": {"b": {"c": null}}}), json!({"a": {"b": {}}})),
        ] {
            let mut got = value.clone();
            merge(&mut got, change.clone());
            assert_eq!(got, merged, "{value} with {change}");
        }
    }

    #[test]
    fn replaces_one_property() {
        let path = |path: &str| path.split('/').map(str::to_owned).collect::<Vec<_>>();
        let mut value = json!({"a": {"b": {"x": 1}}, "text": "t"});
        replace(&mut value, &path("a/b"), json!({"y": 2})).unwrap();
        assert_eq!(value, json!({"a": {"b": {"y": 2}}, "text": "t"}));
        replace(&mut value, &path("new/deep"), json!(1)).unwrap();
        assert_eq!(value["new"]["deep"], json!(1));
        assert!(replace(&mut value, &path("text/deep"), json!(1)).is_err());
    }
}
