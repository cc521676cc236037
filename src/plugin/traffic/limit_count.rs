//! limit-count: so many requests in a window of time, then no more.
//!
//! Counters are of this node (`policy: local`). A window opens with the first request
//! (`fixed`), or slides over two aligned ones (`sliding`).
//!
//! Source: APISIX `docs/en/latest/plugins/limit-count.md`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use http::{HeaderName, HeaderValue, StatusCode};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use smallvec::{SmallVec, smallvec};

use super::counters::{Count, Counters, Owner, Slot};
use crate::context::{Ctx, Reply, Response};
use crate::expr::{Template, Variable, Variables};
use crate::plugin::{Build, Flow, Phases, Plugin, Spec};
use crate::resource::Invalid;

/// Settings of `limit-count`.
#[derive(Deserialize, Serialize, JsonSchema)]
#[schemars(extend("oneOf" = [{"required": ["count", "time_window"]}, {"required": ["rules"]}]))]
pub struct Config {
    /// Requests that pass in a window: a number, or a template of one such as `${http_x_quota}`.
    count: Option<Amount>,
    /// Length of a window in seconds: a number or a template of one.
    time_window: Option<Amount>,
    /// Whether a window opens with its first request or slides along.
    #[serde(default)]
    window_type: WindowType,
    /// Several limits at once, each with a key of its own.
    rules: Option<Vec<Rule>>,
    /// Routes that name the same group share their counters; their configs must be equal.
    group: Option<String>,
    /// What requests are counted by.
    #[serde(default = "remote_addr")]
    key: String,
    /// Whether `key` is a variable's name, a combination such as `$remote_addr $http_x`, or a
    /// constant.
    #[serde(default)]
    key_type: KeyType,
    /// Status of the refusal.
    #[serde(default = "rejected_code")]
    #[schemars(range(min = 200, max = 599))]
    rejected_code: u16,
    /// Text of the refusal, as `error_msg` of a JSON body.
    #[schemars(length(min = 1))]
    rejected_msg: Option<String>,
    /// Where counters live. Only `local` is there yet.
    #[serde(default)]
    policy: Policy,
    /// Whether requests pass when the limit cannot be worked out.
    #[serde(default)]
    allow_degradation: bool,
    /// Whether responses tell limit, remaining requests and seconds until reset.
    #[serde(default = "yes")]
    show_limit_quota_header: bool,
}

/// One of several limits.
#[derive(Deserialize, Serialize, JsonSchema)]
pub struct Rule {
    /// Requests that pass in a window.
    count: Amount,
    /// Length of a window in seconds.
    time_window: Amount,
    /// Template of what requests are counted by; without its variables the rule does not apply.
    key: String,
    /// Stands in the names of this rule's headers; the rule's number when absent.
    header_prefix: Option<String>,
}

/// A positive whole number, or a template that renders to one.
#[derive(Deserialize, Serialize, JsonSchema, Clone)]
#[serde(untagged)]
enum Amount {
    Number(#[schemars(range(min = 1))] u64),
    Text(String),
}

#[derive(Deserialize, Serialize, JsonSchema, Clone, Copy, Default, PartialEq)]
#[serde(rename_all = "lowercase")]
enum WindowType {
    #[default]
    Fixed,
    Sliding,
}

#[derive(Deserialize, Serialize, JsonSchema, Clone, Copy, Default)]
#[serde(rename_all = "snake_case")]
enum KeyType {
    #[default]
    Var,
    VarCombination,
    Constant,
}

#[derive(Deserialize, Serialize, JsonSchema, Clone, Copy, Default, PartialEq)]
#[serde(rename_all = "kebab-case")]
enum Policy {
    #[default]
    Local,
    Redis,
    RedisCluster,
    RedisSentinel,
}

/// Largest number that a template may give: what comes from a client must not overflow a time.
const MOST: u64 = u32::MAX as u64;

/// Metadata of `limit-count`: the names of its headers.
#[derive(Deserialize, JsonSchema)]
pub struct Metadata {
    /// Header that tells the limit.
    #[serde(default = "limit_header")]
    limit_header: String,
    /// Header that tells how many requests are left.
    #[serde(default = "remaining_header")]
    remaining_header: String,
    /// Header that tells the seconds until the window ends.
    #[serde(default = "reset_header")]
    reset_header: String,
}

/// The compiled plugin.
pub struct LimitCount {
    /// In place where it is one: each thing that stands apart may have to be fetched from memory
    /// where there are many routes.
    limits: SmallVec<[Limit; 1]>,
    sliding: bool,
    rejected_code: StatusCode,
    /// The refusal where it has a text of its own.
    refusal: Option<Box<Reply>>,
    allow_degradation: bool,
    show_headers: bool,
    counters: Arc<Counters>,
}

struct Limit {
    /// Whose its counters are, but for the key.
    owner: Owner,
    count: Quantity,
    window: Quantity,
    key: Key,
    headers: Arc<Headers>,
    /// The counter of whoever comes first, where windows are fixed and nobody else has the counters.
    first: Option<Slot>,
}

/// Whose the counters are: a group's, or those of this very config of this resource.
#[derive(Hash)]
enum OwnerName {
    Group(String),
    Config(u64),
}

enum Quantity {
    Known(u64),
    Template(Template),
}

enum Key {
    Constant(String),
    Variable(Variable),
    Template(Template),
    /// As `Template`, but without any of its variables the limit does not apply.
    Conditional(Template),
}

#[derive(PartialEq)]
struct Headers {
    limit: HeaderName,
    remaining: HeaderName,
    reset: HeaderName,
}

struct Verdict {
    passed: bool,
    remaining: u64,
    reset: Duration,
}

fn remote_addr() -> String {
    "remote_addr".to_owned()
}

const fn rejected_code() -> u16 {
    503
}

const fn yes() -> bool {
    true
}

fn limit_header() -> String {
    "X-RateLimit-Limit".to_owned()
}

fn remaining_header() -> String {
    "X-RateLimit-Remaining".to_owned()
}

fn reset_header() -> String {
    "X-RateLimit-Reset".to_owned()
}

// === impl LimitCount ===

impl Spec for LimitCount {
    const NAME: &'static str = "limit-count";
    const PRIORITY: i32 = 1002;
    const PHASES: Phases = Phases::ACCESS;
    type Config = Config;

