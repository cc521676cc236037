//! The token that all questions to a Vault carry: got once, renewed in time, replaced when it is
//! refused.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use reqwest::Method;
use reqwest::header::HeaderValue;
use serde_json::json;
use tokio::sync::{Mutex, Notify};

use super::login::{Granted, Life, Login};
use super::server::Server;
use crate::secret::SecretError;

/// The pause after a token was replaced because it was refused, before that may happen again.
/// Doubled each time, since what is refused may be the policy and not the token.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// A renewal that found nobody is tried again after this; a login that failed, after twice this
/// and ever longer.
const RETRY: Duration = Duration::from_secs(2);

/// The tokens of one manager, one at a time.
pub(super) struct Tokens {
    server: Arc<Server>,
    login: Login,
    current: ArcSwapOption<Token>,
    /// Held by who logs in; others wait for what comes of it.
    gate: Mutex<Attempts>,
    /// Told of a new token, and at the end.
    changed: Arc<Notify>,
    runtime: tokio::runtime::Handle,
}

/// A token as it was got.
pub(super) struct Token {
    pub(super) value: HeaderValue,
    /// Tells one login from the next.
    number: u64,
    life: Option<Life>,
}

#[derive(Default)]
struct Attempts {
    logins: u64,
    is_kept: bool,
    /// The last login that failed.
    failed: Option<(Instant, SecretError)>,
    /// Logins that have failed since one went well.
    failures: u32,
    /// When a refused token was last replaced, and the pause after that.
    replaced: Option<(Instant, Duration)>,
}

// === impl Tokens ===

impl Tokens {
    pub(super) fn new(
        server: Arc<Server>,
        login: Login,
        runtime: tokio::runtime::Handle,
    ) -> Arc<Self> {
        Arc::new(Self {
            server,
            login,
            current: ArcSwapOption::empty(),
            gate: Mutex::default(),
            changed: Arc::default(),
            runtime,
        })
    }

    /// The token to ask with; logs in where there is none that lives.
    ///
    /// Any number of callers cost one login: who waited while it failed has the same error.
    pub(super) async fn get(self: &Arc<Self>) -> Result<Arc<Token>, SecretError> {
        if let Login::Agent(_) = self.login {
            return self.follow_agent().await;
        }
        let living = || self.current.load_full().filter(|token| token.lives());
        if let Some(token) = living() {
            return Ok(token);
        }
        let began = Instant::now();
        let mut attempts = self.gate.lock().await;
        if let Some(token) = living() {
            return Ok(token);
        }
        self.log_in(&mut attempts, began).await
    }

    /// The token to ask with once more after the server has refused `refused`; `None` where there
    /// is no other, or another was got only a moment ago.
    pub(super) async fn replace(
        self: &Arc<Self>,
        refused: &Token,
    ) -> Result<Option<Arc<Token>>, SecretError> {
        if let Login::Agent(_) = self.login {
            let token = self.follow_agent().await?;
            return Ok((token.number != refused.number).then_some(token));
        }
        if !self.login.is_repeatable() {
            return Ok(None);
        }
        let began = Instant::now();
        let mut attempts = self.gate.lock().await;
        if let Some(newer) = self.current.load_full().filter(|now| now.number != refused.number) {
            return Ok(Some(newer));
        }
        let pause = match attempts.replaced {
            Some((at, pause)) if at.elapsed() < pause => return Ok(None),
            // It went well for so long that this is another story.
            Some((at, _)) if at.elapsed() > LONGEST_PAUSE * 8 => FIRST_PAUSE,
            Some((_, pause)) => (pause * 2).min(LONGEST_PAUSE),
            None => FIRST_PAUSE,
        };
        let token = self.log_in(&mut attempts, began).await?;
        attempts.replaced = Some((Instant::now(), pause));
        tracing::info!(url = %self.server.url(""), "logged in again: the token was refused");
        Ok(Some(token))
    }

    /// What to do about a token that is refused for good, where that is not plain.
    pub(super) fn hint(&self) -> String {
        match &self.login {
            Login::Token(_) => "the token has expired or was revoked, or its policy does not \
                allow this: give this secret manager another `token`, or an `auth` by which it \
                logs in by itself"
                .to_owned(),
            Login::Agent(path) => format!(
                "the token in {} is no good: look at the agent that writes it",
                path.display()
            ),
            Login::Post { mount, .. } => format!(
                "where another login does not help, the policies of the role at auth/{mount} do \
                 not allow this"
            ),
        }
    }

