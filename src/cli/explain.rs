//! `explain`: which route of a running node a request would get, and why.

use std::path::Path;

use anyhow::{Context as _, bail};
use reqwest::{Client, Url};
use serde_json::Value;

use super::remote::{block_on, failure, reachable};
use super::{Form, print, say};
use crate::config::Config;

/// What a body is when nobody says; curl's choice too.
const FORM: &str = "Content-Type: application/x-www-form-urlencoded";

/// The request that is asked about.
#[derive(clap::Args)]
pub(super) struct Asked {
    /// A URL, or a path such as /a?b=1.
    url: String,
    /// Its method; else GET, or POST where there is a body.
    #[arg(short = 'X', long)]
    method: Option<String>,
    /// One of its header fields: `Name: value`.
    #[arg(short = 'H', long = "header", value_name = "FIELD")]
    headers: Vec<String>,
    /// Its body: the text itself, or @FILE. A form, unless a header field says what else it is.
    #[arg(short = 'd', long, value_name = "TEXT")]
    data: Option<String>,
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
    let body = asked.body()?;
    {
        let mut query = url.query_pairs_mut();
        let usual = if body.is_some() { "POST" } else { "GET" };
        let method = asked.method.as_deref().unwrap_or(usual);
        query.append_pair("uri", &asked.url).append_pair("method", method);
        for field in &asked.headers {
            query.append_pair("header", field);
        }
        if body.is_some() && !asked.says_content_type() {
            query.append_pair("header", FORM);
        }
        for (name, value) in [("remote_addr", &asked.from), ("consumer", &asked.consumer)] {
            if let Some(value) = value {
                query.append_pair(name, value);
            }
        }
    }
    let told = block_on(async {
        let client = Client::builder().no_proxy().build()?;
        let request = match body {
            None => client.get(url),
            Some(body) => client.post(url).body(body),
        };
        let response = request.send().await;
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
    /// # Errors
    /// The file that it should be in cannot be read.
    fn body(&self) -> anyhow::Result<Option<Vec<u8>>> {
        let Some(data) = &self.data else {
            return Ok(None);
        };
        let Some(file) = data.strip_prefix('@') else {
            return Ok(Some(data.clone().into_bytes()));
        };
        let read = std::fs::read(file).with_context(|| format!("--data: {file}"));
        read.map(Some)
    }

    fn says_content_type(&self) -> bool {
        let mut names =
            self.headers.iter().filter_map(|field| Some(field.split_once(':')?.0.trim()));
        names.any(|name| name.eq_ignore_ascii_case("content-type"))
    }

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
