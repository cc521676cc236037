//! Staples: the OCSP answers that are shown with certificates, fetched beside the handshakes.
//!
//! Each certificate that is to be stapled has a task of its own on the control runtime, which asks
//! its responder, checks the answer and puts a finished [`CertifiedKey`] where handshakes load it.
//! A staple is renewed long before its end and serves until then; a new snapshot takes over the
//! staples of the certificates that it still has.
//!
//! Source: RFC 6066 section 8, RFC 6960; APISIX `docs/en/latest/plugins/ocsp-stapling.md`.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use rustls::SignatureScheme;
use rustls::sign::CertifiedKey;
use tokio::runtime::Handle;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::AbortHandle;

use super::certificate::Certificate;
use super::ocsp::{self, OcspError, Question};
use super::server::{Served, Terms};
use crate::{call, clock};

/// How long a responder may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// More than any answer about one certificate takes.
const LARGEST: usize = 64 * 1024;

/// When a failure is tried again for the first time; doubles from there to [`LAST_RETRY`].
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(300);

/// How many responders are asked at the same time.
const AT_ONCE: usize = 16;

/// The least time between two answers that are good.
const LEAST: Duration = Duration::from_secs(5);

/// An answer that is to be good for longer is looked at again all the same.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// How a certificate is stapled to (`ocsp_stapling` of an ssl object).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Stapling {
    /// Whether answers are stapled whatever they say and whoever signed them.
    pub skip_verify: bool,
    /// The longest time between two questions.
    pub cache_ttl: Duration,
}

/// A certificate as handshakes show it.
#[derive(Debug)]
pub struct Shown {
    key: Arc<CertifiedKey>,
    /// Set where an answer is to be stapled.
    staple: Option<Arc<Staple>>,
    /// Whether clients believe it only with a staple.
    pub must_staple: bool,
}

/// Every staple that is in use. Clones share everything.
#[derive(Clone)]
pub struct Staples(Arc<Inner>);

struct Inner {
    runtime: Handle,
    /// Made with the first staple: it comes with the system's authorities, which most nodes never need.
    client: LazyLock<Result<reqwest::Client, String>>,
    known: Mutex<HashMap<(String, Stapling), Weak<Staple>>>,
    asking: Arc<Semaphore>,
    /// How many have not been asked for yet.
    awaited: watch::Sender<usize>,
}

/// One that has not been asked for yet, until it is dropped.
struct Awaited(watch::Sender<usize>);

/// The staple of one certificate.
#[derive(Debug)]
struct Staple {
    /// The certificate with an answer, while there is one that is good.
    stapled: ArcSwapOption<CertifiedKey>,
    status: Mutex<Status>,
    /// Asks without waiting.
    again: Arc<Notify>,
    task: Mutex<Option<AbortHandle>>,
}

/// How it stands with a staple.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Status {
    /// Until when the answer that is shown is good, in seconds since 1970; `None` when none is.
    pub until: Option<i64>,
    /// What the last question failed with, if it did.
    pub error: Option<String>,
}

/// What a question came to.
struct Fetched {
    bytes: Vec<u8>,
    /// Seconds since 1970.
    until: i64,
    /// When to ask again.
    again: Duration,
}

/// Why there is no answer to staple.
#[derive(Debug, thiserror::Error)]
enum StapleError {
    #[error(transparent)]
    Ocsp(#[from] OcspError),
    #[error("{url}: {reason}")]
    Unreachable { url: String, reason: String },
}

/// Asks for one certificate, again and again.
struct Asking {
    ssl: Arc<str>,
    key: Arc<CertifiedKey>,
    subject: String,
    stapling: Stapling,
    staple: Weak<Staple>,
    again: Arc<Notify>,
    /// Shared by all, so that a node with many certificates does not ask for all of them at once.
    turns: Arc<Semaphore>,
}

// === impl Shown ===

impl Shown {
    /// `certificate` of the ssl object `ssl`, stapled to as `stapling` says.
    pub(super) fn new(
        ssl: &Arc<str>,
        certificate: &Certificate,
        stapling: Option<Stapling>,
        terms: &Terms,
    ) -> Self {
        let must_staple = certificate.key.cert.first().is_some_and(|leaf| ocsp::must_staple(leaf));
        if must_staple && stapling.is_none() && terms.staples.is_some() {
            tracing::warn!(
                ssl = &**ssl,
                subject = certificate.subject,
                "clients believe this certificate only with an OCSP answer stapled to it \
                 (must-staple): set ocsp_stapling.enabled of the ssl object"
            );
        }
        let staple = stapling.zip(terms.staples.as_ref());
        let staple = staple.map(|(stapling, staples)| staples.of(ssl, certificate, stapling));
        Self { key: certificate.key.clone(), staple, must_staple }
    }

    /// With its staple, if there is one now.
    pub(super) fn now(&self) -> Arc<CertifiedKey> {
        let stapled = self.staple.as_ref().and_then(|staple| staple.stapled.load_full());
        stapled.unwrap_or_else(|| self.key.clone())
    }