    fn compile(config: Config, build: &Build<'_>) -> Result<Self, Invalid> {
        if config.policy != Policy::Local {
            return Err(Invalid::new(
                "/policy",
                json!(config.policy),
                "\"local\": the redis policies are not there yet",
            ));
        }
        if config.group.is_some() && config.rules.is_some() {
            return Err(Invalid::new("/group", "group and rules", "one of the two"));
        }
        check_group(&config, build)?;
        // A dry compile must not use up names; a real one gets counters of its own unless the
        // chain kept the old step because the config is the same.
        static CONFIGS: AtomicU64 = AtomicU64::new(0);
        let owner = match &config.group {
            Some(group) => OwnerName::Group(group.clone()),
            None => OwnerName::Config(CONFIGS.fetch_add(1, Ordering::Relaxed)),
        };
        let status = StatusCode::from_u16(config.rejected_code)
            .map_err(|_| Invalid::new("/rejected_code", config.rejected_code, "a status"))?;
        let refusal = config
            .rejected_msg
            .as_ref()
            .map(|message| Box::new(Reply::json(status, &json!({ "error_msg": message }))));
        let counters = &build.shared.counters;
        Ok(Self {
            limits: limits(&config, build, |index| counters.owner((&owner, index)))?,
            sliding: config.window_type == WindowType::Sliding,
            rejected_code: status,
            refusal,
            allow_degradation: config.allow_degradation,
            show_headers: config.show_limit_quota_header,
            counters: build.shared.counters.clone(),
        })
    }
}

impl Plugin for LimitCount {
    fn access<'a>(&'a self, ctx: &'a mut Ctx) -> Flow<'a> {
        let mut applied = 0;
        for limit in &self.limits {
            let Some(owner) = self.counter_of(limit, ctx) else {
                continue;
            };
            let (Some(count), Some(window)) = (limit.count.of(ctx), limit.window.of(ctx)) else {
                return self.degraded();
            };
            applied += 1;
            let window = Duration::from_secs(window);
            let verdict = match &limit.first {
                Some(first) => {
                    let seen = self.counters.add_in(first, owner, 1, window, ctx.start);
                    Verdict::of(seen, count)
                }
                None if self.sliding => self.slide(owner, count, window, ctx),
                None => Verdict::of(self.counters.add(owner, 1, window, ctx.start), count),
            };
            if self.show_headers {
                limit.headers.tell(&mut ctx.response, count, &verdict);
            }
            if !verdict.passed {
                return Flow::Respond(self.refusal());
            }
        }
        if applied == 0 { self.degraded() } else { Flow::Next }
    }
}

impl LimitCount {
    fn refusal(&self) -> Box<Reply> {
        self.refusal.clone().unwrap_or_else(|| Box::new(Reply::status(self.rejected_code)))
    }

