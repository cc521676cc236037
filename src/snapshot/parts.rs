//! The compiled forms of resources that routes are put together from.
//!
//! Here are plugins, upstreams and services; [`route`], [`consumer`] and [`ssl`] compile the rest.

mod consumer;
mod route;
mod ssl;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use rustls::RootCertStore;
use zeroize::Zeroizing;

pub(super) use self::consumer::taken;
pub(super) use self::ssl::{SslPart, log_warnings, warnings};
use super::Route;
use super::references::Resolver;
use crate::context::{Consumer, Consumers};
use crate::issue::Issued;
use crate::lua;
use crate::plugin::chain::{self, Chain, Plugins};
use crate::plugin::{Build, Shared};
use crate::resource::{self, Invalid};
use crate::router::{self, Matcher};
use crate::tls::client::Client;
use crate::tls::{Served, Terms};
use crate::upstream::{Keepalive, Upstream};

/// What is the same for every compile.
#[derive(Clone)]
pub struct Settings {
    /// Connections to nodes where the upstream says nothing (`nginx_config.http.upstream`).
    pub keepalive: Keepalive,
    /// TLS versions where the ssl object says nothing (`apisix.ssl.ssl_protocols`).
    pub protocols: Vec<String>,
    /// Whether HTTP/2 is offered over TLS (`apisix.enable_http2`).
    pub http2: bool,
    /// Ciphers, session tickets and staples of every ssl object.
    pub terms: Terms,
    /// What nodes are verified by, where not by the system's authorities
    /// (`apisix.ssl.ssl_trusted_certificate`).
    pub trusted: Option<Arc<RootCertStore>>,
    /// Names whose certificate is served to clients that name no server.
    pub fallback_sni: Option<String>,
    /// Whether plugin fields that are declared so are encrypted at rest.
    pub encrypt_fields: bool,
    /// Plugins that may be used (`plugins`); none means every one.
    pub plugins: Option<Vec<String>>,
    /// How routes are found (`apisix.router.http`).
    pub router: router::Kind,
    /// How much of a worker a call of a Lua function may take (`sluice.lua`).
    pub lua: lua::Limits,
}

/// The compiled forms by id, but for secrets, which the `secret` room keeps.
#[derive(Default)]
pub(super) struct Parts {
    pub(super) metadata: HashMap<Arc<str>, serde_json::Value>,
    /// Certificate and key, since each upstream makes a configuration of its own of them.
    pub(super) clients: HashMap<Arc<str>, (String, Zeroizing<String>)>,
    pub(super) served: HashMap<Arc<str>, (Vec<String>, Arc<Served>)>,
    /// What is to take the place of what is served once its staples have been asked for: there is
    /// something in `served` for each of them.
    pub(super) held: HashMap<Arc<str>, Held>,
    pub(super) upstreams: HashMap<Arc<str>, Arc<Upstream>>,
    pub(super) services: HashMap<Arc<str>, ServicePart>,
    pub(super) plugin_configs: HashMap<Arc<str>, Plugins>,
    pub(super) globals: BTreeMap<Arc<str>, Plugins>,
    pub(super) consumer_groups: HashMap<Arc<str>, Plugins>,
    pub(super) consumers: HashMap<Arc<str>, ConsumerPart>,
    /// By id in the store, so that those of one consumer stand together.
    pub(super) credentials: BTreeMap<Arc<str>, CredentialPart>,
    pub(super) routes: HashMap<Arc<str>, RoutePart>,
    /// The protocol of each stream route, as far as it names one.
    pub(super) stream_routes: HashMap<Arc<str>, Option<String>>,
}

/// An ssl object that waits for its staples.
pub(super) struct Held {
    pub(super) names: Vec<String>,
    pub(super) served: Arc<Served>,
    /// Whether somebody watches for them already.
    pub(super) is_watched: bool,
}

pub(super) struct ServicePart {
    pub(super) written: resource::Service,
    pub(super) plugins: Plugins,
    pub(super) upstream: Option<Arc<Upstream>>,
}

pub(super) struct ConsumerPart {
    pub(super) consumer: Arc<Consumer>,
    pub(super) plugins: Plugins,
    /// Its plugins over those of its group.
    pub(super) chain: Chain,
    pub(super) credentials: Credentials,
}

pub(super) struct CredentialPart {
    /// The consumer as this credential makes it known.
    pub(super) consumer: Arc<Consumer>,
    pub(super) credentials: Credentials,
}

