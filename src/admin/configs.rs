//! A whole configuration checked at once, with everything that is wrong in it: `configs/validate`,
//! and what is pushed to `configs`.
//!
//! Each resource is checked by its schema, its plugins' schemas and the dry compile, as a write
//! would be; what it refers to may come with the same configuration, so that is not asked for.
//!
//! Source: APISIX `admin/config_validate.lua`.

use std::collections::HashSet;

use http::StatusCode;
use serde_json::{Map, Value, json};

use super::Admin;
use super::answer::{Answer, Answered, introduced};
use super::read::id_text;
use crate::resource::{Invalid, Kind, credential};
use crate::store::file;

/// What the version of each kind is called in files: `routes_conf_version`.
const VERSION: &str = "_conf_version";

/// What the version of one item is called.
pub(super) const INDEX: &str = "modifiedIndex";

/// The lists that a configuration may have. Credentials stand among the consumers.
pub(super) fn lists() -> impl Iterator<Item = Kind> {
    Kind::ALL.into_iter().filter(|kind| kind.owner().is_none())
}

/// What the version of a list is called.
pub(super) fn version_of(dir: &str) -> String {
    format!("{dir}{VERSION}")
}

/// One thing that is wrong in a configuration.
pub(super) struct Wrong {
    dir: &'static str,
    /// Which item of the list, and its id.
    item: Option<(usize, Value)>,
    said: String,
    /// What was found instead, where a push leaves that out.
    found: Option<&'static str>,
}

/// What there is to say of a configuration.
#[derive(Default)]
pub(super) struct Verdict {
    pub(super) wrong: Vec<Wrong>,
    /// What its writer should know all the same: each begins with the resource that it is about.
    pub(super) warnings: Vec<String>,
}

// === impl Wrong ===

impl Wrong {
    fn new(dir: &'static str, said: String) -> Self {
        Self { dir, item: None, said, found: None }
    }

    /// What is wrong, in the words of a push.
    pub(super) fn said(&self) -> &str {
        &self.said
    }

    pub(super) fn shown(&self) -> Value {
        let said = match self.found {
            Some(found) => format!("{}, got {found}", self.said),
            None => self.said.clone(),
        };
        let mut shown = json!({ "error": said });
        if !self.dir.is_empty() {
            shown["resource_type"] = self.dir.into();
        }
        if let Some((index, id)) = &self.item {
            shown["index"] = (*index).into();
            shown["resource_id"] = id.clone();
        }
        shown
    }
}

// === impl Admin ===

impl Admin {
    /// Checks lists of resources by kind.
    pub(super) fn validate_configs(&self, body: Option<Value>) -> Answered {
        let Some(body) = body else {
            return Err(Answer::bad("invalid request body: empty request body"));
        };
        let Verdict { wrong, warnings } = self.judge(&body);
        if wrong.is_empty() {
            return Ok(Answer::json(json!({})).warning(&warnings));
        }
        let errors: Value = wrong.iter().map(Wrong::shown).collect();
        let said = "Configuration validation failed";
        let body = json!({ "error_msg": said, "errors": errors });
        Err(Answer::json(body).with_status(StatusCode::BAD_REQUEST))
    }

    /// Everything that is to be said of lists of resources by kind.
    pub(super) fn judge(&self, body: &Value) -> Verdict {
        let mut verdict = Verdict::default();
        let Value::Object(body) = body else {
            let said = format!("expected lists of resources by kind, got {}", name_of(body));
            verdict.wrong.push(Wrong::new("", said));
            return verdict;
        };
        for kind in lists() {
            self.validate_kind(kind, body, &mut verdict);
        }
        verdict
    }

    fn validate_kind(&self, kind: Kind, body: &Map<String, Value>, verdict: &mut Verdict) {
        let Verdict { wrong, warnings } = verdict;
        let dir = kind.dir();
        let version = version_of(dir);
        if let Some(found) = body.get(&version).filter(|found| !found.is_number()) {
            let said = format!("{version} must be a number");
            wrong.push(Wrong { found: Some(name_of(found)), ..Wrong::new(dir, said) });
        }
        let items = match body.get(dir) {
            None | Some(Value::Null) => return,
            // What an empty list becomes in Lua.
            Some(Value::Object(fields)) if fields.is_empty() => return,
            Some(Value::Array(items)) => items,
            Some(other) => {
                let said = format!("{dir} must be an array, got {}", name_of(other));
                wrong.push(Wrong::new(dir, said));
                return;
            }
        };
        let mut seen = HashSet::new();
        for (index, item) in items.iter().enumerate() {
            let mut tell = |said: String| {
                let id = ["id", "username"].into_iter().find_map(|field| item.get(field));
                let id = id.cloned().unwrap_or_else(|| "".into());
                wrong.push(Wrong { item: Some((index, id)), ..Wrong::new(dir, said) });
            };
            match self.validate_item(kind, item) {
                Ok(said) => {
                    let key = format!("{dir}/{}", file::id(dir, item, index));
                    warnings.extend(said.iter().map(|said| format!("{key}: {said}")));
                }
                Err(said) => tell(said),
            }
            let (id, called) = match (kind, item.get("id"), item.get("username")) {
                (Kind::Consumer, Some(id), _) => (id_text(id), "credential id"),
                (Kind::Consumer, None, Some(name)) => (id_text(name), "username"),
                (_, Some(id), _) => (id_text(id), "id"),
                _ => continue,
            };
            if !seen.insert(id.clone()) {
                tell(format!("found duplicate {called} {id} in {dir}"));
            }
        }
    }

    /// # Errors
    /// What is wrong with it; else what its writer should know.
    fn validate_item(&self, kind: Kind, item: &Value) -> Result<Vec<String>, String> {
        let invalid = |wrong: Vec<Invalid>| introduced(&wrong);
        if !item.is_object() {
            return Err(invalid(vec![Invalid::new("", name_of(item), "an object")]));
        }
        // Says whether the item is another than before; nothing of the resource.
        let mut item = item.clone();
        if let Some(index) = item.as_object_mut().and_then(|item| item.remove(INDEX))
            && !index.is_i64()
        {
            let wrong = Invalid::new(format!("/{INDEX}"), name_of(&index), "an integer");
            return Err(invalid(vec![wrong]));
        }
        let item = &item;
        let id = item.get("id").map(id_text);
        let (kind, id) = match (kind, id) {
            (Kind::Consumer, Some(id)) if credential::split(&id).is_some() => {
                (Kind::Credential, id)
            }
            (Kind::Consumer, Some(id)) if item.get("username").is_some_and(|name| *name != id) => {
                return Err("wrong username".to_owned());
            }
            (Kind::Consumer, _) => (kind, item.get("username").map(id_text).unwrap_or_default()),
            (Kind::Secret, id) if !id.as_ref().is_some_and(|id| id.contains('/')) => {
                return Err(format!("invalid secret id: {}", id.unwrap_or_default()));
            }
            (kind, id) => (kind, id.unwrap_or_else(|| "new".to_owned())),
        };
        self.compiler.lock().check_alone(kind, &id, item).map_err(invalid)
    }
}

/// The type of a value in the words of Lua, which the errors of APISIX have.
fn name_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "nil",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) | Value::Object(_) => "table",
    }
}
