//! What must hold before something is written: schema, references, the dry compile; and before
//! something is deleted: that nobody uses it.
//!
//! The store is the authority on what is there: it is asked for every reference, since the
//! compiler trails it by the latency of the watch. The compiler is then waited for until it has
//! seen what the store has, so that a client may create an upstream and at once a route to it,
//! on this node or on two.

use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::Value;

use super::Admin;
use super::answer::Answer;
use super::path::own_id;
use super::read::id_text;
use crate::resource::{Invalid, Kind};
use crate::snapshot::check::references;

/// How long the compiler is waited for. It is a matter of milliseconds unless the watch is
/// broken; then a write is checked against what is known.
pub(super) const PATIENCE: Duration = Duration::from_secs(3);

impl Admin {
    /// Whether `value` may be written as `kind/id`; returns what its writer should know.
    pub(super) async fn check(
        &self,
        kind: Kind,
        id: &str,
        value: &Value,
    ) -> Result<Vec<String>, Answer> {
        self.catch_up().await;
        let invalid = |wrong: Vec<Invalid>| Answer::invalid(&wrong);
        let mut newest = 0;
        let mut missing = Vec::new();
        for target in references(kind, id, value).map_err(invalid)? {
            match self.store.get(&target.key()).await? {
                Some(entry) => newest = newest.max(entry.mod_revision),
                None => missing.push(target.missing()),
            }
        }
        if !missing.is_empty() {
            return Err(Answer::invalid(&missing));
        }
        self.compiler.reach(newest, PATIENCE).await;
        let checked = self.compiler.lock().check(kind, id, value);
        let warnings = checked.map_err(invalid)?;
        match kind {
            Kind::GlobalRule => self.check_other_rules(id, value).await?,
            Kind::CostDecoration => self.check_other_decorations(id, value).await?,
            _ => {}
        }
        Ok(warnings)
    }

    /// A plugin runs once a request, so two global rules cannot both have it.
    async fn check_other_rules(&self, id: &str, value: &Value) -> Result<(), Answer> {
        let dir = format!("{}/", Kind::GlobalRule.dir());
        for entry in self.store.list(&dir).await?.entries {
            let other = entry.key.trim_start_matches(&dir);
            let Ok(rule) = serde_json::from_slice::<Value>(&entry.value) else {
                continue;
            };
            let ours = value["plugins"].as_object().into_iter().flatten();
            let shared =
                ours.map(|(name, _)| name).find(|name| rule["plugins"].get(name).is_some());
            if let (Some(name), true) = (shared, other != id) {
                return Err(Answer::bad(format!(
                    "plugin '{name}' already exists in global rule with id '{other}'"
                )));
            }
        }
        Ok(())
    }

    /// Nothing of a service's schema is decorated twice.
    async fn check_other_decorations(&self, id: &str, value: &Value) -> Result<(), Answer> {
        let kind = Kind::CostDecoration;
        let Some((service, own)) = kind.split(id) else {
            return Ok(());
        };
        let prefix = format!("{}/{}", kind.dir(), kind.store_id(service, ""));
        for entry in self.store.list(&prefix).await?.entries {
            let other = entry.key.trim_start_matches(&prefix);
            let field: Value = serde_json::from_slice(&entry.value).unwrap_or_default();
            let path = value["field_path"].as_str();
            if let Some(path) = path.filter(|path| other != own && field["field_path"] == **path) {
                return Err(Answer::bad(format!(
                    "field_path {path} is already decorated on this service by [{other}]"
                )));
            }
        }
        Ok(())
    }

    /// Whether `kind/id` may be deleted: nobody refers to it.
    pub(super) async fn check_unused(&self, kind: Kind, id: &str) -> Result<(), Answer> {
        // Plugins do without their metadata.
        if kind == Kind::PluginMetadata {
            return Ok(());
        }
        self.catch_up().await;
        let mut users = self.compiler.lock().users_of(kind, id);
        // What lies below it goes with it.
        users.retain(|user| Kind::of_key(user).is_none_or(|(user, _)| user.owner() != Some(kind)));
        // Of several users the route is named, as in APISIX.
        let routes = format!("{}/", Kind::Route.dir());
        users.sort_by_key(|user| !user.starts_with(&routes));
        for user in users {
            let Some(entry) = self.store.get(&user).await? else {
                continue;
            };
            self.compiler.reach(entry.mod_revision, PATIENCE).await;
            let still = self.compiler.lock().users_of(kind, id).contains(&user);
            if let (true, Some((user, user_id))) = (still, Kind::of_key(&user)) {
                let this = match kind {
                    Kind::Service => "service directly",
                    Kind::StreamRoute => {
                        return Err(Answer::bad(format!(
                            "can not delete this stream route directly, stream route [{user_id}] \
                             is still using it as superior_id"
                        )));
                    }
                    _ => kind.noun(),
                };
                let value: Value = serde_json::from_slice(&entry.value).unwrap_or_default();
                let by_plugin = kind == Kind::Upstream && id_text(&value["upstream_id"]) != id;
                let user = match user {
                    // In APISIX's words, the plural with them.
                    Kind::GlobalRule if by_plugin => "global_rules".to_owned(),
                    user => user.noun().replace(' ', "_"),
                };
                let by = if by_plugin { "plugin in " } else { "" };
                return Err(Answer::bad(format!(
                    "can not delete this {this}, {by}{user} [{user_id}] is still using it now"
                )));
            }
        }
        Ok(())
    }

    /// Waits until the compiler has seen this node's own last write.
    pub(super) async fn catch_up(&self) {
        let revision = self.written.load(Ordering::Relaxed);
        if !self.compiler.reach(revision, PATIENCE).await {
            // A restored store may never come to that revision: waited for once, not for ever.
            let _ =
                self.written.compare_exchange(revision, 0, Ordering::Relaxed, Ordering::Relaxed);
            tracing::warn!(
                revision,
                "the store's watch is behind: a write is checked against what is known"
            );
        }
    }
}

/// # Errors
/// 400: `value` has times that only the Admin API may set, at its top, in its upstream or, as
/// APISIX looks there too, in its plugins.
pub(super) fn refuse_times(value: &Value) -> Result<(), Answer> {
    for (holder, prefix) in [
        (Some(value), ""),
        (value.get("upstream"), "upstream."),
        (value.get("plugins"), "plugins."),
    ] {
        for time in ["create_time", "update_time"] {
            if holder.is_some_and(|holder| holder.get(time).is_some()) {
                // Two spaces, as in APISIX.
                return Err(Answer::bad(format!("the property is forbidden:  {prefix}{time}")));
            }
        }
    }
    Ok(())
}

/// # Errors
/// 400: the body's `id` is another than the path's.
pub(super) fn same_id(kind: Kind, id: &str, value: &Value) -> Result<(), Answer> {
    match value.get("id") {
        Some(written) if id_text(written) != own_id(kind, id) => {
            Err(Answer::bad(format!("wrong {} id", kind.noun())))
        }
        _ => Ok(()),
    }
}
