//! The task of one order on one node: takes up what others have got, and gets it when it is this
//! node's turn.
//!
//! The certificate is a record that every node reads; a claim, written only where there is none,
//! says who asks for the next one. It ends by itself, so that another node takes over when its
//! writer dies; after a failure it stands until the next attempt is due, so that the nodes back
//! off together. Whoever has the claim reads the record once more before it asks: what was issued
//! in between is enough.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::acme::Offer;
use super::desk::Desk;
use super::pki::Role;
use super::record::{Answers, Claim, Place, Record};
use super::{IssueError, Issuer, Order};
use crate::clock;
use crate::store::{Entry, Expect, Life, Step, Transacted, Written};

/// How often a node looks that waits for another one's certificate.
const WAIT: Duration = Duration::from_millis(700);

/// The longest between two looks at a certificate that is not due: whether others have renewed
/// it, whether it is revoked.
const LOOK: Duration = Duration::from_secs(60);

/// How long getting a certificate may take.
const LIMIT: Duration = Duration::from_secs(150);

/// After how many seconds the claim of a node that died is free: longer than it may take.
const CLAIM_S: i64 = 170;

/// How long the answers to challenges stand before the server is told to look: the other nodes
/// look every [`WAIT`] meanwhile.
const SPREAD: Duration = Duration::from_secs(3);

/// The same on a node that has no others.
const PUBLISH: Duration = Duration::from_millis(300);

/// The pause after a first failure, in seconds; doubled up to the second number.
const PKI_PAUSES_S: (i64, i64) = (1, 300);
/// ACME servers count failures, and refuse those who have many.
const ACME_PAUSES_S: (i64, i64) = (10, 3600);

/// The task of an order.
pub(super) struct Keeper {
    desk: Arc<Desk>,
    ssl: Arc<str>,
    order: Order,
    place: Place,
    /// The record that is served, and its revision.
    record: Option<(Arc<Record>, i64)>,
    /// When it is due at the latest, since the calendar may be set back meanwhile.
    due_at: Instant,
    is_revoked: bool,
    /// When revocation was asked about last.
    asked: Instant,
    /// How often it was tried in vain, by whichever node.
    attempts: u32,
    /// Whether a failed attempt before this task need not be waited for.
    at_once: bool,
}

/// The claim while it is this node's.
struct Turn<'k> {
    keeper: &'k Keeper,
    claim: Claim,
    revision: i64,
}

// === impl Keeper ===

impl Keeper {
    pub(super) fn new(
        desk: Arc<Desk>,
        ssl: Arc<str>,
        order: Order,
        place: Place,
        at_once: bool,
    ) -> Self {
        let (record, due_at, asked) = (None, Instant::now(), Instant::now());
        let (is_revoked, attempts) = (false, 0);
        Self { desk, ssl, order, place, record, due_at, is_revoked, asked, attempts, at_once }
    }

    /// Looks after the order until it is aborted.
    pub(super) async fn run(mut self) {
        loop {
            let pause = match self.step().await {
                Ok(pause) => pause,
                Err(error) => {
                    self.fail(&error.to_string());
                    WAIT * 4
                }
            };
            // Spread, so that nodes that began together do not stay together.
            tokio::time::sleep(pause.mul_f64(0.9 + 0.2 * fastrand::f64())).await;
        }
    }

    /// Does what is to be done now; returns how long there is nothing to do.
    async fn step(&mut self) -> Result<Duration, IssueError> {
        self.take_up().await?;
        if let Some(pause) = self.is_good().await {
            // What failed before, as a store that was away, is over.
            self.desk.learn(&self.ssl, &self.order, |kept| {
                kept.error = None;
                false
            });
            return Ok(pause);
        }
        let Some((claim, revision)) = self.claim().await? else {
            return Ok(WAIT);
        };
        let mut turn = Turn { keeper: self, claim, revision };
        // Whoever had the claim before may have been done in between.
        let seen = self.record.as_ref().map(|(_, revision)| *revision);
        let entry = self.desk.sealed.store.get(&self.place.certificate).await?;
        if entry.as_ref().map(|entry| entry.mod_revision) != seen {
            turn.end().await?;
            return Ok(Duration::ZERO);
        }
        let issued = tokio::time::timeout(LIMIT, turn.issue());
        let issued = issued.await.unwrap_or(Err(IssueError::Late(LIMIT)));
        match issued {
            Ok(record) => {
                tracing::info!(
                    ssl = %self.ssl, issuer = %self.order.issuer, serial = record.serial,
                    names = self.order.names.join(","), not_after = record.not_after,
                    "a certificate was issued"
                );
                turn.keep(&record, entry.as_ref()).await?;
                Ok(Duration::ZERO)
            }
            Err(error) => {
                let (pause, attempts) = turn.give_up(&error).await?;
                self.attempts = attempts;
                self.fail(&error.to_string());
                Ok(pause)
            }
        }
    }

