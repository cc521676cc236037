//! The compiled forms of resources that routes are put together from.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use http::HeaderValue;
use ipnet::IpNet;
use rustls::ClientConfig;

use super::references::Resolver;
use super::{MatchedLabels, Route};
use crate::context::{Consumer, Consumers, Labels, RouteFacts};
use crate::expr::Expr;
use crate::lua;
use crate::metrics::RouteLabels;
use crate::plugin::chain::{self, Chain, Plugins};
use crate::plugin::registry;
use crate::plugin::{Build, Shared};
use crate::resource::{self, Invalid, Said};
use crate::router::{self, Matcher, Methods, Pattern};
use crate::tls::{Served, ServerSpec, TlsError};
use crate::upstream::{Keepalive, Timeouts, Upstream};

/// What is the same for every compile.
#[derive(Clone)]
pub struct Settings {
    /// Connections to nodes where the upstream says nothing (`nginx_config.http.upstream`).
    pub keepalive: Keepalive,
    /// TLS versions where the ssl object says nothing (`apisix.ssl.ssl_protocols`).
    pub protocols: Vec<String>,
    /// Whether HTTP/2 is offered over TLS (`apisix.enable_http2`).
    pub http2: bool,
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
    pub(super) clients: HashMap<Arc<str>, (String, String)>,
    pub(super) served: HashMap<Arc<str>, (Vec<String>, Arc<Served>)>,
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
        // A client certificate by id may have changed while the upstream did not.
        let by_id = written.tls.as_ref().is_some_and(|tls| tls.client_cert_id.is_some());
        if let Some(old) = old.filter(|old| !by_id && old.is_of(written)) {
            return Ok(old.clone());
        }
        // Whoever shares the store may serve what this version does not: it may be written, and is
        // refused where it is to be served.
        let stand_in = self.dry.then(|| spoken(written)).flatten();
        let written = stand_in.as_ref().unwrap_or(written);
        let client = |written: &resource::Upstream| self.client_config(written);
        let compiled = Upstream::compile(
            source,
            written,
            self.settings.keepalive,
            old.map(|old| &**old),
            client,
        );
        compiled.map(Arc::new).map_err(|invalid| vec![invalid])
    }

    fn client_config(&self, written: &resource::Upstream) -> Result<Arc<ClientConfig>, Invalid> {
        let Some(tls) = &written.tls else {
            return crate::tls::client::config(false, None)
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
        crate::tls::client::config(tls.verify, certificate)
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
        let upstream = match (&written.upstream_id, &written.upstream) {
            (Some(id), _) => Some(self.upstream_by_id(id)?),
            (None, Some(inline)) => {
                let old = old.and_then(|old| old.upstream.as_ref());
                Some(self.upstream(&source, inline, old).map_err(under_upstream)?)
            }
            (None, None) => None,
        };
        Ok(ServicePart { written: written.clone(), plugins, upstream })
    }

    fn upstream_by_id(&self, id: &resource::Id) -> Result<Arc<Upstream>, Wrong> {
        let found = self.parts.upstreams.get(&id.0).cloned();
        found.ok_or_else(|| {
            vec![Invalid::new("/upstream_id", id, "the id of an upstream that is there")]
        })
    }

    pub(super) fn consumer(
        &mut self,
        id: &str,
        written: &resource::Consumer,
    ) -> Result<ConsumerPart, Wrong> {
        let source = format!("consumers/{id}");
        // Serving it without what its group says would serve it without its limits.
        let group = match &written.group_id {
            None => None,
            Some(group) => Some(self.parts.consumer_groups.get(&group.0).ok_or_else(|| {
                let expected = "the id of a consumer group that is there";
                vec![Invalid::new("/group_id", group, expected)]
            })?),
        };
        let (credentials, others) = self.credentials(&written.plugins)?;
        let old = self.parts.consumers.get(id);
        let plugins = self.plugins(&source, &others, old.map(|old| &old.plugins))?;
        // A consumer may take over what one of its own credentials has.
        self.refuse_shared(&credentials, |owner| *owner.name == *id)?;
        let header = |text: &str| HeaderValue::try_from(text).ok();
        let username = header(&written.username).ok_or_else(|| {
            vec![Invalid::new("/username", &written.username, "text that fits a header")]
        })?;
        // The name's identity keys metric series, so it stays.
        let name = old.map_or_else(|| id.into(), |old| old.consumer.name.clone());
        Ok(ConsumerPart {
            consumer: Arc::new(Consumer {
                name,
                username,
                custom_id: written.labels.get("custom_id").and_then(|value| header(value)),
                credential_id: None,
                group_id: written.group_id.as_ref().map(|group| group.0.clone()),
            }),
            chain: Chain::merge([&plugins].into_iter().chain(group)),
            plugins,
            credentials,
        })
    }

    /// Compiles the credential with `id` in the store: `jack/credentials/1`.
    pub(super) fn credential(
        &mut self,
        id: &str,
        written: &resource::Credential,
    ) -> Result<CredentialPart, Wrong> {
        let consumer = resource::credential::split(id)
            .and_then(|(name, own)| Some((self.parts.consumers.get(name)?, own)));
        let (consumer, own) = consumer.ok_or_else(|| {
            vec![Invalid::new("/id", id, "the name of a consumer that is there, and an id")]
        })?;
        let credentials = self.credential_values(written)?;
        let own = HeaderValue::try_from(own)
            .map_err(|_| vec![Invalid::new("/id", own, "text that fits a header")])?;
        self.refuse_shared(&credentials, |owner| {
            owner.name == consumer.consumer.name && owner.credential_id.as_ref() == Some(&own)
        })?;
        let consumer = Consumer {
            name: consumer.consumer.name.clone(),
            username: consumer.consumer.username.clone(),
            custom_id: consumer.consumer.custom_id.clone(),
            group_id: consumer.consumer.group_id.clone(),
            credential_id: Some(own),
        };
        Ok(CredentialPart { consumer: Arc::new(consumer), credentials })
    }

    /// What a request shows of a credential, which has no other plugins.
    pub(super) fn credential_values(
        &mut self,
        written: &resource::Credential,
    ) -> Result<Credentials, Wrong> {
        let (credentials, others) = self.credentials(&written.plugins)?;
        let refused = others.into_keys().map(|name| {
            let expected = "a plugin that authenticates: a credential has no others";
            let said =
                format!("only supports auth type plugins in consumer credential, got {name}");
            let path = format!("/plugins/{name}");
            Invalid::new(path, name, expected).saying(Said::Whole(said))
        });
        let refused: Wrong = refused.collect();
        if refused.is_empty() { Ok(credentials) } else { Err(refused) }
    }

    /// The credentials among a consumer's plugins, and the plugins that are none.
    fn credentials(
        &mut self,
        written: &resource::fields::Plugins,
    ) -> Result<(Credentials, resource::fields::Plugins), Wrong> {
        let resolved = self.resolver.plugins(written);
        self.resolver.finish()?;
        let mut credentials = Vec::new();
        let mut others = resource::fields::Plugins::new();
        let mut wrong = Vec::new();
        for (name, config) in written {
            let Some(entry) = registry::find(name) else {
                wrong.push(chain::unknown(name));
                continue;
            };
            let Some(spec) = &entry.consumer else {
                others.insert(name.clone(), config.clone());
                continue;
            };
            match spec.credential(without_meta(&resolved[name]).as_ref()) {
                Ok(value) => credentials.push((entry.name, Arc::from(value))),
                Err(problems) => {
                    let path = format!("/plugins/{name}");
                    wrong.extend(problems.into_iter().map(|problem| problem.under(&path)));
                }
            }
        }
        if wrong.is_empty() { Ok((credentials, others)) } else { Err(wrong) }
    }

    /// Two consumers with one key would make either of them the other.
    fn refuse_shared(
        &self,
        credentials: &[(&'static str, Arc<str>)],
        is_own: impl Fn(&Consumer) -> bool,
    ) -> Result<(), Wrong> {
        for (plugin, value) in credentials {
            let owner = self.consumers.by_credential(plugin, value);
            if let Some(owner) = owner.filter(|owner| !is_own(owner)) {
                return Err(vec![taken(plugin, owner)]);
            }
        }
        Ok(())
    }

    pub(super) fn route(
        &mut self,
        id: &Arc<str>,
        written: &resource::Route,
    ) -> Result<RoutePart, Wrong> {
        let source = format!("routes/{id}");
        for (is_there, path) in
            [(written.script.is_some(), "/script"), (written.script_id.is_some(), "/script_id")]
        {
            if is_there {
                return Err(vec![no_script(path)]);
            }
        }
        let service = match &written.service_id {
            None => None,
            Some(service) => Some(self.parts.services.get(&service.0).ok_or_else(|| {
                let expected = "the id of a service that is there";
                vec![Invalid::new("/service_id", service, expected)]
            })?),
        };
        let plugin_config = match &written.plugin_config_id {
            None => None,
            Some(config) => Some(self.parts.plugin_configs.get(&config.0).ok_or_else(|| {
                let expected = "the id of a plugin config that is there";
                vec![Invalid::new("/plugin_config_id", config, expected)]
            })?),
        };
        let old = self.parts.routes.get(id);
        let plugins = self.plugins(&source, &written.plugins, old.map(|old| &old.plugins))?;
        let inherited = [plugin_config, service.map(|service| &service.plugins)];
        let chain = Chain::merge([&plugins].into_iter().chain(inherited.into_iter().flatten()));
        let upstream = match (&written.upstream_id, &written.upstream) {
            (Some(id), _) => Some(self.upstream_by_id(id)?),
            (None, Some(inline)) => {
                let old = old.and_then(|old| old.route.upstream.as_ref());
                Some(self.upstream(&source, inline, old).map_err(under_upstream)?)
            }
            (None, None) => service.and_then(|service| service.upstream.clone()),
        };
        let timeouts = timeouts(written, upstream.as_deref())?;
        let own_hosts = written.all_hosts().map(|host| Arc::from(host.as_str()));
        let mut hosts: Vec<Arc<str>> = own_hosts.collect();
        if let (true, Some(service)) = (hosts.is_empty(), service) {
            hosts = service.written.hosts.iter().map(|host| host.as_str().into()).collect();
        }
        let matcher = Matcher {
            id: id.clone(),
            hosts: hosts.into(),
            paths: patterns(self.settings.router, written)?,
            methods: Methods::new(written.methods.iter().map(String::as_str)),
            priority: written.priority,
        };
        let facts = Arc::new(facts(id, written, service));
        let websocket = written.enable_websocket;
        let websocket = websocket.or(service.and_then(|service| service.written.enable_websocket));
        let vars = match &written.vars {
            None => None,
            Some(vars) => {
                let explain = |invalid: Invalid| {
                    let invalid = invalid.under("/vars");
                    let said = format!("failed to validate the 'vars' expression: {invalid}");
                    vec![invalid.saying(Said::Whole(said))]
                };
                Some(Expr::compile(vars).map_err(explain)?)
            }
        };
        let filter = match &written.filter_func {
            None => None,
            Some(text) => {
                let label = format!("{source} filter_func");
                let compiled = lua::Function::filter(text, &label, self.settings.lua);
                Some(compiled.map_err(|invalid| vec![invalid.under("/filter_func")])?)
            }
        };
        let route = Route {
            labels: labels(&matcher, &facts),
            facts,
            chain,
            upstream,
            timeouts,
            websocket: websocket.unwrap_or(false),
            remote_addrs: networks(written)?,
            vars,
            filter,
        };
        Ok(RoutePart {
            matcher: Arc::new(matcher),
            route: Arc::new(route),
            plugins,
            plugin_config_id: written.plugin_config_id.as_ref().map(|id| id.0.clone()),
        })
    }

    /// Checks a stream route, which nothing serves yet; gives its protocol.
    pub(super) fn stream_route(
        &self,
        id: &Arc<str>,
        written: &resource::StreamRoute,
    ) -> Result<Option<String>, Wrong> {
        let mut wrong: Wrong = written.plugins.keys().map(|name| chain::unknown(name)).collect();
        for (text, path) in
            [(&written.remote_addr, "/remote_addr"), (&written.server_addr, "/server_addr")]
        {
            wrong.extend(text.as_ref().and_then(|text| network(text, path).err()));
        }
        if let Some(protocol) = &written.protocol
            && let Some(superior) = &protocol.superior_id
        {
            let path = "/protocol/superior_id";
            let of = self.parts.stream_routes.get(&superior.0).and_then(Option::as_ref);
            if superior.0 == *id {
                let expected = "another stream route: it can not set itself as superior_id";
                wrong.push(Invalid::new(path, superior, expected));
            } else if let Some(of) = of.filter(|of| **of != protocol.name) {
                let expected = format!("a stream route of protocol {}, not {of}", protocol.name);
                wrong.push(Invalid::new(path, superior, expected));
            }
        }
        if wrong.is_empty() {
            Ok(written.protocol.as_ref().map(|protocol| protocol.name.clone()))
        } else {
            Err(wrong)
        }
    }

    pub(super) fn ssl(&mut self, id: &Arc<str>, written: &resource::Ssl) -> Result<SslPart, Wrong> {
        let pairs = written.pairs().map_err(|invalid| vec![invalid])?;
        let mut resolved = Vec::new();
        for (index, (cert, key)) in pairs.into_iter().enumerate() {
            let cert = self.resolver.text(cert, &pair_path("cert", index));
            let key = self.resolver.text(key.expose(), &pair_path("key", index));
            resolved.extend(cert.zip(key));
        }
        let client_ca = written.client.as_ref();
        let client_ca = client_ca.and_then(|client| self.resolver.text(&client.ca, "/client/ca"));
        self.resolver.finish()?;
        if written.type_ == "client" {
            return Ok(SslPart::Client(resolved.swap_remove(0)));
        }
        let is_reference = |text: &String| text.starts_with('$');
        if self.dry && resolved.iter().any(|(cert, key)| is_reference(cert) || is_reference(key)) {
            return Ok(SslPart::Unresolved);
        }
        if let Some(client) =
            written.client.as_ref().filter(|client| !client.skip_mtls_uri_regex.is_empty())
        {
            let expected = "nothing: it is not there yet";
            let count = client.skip_mtls_uri_regex.len();
            let value = format!("{count} expressions");
            return Err(vec![Invalid::new("/client/skip_mtls_uri_regex", value, expected)]);
        }
        let protocols = &written.ssl_protocols;
        let spec = ServerSpec {
            ssl: id.clone(),
            pairs: resolved.iter().map(|(cert, key)| (cert.as_str(), key.as_str())).collect(),
            protocols: if protocols.is_empty() { &self.settings.protocols } else { protocols },
            client_ca: client_ca.as_deref(),
            http2: self.settings.http2,
        };
        let served = Served::new(&spec).map_err(|error| vec![tls_problem(&error)])?;
        let names = written.all_snis().cloned().collect();
        Ok(SslPart::Server(names, Arc::new(served)))
    }
}

/// Where `field` of one of an ssl object's pairs is written: `/cert`, then `/certs/0`.
fn pair_path(field: &str, index: usize) -> String {
    match index {
        0 => format!("/{field}"),
        more => format!("/{field}s/{}", more - 1),
    }
}

/// That what somebody is known by is another one's already.
pub(super) fn taken(plugin: &str, owner: &Consumer) -> Invalid {
    let consumer = registry::find(plugin).and_then(|entry| entry.consumer.as_ref());
    let field = consumer.and_then(|spec| spec.validator.schema()["required"][0].as_str());
    let field = field.unwrap_or("credential");
    let of = owner.credential_id.as_ref().and_then(|id| id.to_str().ok());
    let of = of.map(|id| format!("credential: {id} of ")).unwrap_or_default();
    let said =
        format!("duplicate {field} of plugin {plugin} found with {of}consumer: {}", owner.name);
    let expected = format!("a {field} that nobody else has");
    let path = format!("/plugins/{plugin}/{field}");
    Invalid::new(path, "a credential (not shown)", expected).saying(Said::Whole(said))
}

fn tls_problem(error: &TlsError) -> Invalid {
    let (index, error) = match error {
        TlsError::Pair { index, error } => (*index, &**error),
        other => (0, other),
    };
    let said = |what: &str, reason: &str| {
        let pair = match index {
            0 => String::new(),
            more => format!("failed to handle cert-key pair[{more}]: "),
        };
        Said::Whole(format!("{pair}failed to parse {what}: {reason}"))
    };
    let cert = || pair_path("cert", index);
    let key = || pair_path("key", index);
    match error {
        TlsError::Certificate(reason) => {
            Invalid::new(cert(), "a certificate (not shown)", reason.clone())
                .saying(said("cert", reason))
        }
        TlsError::Key(reason) => {
            Invalid::new(key(), "a key (not shown)", reason.clone()).saying(said("key", reason))
        }
        TlsError::Mismatch => {
            let of = cert();
            let of = of.trim_start_matches('/');
            let expected =
                format!("the private key of the certificate in {of}; this one does not match");
            Invalid::new(key(), "a key (not shown)", expected)
        }
        TlsError::Authorities(reason) => Invalid::new("/client/ca", "authorities", reason.clone()),
        TlsError::Protocols(reason) => Invalid::new("/ssl_protocols", "protocols", reason.clone()),
        TlsError::Pair { .. } | TlsError::Rustls(_) => {
            Invalid::new("", "the ssl object", error.to_string())
        }
    }
}

/// A compiled ssl object.
pub(super) enum SslPart {
    /// Names and what is served for them.
    Server(Vec<String>, Arc<Served>),
    /// Certificate and key to show to upstreams.
    Client((String, String)),
    /// A dry compile cannot see behind references.
    Unresolved,
}

fn without_meta(config: &serde_json::Value) -> std::borrow::Cow<'_, serde_json::Value> {
    use std::borrow::Cow;
    match config.as_object() {
        Some(fields) if fields.contains_key("_meta") => {
            let mut fields = fields.clone();
            fields.remove("_meta");
            Cow::Owned(fields.into())
        }
        _ => Cow::Borrowed(config),
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

fn under_upstream(wrong: Wrong) -> Wrong {
    wrong.into_iter().map(|invalid| invalid.under("/upstream")).collect()
}

fn timeouts(written: &resource::Route, upstream: Option<&Upstream>) -> Result<Timeouts, Wrong> {
    let Some(timeout) = written.timeout else {
        return Ok(upstream.map_or_else(Timeouts::default, |upstream| upstream.timeouts));
    };
    let of = |seconds: f64, path: &str| {
        std::time::Duration::try_from_secs_f64(seconds)
            .map_err(|_| vec![Invalid::new(path, seconds, "seconds")])
    };
    Ok(Timeouts {
        connect: of(timeout.connect, "/timeout/connect")?,
        send: of(timeout.send, "/timeout/send")?,
        read: of(timeout.read, "/timeout/read")?,
    })
}

fn patterns(kind: router::Kind, written: &resource::Route) -> Result<Box<[Pattern]>, Wrong> {
    let parse = |text: &String, field: String| {
        Pattern::parse(kind, text).map_err(|invalid| vec![invalid.under(&field)])
    };
    let one = written.uri.iter().map(|text| parse(text, "/uri".to_owned()));
    let more = written.uris.iter().enumerate();
    one.chain(more.map(|(index, text)| parse(text, format!("/uris/{index}")))).collect()
}

fn networks(written: &resource::Route) -> Result<Box<[IpNet]>, Wrong> {
    let one = written.remote_addr.iter().map(|text| network(text, "/remote_addr"));
    let more = written.remote_addrs.iter().enumerate();
    let more = more.map(|(index, text)| network(text, &format!("/remote_addrs/{index}")));
    one.chain(more).collect::<Result<_, _>>().map_err(|invalid| vec![invalid])
}

fn network(text: &str, path: &str) -> Result<IpNet, Invalid> {
    let parsed = text.parse().ok();
    let parsed = parsed.or_else(|| text.parse::<std::net::IpAddr>().ok().map(IpNet::from));
    parsed.ok_or_else(|| {
        let expected = "an IP address or a CIDR";
        let rule = "object matches none of the required";
        let said = Said::Rule(format!("{rule}: expected {expected}, got {text:?}"));
        Invalid::new(path, text, expected).saying(said)
    })
}

fn facts(id: &Arc<str>, written: &resource::Route, service: Option<&ServicePart>) -> RouteFacts {
    let text = |text: Option<&str>| text.map(Arc::from).unwrap_or_default();
    RouteFacts {
        id: id.clone(),
        name: text(written.name.as_deref()),
        service_id: written.service_id.as_ref().map(|id| id.0.clone()).unwrap_or_default(),
        service_name: text(service.and_then(|service| service.written.name.as_deref())),
    }
}

/// The texts are those of the matcher and the facts, not copies of them.
fn labels(matcher: &Matcher, facts: &RouteFacts) -> Box<[MatchedLabels]> {
    let or = |name: &Arc<str>, id: &Arc<str>| if name.is_empty() { id } else { name }.clone();
    let hosts: Vec<Option<&Arc<str>>> = match &*matcher.hosts {
        [] => vec![None],
        hosts => hosts.iter().map(Some).collect(),
    };
    let has_names = !facts.name.is_empty() || !facts.service_name.is_empty();
    let of = |path: &Arc<str>, host: Option<&Arc<str>>| {
        let labels = |route: Arc<str>, service: Arc<str>| {
            Arc::new(RouteLabels {
                route,
                matched_uri: path.clone(),
                matched_host: host.cloned().unwrap_or_default(),
                service,
            })
        };
        let by_id = labels(facts.id.clone(), facts.service_id.clone());
        let by_name = if has_names {
            labels(or(&facts.name, &facts.id), or(&facts.service_name, &facts.service_id))
        } else {
            by_id.clone()
        };
        MatchedLabels {
            path: path.clone(),
            host: host.cloned(),
            labels: Arc::new(Labels { by_id, by_name }),
        }
    };
    let of_path = |path: &Pattern| {
        let hosts = hosts.iter();
        hosts.map(|host| of(path.text(), *host)).collect::<Vec<_>>()
    };
    matcher.paths.iter().flat_map(of_path).collect()
}
