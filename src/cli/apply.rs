//! `apply` and `diff`: resources as files want them, by transactions of the Admin API.

use std::collections::HashSet;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::bail;
use reqwest::Method;
use serde_json::{Value, json};

use super::files::{self, Wanted as Resource};
use super::remote::{Remote, Server, block_on, failure};
use super::{Form, get, print, say};
use crate::resource::Kind;

/// Changes that go into one transaction, and their length: what etcd takes with its usual settings,
/// a version of each included.
const BATCH: usize = 100;
const BATCH_BYTES: usize = 500_000;

/// What is to be there.
#[derive(clap::Args)]
pub(super) struct Wanted {
    /// A file of resources (`routes: [...]`, `upstreams: [...]`), or a folder of such files.
    #[arg(short = 'f', long = "file", required = true, value_name = "PATH")]
    files: Vec<PathBuf>,
    /// Deletes what has the label and stands in no file.
    #[arg(long, requires = "label")]
    prune: bool,
    /// The label that --prune goes by: name=value, or a name alone.
    #[arg(short, long, value_name = "LABEL")]
    label: Option<String>,
}

/// An operation of a transaction, and where it comes from.
struct Planned {
    operation: Value,
    place: String,
}

/// What the gateway says of a plan.
struct Preview {
    planned: Vec<Planned>,
    /// Of those operations that would change something.
    changes: Vec<Value>,
}

/// Brings the gateway to what the files say.
pub(super) fn apply(
    server: &Server,
    config: &Path,
    wanted: &Wanted,
    wait: bool,
) -> anyhow::Result<()> {
    let resources = files::read(&wanted.files)?;
    let remote = server.remote(config)?;
    block_on(async {
        let preview = preview(&remote, wanted, resources).await?;
        let count = preview.changes.len();
        let operation = |change: &Value| {
            let at = change["index"].as_u64().and_then(|at| usize::try_from(at).ok());
            let mut operation = preview.planned.get(at?)?.operation.clone();
            // What somebody else changes meanwhile has not been looked at.
            if change["modifiedIndex"].is_i64() {
                operation["if_match"] = change["modifiedIndex"].clone();
            }
            Some(operation)
        };
        let operations: Vec<Value> = preview.changes.iter().filter_map(operation).collect();
        let batches = batches(operations);
        let mut so_far = 0;
        for (number, batch) in batches.iter().enumerate() {
            // Waiting for the last is waiting for all.
            let is_last = number + 1 == batches.len();
            let query = if wait && is_last { "?wait=applied&timeout=60" } else { "" };
            let body = Value::from(batch.as_slice());
            let sent =
                remote.call(Method::POST, &format!("transactions{query}"), Some(&body)).await?;
            if sent.0 != 200 {
                let error = failure(sent.0, &sent.1);
                if number > 0 {
                    return Err(error.context(format!("stopped after {so_far} of {count} changes")));
                }
                return Err(error);
            }
            so_far += batch.len();
            for change in sent.1["changes"].as_array().into_iter().flatten() {
                let key = change["key"].as_str().unwrap_or_default();
                let key = key.trim_start_matches("/apisix/");
                say(&format!("{key}: {}", change["change"].as_str().unwrap_or_default()))?;
            }
        }
        let same = preview.planned.len() - count;
        let how = match batches.len() {
            0 | 1 => String::new(),
            many => format!(" in {many} transactions"),
        };
        say(&format!("{count} changed{how}, {same} as they were"))
    })
}

/// Parts of `operations` that fit into a transaction each.
fn batches(operations: Vec<Value>) -> Vec<Vec<Value>> {
    let mut batches: Vec<Vec<Value>> = Vec::new();
    let mut left = 0;
    for operation in operations {
        let bytes = operation.to_string().len();
        match batches.last_mut().filter(|batch| batch.len() < BATCH && bytes <= left) {
            Some(batch) => {
                left -= bytes;
                batch.push(operation);
            }
            None => {
                left = BATCH_BYTES.saturating_sub(bytes);
                batches.push(vec![operation]);
            }
        }
    }
    batches
}

/// Tells what apply would do, and how many resources it would change.
pub(super) fn diff(
    server: &Server,
    config: &Path,
    wanted: &Wanted,
    form: Form,
) -> anyhow::Result<usize> {
    let resources = files::read(&wanted.files)?;
    let remote = server.remote(config)?;
    let preview = block_on(preview(&remote, wanted, resources))?;
    let count = preview.changes.len();
    if form != Form::Table {
        print(&preview.changes.into(), form)?;
        return Ok(count);
    }
    for change in &preview.changes {
        let key = change["key"].as_str().unwrap_or_default().trim_start_matches("/apisix/");
        let sign = match change["change"].as_str() {
            Some("created") => '+',
            Some("deleted") => '-',
            _ => '~',
        };
        say(&format!("{sign} {key}"))?;
        if sign == '~' {
            differences("", &change["before"], &change["after"], &mut |line| say(&line))?;
        }
    }
    say(&format!("{count} would change, {} are as wanted", preview.planned.len() - count))?;
    Ok(count)
}

