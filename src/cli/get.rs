//! `get`, `dump` and `reseal`: what a running gateway has, for people and for scripts.

use std::io::Write as _;
use std::path::Path;

use anyhow::bail;
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::remote::{Remote, Server, block_on, failure};
use super::{Form, print, say};
use crate::resource::Kind;

/// Shows one resource, or all of a kind.
pub(super) fn get(
    server: &Server,
    config: &Path,
    kind: &str,
    id: Option<&str>,
    form: Form,
) -> anyhow::Result<()> {
    let kind = kind_named(kind)?;
    let remote = server.remote(config)?;
    let path = match id {
        Some(id) => format!("{}/{id}", kind.dir()),
        None if kind.owner().is_some() => {
            let all = block_on(entries(&remote, kind))?;
            return if form == Form::Table {
                table(kind, &all)
            } else {
                print(&all.iter().map(|entry| entry["value"].clone()).collect(), form)
            };
        }
        None => kind.dir().to_owned(),
    };
    let (status, body) = block_on(remote.call(Method::GET, &path, None))?;
    if status == 404 {
        bail!("{path}: there is no such resource");
    }
    if status != 200 {
        return Err(failure(status, &body));
    }
    if form != Form::Table {
        let entries = body["list"].as_array();
        let all = entries.map(|list| list.iter().map(|entry| entry["value"].clone()).collect());
        return print(&all.unwrap_or_else(|| body["value"].clone()), form);
    }
    let entries = match body["list"].as_array() {
        Some(list) => list.clone(),
        None => vec![body],
    };
    table(kind, &entries)
}

/// `routes` and `route` name the same kind.
fn kind_named(name: &str) -> anyhow::Result<Kind> {
    let is_named = |kind: &Kind| kind.name() == name || kind.name().trim_end_matches('s') == name;
    match Kind::ALL.into_iter().find(is_named) {
        Some(kind) => Ok(kind),
        None => {
            let all: Vec<&str> = Kind::ALL.iter().map(|kind| kind.name()).collect();
            bail!("expected one of {}, got {name}", all.join(", "))
        }
    }
}

fn table(kind: Kind, entries: &[Value]) -> anyhow::Result<()> {
    let mut rows = vec![["ID", "NAME", "WHAT", "LABELS", "REVISION"].map(str::to_owned)];
    for entry in entries {
        let value = &entry["value"];
        rows.push([
            id(kind, entry),
            value["name"].as_str().unwrap_or("-").to_owned(),
            gist(kind, value),
            labels(value),
            entry["modifiedIndex"].to_string(),
        ]);
    }
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: Vec<usize> = (0..4).map(|column| width(column).unwrap_or_default()).collect();
    for row in &rows {
        let [id, name, what, labels, revision] = row;
        let (a, b, c, d) = (widths[0], widths[1], widths[2], widths[3]);
        say(&format!("{id:a$}  {name:b$}  {what:c$}  {labels:d$}  {revision}"))?;
    }
    Ok(())
}

/// The id of an entry of the Admin API: what follows the kind in its key.
fn id(kind: Kind, entry: &Value) -> String {
    let key = entry["key"].as_str().unwrap_or_default();
    let start = format!("/apisix/{}/", kind.dir());
    key.strip_prefix(&start).unwrap_or(key).to_owned()
}

/// What a person looks for in a resource, in a few words.
fn gist(kind: Kind, value: &Value) -> String {
    let list = |names: &[&str]| {
        let all = names.iter().flat_map(|name| match &value[*name] {
            Value::String(text) => vec![text.clone()],
            Value::Array(items) => {
                items.iter().filter_map(Value::as_str).map(str::to_owned).collect()
            }
            Value::Object(fields) => fields.keys().cloned().collect(),
            _ => Vec::new(),
        });
        all.collect::<Vec<_>>().join(",")
    };
    let nodes = |upstream: &Value| match &upstream["nodes"] {
        Value::Object(nodes) => nodes.keys().cloned().collect::<Vec<_>>().join(","),
        Value::Array(nodes) => {
            let node = |node: &Value| {
                format!("{}:{}", node["host"].as_str().unwrap_or_default(), node["port"])
            };
            nodes.iter().map(node).collect::<Vec<_>>().join(",")
        }
        _ => String::new(),
    };
    let to = |value: &Value| {
        let by = ["upstream_id", "service_id"].iter().find_map(|name| {
            let id = &value[*name];
            let text = id.as_str().map_or_else(|| id.to_string(), str::to_owned);
            (!id.is_null()).then(|| format!("{}/{text}", name.replace("_id", "s")))
        });
        by.unwrap_or_else(|| nodes(&value["upstream"]))
    };
    let what = match kind {
        Kind::Route => {
            let hosts = list(&["host", "hosts"]);
            format!("{hosts}{} -> {}", list(&["uri", "uris"]), to(value))
        }
        Kind::Upstream => nodes(value),
        Kind::Service => to(value),
        Kind::Ssl => list(&["sni", "snis"]),
        Kind::Secret => list(&["uri"]),
        _ => list(&["plugins"]),
    };
    const LONGEST: usize = 60;
    match what.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &what[..end]),
        None => what,
    }
}