    /// The counter that this request counts for; `None` when the limit does not apply to it.
    fn counter_of(&self, limit: &Limit, ctx: &Ctx) -> Option<Owner> {
        let owner = |key: &str| self.counters.owner((limit.owner.as_key(), key));
        let by_template = |template: &Template| {
            let mut key = String::new();
            let resolved = template.render(ctx, &mut key);
            (resolved > 0).then(|| owner(&key))
        };
        match &limit.key {
            Key::Constant(key) => Some(owner(key)),
            Key::Conditional(template) => by_template(template),
            Key::Template(template) => {
                Some(by_template(template).unwrap_or_else(|| self.by_address(limit, ctx)))
            }
            Key::Variable(Variable::RemoteAddr) => Some(self.by_address(limit, ctx)),
            Key::Variable(variable) => Some(match ctx.get(variable) {
                Some(key) => owner(&key),
                None => self.by_address(limit, ctx),
            }),
        }
    }

    fn by_address(&self, limit: &Limit, ctx: &Ctx) -> Owner {
        self.counters.owner((limit.owner.as_key(), ctx.remote_ip()))
    }

    /// Weighs the previous aligned window by how much of it the sliding one still covers; only
    /// requests that pass are counted.
    fn slide(&self, owner: Owner, limit: u64, window: Duration, ctx: &Ctx) -> Verdict {
        let clock = self.counters.clock(ctx.start).as_secs_f64();
        let length = window.as_secs_f64();
        let number = (clock / length) as u64;
        let left = length - clock % length;
        let of = |number: u64| self.counters.owner((owner.as_key(), number));
        let last = self.counters.get(of(number.wrapping_sub(1)), ctx.start);
        let here = self.counters.get(of(number), ctx.start);
        let estimate = last.count as f64 * (left / length) + here.count as f64;
        if estimate + 1.0 > limit as f64 {
            return Verdict { passed: false, remaining: 0, reset: Duration::from_secs_f64(left) };
        }
        self.counters.add(of(number), 1, window * 2, ctx.start);
        Verdict {
            passed: true,
            remaining: (limit as f64 - estimate - 1.0).max(0.0) as u64,
            reset: Duration::from_secs_f64(left),
        }
    }

    fn degraded(&self) -> Flow<'_> {
        if self.allow_degradation {
            Flow::Next
        } else {
            Flow::respond(Reply::status(StatusCode::INTERNAL_SERVER_ERROR))
        }
    }
}

// === impl Verdict ===

impl Verdict {
    /// On what has been counted in a fixed window.
    fn of(seen: Count, limit: u64) -> Self {
        Self {
            passed: seen.count <= limit,
            remaining: limit.saturating_sub(seen.count),
            reset: seen.reset,
        }
    }
}

// === impl Headers ===

impl Headers {
    fn tell(&self, response: &mut Response, count: u64, verdict: &Verdict) {
        let mut digits = itoa::Buffer::new();
        let mut tell = |name: &HeaderName, text: &[u8]| {
            if let Ok(value) = HeaderValue::from_bytes(text) {
                response.set(name.clone(), value);
            }
        };
        tell(&self.limit, digits.format(count).as_bytes());
        tell(&self.remaining, digits.format(verdict.remaining).as_bytes());
        // Hundredths of a second without zeros at the end, as APISIX rounds them.
        let seconds = digits.format(verdict.reset.as_secs()).as_bytes();
        let hundredths = (verdict.reset.subsec_millis() / 10) as u8;
        let decimals = [b'.', b'0' + hundredths / 10, b'0' + hundredths % 10];
        let decimals = match decimals {
            [_, b'0', b'0'] => &[],
            [_, _, b'0'] => &decimals[..2],
            _ => &decimals[..],
        };
        // The longest number of seconds has twenty digits.
        let mut reset = [0; 24];
        let length = seconds.len() + decimals.len();
        reset[..seconds.len()].copy_from_slice(seconds);
        reset[seconds.len()..length].copy_from_slice(decimals);
        tell(&self.reset, &reset[..length]);
    }
}

// === impl Quantity ===

impl Quantity {
    fn compile(amount: &Amount, path: &str) -> Result<Self, Invalid> {
        match amount {
            Amount::Number(number) => Ok(Self::Known(*number)),
            Amount::Text(text) => {
                let template = Template::parse(text);
                match template.as_literal() {
                    None => Ok(Self::Template(template)),
                    Some(literal) => literal.parse().map(Self::Known).map_err(|_| {
                        Invalid::new(path, text, "a positive number or a template of one")
                    }),
                }
            }
        }
    }

    /// The number for this request, `None` when it renders to no positive number.
    fn of(&self, ctx: &Ctx) -> Option<u64> {
        match self {
            Self::Known(number) => Some(*number),
            Self::Template(template) => {
                let mut text = String::new();
                template.render(ctx, &mut text);
                text.parse().ok().filter(|number| (1..=MOST).contains(number))
            }
        }
    }
}