    pub(super) fn can_sign(&self, offered: &[SignatureScheme]) -> bool {
        self.key.key.choose_scheme(offered).is_some()
    }

    /// Whether clients believe it only with a staple that has not been asked for yet.
    pub(super) fn awaits_staple(&self) -> bool {
        self.must_staple && self.status().is_some_and(|status| status == Status::default())
    }

    /// How it stands with the staple; `None` where nothing is to be stapled.
    pub fn status(&self) -> Option<Status> {
        self.staple.as_ref().map(|staple| lock(&staple.status).clone())
    }
}

// === impl Staples ===

impl Staples {
    /// None yet; they are fetched on `runtime`.
    pub fn new(runtime: Handle) -> Self {
        let client = || {
            let client = reqwest::Client::builder()
                .timeout(PATIENCE)
                .redirect(reqwest::redirect::Policy::limited(3));
            client.build().map_err(|error| error.to_string())
        };
        Self(Arc::new(Inner {
            runtime,
            client: LazyLock::new(client),
            known: Mutex::default(),
            asking: Arc::new(Semaphore::new(AT_ONCE)),
            awaited: watch::Sender::new(0),
        }))
    }

    /// Waits, for `limit` at most, until each has been asked for once: a node that starts shows its
    /// certificates with their staples from the first handshake on.
    pub async fn settle(&self, limit: Duration) {
        let mut awaited = self.0.awaited.subscribe();
        let _ = tokio::time::timeout(limit, awaited.wait_for(|awaited| *awaited == 0)).await;
    }

    /// The same for what is to be served for one ssl object, as far as clients insist on a staple.
    pub async fn settle_for(&self, served: &Served, limit: Duration) {
        let mut awaited = self.0.awaited.subscribe();
        let asked = awaited.wait_for(|_| !served.awaits_staple());
        let _ = tokio::time::timeout(limit, asked).await;
    }

    /// The staple of a certificate: the one there is, or a new one that is being fetched.
    fn of(&self, ssl: &Arc<str>, certificate: &Certificate, stapling: Stapling) -> Arc<Staple> {
        let mut known = lock(&self.0.known);
        // Those that are gone go out now and then: looking at all each time would make a load of
        // many certificates cost their square.
        if known.len().is_power_of_two() {
            known.retain(|_, staple| staple.strong_count() > 0);
        }
        let place = (certificate.fingerprint.clone(), stapling);
        if let Some(staple) = known.get(&place).and_then(Weak::upgrade) {
            // Whoever writes the ssl object again may have mended what was missing.
            if staple.stapled.load().is_none() {
                staple.again.notify_one();
            }
            return staple;
        }
        let again = Arc::new(Notify::new());
        let staple = Arc::new(Staple {
            stapled: ArcSwapOption::empty(),
            status: Mutex::default(),
            again: again.clone(),
            task: Mutex::default(),
        });
        let asking = Asking {
            ssl: ssl.clone(),
            key: certificate.key.clone(),
            subject: certificate.subject.clone(),
            stapling,
            staple: Arc::downgrade(&staple),
            again,
            turns: self.0.asking.clone(),
        };
        let first = Awaited::new(&self.0.awaited);
        let task = self.0.runtime.spawn(asking.run(self.0.client.clone(), first));
        *lock(&staple.task) = Some(task.abort_handle());
        known.insert(place, Arc::downgrade(&staple));
        staple
    }
}

// === impl Awaited ===

impl Awaited {
    fn new(awaited: &watch::Sender<usize>) -> Self {
        awaited.send_modify(|awaited| *awaited += 1);
        Self(awaited.clone())
    }
}

impl Drop for Awaited {
    fn drop(&mut self) {
        self.0.send_modify(|awaited| *awaited -= 1);
    }
}

// === impl Staple ===

impl Drop for Staple {
    fn drop(&mut self) {
        if let Some(task) = lock(&self.task).take() {
            task.abort();
        }
    }
}

impl std::fmt::Debug for Staples {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Staples({})", lock(&self.0.known).len())
    }
}

// === impl Asking ===

