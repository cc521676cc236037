//! The Admin API: what operators, dashboards and tools write config through.
//!
//! Speaks APISIX's Admin API v3 under `/apisix/admin`. Every write is checked by the code that
//! will compile it, then put into the store under the condition that nobody
//! was faster; workers hear of it as of any other change. Nothing here reaches a worker.
//!
//! Source: APISIX `docs/en/latest/admin-api.md`, `apisix/admin/*.lua`, `t/admin/*.t`.

mod answer;
mod attempts;
mod auth;
mod check;
mod configs;
mod history;
mod openapi;
mod patch;
mod path;
mod plugins;
mod push;
mod read;
mod request;
mod reseal;
mod transaction;
mod wait;
mod write;

use std::fmt::Display;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::Body;
use http_body_util::Full;
use ipnet::IpNet;
use serde_json::Value;

use self::answer::{Answer, Answered};
use self::attempts::Attempts;
use self::path::{Place, Target};
use self::request::{Args, Condition};
use self::wait::Wait;
use crate::cluster::Cluster;
use crate::resource::Kind;
use crate::resource::hidden::Hidden;
use crate::serve::Endpoint;
use crate::snapshot::publish::Shared;
use crate::store::ConfigStore;

/// How the Admin API is guarded and what it tells (`deployment.admin`).
#[derive(Debug, Clone)]
pub struct Settings {
    pub keys: Vec<Key>,
    /// Whether callers must show one of `keys`. With no keys nobody can.
    pub key_required: bool,
    /// Addresses that may call; empty lets everybody.
    pub allow: Vec<IpNet>,
    /// Whether browsers of other origins may read the answers.
    pub cors: bool,
    /// How many versions of each resource are kept.
    pub history: usize,
    /// Plugins that may be used; `None` means every one.
    pub enabled_plugins: Option<Vec<String>>,
    /// Whether the config is pushed as a whole to `configs`, and not written piece by piece.
    pub is_pushed: bool,
    /// Told in the header `Server`.
    pub version: &'static str,
}

/// A key that lets its holder call.
#[derive(Debug, Clone)]
pub struct Key {
    /// For the audit log.
    pub name: String,
    pub key: Hidden,
    pub role: Role,
}

/// What a key's holder may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Everything.
    Admin,
    /// Read.
    Viewer,
}

/// The Admin API of one node.
pub struct Admin {
    settings: Settings,
    store: Arc<dyn ConfigStore>,
    compiler: Shared,
    cluster: Arc<Cluster>,
    /// Revision of this node's last write.
    written: AtomicI64,
    attempts: Attempts,
    /// Whether the store has refused to keep versions, which it is then not asked to again.
    history_refused: AtomicBool,
    pushed: push::Last,
}

/// One write: who, how, and under which conditions.
struct Call<'c> {
    /// Name of the caller's key.
    caller: &'c str,
    role: Role,
    method: &'c Method,
    peer: SocketAddr,
    args: &'c Args,
    condition: Condition,
    /// Seconds after which what is written disappears.
    ttl: Option<i64>,
}

// === impl Admin ===

impl Admin {
    /// The Admin API over `store`, whose writes `compiler` checks and the nodes of `cluster` apply.
    pub fn new(
        settings: Settings,
        store: Arc<dyn ConfigStore>,
        compiler: Shared,
        cluster: Arc<Cluster>,
    ) -> Arc<Self> {
        Arc::new(Self {
            settings,
            store,
            compiler,
            cluster,
            written: AtomicI64::new(0),
            attempts: Attempts::default(),
            history_refused: AtomicBool::new(false),
            pushed: push::Last::default(),
        })
    }

    /// Answers on `endpoint` until `stop` ends.
    pub async fn serve(self: Arc<Self>, endpoint: Endpoint, stop: impl Future) {
        let answer = move |request, peer| {
            let admin = self.clone();
            async move { admin.answer(request, peer).await }
        };
        endpoint.run(answer, stop).await;
    }

    async fn answer<B>(&self, request: Request<B>, peer: SocketAddr) -> Response<Full<Bytes>>
    where
        B: Body + Unpin,
        B::Error: Display,
    {
        let (head, body) = request.into_parts();
        let is_preflight = self.settings.cors && head.method == Method::OPTIONS;
        let answer = match self.respond(&head, body, peer).await {
            Ok(answer) | Err(answer) => answer,
        };
        let mut response = answer.into_response();
        let headers = response.headers_mut();
        let server = format!("Sluice/{}", self.settings.version);
        headers.extend(HeaderValue::try_from(server).map(|server| (header::SERVER, server)));
        headers.insert(HeaderName::from_static("x-api-version"), HeaderValue::from_static("v3"));
        if self.settings.cors {
            add_cors(headers, is_preflight);
        }
        response
    }