    /// Takes up the record as it is now.
    async fn take_up(&mut self) -> Result<(), IssueError> {
        let found = self.desk.sealed.get::<Record>(&self.place.certificate).await?;
        let Some((record, entry)) = found else {
            self.desk.learn(&self.ssl, &self.order, |kept| {
                kept.looked = true;
                kept.known.certificate = None;
                false
            });
            // It has come to its end; what is served is served on.
            self.record = None;
            return Ok(());
        };
        if self.record.as_ref().is_some_and(|(_, revision)| *revision == entry.mod_revision) {
            return Ok(());
        }
        let record = Arc::new(record);
        self.record = Some((record.clone(), entry.mod_revision));
        self.due_at = Instant::now() + record.rest(clock::unix());
        (self.is_revoked, self.attempts) = (false, 0);
        self.asked = Instant::now();
        self.desk.learn(&self.ssl, &self.order, |kept| {
            kept.looked = true;
            kept.error = None;
            kept.answers = Answers::default();
            kept.known.certificate = Some(entry.mod_revision);
            kept.record = Some(record);
            true
        });
        Ok(())
    }

    /// How long there is nothing to do because the certificate is good; `None` when it is due.
    async fn is_good(&mut self) -> Option<Duration> {
        let (record, _) = self.record.clone()?;
        let latest = self.due_at.saturating_duration_since(Instant::now());
        let due = record.rest(clock::unix()).min(latest);
        if due.is_zero() {
            return None;
        }
        // A twelfth of a short life is often enough to look; once a minute that of a long one.
        let twelfth = u64::try_from((record.not_after - record.renew_at) / 4).unwrap_or(0).max(1);
        let look = LOOK.min(Duration::from_secs(twelfth));
        if self.asked.elapsed() >= look {
            self.asked = Instant::now();
            self.is_revoked = self.is_revoked || self.revoked(&record, look).await;
        }
        if self.is_revoked {
            return None;
        }
        Some(look.min(due))
    }

    /// Whether the certificate is revoked. One node asks for all: what it finds out, the others
    /// see by the next certificate.
    async fn revoked(&self, record: &Record, each: Duration) -> bool {
        let Issuer::Pki { vault, mount, role } = &self.order.issuer else {
            return false;
        };
        let life = i64::try_from(each.as_secs()).unwrap_or(1).max(1);
        let value = self.desk.node.clone().into();
        let turn = self.desk.sealed.store.put(&self.place.look, value, Expect::Absent, Some(life));
        if self.desk.is_shared && !matches!(turn.await, Ok(Written::Done { .. })) {
            return false;
        }
        let role = Role { secrets: &self.desk.secrets, vault, mount, role };
        match role.is_revoked(&record.serial).await {
            Ok(false) => false,
            Ok(true) => {
                tracing::warn!(
                    ssl = %self.ssl, serial = record.serial,
                    "the certificate was revoked; asking for another"
                );
                true
            }
            // That it cannot be asked does not make it revoked.
            Err(error) => {
                tracing::debug!(ssl = %self.ssl, %error, "not known whether it is revoked");
                false
            }
        }
    }

    /// Tries to be the one who asks, and returns the claim with its revision; `None` when another
    /// node is, or nobody may yet.
    async fn claim(&mut self) -> Result<Option<(Claim, i64)>, IssueError> {
        let at_once = std::mem::take(&mut self.at_once);
        let (node, attempts) = (self.desk.node.clone(), self.attempts);
        let claim = Claim { node, attempts, ..Claim::default() };
        let mut expect = Expect::Absent;
        // Looked at first: whoever only waits leaves no lease behind.
        let mut standing = self.desk.sealed.store.get(&self.place.claim).await?;
        loop {
            if let Some(entry) = standing.take() {
                let theirs: Claim = self.desk.sealed.open(&entry)?;
                // Its own from before it was stopped is taken up again, and what failed before its
                // issuer was changed is tried again.
                let is_own = theirs.node == self.desk.node && theirs.error.is_none();
                let is_free = is_own || at_once && theirs.error.is_some();
                if !is_free || expect != Expect::Absent {
                    self.attempts = theirs.attempts;
                    self.follow(theirs, entry.mod_revision);
                    return Ok(None);
                }
                expect = Expect::Revision(entry.mod_revision);
            }
            let value = self.desk.sealed.seal(&claim);
            let put = self.desk.sealed.store.put(&self.place.claim, value, expect, Some(CLAIM_S));
            match put.await? {
                Written::Done { revision } => {
                    self.note_claim(revision);
                    return Ok(Some((claim, revision)));
                }
                Written::Conflict { current: None } => return Ok(None),
                Written::Conflict { current } => standing = current,
            }
        }
    }

    /// Remembers at which revision the claim stands.
    fn note_claim(&self, revision: i64) {
        self.desk.learn(&self.ssl, &self.order, |kept| {
            kept.known.claim = Some(revision);
            false
        });
    }