impl Asking {
    async fn run(self, client: Result<reqwest::Client, String>, first: Awaited) {
        let mut first = Some(first);
        let mut retry = FIRST_RETRY;
        // When the answer that is shown is over, though the calendar may be set back meanwhile.
        let mut over_at = Instant::now();
        loop {
            let outcome = {
                // Closed it is never.
                let _turn = self.turns.acquire().await;
                self.fetch(&client).await
            };
            let Some(staple) = self.staple.upgrade() else {
                return;
            };
            let mut pause = match outcome {
                Ok(fetched) => {
                    retry = FIRST_RETRY;
                    let pause = fetched.again;
                    over_at = Instant::now() + rest(fetched.until, clock::unix(), LONGEST);
                    self.show(&staple, fetched);
                    pause
                }
                Err(error) => {
                    self.tell(&staple, &error);
                    let pause = retry;
                    retry = (retry * 2).min(LAST_RETRY);
                    pause
                }
            };
            first.take();
            // Nodes that started together are not to ask together for ever.
            pause = pause.mul_f64(0.9 + 0.1 * fastrand::f64());
            let end = lock(&staple.status).until;
            drop(staple);
            let rest = || {
                let latest = over_at.saturating_duration_since(Instant::now());
                end.map(|end| rest(end, clock::unix(), latest))
            };
            pause = rest().map_or(pause, |rest| pause.min(rest));
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.again.notified() => retry = FIRST_RETRY,
            }
            if rest().is_some_and(|rest| rest.is_zero())
                && let Some(staple) = self.staple.upgrade()
            {
                self.take_down(&staple);
            }
        }
    }

    async fn fetch(
        &self,
        client: &Result<reqwest::Client, String>,
    ) -> Result<Fetched, StapleError> {
        let mut chain = self.key.cert.iter();
        let leaf = chain.next().ok_or(OcspError::Certificate)?;
        let url = ocsp::responder(leaf)?;
        let question = Question::new(leaf, chain.next().ok_or(OcspError::NoIssuer)?)?;
        let unreachable = |reason: String| StapleError::Unreachable { url: url.clone(), reason };
        let client = client.as_ref().map_err(|error| unreachable(error.clone()))?;
        let request = client.post(&url).header("content-type", "application/ocsp-request");
        let answer = request.body(question.request()).send().await;
        let answer = answer.map_err(|error| unreachable(call::reason(&error)))?;
        if answer.status() != 200 {
            return Err(unreachable(format!("it answered {}", answer.status())));
        }
        let bytes = call::body(answer, LARGEST).await;
        let bytes = bytes.map_err(|error| unreachable(error.to_string()))?.to_vec();
        let now = clock::unix();
        let read = question.read(&bytes, now, !self.stapling.skip_verify)?;
        let ttl = self.stapling.cache_ttl;
        let in_ttl = now.saturating_add(i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX));
        Ok(match read.next_update.filter(|next| *next > now) {
            Some(next) => {
                let half = clock::until(next, now) / 2;
                Fetched { bytes, until: next, again: half.min(ttl).max(LEAST) }
            }
            // Without an end, or past it and believed all the same: good as long as APISIX keeps it.
            None => Fetched { bytes, until: in_ttl, again: (ttl / 2).max(LEAST) },
        })
    }

    fn show(&self, staple: &Staple, fetched: Fetched) {
        let mut status = lock(&staple.status);
        let until = fetched.until;
        let key = CertifiedKey { ocsp: Some(fetched.bytes), ..(*self.key).clone() };
        staple.stapled.store(Some(Arc::new(key)));
        if status.until.is_none() {
            tracing::info!(ssl = &*self.ssl, subject = self.subject, until, "OCSP answer stapled");
        }
        *status = Status { until: Some(until), error: None };
    }

    /// Says once why there is no new answer. That a certificate is revoked ends what was good; what
    /// else there may be leaves the last answer until its end.
    fn tell(&self, staple: &Staple, error: &StapleError) {
        let is_revoked = matches!(error, StapleError::Ocsp(OcspError::Revoked));
        let mut status = lock(&staple.status);
        if is_revoked {
            staple.stapled.store(None);
            status.until = None;
        }
        let text = error.to_string();
        if status.error.as_ref() == Some(&text) {
            return;
        }
        let (ssl, subject, stapled) = (&*self.ssl, &self.subject, status.until.is_some());
        if is_revoked {
            tracing::error!(ssl, subject, reason = text, "nothing is stapled any more");
        } else {
            tracing::warn!(ssl, subject, reason = text, stapled, "no OCSP answer to staple");
        }
        status.error = Some(text);
    }

    /// The answer is at its end and no newer one has come.
    fn take_down(&self, staple: &Staple) {
        let mut status = lock(&staple.status);
        staple.stapled.store(None);
        status.until = None;
        let reason = status.error.as_deref().unwrap_or("asking again");
        let (ssl, subject) = (&*self.ssl, &self.subject);
        tracing::warn!(ssl, subject, reason, "the OCSP answer is out of date: nothing is stapled");
    }
}

/// How long an answer is good until `end` when the calendar says `now`, at most `latest`.
fn rest(end: i64, now: i64, latest: Duration) -> Duration {
    clock::until(end, now).min(latest)
}

/// What was put in stays whole whoever panicked.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_calendar_that_is_set_back_keeps_no_answer_over_its_end() {
        const HOUR: i64 = 60 * 60;
        const NOON: i64 = 1_800_000_000;
        // Fetched at noon, good for two hours; looked at an hour later, by calendars that differ.
        let latest = Duration::from_secs(HOUR.unsigned_abs());
        let hours = |by: i64| rest(NOON + 2 * HOUR, NOON + HOUR + by, latest).as_secs() / 3600;
        assert_eq!([-24 * HOUR, 0, HOUR, 24 * HOUR].map(hours), [1, 1, 0, 0]);
    }
}
