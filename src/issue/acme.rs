//! ACME (RFC 8555): an account of the cluster's own, and certificates whose names are proved over
//! HTTP (http-01) or in a handshake (tls-alpn-01, RFC 8737).

mod transport;

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use instant_acme::{
    Account, AccountCredentials, AuthorizationStatus, ChallengeType, ExternalAccountKey,
    Identifier, NewAccount, NewOrder, OrderStatus, RetryPolicy,
};
use rcgen::{CertificateParams, DistinguishedName, KeyPair};

use self::transport::Transport;
use super::IssueError;
use super::order::Order;
use super::record::{Answers, Record};
use super::sealed::Sealed;
use crate::call::innermost;
use crate::resource::hidden::Hidden;
use crate::resource::secret as written;
use crate::secret::plain;
use crate::store::{BESIDE, Expect, Written};

/// How long the server may take to look at the answers, and then to sign.
const PATIENCE: RetryPolicy = RetryPolicy::new().timeout(Duration::from_secs(60));

/// An ACME server, and by what account it knows this cluster.
pub(super) struct Acme {
    /// `acme/letsencrypt`.
    id: Arc<str>,
    written: written::Acme,
}

/// Puts answers where the server is going to look for them, on every node.
pub(super) trait Offer: Send {
    fn offer(&mut self, answers: Answers) -> impl Future<Output = Result<(), IssueError>> + Send;
}

// === impl Acme ===

impl Acme {
    pub(super) fn new(id: &str, written: &written::Acme) -> Self {
        Self { id: id.into(), written: written.clone() }
    }

    /// What makes its certificates other ones: a change of it has them issued anew.
    pub(super) fn salt(&self) -> String {
        format!("{} {:?}", self.written.directory, self.written.key_type)
    }

    /// Has a certificate issued for the names of `order`.
    ///
    /// # Errors
    /// The server's own words, by name where it could not reach one.
    pub(super) async fn issue(
        &self,
        order: &Order,
        sealed: &Sealed,
        offer: &mut impl Offer,
        node: &str,
    ) -> Result<Record, IssueError> {
        let names: Vec<Identifier> = order.names.iter().cloned().map(Identifier::Dns).collect();
        let mut asked = self.ask(&NewOrder::new(&names), sealed).await?;
        let answers = self.answers(&mut asked).await?;
        if !answers.is_empty() {
            offer.offer(answers).await?;
            self.prove(&mut asked).await?;
        }
        let status = asked.poll_ready(&PATIENCE).await.map_err(self.failed())?;
        if status == OrderStatus::Invalid {
            let reason = self.refusal(&mut asked).await;
            return Err(self.error(reason.unwrap_or_else(|| "the order is refused".to_owned())));
        }
        let key = self.key()?;
        let mut params = CertificateParams::new(order.names.clone())
            .map_err(|error| self.error(error.to_string()))?;
        params.distinguished_name = DistinguishedName::new();
        let request =
            params.serialize_request(&key).map_err(|error| self.error(error.to_string()))?;
        asked.finalize_csr(request.der()).await.map_err(self.failed())?;
        let chain = asked.poll_certificate(&PATIENCE).await.map_err(self.failed())?;
        Record::new(chain, Hidden(key.serialize_pem()), None, node)
    }

    /// Places an order, by a new account where the server has forgotten the one there was.
    async fn ask(
        &self,
        order: &NewOrder<'_>,
        sealed: &Sealed,
    ) -> Result<instant_acme::Order, IssueError> {
        let (account, revision) = self.account(sealed).await?;
        let asked = match account.new_order(order).await {
            Err(error) if is_forgotten(&error) => {
                tracing::warn!(
                    issuer = %self.id, directory = self.written.directory,
                    "the server does not know the account any more; another one is made"
                );
                // If another node was faster, there is one already.
                let forgotten = Expect::Revision(revision);
                sealed.store.delete(&self.account_key(), forgotten).await?;
                self.account(sealed).await?.0.new_order(order).await
            }
            asked => asked,
        };
        asked.map_err(self.failed())
    }

    /// The answers that are to be found for the names that are not proved yet.
    async fn answers(&self, asked: &mut instant_acme::Order) -> Result<Answers, IssueError> {
        let mut answers = Answers::default();
        let mut all = asked.authorizations();
        while let Some(one) = all.next().await {
            let mut one = one.map_err(self.failed())?;
            if one.status != AuthorizationStatus::Pending {
                continue;
            }
            let challenge = one.challenge(self.challenge_type()).ok_or_else(|| {
                let kind = self.written.challenge.name();
                self.error(format!("it offers no {kind} challenge for a name"))
            })?;
            let answer = challenge.key_authorization();
            match self.written.challenge {
                written::Challenge::Http01 => {
                    answers.challenges.insert(challenge.token.clone(), answer.as_str().to_owned());
                }
                written::Challenge::TlsAlpn01 => {
                    let name = challenge.identifier().to_string().to_ascii_lowercase();
                    answers.proofs.insert(name, URL_SAFE_NO_PAD.encode(answer.digest()));
                }
            }
        }
        Ok(answers)
    }

