//! The Admin API as an OpenAPI 3.1 document, from the schemas that check what is written.
//!
//! What is not listed here is not served; what a resource may hold is told by its kind's schema,
//! and what a plugin's config may hold by `plugins/{name}`.

use serde_json::{Map, Value, json};

use super::lacks;
use crate::resource::{self, Kind};

/// The document.
pub(super) fn document(version: &str) -> Value {
    let mut paths = Map::new();
    let mut schemas = Map::new();
    for kind in Kind::ALL {
        schemas.insert(kind.name().to_owned(), resource::schema(kind).clone());
        paths.insert(format!("/apisix/admin/{}", folder(kind)), collection(kind));
        let one = format!("/apisix/admin/{}/{{id}}", folder(kind));
        paths.insert(
            format!("{one}/history"),
            json!({ "parameters": place(kind),
            "get": operation(kind, "history", "Its last versions, newest first.", &[200]) }),
        );
        let mut rollback = operation(
            kind,
            "rollback",
            "Writes an earlier version anew.",
            &[200, 201, 404, 409, 412],
        );
        let revision = parameter("revision", "query", "integer", "One that history shows.", true);
        let mut parameters = writes();
        parameters.push(revision);
        rollback["parameters"] = parameters.into();
        paths.insert(
            format!("{one}/rollback"),
            json!({ "parameters": place(kind), "post": rollback }),
        );
        paths.insert(one, single(kind));
    }
    schemas.insert("operation".to_owned(), operation_schema());
    schemas.extend(shapes().map(|(name, shape)| (name.to_owned(), shape)));
    paths.extend(others());
    json!({
        "openapi": "3.1.0",
        "jsonSchemaDialect": "http://json-schema.org/draft-07/schema#",
        "info": {
            "title": "Sluice Admin API",
            "version": version,
            "description": "APISIX's Admin API v3, and what Sluice adds to it.",
        },
        "security": [{ "key": [] }],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "key": { "type": "apiKey", "in": "header", "name": "X-API-KEY" },
            },
            "schemas": schemas,
        },
    })
}

/// Where a kind's resources stand: below a secret's manager, or a credential's consumer.
fn folder(kind: Kind) -> String {
    match kind {
        Kind::Secret => "secrets/{manager}".to_owned(),
        Kind::Credential => "consumers/{username}/credentials".to_owned(),
        Kind::CostDecoration => "services/{service_id}/graphql_cost_decorations".to_owned(),
        kind => kind.dir().to_owned(),
    }
}

/// The parts of a path that name one resource.
fn place(kind: Kind) -> Value {
    let mut all = parent(kind);
    all.push(json!({ "name": "id", "in": "path", "required": true,
        "schema": { "type": "string", "pattern": "^[a-zA-Z0-9_.-]{1,64}$" } }));
    all.into()
}

fn parent(kind: Kind) -> Vec<Value> {
    let (name, schema) = match kind {
        Kind::Secret => {
            ("manager", json!({ "type": "string", "enum": ["vault", "aws", "gcp", "acme"] }))
        }
        Kind::Credential => {
            ("username", json!({ "type": "string", "pattern": "^[a-zA-Z0-9_-]{1,100}$" }))
        }
        Kind::CostDecoration => {
            ("service_id", json!({ "type": "string", "pattern": "^[a-zA-Z0-9_.-]{1,64}$" }))
        }
        _ => return Vec::new(),
    };
    vec![json!({ "name": name, "in": "path", "required": true, "schema": schema })]
}

