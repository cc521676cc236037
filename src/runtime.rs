//! Who is started where: the control runtime, the workers, signals, and the end.
//!
//! The control runtime runs the config road, secrets, DNS, the Admin API, the control API and the
//! exporter. Each worker is a thread with a runtime, listening sockets and connection pools of its
//! own ([`workers`]). Decides nothing about a request.

mod banner;
mod generated;
pub mod pid_file;
mod services;
mod settings;
mod signals;
mod stores;
mod workers;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use arc_swap::ArcSwap;
use tokio::sync::watch;
use tokio::task::JoinSet;

use self::pid_file::PidFile;
use self::services::Services;
pub use self::settings::without_effect;
use self::signals::Signal;
use self::workers::{Work, Workers};
use crate::config::{Config, Loaded, LogTarget, Provider, Role};
use crate::issue::Issued;
use crate::log::ErrorLog;
use crate::log::access::AccessLog;
use crate::metrics::Metrics;
use crate::secret::Secrets;
use crate::snapshot::compile::Compiler;
use crate::snapshot::publish::{Road, Shared};
use crate::upstream::dns::Dns;
use crate::{issue, metrics, secret};

/// The version of this build.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Threads of the control runtime: one for the config road, one for those who ask meanwhile.
const CONTROL_THREADS: usize = 2;

/// How far the control runtime's threads stand back behind the workers where cores are short
/// (nice(2)): a change may come a moment later, a request may not.
const CONTROL_NICENESS: i32 = 10;

/// How long a fast stop waits for what is in flight.
const FAST_STOP: Duration = Duration::from_secs(2);

/// Starts a node and runs it until it is told to stop.
///
/// # Errors
/// What keeps it from starting: a log, a port, a store, named.
pub fn start(loaded: Loaded) -> anyhow::Result<()> {
    let Loaded { config, warnings } = loaded;
    let error_log = crate::log::init(&settings::error_log(&config))?;
    for warning in &warnings {
        tracing::warn!(key = warning.path, "config: {}", warning.reason);
    }
    if !config.sluice.core_dumps {
        settings::forbid_core_dumps();
    }
    settings::raise_descriptors(config.nginx_config.worker_rlimit_nofile);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(CONTROL_THREADS)
        .thread_name("control")
        .on_thread_start(stand_back)
        .enable_all()
        .build()?;
    let outcome = runtime.block_on(run(config, error_log));
    // What still blocks (a read of a file, a name that is being resolved) is not waited for.
    runtime.shutdown_timeout(Duration::from_secs(1));
    outcome
}

/// Lowers the priority of the calling thread.
#[allow(unsafe_code)]
fn stand_back() {
    // SAFETY: takes a number and touches no memory. On Linux it is the thread's own priority that
    // changes; that it cannot be lowered is no reason not to start.
    unsafe { libc::nice(CONTROL_NICENESS) };
}