    async fn log_in(
        self: &Arc<Self>,
        attempts: &mut Attempts,
        began: Instant,
    ) -> Result<Arc<Token>, SecretError> {
        if let Some((at, error)) = &attempts.failed
            && *at >= began
        {
            return Err(error.clone());
        }
        match self.login.log_in(&self.server).await {
            Ok(granted) => {
                attempts.failures = 0;
                Ok(self.hold(attempts, granted))
            }
            Err(error) => {
                attempts.failures = attempts.failures.saturating_add(1);
                attempts.failed = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }

    fn hold(self: &Arc<Self>, attempts: &mut Attempts, granted: Granted) -> Arc<Token> {
        attempts.logins += 1;
        let token =
            Arc::new(Token { value: granted.token, number: attempts.logins, life: granted.life });
        self.current.store(Some(token.clone()));
        if !attempts.is_kept {
            attempts.is_kept = true;
            self.runtime.spawn(keep(Arc::downgrade(self), self.changed.clone()));
        }
        self.changed.notify_one();
        token
    }

    /// The file is small and a question rare beside it, so that it is simply read each time.
    async fn follow_agent(self: &Arc<Self>) -> Result<Arc<Token>, SecretError> {
        let granted = self.login.log_in(&self.server).await?;
        let mut attempts = self.gate.lock().await;
        if let Some(token) = self.current.load_full().filter(|now| now.value == granted.token) {
            return Ok(token);
        }
        attempts.logins += 1;
        let token = Arc::new(Token { value: granted.token, number: attempts.logins, life: None });
        self.current.store(Some(token.clone()));
        Ok(token)
    }

    /// Renews or replaces the token when it is time; how long nothing is to be done then, `None`
    /// when there is nothing to be done about this token at all.
    async fn freshen(self: &Arc<Self>) -> Option<Duration> {
        let token = self.current.load_full()?;
        let Some(life) = token.life else {
            return match &self.login {
                Login::Token(_) => self.look_up(&token).await,
                _ => None,
            };
        };
        let rest = life.until.saturating_duration_since(Instant::now());
        if let Some(early) = rest.checked_sub(life.ttl / 3).filter(|early| !early.is_zero()) {
            return Some(early);
        }
        if life.is_renewable {
            match self.renew(&token).await {
                Ok(renewed) if renewed.is_none_or(|renewed| renewed.ttl > life.ttl / 2) => {
                    return self.extend(&token, renewed);
                }
                // Its max TTL nears. What is not ours to replace is used to its end.
                Ok(renewed) if !self.login.is_repeatable() => {
                    let is_longer = renewed.is_some_and(|new| new.until > life.until + RETRY);
                    if is_longer {
                        return self.extend(&token, renewed);
                    }
                }
                Ok(_) => {}
                Err(error) if error.is_passing() && !rest.is_zero() => return Some(RETRY),
                Err(error) => tracing::info!(%error, "a token could not be renewed"),
            }
        }
        if !self.login.is_repeatable() {
            tracing::warn!(
                url = %self.server.url(""), seconds_left = rest.as_secs(),
                "the token of a secret manager ends soon and cannot be renewed: give it another \
                 `token`, or an `auth` by which it logs in by itself"
            );
            return None;
        }
        let began = Instant::now();
        let mut attempts = self.gate.lock().await;
        if self.current.load_full().is_some_and(|now| now.number != token.number) {
            return Some(Duration::ZERO);
        }
        match self.log_in(&mut attempts, began).await {
            Ok(_) => Some(Duration::ZERO),
            Err(error) => {
                // Once is enough: what is read meanwhile fails with the same words.
                if attempts.failures == 1 {
                    tracing::warn!(%error, "logging in to a secret manager again has failed");
                }
                Some((RETRY * (1 << attempts.failures.min(5))).min(LONGEST_PAUSE))
            }
        }
    }

    async fn renew(&self, token: &Token) -> Result<Option<Life>, SecretError> {
        let url = self.server.url("auth/token/renew-self");
        let answer =
            self.server.ask(Method::POST, &url, Some(&token.value), Some(&json!({}))).await?;
        Ok(Life::of(&answer["auth"], "lease_duration"))
    }

    /// Finds out how long a given token lives. One that may not ask is used as it is.
    async fn look_up(self: &Arc<Self>, token: &Token) -> Option<Duration> {
        let url = self.server.url("auth/token/lookup-self");
        match self.server.ask(Method::GET, &url, Some(&token.value), None).await {
            Ok(answer) => {
                let life = Life::of(&answer["data"], "ttl")?;
                self.extend(token, Some(life))
            }
            Err(error) if error.is_passing() => Some(RETRY),
            Err(_) => None,
        }
    }

    /// Notes how long `token` lives now, unless there is another already.
    fn extend(&self, token: &Token, life: Option<Life>) -> Option<Duration> {
        let is_newest =
            |now: &Option<Arc<Token>>| now.as_ref().is_some_and(|now| now.number == token.number);
        self.current.rcu(|now| {
            if !is_newest(now) {
                return now.clone();
            }
            let (value, number) = (token.value.clone(), token.number);
            Some(Arc::new(Token { value, number, life }))
        });
        life.is_some().then_some(Duration::ZERO)
    }
}

impl Drop for Tokens {
    fn drop(&mut self) {
        self.changed.notify_one();
    }
}

/// Keeps the token fresh for as long as there is a manager that uses it.
async fn keep(tokens: Weak<Tokens>, changed: Arc<Notify>) {
    loop {
        let Some(strong) = tokens.upgrade() else {
            return;
        };
        let pause = strong.freshen().await;
        drop(strong);
        match pause {
            // A token that lives for a second only must not become a loop without a pause.
            Some(pause) => {
                let pause = pause.max(Duration::from_millis(200));
                let _ = tokio::time::timeout(pause, changed.notified()).await;
            }
            None => changed.notified().await,
        }
    }
}

// === impl Token ===

impl Token {
    fn lives(&self) -> bool {
        self.life.is_none_or(|life| Instant::now() < life.until)
    }
}
