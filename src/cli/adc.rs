//! ADC's layout of files, told in the standalone one: routes stand in their service, credentials in
//! their consumer, global rules and plugin metadata are maps by plugin, and ids come of names.
//!
//! Ids are those that ADC gives, so that either tool finds what the other has written.
//!
//! Source: api7/adc, `libs/sdk/src/core/schema.ts` and `libs/backend-apisix`.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use serde_json::{Map, Value, json};

use crate::resource::{Kind, credential};

/// A resource in the standalone layout, and where it stands in ADC's.
pub(super) struct Told {
    pub(super) kind: Kind,
    pub(super) value: Value,
    /// Within its list: `[0].routes[1]`.
    pub(super) place: String,
}

/// The resources that the list, or map, of `kind` holds. What is in the standalone layout already is
/// handed on as it is.
///
/// # Errors
/// Where something is no object, or has no name from which its id could come.
pub(super) fn told(kind: Kind, written: Value) -> Result<Vec<Told>, String> {
    let mut all = Vec::new();
    match (kind, written) {
        (Kind::GlobalRule, Value::Object(plugins)) => {
            all.extend(plugins.into_iter().map(|(name, config)| Told {
                kind,
                place: format!(".{name}"),
                value: json!({ "id": name, "plugins": { name: config } }),
            }));
        }
        (Kind::PluginMetadata, Value::Object(plugins)) => {
            for (name, mut value) in plugins {
                let place = format!(".{name}");
                fields(&mut value, &place)?.insert("id".to_owned(), name.into());
                all.push(Told { kind, value, place });
            }
        }
        (_, Value::Array(items)) => {
            for (index, value) in items.into_iter().enumerate() {
                one(kind, value, format!("[{index}]"), &mut all)?;
            }
        }
        _ => return Err(": expected a list".to_owned()),
    }
    Ok(all)
}

fn one(kind: Kind, mut value: Value, place: String, all: &mut Vec<Told>) -> Result<(), String> {
    // What is no object is refused with the others.
    let Ok(written) = fields(&mut value, &place) else {
        all.push(Told { kind, value, place });
        return Ok(());
    };
    match kind {
        Kind::Service => {
            let parts = [(Kind::Route, "routes"), (Kind::StreamRoute, "stream_routes")]
                .map(|(kind, list)| (kind, list, written.remove(list)));
            let strip = ["path_prefix", "strip_path_prefix", "upstreams"];
            if let Some(name) = strip.iter().find(|name| written.contains_key(**name)) {
                return Err(format!("{place}.{name}: expected nothing: it is not read here"));
            }
            settle(written, &place, None)?;
            let (id, name) = (written["id"].clone(), text(written, "name"));
            for (kind, list, items) in parts {
                for (index, mut value) in list_of(items).into_iter().enumerate() {
                    let place = format!("{place}.{list}[{index}]");
                    let route = fields(&mut value, &place)?;
                    settle(route, &place, Some(&name))?;
                    route.insert("service_id".to_owned(), id.clone());
                    all.push(Told { kind, value, place });
                }
            }
        }
        Kind::Consumer => {
            let credentials = written.remove("credentials");
            rename(written, "description", "desc");
            let name = text(written, "username");
            for (index, mut value) in list_of(credentials).into_iter().enumerate() {
                let place = format!("{place}.credentials[{index}]");
                let written = fields(&mut value, &place)?;
                let (plugin, config) = (text(written, "type"), written.remove("config"));
                written.remove("type");
                written.insert("plugins".to_owned(), json!({ plugin: config }));
                settle(written, &place, Some(&name))?;
                written["id"] = credential::store_id(&name, &text(written, "id")).into();
                all.push(Told { kind: Kind::Credential, value, place });
            }
        }
        Kind::Ssl if written.contains_key("certificates") => {
            let pairs = list_of(written.remove("certificates"));
            let of = |pair: &Value, name: &str| pair[name].clone();
            if let [first, more @ ..] = pairs.as_slice() {
                written.insert("cert".to_owned(), of(first, "certificate"));
                written.insert("key".to_owned(), of(first, "key"));
                if !more.is_empty() {
                    let all = |name| more.iter().map(|pair| of(pair, name)).collect::<Value>();
                    written.insert("certs".to_owned(), all("certificate"));
                    written.insert("keys".to_owned(), all("key"));
                }
            }
            if !written.contains_key("id") {
                let names = written["snis"].as_array().into_iter().flatten();
                let names: Vec<&str> = names.filter_map(Value::as_str).collect();
                let id = id_of(&names.join(","));
                written.insert("id".to_owned(), id.into());
            }
        }
        Kind::ConsumerGroup if !written.contains_key("id") => settle(written, &place, None)?,
        _ => {}
    }
    all.push(Told { kind, value, place });
    Ok(())
}

