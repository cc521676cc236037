//! Sluice: an API gateway whose config lives in etcd and whose certificates come from Vault.
//!
//! # The house
//!
//! Two roads run through it. The **config road** is slow and off the workers:
//! [`store`] delivers bytes at a revision, [`resource`] decodes them, [`snapshot`] resolves
//! references, compiles and publishes through one `ArcSwap`. The **request road** is hot and
//! stays on one worker from accept to last byte: [`proxy`] accepts, [`tls`] answers the SNI,
//! [`router`] finds, [`plugin`]s rewrite and decide, [`upstream`] connects and sends, [`metrics`]
//! and [`log`] write down what happened.
//!
//! # The rooms
//!
//! Each room may use only the rooms named in its row; `t/house.rs` reads this table and every
//! `crate::room` path in `src/` and fails on an arrow that is not here.
//!
//! | room | owns | may use |
//! |---|---|---|
//! | `allocator` | the binary's allocator | |
//! | `clock` | the time: as of this turn of a worker's loop, and by the calendar | |
//! | `call` | calls of the node's own to other servers: bounded answers, failures in plain words | |
//! | `config` | `conf/config.yaml` as one typed, checked value | |
//! | `resource` | one file a kind: type, schema, defaults, references; the keyring for what is encrypted at rest | |
//! | `serve` | HTTP for the node's own services: accept loop, TLS, one handler | |
//! | `metrics` | the per-worker cells, what a matched route is told by, and the Prometheus exporter | serve |
//! | `log` | access and error log writers | |
//! | `store` | bytes at a revision: list, watch, compare-and-put; `etcd`, `embedded`, `file`, `last_good` | tls, clock, call |
//! | `expr` | names of variables, templates and the `vars` language, all compiled | resource |
//! | `secret` | reference grammar, cache, one file a manager, the redacting `Secret` wrapper | resource, clock, call |
//! | `http1` | HTTP/1.1 messages as bytes: heads parsed, bodies framed, output gathered; no sockets | |
//! | `http2` | HTTP/2 messages as bytes: frames read and written, header blocks made requests of; no sockets | http1 |
//! | `tls` | the byte stream, plain or TLS; certificates, SNI map, client auth, the rustls configurations | expr, clock, call |
//! | `upstream` | nodes, balancer, connection pool, DNS, HTTP/1.1 to the upstream | resource, tls, http1, clock |
//! | `router` | host and path trees, match order, what a path's parameters stand for | resource, expr |
//! | `context` | `Ctx`: one exchange from first byte to log line; consumer index | expr, resource, metrics, clock, router |
//! | `lua` | Lua functions of the config: compiled, loaded a thread, called within bounds; what they find | context, expr, resource |
//! | `plugin` | trait, registry, chain, one file a plugin | context, expr, resource, metrics, lua |
//! | `issue` | certificates that the gateway gets for itself, and who of the nodes asks | resource, store, secret, tls, clock, call |
//! | `snapshot` | compile, carry over, publish; what was rejected and why; the dry compile of `check`; explanations | store, resource, expr, secret, issue, tls, upstream, context, plugin, router, metrics, lua, clock |
//! | `proxy` | listeners, workers' connections, the pipeline, forwarding, upgrade, responses | snapshot, context, plugin, upstream, tls, router, expr, metrics, log, resource, http1, http2, clock |
//! | `cluster` | which nodes live and what each has applied; the ticket keys that they share | store, resource, tls, clock |
//! | `admin` | the Admin API; every write goes check, then store | resource, store, plugin, snapshot, cluster, serve, clock |
//! | `control` | control API, status and readiness; what becomes of a request | resource, store, secret, issue, tls, plugin, snapshot, proxy, cluster, serve, clock |
//! | `runtime` | threads, workers, signals, drain: who is started where | everything |
//! | `cli` | command-line verbs and their words | everything |

pub mod allocator;
pub mod clock;
pub mod call;
pub mod config;
pub mod resource;
pub mod serve;
pub mod metrics;
pub mod log;
pub mod store;
pub mod expr;
pub mod secret;
pub mod http1;
pub mod http2;
pub mod tls;
pub mod upstream;
pub mod router;
pub mod context;
pub mod lua;
pub mod plugin;
pub mod issue;
pub mod snapshot;
pub mod proxy;
pub mod cluster;
pub mod admin;
pub mod control;
pub mod runtime;
pub mod cli;