fn labels(value: &Value) -> String {
    let pairs = value["labels"].as_object().into_iter().flatten();
    let pair = |(name, value): (&String, &Value)| {
        format!("{name}={}", value.as_str().map_or_else(|| value.to_string(), str::to_owned))
    };
    let all: Vec<String> = pairs.map(pair).collect();
    if all.is_empty() { "-".to_owned() } else { all.join(",") }
}

/// Every entry of `kind`, as the Admin API lists them.
async fn entries(remote: &Remote, kind: Kind) -> anyhow::Result<Vec<Value>> {
    let list = async |path: &str| {
        let (status, mut body) = remote.call(Method::GET, path, None).await?;
        // Of what lies below another resource there may be none at all.
        if ![200, 404].contains(&status) {
            return Err(failure(status, &body));
        }
        anyhow::Ok(match body["list"].take() {
            Value::Array(entries) => entries,
            _ => Vec::new(),
        })
    };
    let entries = list(kind.dir()).await?;
    let Some(owner) = kind.owner() else {
        return Ok(entries);
    };
    // Those are what they lie below.
    let mut all = Vec::new();
    for entry in &entries {
        all.extend(list(&format!("{}/{}/{}", kind.dir(), id(owner, entry), kind.name())).await?);
    }
    Ok(all)
}

/// Every resource of `kind`: its id, and its value as one writes it.
pub(super) async fn written(remote: &Remote, kind: Kind) -> anyhow::Result<Vec<(String, Value)>> {
    let entries = entries(remote, kind).await?;
    let one = |entry: &Value| {
        let id = id(kind, entry);
        let mut value = entry["value"].clone();
        if let Some(fields) = value.as_object_mut() {
            fields.remove("create_time");
            fields.remove("update_time");
            if kind != Kind::Consumer {
                fields.insert("id".to_owned(), json!(id));
            }
        }
        (id, value)
    };
    Ok(entries.iter().map(one).collect())
}

/// Prints everything in the layout of a standalone file.
pub(super) fn dump(server: &Server, config: &Path, form: Form) -> anyhow::Result<()> {
    let remote = server.remote(config)?;
    let all = block_on(async {
        let mut all = Map::new();
        for kind in Kind::ALL {
            // Credentials stand among the consumers.
            let listed = all.entry(kind.dir()).or_insert_with(|| json!([]));
            if let Value::Array(listed) = listed {
                listed.extend(written(&remote, kind).await?.into_iter().map(|(_, value)| value));
            }
        }
        all.retain(|_, list| list.as_array().is_some_and(|list| !list.is_empty()));
        Ok(all)
    })?;
    for ssl in all.get(Kind::Ssl.dir()).and_then(Value::as_array).into_iter().flatten() {
        if ssl["key"].is_null() {
            let id = ssl["id"].as_str().unwrap_or_default();
            // Nobody may be reading.
            let _ = writeln!(
                std::io::stderr(),
                "sluice: ssls/{id}: no Admin API shows its private key; the dump is without it"
            );
        }
    }
    print(&all.into(), form)?;
    if form == Form::Yaml { say("#END") } else { Ok(()) }
}

/// Has everything in the store encrypted anew.
pub(super) fn reseal(server: &Server, config: &Path) -> anyhow::Result<()> {
    let remote = server.remote(config)?;
    let body = block_on(remote.done(Method::POST, "reseal", None))?;
    say(&format!("encrypted anew: {}", body["resealed"]))?;
    let named = |name: &str| {
        let keys = body[name].as_array().into_iter().flatten().filter_map(Value::as_str);
        keys.collect::<Vec<_>>().join(", ")
    };
    let (unreadable, overtaken) = (named("unreadable"), named("overtaken"));
    if !unreadable.is_empty() {
        bail!(
            "no key of the keyring opens everything in {unreadable}: keep the old keys, or write these anew"
        );
    }
    if !overtaken.is_empty() {
        bail!("{overtaken}: written by others meanwhile; run it again");
    }
    Ok(())
}