fn limits(
    config: &Config,
    build: &Build<'_>,
    owner: impl Fn(usize) -> Owner,
) -> Result<SmallVec<[Limit; 1]>, Invalid> {
    let metadata = build.metadata.cloned().unwrap_or_else(|| json!({}));
    let names: Metadata = serde_json::from_value(metadata)
        .map_err(|error| Invalid::new("", error, "header names in the plugin's metadata"))?;
    let is_fixed = config.window_type == WindowType::Fixed;
    let first = || (is_fixed && config.group.is_none()).then(Slot::default);
    if let (Some(count), Some(window)) = (&config.count, &config.time_window) {
        let key = match config.key_type {
            KeyType::Constant => Key::Constant(config.key.clone()),
            KeyType::Var => Key::Variable(Variable::parse(&config.key)),
            KeyType::VarCombination => Key::Template(Template::parse(&config.key)),
        };
        return Ok(smallvec![Limit {
            owner: owner(0),
            count: Quantity::compile(count, "/count")?,
            window: Quantity::compile(window, "/time_window")?,
            key,
            headers: headers(&names, None)?,
            first: first(),
        }]);
    }
    let mut limits = SmallVec::new();
    let rules = config.rules.as_deref().unwrap_or_default();
    for (index, rule) in rules.iter().enumerate() {
        if rules[..index].iter().any(|earlier| earlier.key == rule.key) {
            let path = format!("/rules/{index}/key");
            return Err(Invalid::new(path, &rule.key, "a key that no other rule has"));
        }
        let number = (index + 1).to_string();
        let prefix = rule.header_prefix.as_deref().unwrap_or(&number);
        limits.push(Limit {
            owner: owner(index),
            count: Quantity::compile(&rule.count, &format!("/rules/{index}/count"))?,
            window: Quantity::compile(&rule.time_window, &format!("/rules/{index}/time_window"))?,
            key: Key::Conditional(Template::parse(&rule.key)),
            headers: headers(&names, Some(prefix))?,
            first: first(),
        });
    }
    Ok(limits)
}

/// The headers that most limits tell, once for all of them.
static USUAL: LazyLock<Arc<Headers>> = LazyLock::new(|| {
    Arc::new(Headers {
        limit: HeaderName::from_static("x-ratelimit-limit"),
        remaining: HeaderName::from_static("x-ratelimit-remaining"),
        reset: HeaderName::from_static("x-ratelimit-reset"),
    })
});

fn headers(names: &Metadata, prefix: Option<&str>) -> Result<Arc<Headers>, Invalid> {
    let name = |name: &str| {
        let name = match prefix {
            Some(prefix) => name.replacen("RateLimit-", &format!("{prefix}-RateLimit-"), 1),
            None => name.to_owned(),
        };
        HeaderName::try_from(&name).map_err(|_| Invalid::new("", &name, "a header name"))
    };
    let headers = Headers {
        limit: name(&names.limit_header)?,
        remaining: name(&names.remaining_header)?,
        reset: name(&names.reset_header)?,
    };
    Ok(if headers == **USUAL { USUAL.clone() } else { Arc::new(headers) })
}

/// Refuses a config that names a group whose other members are configured differently.
fn check_group(config: &Config, build: &Build<'_>) -> Result<(), Invalid> {
    let Some(group) = &config.group else {
        return Ok(());
    };
    let mut groups = match build.shared.groups.lock() {
        Ok(groups) => groups,
        Err(poisoned) => poisoned.into_inner(),
    };
    let ours = json!(config);
    match groups.get(group) {
        Some(theirs) if *theirs != ours => Err(Invalid::new(
            "/group",
            group,
            "the same settings as the other members of the group",
        )),
        Some(_) => Ok(()),
        None => {
            if !build.dry {
                groups.insert(group.clone(), ours);
            }
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_the_reset_in_hundredths_without_zeros_at_the_end() {
        for (millis, told) in
            [(0, "0"), (9, "0"), (10, "0.01"), (100, "0.1"), (2_999, "2.99"), (3_600_000, "3600")]
        {
            let verdict =
                Verdict { passed: true, remaining: 7, reset: Duration::from_millis(millis) };
            let mut response = Response::default();
            USUAL.tell(&mut response, 9, &verdict);
            let headers = response.join();
            assert_eq!(headers["x-ratelimit-limit"], "9");
            assert_eq!(headers["x-ratelimit-remaining"], "7");
            assert_eq!(headers["x-ratelimit-reset"], told, "{millis}");
        }
    }
}