    /// Tells the server that the answers are there.
    async fn prove(&self, asked: &mut instant_acme::Order) -> Result<(), IssueError> {
        let mut all = asked.authorizations();
        while let Some(one) = all.next().await {
            let mut one = one.map_err(self.failed())?;
            if one.status == AuthorizationStatus::Pending
                && let Some(mut challenge) = one.challenge(self.challenge_type())
            {
                challenge.set_ready().await.map_err(self.failed())?;
            }
        }
        Ok(())
    }

    const fn challenge_type(&self) -> ChallengeType {
        match self.written.challenge {
            written::Challenge::Http01 => ChallengeType::Http01,
            written::Challenge::TlsAlpn01 => ChallengeType::TlsAlpn01,
        }
    }

    /// What the server says of the first name that it does not believe.
    async fn refusal(&self, asked: &mut instant_acme::Order) -> Option<String> {
        let mut all = asked.authorizations();
        while let Some(one) = all.next().await {
            let mut one = one.ok()?;
            let state = one.refresh().await.ok()?;
            let said = state.challenges.iter().find_map(|challenge| challenge.error.as_ref());
            if let Some(said) = said {
                return Some(said.to_string());
            }
        }
        None
    }

    /// The account and the revision of its record; made when there is none. Its key is kept where
    /// the other nodes find it.
    async fn account(&self, sealed: &Sealed) -> Result<(Account, i64), IssueError> {
        let key = self.account_key();
        if let Some((known, entry)) = sealed.get::<AccountCredentials>(&key).await? {
            return Ok((self.known(known).await?, entry.mod_revision));
        }
        let contact = self.written.all_contacts();
        let contact: Vec<&str> = contact.iter().map(String::as_str).collect();
        let account = NewAccount {
            contact: &contact,
            terms_of_service_agreed: self.written.terms_agreed,
            only_return_existing: false,
        };
        let bound = self.binding()?;
        let directory = self.written.directory.clone();
        let builder = Account::builder_with_http(Box::new(self.transport()?));
        let (made, credentials) =
            builder.create(&account, directory, bound.as_ref()).await.map_err(self.failed())?;
        let value = sealed.seal(&credentials);
        match sealed.store.put(&key, value, Expect::Absent, None).await? {
            Written::Done { revision } => Ok((made, revision)),
            // Another ssl object was first; the one that was made here is never used.
            Written::Conflict { current: Some(entry) } => {
                Ok((self.known(sealed.open(&entry)?).await?, entry.mod_revision))
            }
            Written::Conflict { current: None } => Err(IssueError::TakenOver),
        }
    }

    async fn known(&self, credentials: AccountCredentials) -> Result<Account, IssueError> {
        let builder = Account::builder_with_http(Box::new(self.transport()?));
        builder.from_credentials(credentials).await.map_err(self.failed())
    }

    /// Where the account's record is: another directory or another contact is another account.
    fn account_key(&self) -> String {
        let text = format!("{}\n{}", self.written.directory, self.written.all_contacts().join(","));
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
        let digest = URL_SAFE_NO_PAD.encode(&digest.as_ref()[..9]);
        format!("{BESIDE}issuers/{}/{digest}", self.id)
    }

    /// The account elsewhere that this one is to be bound to.
    fn binding(&self) -> Result<Option<ExternalAccountKey>, IssueError> {
        let Some(eab) = &self.written.eab else {
            return Ok(None);
        };
        let key = plain("eab/hmac_key", eab.hmac_key.expose())?;
        let key = URL_SAFE_NO_PAD.decode(key.expose().trim().trim_end_matches('='));
        let key = key.map_err(|_| self.error("eab.hmac_key: expected base64url".into()))?;
        Ok(Some(ExternalAccountKey::new(eab.kid.clone(), &key)))
    }

    fn key(&self) -> Result<KeyPair, IssueError> {
        let algorithm = match self.written.key_type {
            written::KeyType::Ec256 => &rcgen::PKCS_ECDSA_P256_SHA256,
            written::KeyType::Ec384 => &rcgen::PKCS_ECDSA_P384_SHA384,
            written::KeyType::Rsa2048 => &rcgen::PKCS_RSA_SHA256,
        };
        KeyPair::generate_for(algorithm).map_err(|error| self.error(error.to_string()))
    }

    fn transport(&self) -> Result<Transport, IssueError> {
        Transport::new(self.written.ca.as_deref()).map_err(|reason| self.error(reason))
    }

    fn error(&self, reason: String) -> IssueError {
        IssueError::Acme { directory: self.written.directory.clone(), reason }
    }

    /// Turns the client's errors into ours, told by their innermost cause.
    fn failed(&self) -> impl Fn(instant_acme::Error) -> IssueError {
        |error| self.error(innermost(&error))
    }
}

/// Whether the server says that it has no such account (RFC 8555, section 6.7).
fn is_forgotten(error: &instant_acme::Error) -> bool {
    const FORGOTTEN: &str = "urn:ietf:params:acme:error:accountDoesNotExist";
    matches!(error, instant_acme::Error::Api(problem) if problem.r#type.as_deref() == Some(FORGOTTEN))
}
