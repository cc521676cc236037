//! Routes, compiled: what they match by, what runs, where they lead.

use std::sync::Arc;

use ipnet::IpNet;

use super::{RoutePart, ServicePart, Workshop, Wrong, no_script};
use crate::expr::Expr;
use crate::lua;
use crate::metrics::RouteLabels;
use crate::plugin::chain::{self, Chain};
use crate::resource::{self, Invalid, Said};
use crate::router::{self, Matcher, Methods, Pattern};
use crate::snapshot::{Rare, Route};
use crate::upstream::Timeouts;

// === impl Workshop ===

impl Workshop<'_, '_> {
    pub(in crate::snapshot) fn route(
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
        let (by_id, inline) = (written.upstream_id.as_ref(), written.upstream.as_ref());
        let old = old.and_then(|old| old.route.upstream.as_ref());
        let upstream = self.upstream_of(&source, by_id, inline, old)?;
        let upstream = upstream.or_else(|| service.and_then(|service| service.upstream.clone()));
        let own_hosts = written.all_hosts().map(|host| Arc::from(host.as_str()));
        let mut hosts: Vec<Arc<str>> = own_hosts.collect();
        if let (true, Some(service)) = (hosts.is_empty(), service) {
            hosts = service.written.hosts.iter().map(|host| host.as_str().into()).collect();
        }
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
        let matcher = Matcher {
            id: id.clone(),
            hosts: hosts.into(),
            paths: patterns(self.settings.router, written)?,
            methods: Methods::new(written.methods.iter().map(String::as_str)),
            priority: written.priority,
            pins: vars.as_ref().map(Expr::pins).unwrap_or_default().into(),
        };
        let filter = match &written.filter_func {
            None => None,
            Some(text) => {
                let label = format!("{source} filter_func");
                let compiled = lua::Function::filter(text, &label, self.settings.lua);
                Some(compiled.map_err(|invalid| vec![invalid.under("/filter_func")])?)
            }
        };
        let (labels, others) = labels(&matcher, written, service);
        let rare = Rare {
            labels: others,
            timeouts: timeouts(written)?,
            remote_addrs: networks(written)?,
            vars,
            filter,
        };
        let route = Route {
            labels,
            chain,
            upstream,
            websocket: websocket.unwrap_or(false),
            rare: rare.is_some().then(|| Box::new(rare)),
        };
        Ok(RoutePart {
            matcher: Arc::new(matcher),
            route: Arc::new(route),
            plugins,
            plugin_config_id: written.plugin_config_id.as_ref().map(|id| id.0.clone()),
        })
    }

    /// Checks a stream route, which nothing serves yet; gives its protocol.
    pub(in crate::snapshot) fn stream_route(
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
}

fn timeouts(written: &resource::Route) -> Result<Option<Timeouts>, Wrong> {
    let Some(timeout) = written.timeout else {
        return Ok(None);
    };
    let of = |seconds: f64, path: &str| {
        std::time::Duration::try_from_secs_f64(seconds)
            .map_err(|_| vec![Invalid::new(path, seconds, "seconds")])
    };
    Ok(Some(Timeouts {
        connect: of(timeout.connect, "/timeout/connect")?,
        send: of(timeout.send, "/timeout/send")?,
        read: of(timeout.read, "/timeout/read")?,
    }))
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

/// What a route is told by, for the first pair of path and host and for the others. The texts of
/// patterns are the matcher's, not copies.
fn labels(
    matcher: &Matcher,
    written: &resource::Route,
    service: Option<&ServicePart>,
) -> (Arc<RouteLabels>, Box<[Arc<RouteLabels>]>) {
    let text = |text: Option<&str>| text.map(Arc::from).unwrap_or_default();
    let unmatched = RouteLabels {
        id: matcher.id.clone(),
        name: text(written.name.as_deref()),
        service_id: written.service_id.as_ref().map(|id| id.0.clone()).unwrap_or_default(),
        service_name: text(service.and_then(|service| service.written.name.as_deref())),
        ..RouteLabels::default()
    };
    let hosts: Vec<Arc<str>> = match &*matcher.hosts {
        [] => vec![Arc::default()],
        hosts => hosts.to_vec(),
    };
    let of_path = |path: &Pattern| {
        let labels = |host: &Arc<str>| {
            let (matched_uri, matched_host) = (path.text().clone(), host.clone());
            Arc::new(RouteLabels { matched_uri, matched_host, ..unmatched.clone() })
        };
        hosts.iter().map(labels).collect::<Vec<_>>()
    };
    let mut all = matcher.paths.iter().flat_map(of_path);
    // There is no route without a path.
    let first = all.next().unwrap_or_default();
    (first, all.collect())
}
