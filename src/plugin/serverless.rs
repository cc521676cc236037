//! serverless-pre-function and serverless-post-function: Lua functions before and after the plugins
//! of a phase.
//!
//! Source: APISIX `docs/en/latest/plugins/serverless.md`.

use http::StatusCode;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use crate::context::{Chunk, Ctx, Reply};
use crate::lua::{self, Function, Outcome};
use crate::plugin::{Build, Flow, Phases, Plugin, Spec};
use crate::resource::Invalid;

/// Runs first in its phase.
pub type PreFunction = Serverless<true>;
/// Runs last in its phase.
pub type PostFunction = Serverless<false>;

/// Settings of `serverless-pre-function` and `serverless-post-function`.
#[derive(Deserialize, JsonSchema)]
pub struct Config {
    /// When the functions are called.
    #[serde(default)]
    phase: When,
    /// Lua texts, each of which returns a function of the plugin's config and the exchange; called
    /// in order, until one answers.
    #[schemars(length(min = 1))]
    functions: Vec<String>,
}

/// A phase as users name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum When {
    Rewrite,
    #[default]
    Access,
    HeaderFilter,
    BodyFilter,
    Log,
    BeforeProxy,
}

/// The compiled plugin.
pub struct Serverless<const FIRST: bool> {
    phase: When,
    functions: Box<[Function]>,
}

// === impl Serverless ===

impl<const FIRST: bool> Spec for Serverless<FIRST> {
    const NAME: &'static str =
        if FIRST { "serverless-pre-function" } else { "serverless-post-function" };
    const PRIORITY: i32 = if FIRST { 10000 } else { -2000 };
    const PHASES: Phases = Phases::REWRITE
        .and(Phases::ACCESS)
        .and(Phases::BEFORE_PROXY)
        .and(Phases::HEADER_FILTER)
        .and(Phases::BODY_FILTER)
        .and(Phases::LOG);
    type Config = Config;

    fn compile(config: Config, build: &Build<'_>) -> Result<Self, Invalid> {
        let Config { phase, functions } = config;
        let conf = json!({ "phase": phase.name(), "functions": functions });
        let compiled = functions.iter().enumerate().map(|(index, text)| {
            let label = format!("{} {} functions/{index}", build.resource, Self::NAME);
            Function::chunk(text, None, &label, conf.clone(), build.lua)
                .map_err(|invalid| invalid.under(&format!("/functions/{index}")))
        });
        Ok(Self { phase, functions: compiled.collect::<Result<_, _>>()? })
    }
}

impl<const FIRST: bool> Plugin for Serverless<FIRST> {
    fn rewrite<'a>(&'a self, ctx: &'a mut Ctx) -> Flow<'a> {
        self.run(When::Rewrite, ctx)
    }

    fn access<'a>(&'a self, ctx: &'a mut Ctx) -> Flow<'a> {
        self.run(When::Access, ctx)
    }

    fn before_proxy<'a>(&'a self, ctx: &'a mut Ctx) -> Flow<'a> {
        self.run(When::BeforeProxy, ctx)
    }

    fn header_filter(&self, ctx: &mut Ctx) {
        if self.phase != When::HeaderFilter {
            return;
        }
        for function in &self.functions {
            if let Outcome::Failed = function.call(lua::Phase::HeaderFilter, ctx) {
                // What it was to take away must not be seen.
                ctx.response.withheld = true;
                return;
            }
        }
    }

    fn body_filter(&self, ctx: &mut Ctx, chunk: &mut Chunk) {
        for function in &self.functions {
            if !function.filter_body(ctx, chunk) {
                // As above.
                ctx.response.withheld = true;
                return;
            }
        }
    }

    fn filters_body(&self) -> bool {
        self.phase == When::BodyFilter
    }

    fn log(&self, ctx: &Ctx) {
        if self.phase == When::Log {
            for function in &self.functions {
                function.look(lua::Phase::Log, ctx);
            }
        }
    }

    fn logs_head(&self) -> bool {
        self.phase == When::Log
    }
}

impl<const FIRST: bool> Serverless<FIRST> {
    fn run(&self, phase: When, ctx: &mut Ctx) -> Flow<'_> {
        if self.phase != phase {
            return Flow::Next;
        }
        for function in &self.functions {
            match function.call(lua::Phase::Access, ctx) {
                Outcome::Next => {}
                Outcome::Respond(reply) => return Flow::Respond(reply),
                Outcome::Failed => {
                    return Flow::respond(Reply::status(StatusCode::INTERNAL_SERVER_ERROR));
                }
            }
        }
        Flow::Next
    }
}

// === impl When ===

impl When {
    const fn name(self) -> &'static str {
        match self {
            Self::Rewrite => "rewrite",
            Self::Access => "access",
            Self::HeaderFilter => "header_filter",
            Self::BodyFilter => "body_filter",
            Self::Log => "log",
            Self::BeforeProxy => "before_proxy",
        }
    }
}