async fn run(mut config: Config, error_log: ErrorLog) -> anyhow::Result<()> {
    let data_dir = config.sluice.data_dir.clone();
    std::fs::create_dir_all(&data_dir)
        .with_context(|| format!("sluice.data_dir: {}", data_dir.display()))?;
    let _running = PidFile::acquire(&PidFile::path(&data_dir))?;
    let mut signals = signals::Signals::new()?;
    let generated = generated::admin_keys(&mut config)?;
    let config = Arc::new(config);
    let access_log = access_log(&config)?;
    let metrics = Metrics::new(settings::metrics(&config));
    let dns = Dns::new(settings::dns(&config))?;
    let (secrets, changed_secrets) = {
        let metrics = metrics.clone();
        let count = move |manager: &str, result: &str| metrics.secret_fetch(manager, result);
        let handle = tokio::runtime::Handle::current();
        Secrets::new(settings::secrets(&config), handle, count)
    };
    let terms = settings::terms(&config, tokio::runtime::Handle::current())?;
    let tickets = terms.tickets.clone();
    let store = stores::open(&config)?;
    let issued = Issued::new(issue::Parts {
        store: store.clone(),
        keyring: settings::keyring(&config)?,
        secrets: secrets.clone(),
        node: generated::node_id(&config)?,
        is_shared: config.deployment.provider == Provider::Etcd,
        is_writable: matches!(config.deployment.provider, Provider::Etcd | Provider::Embedded),
        runtime: tokio::runtime::Handle::current(),
    });
    let compiler = Compiler::new(
        settings::compiler(&config, terms)?,
        settings::keyring(&config)?,
        secrets.clone(),
        dns.clone(),
    );
    let compiler = Shared::new(compiler.with_issued(issued));
    let published = Arc::new(ArcSwap::from_pointee(crate::snapshot::Snapshot::default()));
    let (ready, is_ready) = watch::channel(false);
    let (listening, is_listening) = watch::channel(0);
    let (serving, is_serving) = watch::channel(false);
    let (applied, is_applied) = watch::channel(0);
    let (stop, stopped) = watch::channel(false);

    // Bound first: a port that is taken is told before anything else begins.
    let services = Services::bind(&config).await?;
    let workers = if config.deployment.role == Role::ControlPlane {
        Workers::none()
    } else {
        Workers::bind(&config)?
    };
    tokio::spawn(dns.run());
    tokio::spawn(metrics::tick(metrics.clone(), stop_of(&stopped)));
    let road = Road {
        compiler: compiler.clone(),
        store: store.clone(),
        secrets: secrets.clone(),
        changed_secrets,
        published: published.clone(),
        metrics: metrics.clone(),
        ready,
        applied,
        held: JoinSet::new(),
        replaced: Vec::new(),
    };
    tokio::spawn(road.run());
    let proxy_settings = Arc::new(settings::proxy(&config));
    services.start(services::Parts {
        config: config.clone(),
        compiler,
        published: published.clone(),
        proxy_settings: proxy_settings.clone(),
        secrets,
        store,
        metrics: metrics.clone(),
        tickets: tickets.filter(|_| config.deployment.role != Role::ControlPlane),
        ready: is_serving.clone(),
        applied: is_applied,
        stopped: stopped.clone(),
    })?;
    tokio::spawn(tell_serving(serving, is_ready.clone(), is_listening, workers.count()));
    let running = workers.start(&Work {
        settings: proxy_settings,
        published,
        metrics,
        access_log: access_log.clone(),
        alt_svc: config.sluice.http3.alt_svc,
        ready: is_ready,
        listening,
        stopped,
    })?;
    tokio::spawn(banner::when_ready(is_serving, config.clone(), generated));

    let limit = loop {
        match signals.next().await {
            Signal::Reopen => {
                if let Err(error) = error_log.reopen() {
                    tracing::error!(%error, "the error log could not be opened again");
                }
                if let Some(log) = &access_log {
                    log.reopen();
                }
                tracing::info!("logs opened again");
            }
            Signal::Stop => break FAST_STOP,
            Signal::Quit => break config.nginx_config.worker_shutdown_timeout,
        }
    };
    tracing::info!(limit_s = limit.as_secs(), "stopping: finishing what is in flight");
    stop.send_replace(true);
    tokio::select! {
        left = running.ended(limit) => match left {
            0 => tracing::info!("stopped"),
            left => tracing::warn!(connections = left, "stopped; connections were cut"),
        },
        // Whoever asks a second time does not want to wait.
        _ = signals.next_stop() => tracing::warn!("stopped at once"),
    }
    if let Some(log) = access_log {
        log.sync();
    }
    Ok(())
}

fn access_log(config: &Config) -> anyhow::Result<Option<Arc<AccessLog>>> {
    let http = &config.nginx_config.http;
    if !http.enable_access_log {
        return Ok(None);
    }
    let path = match &http.access_log {
        LogTarget::Stdout => "/dev/stdout".into(),
        LogTarget::Stderr => "/dev/stderr".into(),
        LogTarget::File(path) => path.clone(),
    };
    let buffer = usize::try_from(http.access_log_buffer)?;
    Ok(Some(AccessLog::open(path, buffer)?))
}

/// Says that the node serves once there is config and all of its workers listen: who is told
/// earlier meets ports that refuse.
async fn tell_serving(
    serving: watch::Sender<bool>,
    mut ready: watch::Receiver<bool>,
    mut listening: watch::Receiver<usize>,
    workers: usize,
) {
    if ready.wait_for(|ready| *ready).await.is_ok()
        && listening.wait_for(|listening| *listening >= workers).await.is_ok()
    {
        serving.send_replace(true);
    }
}

/// Ends when `stopped` turns true.
fn stop_of(stopped: &watch::Receiver<bool>) -> impl Future<Output = ()> + Send + use<> {
    let mut stopped = stopped.clone();
    async move {
        // The sender is gone only when the process ends.
        let _ = stopped.wait_for(|stopped| *stopped).await;
    }
}

/// A compiler by the settings of `config` that fetches no secrets: what `sluice test` asks.
///
/// # Errors
/// The keyring or the DNS resolver cannot be used.
pub fn dry_compiler(config: &Config, handle: tokio::runtime::Handle) -> anyhow::Result<Compiler> {
    let terms = settings::terms(config, handle.clone())?;
    let (secrets, _) = Secrets::new(settings::secrets(config), handle, |_, _| {});
    let dns = Dns::new(settings::dns(config))?;
    let settings = settings::compiler(config, terms)?;
    Ok(Compiler::new(settings, settings::keyring(config)?, secrets, dns).dry())
}

/// Whether what the rooms need can be made of `config`: files are read, nothing is started.
///
/// # Errors
/// What cannot, named by its key.
pub fn check_settings(config: &Config) -> anyhow::Result<()> {
    settings::check(config)
}

// Named here so that the compiler's settings and the cache's cannot be mixed up.
type SecretSettings = secret::Settings;
