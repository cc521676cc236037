//! `configs/validate`: a whole configuration checked at once, with everything that is wrong in it.
//!
//! Each resource is checked by its schema, its plugins' schemas and the dry compile, as a write
//! would be; what it refers to may come with the same configuration, so that is not asked for.
//!
//! Source: APISIX `admin/config_validate.lua`.

use std::collections::HashSet;

use http::StatusCode;
use serde_json::{Map, Value, json};

use super::Admin;
use super::answer::{Answer, Answered, joined};
use super::read::id_text;
use crate::resource::{Invalid, Kind, credential};

/// What the version of each kind is called in files: `routes_conf_version`.
const VERSION: &str = "_conf_version";

impl Admin {
    /// Checks lists of resources by kind.
    pub(super) fn validate_configs(&self, body: Option<Value>) -> Answered {
        let Some(body) = body else {
            return Err(Answer::bad("invalid request body: empty request body"));
        };
        let Value::Object(body) = body else {
            let error = format!("expected lists of resources by kind, got {}", name_of(&body));
            return Err(failed(vec![json!({ "error": error })]));
        };
        let mut errors = Vec::new();
        // Credentials stand among the consumers.
        for kind in Kind::ALL.into_iter().filter(|kind| *kind != Kind::Credential) {
            self.validate_kind(kind, &body, &mut errors);
        }
        if errors.is_empty() { Ok(Answer::json(json!({}))) } else { Err(failed(errors)) }
    }

    fn validate_kind(&self, kind: Kind, body: &Map<String, Value>, errors: &mut Vec<Value>) {
        let dir = kind.dir();
        let version = format!("{dir}{VERSION}");
        if let Some(found) = body.get(&version).filter(|found| !found.is_number()) {
            let error = format!("{version} must be a number, got {}", name_of(found));
            errors.push(json!({ "resource_type": dir, "error": error }));
        }
        let items = match body.get(dir) {
            None | Some(Value::Null) => return,
            // What an empty list becomes in Lua.
            Some(Value::Object(fields)) if fields.is_empty() => return,
            Some(Value::Array(items)) => items,
            Some(other) => {
                let error = format!("{dir} must be an array, got {}", name_of(other));
                errors.push(json!({ "resource_type": dir, "error": error }));
                return;
            }
        };
        let mut seen = HashSet::new();
        for (index, item) in items.iter().enumerate() {
            let mut tell = |error: String| {
                let id = ["id", "username"].into_iter().find_map(|field| item.get(field));
                errors.push(json!({ "resource_type": dir, "index": index, "error": error,
                    "resource_id": id.cloned().unwrap_or_else(|| "".into()) }));
            };
            if let Err(error) = self.validate_item(kind, item) {
                tell(error);
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

    fn validate_item(&self, kind: Kind, item: &Value) -> Result<(), String> {
        let invalid = |wrong: Vec<Invalid>| format!("invalid configuration: {}", joined(&wrong));
        if !item.is_object() {
            return Err(invalid(vec![Invalid::new("", name_of(item), "an object")]));
        }
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

fn failed(errors: Vec<Value>) -> Answer {
    let body = json!({ "error_msg": "Configuration validation failed", "errors": errors });
    Answer::json(body).with_status(StatusCode::BAD_REQUEST)
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