    /// Takes over what the node tells that has the claim.
    fn follow(&self, claim: Claim, revision: i64) {
        self.desk.learn(&self.ssl, &self.order, |kept| {
            kept.known.claim = Some(revision);
            let is_news =
                kept.answers != claim.answers || claim.error.is_some() && kept.error != claim.error;
            kept.answers = claim.answers;
            kept.error = claim.error.or(kept.error.take());
            is_news
        });
    }

    fn fail(&self, error: &str) {
        self.desk.learn(&self.ssl, &self.order, |kept| {
            let is_new = kept.error.as_deref() != Some(error);
            let is_news = is_new || !kept.answers.is_empty();
            if is_new {
                let serves_last_good = kept.record.is_some();
                tracing::error!(
                    ssl = %self.ssl, issuer = %self.order.issuer, error, serves_last_good,
                    "a certificate could not be got; trying again"
                );
            }
            kept.looked = true;
            kept.answers = Answers::default();
            kept.error = Some(error.to_owned());
            is_news
        });
    }
}

// === impl Turn ===

impl Turn<'_> {
    async fn issue(&mut self) -> Result<Record, IssueError> {
        let keeper = self.keeper;
        let (desk, order) = (&keeper.desk, &keeper.order);
        match &order.issuer {
            Issuer::Pki { vault, mount, role } => {
                let role = Role { secrets: &desk.secrets, vault, mount, role };
                role.issue(&order.names, &desk.node).await
            }
            Issuer::Acme { id } => {
                let acme = desk.lock().acme.get(id).cloned();
                let acme = acme.ok_or_else(|| IssueError::NoIssuer(id.to_string()))?;
                acme.issue(order, &desk.sealed, self, &desk.node).await
            }
        }
    }

    /// Gives the certificate to all nodes, and the claim back.
    async fn keep(self, record: &Record, seen: Option<&Entry>) -> Result<(), IssueError> {
        let place = &self.keeper.place;
        let sealed = &self.keeper.desk.sealed;
        let life = Life::Seconds(record.left().max(1));
        let put =
            Step::put_for(&place.certificate, sealed.seal(record), life, Expect::unchanged(seen));
        let end = Step::delete(&place.claim, Expect::Revision(self.revision));
        match sealed.store.transact(vec![put, end]).await? {
            Transacted::Done { revision } => {
                self.keeper.desk.learn(&self.keeper.ssl, &self.keeper.order, |kept| {
                    kept.known.certificate = Some(revision);
                    false
                });
                Ok(())
            }
            Transacted::Conflict { .. } => Err(IssueError::TakenOver),
        }
    }

    async fn end(self) -> Result<(), IssueError> {
        let store = &self.keeper.desk.sealed.store;
        store.delete(&self.keeper.place.claim, Expect::Revision(self.revision)).await?;
        Ok(())
    }

    /// Has everybody wait; returns for how long, and after how many attempts.
    async fn give_up(mut self, error: &IssueError) -> Result<(Duration, u32), IssueError> {
        let (first, most) = match self.keeper.order.issuer.is_acme() {
            true => ACME_PAUSES_S,
            false => PKI_PAUSES_S,
        };
        // A certificate with a short life has no hours to wait.
        let record = self.keeper.record.as_ref();
        let most = record.map_or(most, |(record, _)| {
            most.min((record.not_after - record.renew_at) / 4).max(first)
        });
        let pause = match error {
            // Another certificate would be as far behind the clock: each is one in vain.
            IssueError::Ended { .. } => most,
            _ => first.saturating_mul(1 << self.claim.attempts.min(20)).min(most),
        };
        self.claim.attempts = self.claim.attempts.saturating_add(1);
        self.claim.error = Some(error.to_string());
        self.claim.answers = Answers::default();
        self.write(pause).await?;
        Ok((Duration::from_secs(u64::try_from(pause).unwrap_or(1)), self.claim.attempts))
    }

    /// Writes the claim for `life` seconds.
    async fn write(&mut self, life: i64) -> Result<(), IssueError> {
        let sealed = &self.keeper.desk.sealed;
        let expect = Expect::Revision(self.revision);
        let value = sealed.seal(&self.claim);
        match sealed.store.put(&self.keeper.place.claim, value, expect, Some(life)).await? {
            Written::Done { revision } => {
                self.revision = revision;
                self.keeper.note_claim(revision);
                Ok(())
            }
            Written::Conflict { .. } => Err(IssueError::TakenOver),
        }
    }
}

impl Offer for Turn<'_> {
    async fn offer(&mut self, answers: Answers) -> Result<(), IssueError> {
        self.claim.answers = answers.clone();
        self.write(CLAIM_S).await?;
        let keeper = self.keeper;
        keeper.desk.learn(&keeper.ssl, &keeper.order, |kept| {
            kept.answers = answers;
            true
        });
        tokio::time::sleep(if keeper.desk.is_shared { SPREAD } else { PUBLISH }).await;
        Ok(())
    }
}
