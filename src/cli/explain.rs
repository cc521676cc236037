//! `explain`: which route of a running node a request would get, and why.

use std::path::Path;

use anyhow::{Context as _, bail};
use reqwest::{Client, Url};
use serde_json::Value;

use super::remote::{block_on, failure, reachable};
use super::{Form, print, say};
use crate::config::Config;

/// The request that is asked about.
#[derive(clap::Args)]
pub(super) struct Asked {
    /// A URL, or a path such as /a?b=1.
    url: String,
    /// Its method.
    #[arg(short = 'X', long, default_value = "GET")]
    method: String,
    /// One of its header fields: `Name: value`.
    #[arg(short = 'H', long = "header", value_name = "FIELD")]
    headers: Vec<String>,
    /// The client's address.
    #[arg(long, value_name = "IP")]
    from: Option<String>,
    /// The consumer that the client is known as.
    #[arg(long, value_name = "NAME")]
    consumer: Option<String>,
    /// Address of the node's control API; else SLUICE_CONTROL, else that of the config file.
    #[arg(long, value_name = "URL")]
    control: Option<String>,
}

/// Prints the explanation.
pub(super) fn explain(asked: &Asked, config: &Path, form: Form) -> anyhow::Result<()> {
    let base = asked.address(config)?;
    let mut url = Url::parse(&format!("{}/v1/explain", base.trim_end_matches('/')))
        .with_context(|| format!("--control: {base}"))?;
    {
        let mut query = url.query_pairs_mut();
        query.append_pair("uri", &asked.url).append_pair("method", &asked.method);
        for field in &asked.headers {
            query.append_pair("header", field);
        }
        for (name, value) in [("remote_addr", &asked.from), ("consumer", &asked.consumer)] {
            if let Some(value) = value {
                query.append_pair(name, value);
            }
        }
    }
    let told = block_on(async {
        let client = Client::builder().no_proxy().build()?;
        let response = client.get(url).send().await;
        let response =
            response.with_context(|| format!("no answer from the control API {base}"))?;
        let status = response.status().as_u16();
        let told: Value = response.json().await.context("the control API's answer is no JSON")?;
        if status == 200 { Ok(told) } else { Err(failure(status, &told)) }
    })?;
    if form == Form::Table { for_people(&told) } else { print(&told, form) }
}

// === impl Asked ===

impl Asked {
    fn address(&self, config: &Path) -> anyhow::Result<String> {
        let variable = || std::env::var("SLUICE_CONTROL").ok().filter(|value| !value.is_empty());
        if let Some(base) = self.control.clone().or_else(variable) {
            return Ok(base);
        }
        let loaded = Config::load(config).map_err(|error| {
            anyhow::anyhow!("{error}\n--control or SLUICE_CONTROL do without it")
        })?;
        let apisix = &loaded.config.apisix;
        if !apisix.enable_control {
            bail!("apisix.enable_control is off: there is no control API to ask");
        }
        Ok(format!("http://{}", reachable(apisix.control.into())))
    }
}

fn for_people(told: &Value) -> anyhow::Result<()> {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let request = &told["request"];
    let host = request["host"].as_str().unwrap_or("-");
    let path = request["path"].as_str().or(request["uri"].as_str()).unwrap_or("-");
    say(&format!("request   {} host {host} path {path}", text(&request["method"])))?;
    for one in list(&told["refused"]) {
        let (id, uri) = (text(&one["id"]), text(&one["uri"]));
        let reason = text(&one["reason"]);
        say(&format!("refused   routes/{id} {uri} by {}: {reason}", text(&one["by"])))?;
    }
    if let Some(more) = told["more_refused"].as_u64() {
        say(&format!("refused   {more} more routes"))?;
    }
    let route = &told["route"];
    if route.is_null() {
        say(&format!("answer    {}", told["status"]))?;
    } else {
        let name = route["name"].as_str().filter(|name| !name.is_empty());
        let name = name.map(|name| format!(" ({name})")).unwrap_or_default();
        let host = route["host"].as_str().map(|host| format!(" host {host}")).unwrap_or_default();
        let (id, uri) = (text(&route["id"]), text(&route["uri"]));
        say(&format!(
            "route     routes/{id}{name} uri {uri}{host} priority {}",
            route["priority"]
        ))?;
    }
    for plugin in list(&told["plugins"]) {
        let phases: Vec<_> = list(&plugin["phases"]).iter().map(text).collect();
        let idle = if plugin["runs"] == false { ", kept out by its filter" } else { "" };
        let (name, source) = (text(&plugin["name"]), text(&plugin["source"]));
        say(&format!("plugin    {name} of {source} in {}{idle}", phases.join(", ")))?;
    }
    for hidden in list(&told["hidden_plugins"]) {
        let (name, source) = (text(&hidden["name"]), text(&hidden["source"]));
        say(&format!("hidden    {name} of {source}, by {}", text(&hidden["by"])))?;
    }
    let upstream = &told["upstream"];
    if !upstream.is_null() {
        say(&format!("upstream  {} ({})", text(&upstream["source"]), text(&upstream["scheme"])))?;
    }
    for node in list(&upstream["nodes"]) {
        let (addr, host) = (text(&node["addr"]), text(&node["host"]));
        let (share, priority) = (&node["share"], &node["priority"]);
        let health = text(&node["health"]);
        say(&format!(
            "node      {addr} ({host}) {share} % of priority {priority}, health {health}"
        ))?;
    }
    for name in list(&upstream["unresolved"]) {
        say(&format!("node      {}: no address is known", text(&name)))?;
    }
    for note in list(&told["notes"]) {
        say(&format!("note      {}", text(&note)))?;
    }
    Ok(())
}
