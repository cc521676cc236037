//! Files of resources: the standalone layout or ADC's, one file or a folder of them.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use serde_json::Value;

use super::adc;
use crate::resource::Kind;

/// A resource as a file has it.
pub(super) struct Wanted {
    pub(super) kind: Kind,
    /// The store key: `routes/1`.
    pub(super) key: String,
    pub(super) value: Value,
    /// For messages: the file, the list and the place in it.
    pub(super) place: String,
}

/// Reads all resources of `paths`, each a file or a folder whose `.yaml`, `.yml` and `.json` files
/// count. Everything that is wrong is told in one go.
pub(super) fn read(paths: &[PathBuf]) -> anyhow::Result<Vec<Wanted>> {
    let mut all: Vec<Wanted> = Vec::new();
    let mut wrong = Vec::new();
    for file in files(paths)? {
        read_file(&file, &mut all, &mut wrong)?;
    }
    for (at, one) in all.iter().enumerate() {
        if let Some(other) = all[..at].iter().find(|other| other.key == one.key) {
            wrong.push(format!("{}: {} stands in {} too", one.place, one.key, other.place));
        }
    }
    if !wrong.is_empty() {
        bail!("{}", wrong.join("\nsluice: "));
    }
    Ok(all)
}

fn files(paths: &[PathBuf]) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in paths {
        let metadata = std::fs::metadata(path).with_context(|| path.display().to_string())?;
        if !metadata.is_dir() {
            files.push(path.clone());
            continue;
        }
        let mut found = Vec::new();
        for entry in std::fs::read_dir(path).with_context(|| path.display().to_string())? {
            let file = entry.with_context(|| path.display().to_string())?.path();
            let is_ours = file
                .extension()
                .is_some_and(|end| ["yaml", "yml", "json"].iter().any(|known| end == *known));
            if is_ours && file.is_file() {
                found.push(file);
            }
        }
        if found.is_empty() {
            bail!("{}: no .yaml, .yml or .json file in it", path.display());
        }
        found.sort();
        files.extend(found);
    }
    Ok(files)
}

/// What lies below another kind stands among that one's, with its whole path as id:
/// `jack/credentials/1`.
fn kind_of(kind: Kind, value: &Value) -> Kind {
    let id = value["id"].as_str().unwrap_or_default();
    match kind.owned() {
        Some(owned) if value["username"].is_null() && owned.split(id).is_some() => owned,
        _ => kind,
    }
}

fn read_file(path: &Path, all: &mut Vec<Wanted>, wrong: &mut Vec<String>) -> anyhow::Result<()> {
    let name = path.display();
    let text = std::fs::read_to_string(path).with_context(|| name.to_string())?;
    // A snippet of the text could show a key.
    let options = serde_saphyr::options! { with_snippet: false };
    // JSON is YAML too.
    let content: Value = serde_saphyr::from_str_with_options(&text, options)
        .map_err(|error| anyhow::anyhow!("{name}: {error}"))?;
    let lists = match content {
        Value::Object(lists) => lists,
        Value::Null => return Ok(()),
        _ => bail!("{name}: expected an object of lists of resources, such as routes: [...]"),
    };
    for (dir, items) in lists {
        let Some(kind) = Kind::of_dir(&dir) else {
            let known: Vec<&str> = Kind::ALL.iter().map(|kind| kind.dir()).collect();
            wrong.push(format!("{name}: {dir}: expected one of {}", known.join(", ")));
            continue;
        };
        let items = match adc::told(kind, items) {
            Ok(items) => items,
            Err(said) => {
                wrong.push(format!("{name}: {dir}{said}"));
                continue;
            }
        };
        for adc::Told { kind, mut value, place } in items {
            let place = format!("{name}: {dir}{place}");
            let kind = kind_of(kind, &value);
            let field = if kind == Kind::Consumer { "username" } else { "id" };
            let id = match &value[field] {
                Value::String(id) => id.clone(),
                Value::Number(id) => id.to_string(),
                _ => {
                    wrong.push(format!("{place}: expected a field {field} that names it"));
                    continue;
                }
            };
            let key = format!("{}/{id}", kind.dir());
            if let (Some(_), Some(fields)) = (kind.owner(), value.as_object_mut()) {
                // It names the owner too, and the key does already.
                fields.remove("id");
            }
            all.push(Wanted { kind, key, value, place });
        }
    }
    Ok(())
}
