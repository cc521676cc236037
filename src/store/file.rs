//! The file store: standalone mode, one YAML or JSON file that is read again when it changes.
//!
//! A YAML file counts only when its last line is `#END`, so that a half-written one is never
//! taken. A file that cannot be read or parsed leaves the last good content in place.
//!
//! Source: APISIX `docs/en/latest/deployment-modes.md`, `core/config_yaml.lua`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use serde_json::Value;
use tokio::sync::mpsc;

use super::{
    Change, ConfigStore, Entry, Event, Expect, Listing, Step, StoreError, Transacted, Written,
};

/// How often the file is looked at.
const CHECK: Duration = Duration::from_secs(1);

/// The file backend.
pub struct File {
    path: PathBuf,
    current: Mutex<Listing>,
}

/// What tells that a file has changed.
type Stamp = (SystemTime, u64, u64);

// === impl File ===

impl File {
    /// The backend over `path`, which ends in `.yaml` or `.json`.
    pub fn new(path: &Path) -> Arc<Self> {
        Arc::new(Self { path: path.to_owned(), current: Mutex::default() })
    }

    fn read_only(&self) -> StoreError {
        StoreError::ReadOnly { backend: "file", place: self.path.display().to_string() }
    }

    fn current(&self) -> Listing {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn stamp(&self) -> Option<Stamp> {
        use std::os::unix::fs::MetadataExt as _;
        let metadata = std::fs::metadata(&self.path).ok()?;
        Some((metadata.modified().ok()?, metadata.len(), metadata.ino()))
    }

    /// Reads the file; entries that are as before keep their revisions.
    fn reload(&self) -> Result<Event, StoreError> {
        let mut fresh = read(&self.path)?;
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let revision = current.revision + 1;
        let old: BTreeMap<&str, &Entry> =
            current.entries.iter().map(|entry| (&*entry.key, entry)).collect();
        for entry in &mut fresh.entries {
            match old.get(&*entry.key) {
                Some(old) if old.value == entry.value => {
                    entry.create_revision = old.create_revision;
                    entry.mod_revision = old.mod_revision;
                }
                Some(old) => {
                    entry.create_revision = old.create_revision;
                    entry.mod_revision = revision;
                }
                None => (entry.create_revision, entry.mod_revision) = (revision, revision),
            }
        }
        fresh.revision = revision;
        let old = std::mem::replace(&mut *current, fresh.clone()).entries;
        if fresh.entries.is_empty() && !old.is_empty() {
            // An empty file is a wish, where an empty listing of a server could be a fault.
            let changes = old.into_iter().map(|entry| Change::Delete { key: entry.key });
            return Ok(Event::Changed { revision, changes: changes.collect() });
        }
        Ok(Event::Loaded(fresh))
    }
}

/// Reads a standalone file into entries.
///
/// # Errors
/// [`StoreError::Broken`] with the file, the place in it and the reason.
pub fn read(path: &Path) -> Result<Listing, StoreError> {
    let broken = |reason: String| StoreError::Broken {
        backend: "file",
        reason: format!("{}: {reason}", path.display()),
    };
    let text = std::fs::read_to_string(path).map_err(|error| broken(error.to_string()))?;
    let is_json = path.extension().is_some_and(|extension| extension == "json");
    let content: Value = if is_json {
        serde_json::from_str(&text).map_err(|error| broken(error.to_string()))?
    } else {
        let last = text.trim_end().lines().last().unwrap_or_default();
        if last.trim() != "#END" {
            return Err(broken("expected #END as its last line".to_owned()));
        }
        // A snippet of the text could show a key.
        let options = serde_saphyr::options! { with_snippet: false };
        serde_saphyr::from_str_with_options(&text, options)
            .map_err(|error| broken(error.to_string()))?
    };
    let content = match content {
        Value::Object(content) => content,
        Value::Null => serde_json::Map::new(),
        _ => {
            return Err(broken("expected an object of lists of resources".to_owned()));
        }
    };
    let mut listing = Listing { revision: 1, entries: Vec::new() };
    for (dir, items) in content {
        let items = match items {
            Value::Array(items) => items,
            _ => continue, // `plugins` may be null, versions are numbers.
        };
        for (index, mut item) in items.into_iter().enumerate() {
            substitute(&mut item).map_err(|reason| broken(format!("{dir}[{index}]: {reason}")))?;
            let id = id(&dir, &item, index);
            let text = item.to_string();
            listing.entries.push(Entry {
                key: format!("{dir}/{id}").into(),
                value: Bytes::from(text),
                create_revision: 1,
                mod_revision: 1,
            });
        }
    }
    listing.entries.sort_by(|a, b| a.key.cmp(&b.key));
    Ok(listing)
}

/// The id of the item at `index` of the list of `dir`.
pub fn id(dir: &str, item: &Value, index: usize) -> String {
    // A credential stands among the consumers, with its whole path as its id.
    let is_consumer = dir == "consumers" && !item["username"].is_null();
    match &item[if is_consumer { "username" } else { "id" }] {
        Value::String(id) => id.clone(),
        Value::Number(id) => id.to_string(),
        // As APISIX names them.
        _ => format!("arr_{}", index + 1),
    }
}

/// Puts environment variables in place of `${{NAME}}` and `${{NAME:=default}}`. What then reads as
/// a number or a truth value is one.
fn substitute(value: &mut Value) -> Result<(), String> {
    match value {
        Value::String(text) => {
            let (mut from, mut is_changed) = (0, false);
            while let Some(start) = text[from..].find("${{").map(|at| from + at) {
                let Some(length) = text[start..].find("}}") else {
                    return Ok(());
                };
                let inner = &text[start + 3..start + length];
                let (name, default) = match inner.split_once(":=") {
                    Some((name, default)) => (name.trim(), Some(default.trim().to_owned())),
                    None => (inner.trim(), None),
                };
                let found = std::env::var(name).ok().or(default);
                let found =
                    found.ok_or_else(|| format!("environment variable {name} is not set"))?;
                text.replace_range(start..start + length + 2, &found);
                // A value may look like a variable itself; it is text.
                from = start + found.len();
                is_changed = true;
            }
            if is_changed
                && let Ok(scalar @ (Value::Number(_) | Value::Bool(_))) = serde_json::from_str(text)
            {
                *value = scalar;
            }
            Ok(())
        }
        Value::Array(items) => items.iter_mut().try_for_each(substitute),
        Value::Object(fields) => fields.values_mut().try_for_each(substitute),
        _ => Ok(()),
    }
}

#[async_trait]
impl ConfigStore for File {
    async fn get(&self, key: &str) -> Result<Option<Entry>, StoreError> {
        let entries = self.current().entries;
        Ok(entries.into_iter().find(|entry| *entry.key == *key))
    }