/// Asks the gateway what the files would change; a refusal names file and place.
async fn preview(
    remote: &Remote,
    wanted: &Wanted,
    resources: Vec<Resource>,
) -> anyhow::Result<Preview> {
    let mut planned = plan(resources);
    if wanted.prune {
        let kept: HashSet<String> = planned
            .iter()
            .filter_map(|one| one.operation["put"].as_str().map(str::to_owned))
            .collect();
        let label = wanted.label.as_deref().unwrap_or_default();
        planned.extend(pruned(remote, label, &kept).await?);
    }
    if planned.is_empty() {
        return Ok(Preview { planned, changes: Vec::new() });
    }
    let body: Value = planned.iter().map(|one| one.operation.clone()).collect();
    let (status, answer) =
        remote.call(Method::POST, "transactions?dry_run=true", Some(&body)).await?;
    if status == 200 {
        let all = answer["changes"].as_array().cloned().unwrap_or_default();
        let changes = all.into_iter().filter(|change| change["change"] != "unchanged").collect();
        return Ok(Preview { planned, changes });
    }
    let Some(errors) = answer["errors"].as_array() else {
        return Err(failure(status, &answer));
    };
    for error in errors {
        let at = error["index"].as_u64().and_then(|at| usize::try_from(at).ok());
        let place = at.and_then(|at| planned.get(at)).map_or("", |one| one.place.as_str());
        let said = error["message"].as_str().unwrap_or_default();
        let key = error["key"].as_str().unwrap_or_default();
        // Nobody may be reading; the exit code says it too.
        let _ = writeln!(std::io::stderr(), "{place}: {key}: {said}");
    }
    bail!("{} of it cannot be applied; nothing is changed", errors.len())
}

/// Puts, what is referred to first: they may go in several transactions.
fn plan(mut resources: Vec<Resource>) -> Vec<Planned> {
    let rank = |kind: Kind| Kind::ALL.iter().position(|one| *one == kind);
    resources.sort_by_key(|resource| rank(resource.kind));
    let put = |resource: Resource| Planned {
        operation: json!({ "put": resource.key, "value": resource.value }),
        place: resource.place,
    };
    resources.into_iter().map(put).collect()
}

/// Deletions of what has the label and is not wanted, who refers to others first.
async fn pruned(
    remote: &Remote,
    label: &str,
    kept: &HashSet<String>,
) -> anyhow::Result<Vec<Planned>> {
    let (name, value) = match label.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (label, None),
    };
    let mut all = Vec::new();
    for kind in Kind::ALL.into_iter().rev() {
        for (id, resource) in get::written(remote, kind).await? {
            let found = resource["labels"].get(name).and_then(Value::as_str);
            let key = format!("{}/{id}", kind.dir());
            let has_it = found.is_some_and(|found| value.is_none_or(|value| value == found));
            if has_it && !kept.contains(&key) {
                let place = "--prune".to_owned();
                all.push(Planned { operation: json!({ "delete": key }), place });
            }
        }
    }
    Ok(all)
}

/// The places at which two values differ, a line each.
fn differences(
    path: &str,
    before: &Value,
    after: &Value,
    tell: &mut dyn FnMut(String) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    if before == after {
        return Ok(());
    }
    if let (Value::Object(old), Value::Object(new)) = (before, after) {
        let mut names: Vec<&String> = old.keys().chain(new.keys()).collect();
        names.sort();
        names.dedup();
        for name in names {
            let path = format!("{path}/{name}");
            let at = |fields: &serde_json::Map<String, Value>| fields.get(name).cloned();
            let (old, new) = (at(old).unwrap_or_default(), at(new).unwrap_or_default());
            differences(&path, &old, &new, tell)?;
        }
        return Ok(());
    }
    let shown = |value: &Value| match value {
        Value::Null => "(nothing)".to_owned(),
        other => other.to_string(),
    };
    tell(format!("    {path}: {} -> {}", shown(before), shown(after)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn puts_into_a_transaction_what_fits() {
        let sizes = |lengths: &[usize]| {
            let operations = lengths.iter().map(|length| "x".repeat(*length).into()).collect();
            batches(operations).iter().map(Vec::len).collect::<Vec<_>>()
        };
        assert!(sizes(&[]).is_empty());
        assert_eq!(sizes(&[1; 230]), [100, 100, 30]);
        assert_eq!(sizes(&[200_000, 200_000, 200_000, 900_000, 1]), [2, 1, 1, 1]);
    }
}