    async fn respond<B>(&self, head: &http::request::Parts, body: B, peer: SocketAddr) -> Answered
    where
        B: Body + Unpin,
        B::Error: Display,
    {
        if !auth::is_allowed(&self.settings.allow, peer.ip()) {
            tracing::warn!(%peer, "Admin API: the address is not in allow_admin");
            let message = "forbidden: the address is not in deployment.admin.allow_admin";
            return Err(Answer::error(StatusCode::FORBIDDEN, message));
        }
        let method = &head.method;
        if self.settings.cors && method == Method::OPTIONS {
            return Ok(Answer::empty(StatusCode::OK));
        }
        let target = Target::parse(&request::decoded_path(head.uri.path()));
        if target == Target::Root && method == Method::HEAD {
            return Ok(Answer::empty(StatusCode::OK));
        }
        let is_head = method == Method::HEAD && target == Target::Configs;
        let served = [Method::GET, Method::PUT, Method::POST, Method::DELETE, Method::PATCH];
        if matches!(target, Target::Root | Target::Elsewhere)
            || !(served.contains(method) || is_head)
        {
            return Err(Answer::no_such_method());
        }
        let args = Args::parse(head.uri.query().unwrap_or_default());
        let (caller, role) = self.login(&head.headers, &args, method, peer.ip())?;
        if let Target::Unknown(kind) = &target {
            return Err(Answer::unknown_kind(kind));
        }
        if target == Target::Reload {
            return plugins::reload(method);
        }
        let longest = match target {
            Target::Configs => request::LONGEST_PUSH_BYTES,
            _ => request::LONGEST_BODY_BYTES,
        };
        let body = request::body(&head.headers, body, longest).await?;
        let call = Call {
            caller,
            role,
            method,
            peer,
            args: &args,
            condition: Condition::of(&head.headers)?,
            ttl: args.ttl()?,
        };
        let wait = Wait::of(&args)?;
        let answer = match (&target, method.as_str()) {
            (Target::Configs, "GET" | "HEAD") if self.settings.is_pushed => {
                self.pushed(&call, &head.headers).await?
            }
            (Target::Configs, "PUT") if self.settings.is_pushed => {
                self.push(&call, &head.headers, body).await?
            }
            (Target::Configs, _) if !self.settings.is_pushed => {
                return Err(Answer::unknown_kind("configs"));
            }
            _ => self.carry_out(target, &call, body).await?,
        };
        match wait {
            Some(wait) => self.wait_for(&wait, answer).await,
            None => Ok(answer),
        }
    }

    /// Does what a caller who may asks for.
    async fn carry_out(&self, target: Target, call: &Call<'_>, body: Option<Value>) -> Answered {
        let args = call.args;
        let is_write = match &target {
            Target::Resource(_) => call.method != Method::GET,
            Target::Transactions | Target::Reseal => true,
            _ => false,
        };
        if is_write && self.settings.is_pushed {
            let said = "the config of this node is pushed as a whole: PUT /apisix/admin/configs";
            return Err(Answer::error(StatusCode::METHOD_NOT_ALLOWED, said));
        }
        match (target, call.method.as_str()) {
            (Target::PluginNames, "GET") => self.plugin_names(args),
            (Target::Plugins(name), "GET") => self.plugin(name.as_deref(), args),
            (Target::Schema(name), "GET") => plugins::schema_of(&name),
            (Target::Validate(kind), "POST") => plugins::validate(&kind, body),
            (Target::ValidateConfigs, "POST") => self.validate_configs(body),
            (Target::OpenApi, "GET") => Ok(Answer::json(openapi::document(self.settings.version))),
            (Target::Reseal, "POST") => self.reseal(call).await,
            (Target::Transactions, "POST") => self.transaction(call, body).await,
            (Target::Resource(place), "GET") if place.rest == ["history"] => {
                self.history(&place).await
            }
            (Target::Resource(place), "POST") if place.rest == ["rollback"] => {
                self.rollback(&place, call).await
            }
            (Target::Resource(place), method) => {
                if lacks(place.kind, method) {
                    return Err(not_supported(&place, method));
                }
                match method {
                    "GET" => self.get(&place, call).await,
                    "PUT" => self.put(&place, call, body).await,
                    "POST" => self.post(&place, call, body).await,
                    "DELETE" => self.delete(&place, call).await,
                    _ => self.patch(&place, call, body).await,
                }
            }
            _ => Err(Answer::no_such_method()),
        }
    }
}

/// Kinds whose ids are chosen by the user have no POST; those without an id in their body no
/// PATCH. As in APISIX.
fn lacks(kind: Kind, method: &str) -> bool {
    match method {
        "POST" => matches!(
            kind,
            Kind::Consumer
                | Kind::Credential
                | Kind::Secret
                | Kind::GlobalRule
                | Kind::PluginConfig
                | Kind::ConsumerGroup
                | Kind::PluginMetadata
        ),
        "PATCH" => matches!(
            kind,
            Kind::Consumer
                | Kind::Credential
                | Kind::PluginMetadata
                | Kind::Proto
                | Kind::StreamRoute
        ),
        _ => false,
    }
}

fn not_supported(place: &Place, method: &str) -> Answer {
    let message = format!("not supported `{method}` method for {}", place.noun());
    Answer::error(StatusCode::METHOD_NOT_ALLOWED, message)
}

/// Source: APISIX `init.lua`, `cors_admin`.
fn add_cors(headers: &mut HeaderMap, is_preflight: bool) {
    let all = HeaderValue::from_static("*");
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, all.clone());
    let yes = HeaderValue::from_static("true");
    headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, yes);
    let hour = HeaderValue::from_static("3600");
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, hour);
    if is_preflight {
        let methods = HeaderValue::from_static("POST, GET, PUT, OPTIONS, DELETE, PATCH");
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, methods);
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, all);
    } else {
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, all);
    }
}

#[cfg(test)]
mod tests;
