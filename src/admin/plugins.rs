//! Plugins and schemas, as dashboards and tools ask for them.
//!
//! Source: APISIX `admin/plugins.lua`, `admin/schema.lua`, `docs/en/latest/admin-api.md#plugin`.

use http::{Method, StatusCode};
use serde_json::{Map, Value, json};

use super::Admin;
use super::answer::{Answer, Answered, joined};
use super::request::Args;
use crate::plugin::registry::{self, Entry};
use crate::resource::{self, Kind};

impl Admin {
    /// Names of the plugins that may be used, in order of execution.
    pub(super) fn plugin_names(&self, args: &Args) -> Answered {
        match args.get("subsystem").unwrap_or("http") {
            "http" => Ok(Answer::json(self.enabled_plugins().map(|entry| entry.name).collect())),
            // Plugins of TCP and UDP routes are not there yet.
            "stream" => Ok(Answer::json(json!([]))),
            _ => Err(Answer::text("invalid subsystem passed")),
        }
    }

    /// One plugin's schema, or with `all=true` everything about every plugin.
    pub(super) fn plugin(&self, name: Option<&str>, args: &Args) -> Answered {
        let subsystem = args.get("subsystem").unwrap_or("http");
        if !["http", "stream"].contains(&subsystem) {
            return Err(Answer::bad(format!("unsupported subsystem: {subsystem}")));
        }
        let is_http = subsystem == "http";
        let mut entries = self.enabled_plugins().filter(|_| is_http);
        if args.get("all") == Some("true") {
            let all: Map<String, Value> =
                entries.map(|entry| (entry.name.to_owned(), description(entry))).collect();
            return Ok(Answer::json(all.into()));
        }
        let found = entries.find(|entry| Some(entry.name) == name).ok_or_else(|| {
            let message = format!("plugin not found in subsystem {subsystem}");
            Answer::error(StatusCode::NOT_FOUND, message)
        })?;
        let schema = match args.get("schema_type") {
            Some("consumer") => {
                found.consumer.as_ref().map(|consumer| consumer.validator.schema().clone())
            }
            _ => Some(schema(found)),
        };
        schema.map(Answer::json).ok_or_else(|| Answer::bad("not found schema"))
    }

    fn enabled_plugins(&self) -> impl Iterator<Item = &'static Entry> {
        let enabled = self.settings.enabled_plugins.as_ref();
        let is_on = move |entry: &&Entry| {
            enabled.is_none_or(|names| names.iter().any(|name| name == entry.name))
        };
        registry::entries().iter().filter(is_on)
    }
}

/// The schema of a kind, by its folder's name or as APISIX calls it: `route`, `plugin_config`.
pub(super) fn schema_of(name: &str) -> Answered {
    let is_called = |kind: &Kind| kind.name() == name || kind.noun().replace(' ', "_") == name;
    match Kind::ALL.into_iter().find(is_called) {
        Some(kind) => Ok(Answer::json(plain(resource::schema(kind).clone()))),
        None => Err(Answer::bad(format!("not found schema: {name}"))),
    }
}

/// A kind's schema with what everything has as APISIX tells it, which tools look for: times and
/// plugins by their types alone.
fn plain(mut schema: Value) -> Value {
    for (name, kind) in
        [("create_time", "integer"), ("update_time", "integer"), ("plugins", "object")]
    {
        if let Some(field) = schema.pointer_mut(&format!("/properties/{name}")) {
            *field = json!({ "type": kind });
        }
    }
    schema
}

/// Answers a wish to load the plugins again. There is nothing to do: they are part of the program,
/// and which of them may be used is read at the start.
pub(super) fn reload(method: &Method) -> Answered {
    if method == Method::PUT {
        return Ok(Answer::text("done").with_status(StatusCode::OK));
    }
    let message =
        format!("please use PUT method to reload the plugins, {method} method is not allowed.");
    Err(Answer::error(StatusCode::METHOD_NOT_ALLOWED, message))
}

/// Checks a body by the schema of a kind alone: neither references nor plugins are looked at.
pub(super) fn validate(dir: &str, body: Option<Value>) -> Answered {
    let Some(kind) = Kind::of_name(dir) else {
        return Err(Answer::unknown_kind(dir));
    };
    let body = body.ok_or_else(|| Answer::bad("missing configurations"))?;
    match resource::validate(kind, "vault/1", &body) {
        Ok(()) => Ok(Answer::empty(StatusCode::OK)),
        Err(wrong) => Err(Answer::bad(joined(&wrong))),
    }
}

fn description(entry: &Entry) -> Value {
    let mut all = json!({
        "priority": entry.priority,
        "version": 0.1,
        "schema": schema(entry),
    });
    if let Some(consumer) = &entry.consumer {
        all["type"] = "auth".into();
        all["consumer_schema"] = consumer.validator.schema().clone();
    }
    if let Some(metadata) = &entry.metadata {
        all["metadata_schema"] = metadata.schema().clone();
    }
    all
}

/// The plugin's schema with `_meta`, which every plugin's config may have.
fn schema(entry: &Entry) -> Value {
    let mut schema = entry.schema().clone();
    if let Some(fields) = schema.as_object_mut() {
        let properties = fields.entry("properties").or_insert_with(|| json!({}));
        properties["_meta"] = json!({
            "type": "object",
            "additionalProperties": false,
            "properties": {
                "disable": {"type": "boolean"},
                "priority": {"type": "integer",
                    "description": "Stands in for the plugin's own priority."},
                "filter": {"type": "array",
                    "description": "Conditions over variables under which the plugin runs."},
                "error_response": {"oneOf": [{"type": "string"}, {"type": "object"}],
                    "description": "Body of the plugin's refusals."},
                "pre_function": {"type": "string",
                    "description": "A Lua function to run first."}
            }
        });
    }
    schema
}
