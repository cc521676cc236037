//! key-auth: the caller shows a key in a header or in the query.
//!
//! Source: APISIX `docs/en/latest/plugins/key-auth.md`.

use std::borrow::Cow;

use http::{HeaderName, HeaderValue, StatusCode, header};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use crate::context::{Ctx, Reply, decoded};
use crate::plugin::{Authenticates, Build, Flow, Phases, Plugin, Spec};
use crate::resource::Invalid;

/// Settings of `key-auth` on a route or service.
#[derive(Deserialize, JsonSchema)]
pub struct Config {
    /// Name of the header that carries the key.
    #[serde(default = "apikey")]
    header: String,
    /// Name of the query argument that carries the key when the header is absent.
    #[serde(default = "apikey")]
    query: String,
    /// Realm told in `WWW-Authenticate` when the key is missing or wrong.
    #[serde(default = "realm")]
    #[schemars(length(min = 1, max = 128), regex(pattern = r"^[\x20-\x21\x23-\x5B\]-\x7E]+$"))]
    realm: String,
    /// Whether the key is taken out before the request goes to the upstream.
    #[serde(default)]
    hide_credentials: bool,
    /// Name of the consumer that a caller without a valid key becomes.
    #[schemars(length(min = 1))]
    anonymous_consumer: Option<String>,
}

/// What a consumer writes under `key-auth`.
#[derive(Deserialize, JsonSchema)]
pub struct Consumer {
    /// The consumer's key; two consumers cannot share one.
    key: String,
}

/// The compiled plugin.
pub struct KeyAuth {
    header: HeaderName,
    query: String,
    challenge: HeaderValue,
    hide_credentials: bool,
    anonymous_consumer: Option<String>,
}

fn apikey() -> String {
    "apikey".to_owned()
}

fn realm() -> String {
    "key".to_owned()
}

// === impl KeyAuth ===

impl Spec for KeyAuth {
    const NAME: &'static str = "key-auth";
    const PRIORITY: i32 = 2500;
    const PHASES: Phases = Phases::REWRITE;
    const STATELESS: bool = true;
    type Config = Config;

    fn compile(config: Config, _: &Build<'_>) -> Result<Self, Invalid> {
        let header = HeaderName::try_from(&config.header)
            .map_err(|_| Invalid::new("/header", &config.header, "a header name"))?;
        let challenge = HeaderValue::try_from(format!("apikey realm=\"{}\"", config.realm))
            .map_err(|_| Invalid::new("/realm", &config.realm, "printable ASCII"))?;
        Ok(Self {
            header,
            query: config.query,
            challenge,
            hide_credentials: config.hide_credentials,
            anonymous_consumer: config.anonymous_consumer,
        })
    }
}

impl Authenticates for KeyAuth {
    type Consumer = Consumer;
    const CONSUMER_ENCRYPTED: &'static [&'static str] = &["key"];

    fn credential(consumer: Consumer) -> String {
        consumer.key
    }
}

impl Plugin for KeyAuth {
    fn rewrite<'a>(&'a self, ctx: &'a mut Ctx) -> Flow<'a> {
        let in_header = ctx.request.headers.get(&self.header);
        let found = match in_header {
            Some(value) => {
                value.to_str().ok().and_then(|key| ctx.consumers.by_credential(Self::NAME, key))
            }
            None => match self.query_key(ctx) {
                Some(key) => ctx.consumers.by_credential(Self::NAME, &key),
                None => return self.without_key(ctx, "Missing API key in request"),
            },
        };
        let Some(consumer) = found.cloned() else {
            return self.without_key(ctx, "Invalid API key in request");
        };
        if self.hide_credentials {
            let by_header = in_header.is_some();
            self.hide(ctx, by_header, !by_header);
        }
        ctx.attach(consumer);
        Flow::Next
    }
}

impl KeyAuth {
    fn query_key<'c>(&self, ctx: &'c Ctx) -> Option<Cow<'c, str>> {
        let pairs = ctx.query()?.split('&');
        let raw =
            pairs.filter_map(|pair| pair.split_once('=')).find(|(name, _)| *name == self.query)?.1;
        Some(decoded(raw.as_bytes()))
    }

    fn without_key<'a>(&'a self, ctx: &'a mut Ctx, message: &str) -> Flow<'a> {
        let Some(anonymous) = &self.anonymous_consumer else {
            return self.refuse(message);
        };
        if self.hide_credentials {
            self.hide(ctx, true, true);
        }
        match ctx.consumers.by_name(anonymous).cloned() {
            Some(consumer) => {
                ctx.attach(consumer);
                Flow::Next
            }
            None => self.refuse("Invalid user authorization"),
        }
    }

    fn refuse(&self, message: &str) -> Flow<'_> {
        let mut reply = Reply::json(StatusCode::UNAUTHORIZED, &json!({ "message": message }));
        let challenge = self.challenge.clone();
        reply.headers.insert(header::WWW_AUTHENTICATE, challenge);
        Flow::respond(reply)
    }

    fn hide(&self, ctx: &mut Ctx, header: bool, query: bool) {
        if header {
            ctx.request.headers.remove(&self.header);
        }
        if query {
            ctx.retain_arguments(|argument| argument.split('=').next() != Some(&self.query));
        }
    }
}
