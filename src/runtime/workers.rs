//! The workers: one thread each, with a runtime, sockets and connection pools of its own.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::{mpsc, watch};
use tokio::time::MissedTickBehavior;

use crate::allocator;
use crate::config::{Config, Listen};
use crate::log::access::AccessLog;
use crate::metrics::Metrics;
use crate::proxy::listener::{Listener, Listening, Protocols};
use crate::proxy::{Settings, Worker};
use crate::snapshot::Published;

/// How often a worker looks after what nobody waits for.
const TICK: Duration = Duration::from_secs(1);

/// Workers that have their sockets and do not run yet.
pub(super) struct Workers {
    listeners: Vec<Vec<Listener>>,
}

/// What the workers work with.
pub(super) struct Work {
    pub(super) settings: Arc<Settings>,
    pub(super) published: Published,
    pub(super) metrics: Arc<Metrics>,
    pub(super) access_log: Option<Arc<AccessLog>>,
    /// Whether clients are told of HTTP/3 where it is served.
    pub(super) alt_svc: bool,
    /// Connections are accepted once it turns true.
    pub(super) ready: watch::Receiver<bool>,
    /// How many workers do.
    pub(super) listening: watch::Sender<usize>,
    pub(super) stopped: watch::Receiver<bool>,
}

/// Workers that run.
pub(super) struct Running {
    threads: Vec<JoinHandle<()>>,
    /// Each worker says how many connections it has left, when it ends or is asked to.
    ended: mpsc::UnboundedReceiver<usize>,
    /// Set to make the workers leave what they have.
    cut: watch::Sender<bool>,
}

// === impl Workers ===

impl Workers {
    /// No workers: a node that does not proxy.
    pub(super) fn none() -> Self {
        Self { listeners: Vec::new() }
    }

    /// Binds the sockets of every worker.
    ///
    /// # Errors
    /// A port that cannot be had.
    pub(super) fn bind(config: &Config) -> anyhow::Result<Self> {
        let apisix = &config.apisix;
        let cores = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let count = config.nginx_config.worker_processes.unwrap_or_else(cores);
        let mut wanted: Vec<(&Listen, bool)> =
            apisix.node_listen.iter().map(|listen| (listen, false)).collect();
        if apisix.ssl.enable {
            wanted.extend(apisix.ssl.listen.iter().map(|listen| (listen, true)));
        }
        let mut listeners: Vec<Vec<Listener>> = (0..count).map(|_| Vec::new()).collect();
        for (listen, tls) in wanted {
            let addr = SocketAddr::from(listen);
            let protocols = Protocols { tls, http2: listen.http2, http3: tls && listen.http3 };
            let first = match Listener::bind(addr, protocols, apisix.enable_reuseport) {
                Ok(first) => first,
                Err(error) if listen.implied && error.is_unsupported() => {
                    tracing::info!(%addr, "this host has no IPv6; not listening on it");
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            for worker in &mut listeners[1..] {
                worker.push(if apisix.enable_reuseport {
                    Listener::bind(addr, protocols, true)?
                } else {
                    first.share()?
                });
            }
            listeners[0].push(first);
        }
        Ok(Self { listeners })
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.listeners.len()
    }

    /// Starts the threads.
    ///
    /// # Errors
    /// The system gives no thread.
    pub(super) fn start(self, work: &Work) -> anyhow::Result<Running> {
        let (end, ended) = mpsc::unbounded_channel();
        let (cut, is_cut) = watch::channel(false);
        let mut threads = Vec::new();
        for (number, listeners) in self.listeners.into_iter().enumerate() {
            let work = work.clone_for_worker();
            let (end, is_cut) = (end.clone(), is_cut.clone());
            let thread = std::thread::Builder::new()
                .name(format!("worker-{number}"))
                .spawn(move || {
                    let left = run(work, listeners, is_cut).unwrap_or_else(|error| {
                        tracing::error!(worker = number, %error, "a worker could not run");
                        0
                    });
                    // Nobody waits any more when the process is being stopped at once.
                    let _ = end.send(left);
                })
                .with_context(|| format!("worker {number}"))?;
            threads.push(thread);
        }
        Ok(Running { threads, ended, cut })
    }
}

// === impl Work ===

impl Work {
    fn clone_for_worker(&self) -> Self {
        Self {
            settings: self.settings.clone(),
            published: self.published.clone(),
            metrics: self.metrics.clone(),
            access_log: self.access_log.clone(),
            alt_svc: self.alt_svc,
            ready: self.ready.clone(),
            listening: self.listening.clone(),
            stopped: self.stopped.clone(),
        }
    }
}

// === impl Running ===

impl Running {
    /// Waits until every worker has finished what it had in flight, at most for `limit`; returns
    /// how many connections were cut.
    pub(super) async fn ended(mut self, limit: Duration) -> usize {
        let mut waiting = self.threads.len();
        let mut left = 0;
        let deadline = tokio::time::Instant::now() + limit;
        while waiting > 0 {
            match tokio::time::timeout_at(deadline, self.ended.recv()).await {
                Ok(Some(_)) => waiting -= 1,
                Ok(None) => return left,
                Err(_) => break,
            }
        }
        self.cut.send_replace(true);
        while waiting > 0 {
            let Some(cut) = self.ended.recv().await else {
                break;
            };
            left += cut;
            waiting -= 1;
        }
        for thread in self.threads {
            // A worker that panicked has ended too.
            let _ = thread.join();
        }
        left
    }
}

/// Runs one worker; returns how many connections it had left at its end.
fn run(
    mut work: Work,
    listeners: Vec<Listener>,
    mut cut: watch::Receiver<bool>,
) -> std::io::Result<usize> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(tokio::runtime::LocalOptions::default())?;
    runtime.block_on(async move {
        // The senders live as long as the process.
        tokio::select! {
            _ = work.ready.wait_for(|ready| *ready) => {}
            _ = work.stopped.wait_for(|stopped| *stopped) => return Ok(0),
        }
        let published = work.published.clone();
        let worker = Worker::new(
            work.settings,
            work.published,
            work.metrics.worker(),
            work.access_log.as_ref().map(|log| log.worker()),
        );
        let listeners: std::io::Result<Vec<_>> =
            listeners.into_iter().map(|one| one.listen(&published, work.alt_svc)).collect();
        let accept = |listening: Listening| {
            let worker = worker.clone();
            tokio::task::spawn_local(async move { listening.run(worker).await })
        };
        let accepting: Vec<_> = listeners?.into_iter().map(accept).collect();
        work.listening.send_modify(|workers| *workers += 1);
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut stopped = Box::pin(work.stopped.wait_for(|stopped| *stopped));
        loop {
            tokio::select! {
                _ = ticks.tick() => {
                    worker.tick();
                    if worker.roster().has_emptied() {
                        allocator::give_back();
                    }
                }
                _ = &mut stopped => break,
            }
        }
        for task in accepting {
            task.abort();
        }
        worker.drain();
        let roster = worker.roster();
        loop {
            tokio::select! {
                () = roster.emptied() => break,
                _ = ticks.tick() => worker.tick(),
                _ = cut.wait_for(|cut| *cut) => break,
            }
        }
        Ok(roster.len())
    })
}