fn collection(kind: Kind) -> Value {
    let mut list = operation(kind, "list", "All of them, or a page.", &[200]);
    let filter = |name, doc| parameter(name, "query", "string", doc, false);
    list["parameters"] = json!([
        parameter(
            "page",
            "query",
            "integer",
            "Which page, from 1; together with page_size.",
            false
        ),
        parameter("page_size", "query", "integer", "Entries of a page, 10 to 500.", false),
        filter("name", "A regular expression that the name matches."),
        filter("uri", "A regular expression that a path matches."),
        filter("label", "A label that they have."),
    ]);
    succeeds(&mut list, "list");
    if kind.owner().is_some() {
        list["responses"]["404"] = failure("What they lie below is not there.");
    }
    let mut all = json!({ "parameters": parent(kind), "get": list });
    // The id stands in the body there.
    if ![Kind::PluginMetadata, Kind::Secret].contains(&kind) {
        all["put"] = write(kind, "put_by_body", "Creates or replaces the one that the body names.");
    }
    if !lacks(kind, "POST") {
        all["post"] = write(kind, "create", "Creates one under an id of the store's choice.");
    }
    all
}

fn single(kind: Kind) -> Value {
    let mut delete =
        operation(kind, "delete", "Deletes it, if nothing refers to it.", &[200, 404, 409, 412]);
    succeeds(&mut delete, "deleted");
    let mut get = operation(kind, "get", "The resource.", &[200, 404]);
    succeeds(&mut get, "entry");
    let mut parameters = writes();
    parameters.push(parameter("force", "query", "boolean", "Deletes it all the same.", false));
    delete["parameters"] = parameters.into();
    let mut all = json!({
        "parameters": place(kind),
        "get": get,
        "put": write(kind, "put", "Creates or replaces it."),
        "delete": delete,
    });
    if !lacks(kind, "PATCH") {
        let mut patch = write(kind, "patch", "Merges the body into it (RFC 7396).");
        patch["requestBody"]["content"]["application/json"]["schema"] = json!({ "type": "object" });
        patch["responses"]["404"] = failure("There is none.");
        all["patch"] = patch;
    }
    all
}

fn write(kind: Kind, verb: &str, doc: &str) -> Value {
    let mut write = operation(kind, verb, doc, &[200, 201, 409, 412]);
    succeeds(&mut write, "written");
    if kind.owner().is_some() {
        write["responses"]["404"] = failure("What it lies below is not there.");
    }
    write["parameters"] = writes().into();
    write["requestBody"] = body(json!({ "$ref": format!("#/components/schemas/{}", kind.name()) }));
    write
}

/// What every write can be asked for.
fn writes() -> Vec<Value> {
    vec![
        json!({ "name": "wait", "in": "query", "required": false,
            "schema": { "type": "string", "enum": ["applied"] },
            "description": "Answers when every live node serves it, or 504 with those that lag." }),
        json!({ "name": "timeout", "in": "query", "required": false,
            "schema": { "type": "number", "minimum": 0, "maximum": 300 },
            "description": "How many seconds to wait at most." }),
        json!({ "name": "If-Match", "in": "header", "required": false,
            "schema": { "type": "string", "pattern": "^([0-9]{1,18}|\\*)$" },
            "description": "The modifiedIndex that it must have, or * for any." }),
    ]
}

