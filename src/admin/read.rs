//! Reading: one resource, or a list with filters and pages.
//!
//! Source: APISIX `admin/resource.lua`, `admin/v3_adapter.lua`.

use regex::Regex;
use serde_json::{Value, json};

use super::answer::{Answer, Answered, full_key};
use super::path::Place;
use super::request::Args;
use super::{Admin, Call, Role};
use crate::resource::Kind;
use crate::store::Entry;

/// What a page may hold.
const PAGE_SIZES: std::ops::RangeInclusive<usize> = 10..=500;

/// Which resources a list shows.
struct Filter<'a> {
    name: Option<Regex>,
    uri: Option<Regex>,
    label: Option<&'a str>,
    /// Fields that must have these values.
    fields: Vec<(String, String)>,
}

impl Admin {
    /// The resource at `place`, or all of its kind.
    pub(super) async fn get(&self, place: &Place, call: &Call<'_>) -> Answered {
        let Some(id) = &place.id else {
            return self.list(place, call).await;
        };
        let key = format!("{}/{id}", place.kind.dir());
        let entry = self.store.get(&key).await?.ok_or_else(Answer::key_not_found)?;
        Ok(Answer::json(self.shown(place.kind, &entry, call.role)))
    }

    async fn list(&self, place: &Place, call: &Call<'_>) -> Answered {
        let args = call.args;
        let filter = Filter::of(place.kind, args)?;
        let page = page(args)?;
        let mut entries = self.store.list(&place.prefix()).await?.entries;
        // What lies below a resource, such as a consumer's credentials, is of another kind.
        let is_one = |kind: Kind| kind == place.kind;
        entries.retain(|entry| Kind::of_key(&entry.key).is_some_and(|(kind, _)| is_one(kind)));
        if let (Some(_), Some(parent), true) =
            (place.kind.owner(), &place.parent, entries.is_empty())
        {
            // As in APISIX, where nothing is stored below it.
            if place.kind == Kind::CostDecoration || !self.has_owner(place.kind, parent).await? {
                return Err(Answer::key_not_found());
            }
        }
        if page.is_some() {
            entries.sort_by_key(|entry| entry.create_revision);
        }
        if !filter.admits_all() {
            entries.retain(|entry| {
                let value: Value = serde_json::from_slice(&entry.value).unwrap_or_default();
                filter.admits(&value)
            });
        }
        let total = entries.len();
        if let Some((page, size)) = page {
            let from = (page - 1).saturating_mul(size).min(total);
            entries.truncate(from.saturating_add(size));
            entries.drain(..from);
        }
        // Decoded and decrypted is only what is shown.
        let list: Vec<Value> =
            entries.iter().map(|entry| self.shown(place.kind, entry, call.role)).collect();
        Ok(Answer::json(json!({ "list": list, "total": total })))
    }

    /// Whether that is there which things of `kind` at this place lie below.
    pub(super) async fn has_owner(&self, kind: Kind, id: &str) -> Result<bool, Answer> {
        let dir = kind.dir();
        Ok(self.store.get(&format!("{dir}/{id}")).await?.is_some())
    }

    /// An entry as answers show it: plugins decrypted, private keys of ssl objects left out, and
    /// every secret hidden from who may only look. What is stored and is no JSON shows as null.
    fn shown(&self, kind: Kind, entry: &Entry, role: Role) -> Value {
        let mut value: Value = serde_json::from_slice(&entry.value).unwrap_or_default();
        {
            let compiler = self.compiler.lock();
            compiler.open_plugins(kind, &mut value);
            if role != Role::Admin {
                compiler.hide(kind, &mut value);
            }
        }
        if kind == Kind::Ssl
            && let Some(fields) = value.as_object_mut()
        {
            fields.remove("key");
            fields.remove("keys");
        }
        json!({
            "key": full_key(&entry.key),
            "value": value,
            "createdIndex": entry.create_revision,
            "modifiedIndex": entry.mod_revision,
        })
    }
}

// === impl Filter ===

impl<'a> Filter<'a> {
    fn of(kind: Kind, args: &'a Args) -> Result<Self, Answer> {
        let regex = |name: &str| {
            let compile = |text: &str| {
                Regex::new(text).map_err(|_| {
                    Answer::bad(format!("invalid argument {name}: should be a regular expression"))
                })
            };
            args.get(name).map(compile).transpose()
        };
        let fields = Args::parse(args.get("filter").unwrap_or_default());
        let mut wanted = Vec::new();
        for (field, value) in fields.iter() {
            if matches!(kind, Kind::Route | Kind::StreamRoute)
                && ["service_id", "upstream_id"].contains(&field)
            {
                wanted.retain(|(known, _)| known != field);
                wanted.push((field.to_owned(), value.to_owned()));
            } else {
                // As in APISIX, which ignores it too.
                tracing::warn!(field, kind = kind.dir(), "lists of this kind have no such filter");
            }
        }
        Ok(Self {
            name: regex("name")?,
            uri: regex("uri")?,
            label: args.get("label"),
            fields: wanted,
        })
    }

    /// Whether nothing is asked for, so that nobody needs to look at values.
    fn admits_all(&self) -> bool {
        self.name.is_none() && self.uri.is_none() && self.label.is_none() && self.fields.is_empty()
    }

    fn admits(&self, value: &Value) -> bool {
        let named = |regex: &Regex| value["name"].as_str().is_some_and(|name| regex.is_match(name));
        let at = |regex: &Regex| {
            let uris = value["uris"].as_array().into_iter().flatten();
            let mut all = uris.chain(Some(&value["uri"])).filter_map(Value::as_str);
            all.any(|uri| regex.is_match(uri))
        };
        self.name.as_ref().is_none_or(named)
            && self.uri.as_ref().is_none_or(at)
            && self.label.is_none_or(|label| value["labels"].get(label).is_some())
            && self.fields.iter().all(|(field, wanted)| id_text(&value[field]) == *wanted)
    }
}

/// An id as text, whether it was written as a number or as a string.
pub(super) fn id_text(id: &Value) -> String {
    match id {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// Page and size, when both are given as numbers; a page below 1 is the first.
fn page(args: &Args) -> Result<Option<(usize, usize)>, Answer> {
    let number = |name: &str| args.get(name).and_then(|text| text.parse::<i64>().ok());
    let (Some(page), Some(size)) = (number("page"), number("page_size")) else {
        return Ok(None);
    };
    let size = usize::try_from(size).ok().filter(|size| PAGE_SIZES.contains(size));
    let Some(size) = size else {
        return Err(Answer::text("page_size must be between 10 and 500"));
    };
    Ok(Some((usize::try_from(page.max(1)).unwrap_or(1), size)))
}