/// Gives a resource the id that its name makes, below what it stands in, and APISIX's field for its
/// description.
fn settle(
    written: &mut Map<String, Value>,
    place: &str,
    owner: Option<&str>,
) -> Result<(), String> {
    rename(written, "description", "desc");
    if written.contains_key("id") {
        return Ok(());
    }
    let name = text(written, "name");
    if name.is_empty() {
        return Err(format!("{place}: expected a field id or name that names it"));
    }
    let whole = owner.map_or_else(|| name.clone(), |owner| format!("{owner}.{name}"));
    written.insert("id".to_owned(), id_of(&whole).into());
    Ok(())
}

fn id_of(name: &str) -> String {
    let hash = digest(&SHA1_FOR_LEGACY_USE_ONLY, name.as_bytes());
    hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn fields<'v>(value: &'v mut Value, place: &str) -> Result<&'v mut Map<String, Value>, String> {
    value.as_object_mut().ok_or_else(|| format!("{place}: expected an object"))
}

fn list_of(value: Option<Value>) -> Vec<Value> {
    match value {
        Some(Value::Array(items)) => items,
        Some(Value::Null) | None => Vec::new(),
        Some(other) => vec![other],
    }
}

fn rename(written: &mut Map<String, Value>, from: &str, to: &str) {
    if let Some(value) = written.remove(from) {
        written.insert(to.to_owned(), value);
    }
}

fn text(written: &Map<String, Value>, name: &str) -> String {
    written.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(kind: Kind, written: Value) -> Vec<(Kind, Value)> {
        told(kind, written).unwrap().into_iter().map(|told| (told.kind, told.value)).collect()
    }

    #[test]
    fn takes_routes_out_of_their_service() {
        let id = "0a6e6d6e1c2b";
        let service = json!([{"id": id, "name": "s", "description": "d", "routes": [
            {"name": "r", "uris": ["/a"]}, {"id": "own", "name": "q", "uris": ["/b"]}],
            "stream_routes": [{"name": "t", "server_port": 1}]}]);
        let all = check(Kind::Service, service);
        let kinds: Vec<Kind> = all.iter().map(|(kind, _)| *kind).collect();
        assert_eq!(kinds, [Kind::Route, Kind::Route, Kind::StreamRoute, Kind::Service]);
        // sha1 of "s.r".
        let route = json!({"id": id_of("s.r"), "name": "r", "uris": ["/a"], "service_id": id});
        assert_eq!(all[0].1, route);
        assert_eq!(all[1].1["id"], "own");
        assert_eq!(all[3].1, json!({"id": id, "name": "s", "desc": "d"}));
        assert_eq!(id_of("abc"), "a9993e364706816aba3e25717850c26c9cd0d89d");
    }

    #[test]
    fn takes_credentials_certificates_and_maps() {
        let consumers = json!([{"username": "jack", "credentials": [
            {"name": "k", "type": "key-auth", "config": {"key": "x"}}]}]);
        let all = check(Kind::Consumer, consumers);
        let id = format!("jack/credentials/{}", id_of("jack.k"));
        let wanted = json!({"id": id, "name": "k", "plugins": {"key-auth": {"key": "x"}}});
        assert_eq!(all[0], (Kind::Credential, wanted));
        assert_eq!(all[1], (Kind::Consumer, json!({"username": "jack"})));

        let pair =
            |name: &str| json!({"certificate": format!("c{name}"), "key": format!("k{name}")});
        let ssls = json!([{"snis": ["a", "b"], "certificates": [pair("1"), pair("2")]}]);
        let wanted = json!({"id": id_of("a,b"), "snis": ["a", "b"], "cert": "c1", "key": "k1",
            "certs": ["c2"], "keys": ["k2"]});
        assert_eq!(check(Kind::Ssl, ssls), [(Kind::Ssl, wanted)]);

        let rules = check(Kind::GlobalRule, json!({"prometheus": {}}));
        let wanted = json!({"id": "prometheus", "plugins": {"prometheus": {}}});
        assert_eq!(rules, [(Kind::GlobalRule, wanted)]);
        let metadata = check(Kind::PluginMetadata, json!({"limit-count": {"limit_header": "X"}}));
        assert_eq!(metadata[0].1, json!({"id": "limit-count", "limit_header": "X"}));
    }

    #[test]
    fn leaves_the_standalone_layout_alone_and_names_what_has_no_name() {
        let plain = json!([{"id": 1, "uri": "/", "upstream_id": 2}, 5]);
        let all: Vec<Value> =
            check(Kind::Route, plain.clone()).into_iter().map(|(_, value)| value).collect();
        assert_eq!(Value::from(all), plain);
        for (kind, written, said) in [
            (Kind::Service, json!([{"routes": []}]), "[0]: expected a field id or name"),
            (Kind::Service, json!([{"name": "s", "routes": [{}]}]), "[0].routes[0]: expected"),
            (Kind::Service, json!([{"name": "s", "upstreams": []}]), "[0].upstreams: expected"),
            (Kind::Route, json!({}), ": expected a list"),
        ] {
            let wrong = told(kind, written).err().unwrap();
            assert!(wrong.starts_with(said), "{wrong}");
        }
    }
}