fn others() -> Map<String, Value> {
    let path = |name: &str| format!("/apisix/admin/{name}");
    let plain = |id: &str, doc: &str, statuses: &[u16]| json!({ "operationId": id, "summary": doc, "responses": responses(statuses) });
    let named = |name: &str| json!([{ "name": name, "in": "path", "required": true, "schema": { "type": "string" } }]);
    let mut transaction = plain(
        "transaction",
        "Checks several writes together and carries them out together, or none of them.",
        &[200, 409, 412, 413],
    );
    let mut parameters = writes();
    parameters.truncate(2);
    parameters.push(parameter(
        "dry_run",
        "query",
        "boolean",
        "Tells what would change, secrets hidden, and writes nothing.",
        false,
    ));
    parameters.push(parameter("force", "query", "boolean", "Deletes also what is in use.", false));
    transaction["parameters"] = parameters.into();
    transaction["requestBody"] = body(json!({ "type": "array", "minItems": 1, "maxItems": 1000,
        "items": { "$ref": "#/components/schemas/operation" } }));
    let mut validate =
        plain("validate", "Checks a body by the schema of a kind alone.", &[200, 404]);
    validate["requestBody"] = body(json!({ "type": "object" }));
    let mut reload = plain("reload", "Answers done: plugins are part of the program.", &[200]);
    reload["responses"]["200"]["content"] = json!({ "text/plain": {} });
    let configuration = json!({ "type": "object" });
    let doc = "Checks lists of resources by kind, and tells everything that is wrong in them.";
    let mut validate_configs = plain("validate_configs", doc, &[200]);
    validate_configs["requestBody"] = body(configuration.clone());
    let doc = "The configuration that was pushed last, on a node that is pushed to.";
    let pushed = plain("pushed", doc, &[200, 404]);
    let doc = "Replaces the configuration of a node that is pushed to.";
    let mut push = plain("push", doc, &[202, 204, 404]);
    push["parameters"] = json!([{ "name": "X-Digest", "in": "header", "required": true,
        "schema": { "type": "string" }, "description": "The client's name for what it sends." }]);
    push["requestBody"] = body(configuration);
    for status in ["202", "204"] {
        push["responses"][status] = json!({ "description": "Nothing more to say." });
    }
    [
        (path("transactions"), json!({ "post": transaction })),
        (
            path("reseal"),
            json!({ "post": plain("reseal",
            "Encrypts everything at rest anew with the newest key of the keyring.", &[200]) }),
        ),
        (
            path("plugins/list"),
            json!({ "get": plain("plugin_names",
            "Names of the plugins that may be used, in order of execution.", &[200]) }),
        ),
        (
            path("plugins/{name}"),
            json!({ "parameters": named("name"),
            "get": plain("plugin", "The schema of a plugin's config.", &[200, 404]) }),
        ),
        (
            path("schema/{name}"),
            json!({ "parameters": named("name"),
            "get": plain("schema", "The schema of a kind.", &[200]) }),
        ),
        (path("schema/validate/{name}"), json!({ "parameters": named("name"), "post": validate })),
        (path("plugins/reload"), json!({ "put": reload })),
        (path("configs/validate"), json!({ "post": validate_configs })),
        (path("configs"), json!({ "get": pushed, "put": push })),
        (path("openapi.json"), json!({ "get": plain("openapi", "This document.", &[200]) })),
    ]
    .into_iter()
    .collect()
}

/// An operation of a transaction.
fn operation_schema() -> Value {
    let key = json!({ "type": "string", "examples": ["routes/1"] });
    let condition = json!({ "oneOf": [{ "type": "integer" }, { "const": "*" }] });
    json!({ "oneOf": [
        { "type": "object", "additionalProperties": false, "required": ["put", "value"],
          "properties": { "put": key, "value": { "type": "object" }, "if_match": condition } },
        { "type": "object", "additionalProperties": false, "required": ["delete"],
          "properties": { "delete": key, "if_match": condition } },
    ] })
}

fn operation(kind: Kind, verb: &str, doc: &str, statuses: &[u16]) -> Value {
    json!({
        "operationId": format!("{}_{verb}", kind.name()),
        "tags": [kind.noun()],
        "summary": doc,
        "responses": responses(statuses),
    })
}

fn parameter(name: &str, place: &str, kind: &str, doc: &str, required: bool) -> Value {
    json!({ "name": name, "in": place, "required": required, "schema": { "type": kind },
        "description": doc })
}

fn body(schema: Value) -> Value {
    json!({ "required": true, "content": { "application/json": { "schema": schema } } })
}

/// `statuses`, and what every operation may answer.
fn responses(statuses: &[u16]) -> Value {
    let mut all = Map::new();
    for status in statuses {
        let doc = match status {
            201 => "Created.",
            404 => "There is none.",
            202 => "Taken over.",
            204 => "The same digest as before: nothing was looked at.",
            409 => "Others changed it meanwhile.",
            412 => "If-Match does not hold.",
            413 => "More than the store takes at once.",
            _ => "Done.",
        };
        let is_good = *status < 300;
        all.insert(status.to_string(), if is_good { answer(doc) } else { failure(doc) });
    }
    for (status, doc) in [
        (
            "400",
            "What was sent cannot be used; error_msg names field, value and what was expected.",
        ),
        ("401", "No key, a wrong one, or one that only reads."),
        ("405", "This kind has no such method, or the store takes no writes."),
        ("429", "Too many failed logins from there."),
        ("503", "The store does not answer."),
        ("504", "Written, but some nodes have not applied it."),
    ] {
        all.insert(status.to_owned(), failure(doc));
    }
    all.into()
}