/// Credentials, each a plugin's name and the value that a request shows.
type Credentials = Vec<(&'static str, Arc<str>)>;

pub(super) struct RoutePart {
    pub(super) matcher: Arc<Matcher>,
    pub(super) route: Arc<Route>,
    pub(super) plugins: Plugins,
    /// Where the route names one.
    pub(super) plugin_config_id: Option<Arc<str>>,
}

/// Everything that compiling one resource looks at.
pub(super) struct Workshop<'w, 's> {
    pub(super) settings: &'w Settings,
    pub(super) shared: &'w Shared,
    pub(super) parts: &'w Parts,
    /// Who has which credential now.
    pub(super) consumers: &'w Consumers,
    /// Certificates that the gateway gets for itself.
    pub(super) issued: &'w Issued,
    pub(super) resolver: &'w mut Resolver<'s>,
    /// The result is thrown away.
    pub(super) dry: bool,
}

type Wrong = Vec<Invalid>;

// === impl Parts ===

impl Parts {
    /// Whether the consumer is there that the credential with `id` in the store is of.
    pub(super) fn has_consumer_of(&self, id: &str) -> bool {
        let consumer = resource::credential::split(id).map(|(consumer, _)| consumer);
        consumer.is_some_and(|consumer| self.consumers.contains_key(consumer))
    }
}

// === impl Workshop ===

impl Workshop<'_, '_> {
    /// Compiles the plugins of the resource at `source` (a store key).
    pub(super) fn plugins(
        &mut self,
        source: &str,
        written: &resource::fields::Plugins,
        old: Option<&Plugins>,
    ) -> Result<Plugins, Wrong> {
        if let Some(enabled) = &self.settings.plugins {
            let off = written.keys().filter(|name| !enabled.contains(name));
            let off: Wrong = off.map(|name| chain::unknown(name)).collect();
            if !off.is_empty() {
                return Err(off);
            }
        }
        let resolved = self.resolver.plugins(written);
        self.resolver.finish()?;
        let build = Build {
            resource: source,
            metadata: None,
            dry: self.dry,
            shared: self.shared,
            lua: self.settings.lua,
        };
        let metadata = |name: &str| self.parts.metadata.get(name).cloned();
        Plugins::compile(&resolved, old, metadata, &build)
    }

    /// Compiles an upstream, or takes over `old` when it is the same.
    pub(super) fn upstream(
        &mut self,
        source: &str,
        written: &resource::Upstream,
        old: Option<&Arc<Upstream>>,
    ) -> Result<Arc<Upstream>, Wrong> {
        // One that the resource only named before belongs to others too.
        let old = old.filter(|old| *old.source == *source);
        // A client certificate by id may have changed while the upstream did not.
        let by_id = written.tls.as_ref().is_some_and(|tls| tls.client_cert_id.is_some());
        if let Some(old) = old.filter(|old| !by_id && old.is_of(written)) {
            return Ok(old.clone());
        }
        // Whoever shares the store may serve what this version does not: it may be written, and is
        // refused where it is to be served.
        let stand_in = self.dry.then(|| spoken(written)).flatten();
        let written = stand_in.as_ref().unwrap_or(written);
        let client = |written: &resource::Upstream| self.client(written);
        let compiled = Upstream::compile(
            source,
            written,
            self.settings.keepalive,
            old.map(|old| &**old),
            client,
        );
        compiled.map(Arc::new).map_err(|invalid| vec![invalid])
    }

    fn client(&self, written: &resource::Upstream) -> Result<Client, Invalid> {
        let trusted = self.settings.trusted.as_ref();
        let Some(tls) = &written.tls else {
            return Client::new(false, trusted, None)
                .map_err(|error| Invalid::new("/tls", "the TLS settings", error.to_string()));
        };
        let certificate = match (&tls.client_cert_id, &tls.client_cert, &tls.client_key) {
            (Some(id), ..) => {
                match self.parts.clients.get(&id.0) {
                    Some((cert, key)) => Some((cert.as_str(), key.as_str())),
                    // The secrets that it refers to may still be on their way.
                    None if self.dry && !self.parts.served.contains_key(&id.0) => None,
                    None => {
                        let expected = "an ssl object of type client";
                        return Err(Invalid::new("/tls/client_cert_id", id, expected));
                    }
                }
            }
            (None, Some(cert), Some(key)) => Some((cert.as_str(), key.expose())),
            _ => None,
        };
        Client::new(tls.verify, trusted, certificate)
            .map_err(|error| Invalid::new("/tls", "the client certificate", error.to_string()))
    }

    pub(super) fn service(
        &mut self,
        id: &str,
        written: &resource::Service,
    ) -> Result<ServicePart, Wrong> {
        let source = format!("services/{id}");
        if written.script.is_some() {
            return Err(vec![no_script("/script")]);
        }
        let old = self.parts.services.get(id);
        let plugins = self.plugins(&source, &written.plugins, old.map(|old| &old.plugins))?;
        let old = old.and_then(|old| old.upstream.as_ref());
        let (by_id, inline) = (written.upstream_id.as_ref(), written.upstream.as_ref());
        let upstream = self.upstream_of(&source, by_id, inline, old)?;
        Ok(ServicePart { written: written.clone(), plugins, upstream })
    }

    /// The upstream of the resource at `source`: the one that it names, before the one that is
    /// written in it.
    fn upstream_of(
        &mut self,
        source: &str,
        by_id: Option<&resource::Id>,
        inline: Option<&resource::Upstream>,
        old: Option<&Arc<Upstream>>,
    ) -> Result<Option<Arc<Upstream>>, Wrong> {
        if let Some(id) = by_id {
            let found = self.parts.upstreams.get(&id.0).cloned();
            return found.map(Some).ok_or_else(|| {
                vec![Invalid::new("/upstream_id", id, "the id of an upstream that is there")]
            });
        }
        let under = |wrong: Wrong| {
            wrong.into_iter().map(|invalid| invalid.under("/upstream")).collect::<Wrong>()
        };
        inline.map(|inline| self.upstream(source, inline, old).map_err(under)).transpose()
    }
}

fn no_script(path: &str) -> Invalid {
    let expected = "nothing: scripts are not run here; the plugins serverless-pre-function and \
                    serverless-post-function run Lua functions in a phase of your choice";
    Invalid::new(path, "a Lua script", expected)
}

/// An upstream of a scheme that this version does not speak, as one that it does.
fn spoken(written: &resource::Upstream) -> Option<resource::Upstream> {
    let scheme = match written.scheme.as_str() {
        "grpc" | "tcp" | "udp" | "kafka" => "http",
        "grpcs" | "tls" => "https",
        _ => return None,
    };
    let (scheme, type_) = (scheme.to_owned(), "roundrobin".to_owned());
    Some(resource::Upstream { scheme, type_, ..written.clone() })
}
