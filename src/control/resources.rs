//! Resources as they are stored, without what is secret in them; and their schemas.
//!
//! Shapes and words are those of APISIX `control/v1.lua`: metadata is told bare, other kinds with
//! their place in the store.

use http::StatusCode;
use serde_json::{Map, Value, json};

use super::{Answer, Control, not_found};
use crate::plugin::registry;
use crate::resource::{self, Kind};
use crate::store::Entry;

/// The kinds that are told of: path of the list, path of one, name in errors, kind.
const TOLD: [(&str, &str, &str, Kind); 4] = [
    ("routes", "route/", "route", Kind::Route),
    ("services", "service/", "service", Kind::Service),
    ("upstreams", "upstream/", "upstream", Kind::Upstream),
    ("plugin_metadatas", "plugin_metadata/", "plugin metadata", Kind::PluginMetadata),
];

// === impl Control ===

impl Control {
    /// A list of resources, or one.
    pub(super) async fn resource(&self, path: &str) -> Answer {
        for (list, one, name, kind) in TOLD {
            if path == list {
                return self.list(kind).await;
            }
            if let Some(id) = path.strip_prefix(one).filter(|id| !id.is_empty()) {
                return self.one(kind, name, id).await;
            }
        }
        not_found()
    }

    async fn list(&self, kind: Kind) -> Answer {
        match self.parts.store.list(&format!("{}/", kind.dir())).await {
            Ok(listing) => {
                let all = listing.entries.iter().map(|entry| self.told(kind, entry));
                (StatusCode::OK, all.collect())
            }
            Err(error) => unavailable(&error.to_string()),
        }
    }

    async fn one(&self, kind: Kind, name: &str, id: &str) -> Answer {
        match self.parts.store.get(&format!("{}/{id}", kind.dir())).await {
            Ok(Some(entry)) => (StatusCode::OK, self.told(kind, &entry)),
            Ok(None) => {
                let said = format!("{name}[{id}] not found");
                (StatusCode::NOT_FOUND, json!({ "error_msg": said }))
            }
            Err(error) => unavailable(&error.to_string()),
        }
    }

    fn told(&self, kind: Kind, entry: &Entry) -> Value {
        let mut value = resource::parse(&entry.value).unwrap_or(Value::Null);
        self.parts.compiler.lock().hide(kind, &mut value);
        // Files and other writers may leave it out; APISIX fills it in when it reads.
        if let (Some(fields), Some((_, id))) = (value.as_object_mut(), Kind::of_key(&entry.key)) {
            fields.entry("id").or_insert_with(|| id.into());
        }
        if kind == Kind::PluginMetadata {
            return value;
        }
        json!({
            "key": format!("/{}", entry.key),
            "value": value,
            "createdIndex": entry.create_revision,
            "modifiedIndex": entry.mod_revision,
        })
    }
}

fn unavailable(reason: &str) -> Answer {
    (StatusCode::SERVICE_UNAVAILABLE, json!({ "error_msg": reason }))
}

/// The schema of every resource and plugin.
pub(super) fn schemas() -> Value {
    let singular = |kind: Kind| match kind {
        Kind::PluginMetadata => kind.dir(),
        kind => kind.name().trim_end_matches('s'),
    };
    let main: Map<String, Value> = Kind::ALL
        .into_iter()
        .map(|kind| (singular(kind).to_owned(), resource::schema(kind).clone()))
        .collect();
    let plugins: Map<String, Value> = registry::entries()
        .iter()
        .map(|entry| {
            let mut told = json!({ "priority": entry.priority, "schema": entry.schema() });
            if let Some(consumer) = &entry.consumer {
                told["consumer_schema"] = consumer.validator.schema().clone();
            }
            if let Some(metadata) = &entry.metadata {
                told["metadata_schema"] = metadata.schema().clone();
            }
            (entry.name.to_owned(), told)
        })
        .collect();
    json!({ "main": main, "plugins": plugins, "stream_plugins": {} })
}