/// Says what an operation that succeeds answers.
fn succeeds(operation: &mut Value, shape: &str) {
    for status in ["200", "201"] {
        if let Some(response) = operation["responses"].get_mut(status) {
            response["content"]["application/json"] = shaped(shape);
        }
    }
}

fn failure(doc: &str) -> Value {
    // Some of APISIX's refusals are plain text.
    json!({ "description": doc,
        "content": { "application/json": shaped("failure"), "text/plain": {} } })
}

fn shaped(shape: &str) -> Value {
    json!({ "schema": { "$ref": format!("#/components/schemas/{shape}") } })
}

/// The shapes of answers.
fn shapes() -> [(&'static str, Value); 5] {
    let key = json!({ "type": "string", "examples": ["/apisix/routes/1"] });
    let revision = json!({ "type": "integer", "minimum": 1 });
    let object = |required: &[&str], properties: Value| json!({ "type": "object", "required": required, "properties": properties });
    [
        (
            "entry",
            object(
                &["key", "value", "createdIndex", "modifiedIndex"],
                json!({ "key": key, "value": {}, "createdIndex": revision, "modifiedIndex": revision }),
            ),
        ),
        (
            "list",
            object(
                &["list", "total"],
                json!({ "total": { "type": "integer", "minimum": 0 },
                    "list": { "type": "array", "items": { "$ref": "#/components/schemas/entry" } } }),
            ),
        ),
        (
            "written",
            object(&["key", "value"], json!({ "key": key, "value": { "type": "object" } })),
        ),
        (
            "deleted",
            object(&["key", "deleted"], json!({ "key": key, "deleted": { "const": "1" } })),
        ),
        (
            "failure",
            json!({ "type": "object", "anyOf": [
                { "required": ["error_msg"] }, { "required": ["message"] }],
                "properties": { "error_msg": { "type": "string" }, "message": { "type": "string" },
                    "description": { "type": "string" }, "errors": { "type": "array" } } }),
        ),
    ]
}

fn answer(doc: &str) -> Value {
    json!({ "description": doc, "content": { "application/json": {} } })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_stands_in_it_with_the_methods_that_it_has() {
        let document = document("0");
        for kind in Kind::ALL {
            let path = format!("/apisix/admin/{}", folder(kind));
            let (all, one) =
                (&document["paths"][&path], &document["paths"][format!("{path}/{{id}}")]);
            assert!(all["get"].is_object() && one["put"].is_object(), "{path}");
            assert_eq!(all["post"].is_null(), lacks(kind, "POST"), "{path}");
            assert_eq!(one["patch"].is_null(), lacks(kind, "PATCH"), "{path}");
            assert!(document["components"]["schemas"][kind.name()]["type"].is_string(), "{path}");
        }
    }

    #[test]
    fn every_reference_leads_somewhere_and_no_name_comes_twice() {
        let document = document("0");
        let mut ids = std::collections::BTreeSet::new();
        let mut left = vec![&document];
        while let Some(value) = left.pop() {
            match value {
                Value::Object(fields) => {
                    if let Some(target) = fields.get("$ref").and_then(Value::as_str) {
                        let pointer = target.trim_start_matches('#');
                        assert!(document.pointer(pointer).is_some(), "{target}");
                    }
                    if let Some(id) = fields.get("operationId") {
                        assert!(ids.insert(id.to_string()), "{id} twice");
                    }
                    left.extend(fields.values());
                }
                Value::Array(items) => left.extend(items),
                _ => {}
            }
        }
        assert!(ids.len() > 70, "{}", ids.len());
    }
}