    async fn list(&self, prefix: &str) -> Result<Listing, StoreError> {
        let mut listing = self.current();
        listing.entries.retain(|entry| entry.key.starts_with(prefix));
        Ok(listing)
    }

    async fn put(
        &self,
        _: &str,
        _: Bytes,
        _: Expect,
        _: Option<i64>,
    ) -> Result<Written, StoreError> {
        Err(self.read_only())
    }

    async fn delete(&self, _: &str, _: Expect) -> Result<Written, StoreError> {
        Err(self.read_only())
    }

    async fn transact(&self, _: Vec<Step>) -> Result<Transacted, StoreError> {
        Err(self.read_only())
    }

    async fn next_revision(&self) -> Result<i64, StoreError> {
        Err(self.read_only())
    }

    fn watch(self: Arc<Self>) -> mpsc::Receiver<Event> {
        let (events, receiver) = mpsc::channel(4);
        tokio::spawn(async move {
            // The outer `None` is "not looked yet", the inner one "there is no file".
            let mut seen: Option<Option<Stamp>> = None;
            let mut check = tokio::time::interval(CHECK);
            loop {
                tokio::select! {
                    () = events.closed() => return,
                    _ = check.tick() => {}
                }
                let stamp = self.stamp();
                // What is broken or missing is told once; it is read again when it changes.
                if seen.replace(stamp) == Some(stamp) {
                    continue;
                }
                match self.reload() {
                    Ok(event) => {
                        if events.send(event).await.is_err() {
                            return;
                        }
                    }
                    Err(error) => tracing::error!(%error, "keeping the last good content"),
                }
            }
        });
        receiver
    }

    fn is_reachable(&self) -> bool {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).revision > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, content: &str) -> Result<Vec<(String, String)>, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        let listing = read(&path).map_err(|error| error.to_string())?;
        let text = |entry: Entry| {
            (entry.key.to_string(), String::from_utf8(entry.value.to_vec()).unwrap())
        };
        Ok(listing.entries.into_iter().map(text).collect())
    }

    #[test]
    fn reads_resources_from_yaml_and_json() {
        let yaml =
            "routes:\n  - id: 1\n    uri: /a\n  - uri: /b\nconsumers:\n  - username: jack\n#END\n";
        let entries = check("apisix.yaml", yaml).unwrap();
        let keys: Vec<_> = entries.iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!(keys, ["consumers/jack", "routes/1", "routes/arr_2"]);
        assert_eq!(entries[1].1, r#"{"id":1,"uri":"/a"}"#);
        let entries = check("apisix.json", r#"{"routes":[{"id":"x","uri":"/"}]}"#).unwrap();
        assert_eq!(entries[0].0, "routes/x");
    }

    #[test]
    fn takes_no_yaml_without_its_end() {
        let said = check("apisix.yaml", "routes:\n  - id: 1\n").unwrap_err();
        assert!(said.contains("#END"), "{said}");
        let said = check("apisix.yaml", "routes: [\n#END\n").unwrap_err();
        assert!(said.contains("apisix.yaml"), "{said}");
        let said = check("apisix.yaml", "consumers:\n- {key: planted\n#END\n").unwrap_err();
        assert!(said.contains("line ") && !said.contains("planted"), "{said}");
        assert!(check("apisix.json", "{").unwrap_err().contains("line 1"));
    }

    #[test]
    fn puts_environment_variables_in_place() {
        let yaml = "routes:\n  - id: ${{SLUICE_NOT_SET:=7}}\n    uri: /${{HOME}}\n#END";
        let entries = check("apisix.yaml", yaml).unwrap();
        assert!(entries[0].1.contains("/root") || !entries[0].1.contains("${{"));
        assert_eq!(entries[0].0, "routes/7");
        let said = check("apisix.yaml", "routes:\n  - uri: ${{SLUICE_NOT_SET}}\n#END").unwrap_err();
        assert!(said.contains("SLUICE_NOT_SET"), "{said}");
    }
}
