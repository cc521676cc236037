//! What nodes tell each other of an order: the certificate, and who is getting the next one.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::IssueError;
use crate::clock;
use crate::resource::hidden::Hidden;
use crate::store::BESIDE;
use crate::tls::Certificate;

/// A certificate that ends sooner is not taken: it would be asked for again at once, without end.
const SHORTEST_S: i64 = 5;

/// The part of its life after which a certificate is renewed.
const RENEWED_AFTER: f64 = 2.0 / 3.0;

/// A certificate that was issued.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Record {
    /// Leaf first, PEM.
    pub(super) chain: String,
    /// PEM.
    #[serde(with = "unescaped")]
    pub(super) key: Hidden,
    /// Seconds since 1970, as are the others.
    pub(super) not_before: i64,
    pub(super) not_after: i64,
    /// When it is to be renewed: the same moment for every node.
    pub(super) renew_at: i64,
    /// As the issuer writes it.
    pub(super) serial: String,
    /// The subject of who signed it.
    pub(super) issuer: String,
    /// The node that asked.
    pub(super) by: String,
}

/// Whose turn it is to ask, or how long nobody may.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Claim {
    pub(super) node: String,
    /// How often it was tried in vain.
    pub(super) attempts: u32,
    /// Why the last attempt failed; the claim then stands so that nobody tries too soon.
    pub(super) error: Option<String>,
    /// What whoever is asked has to answer.
    #[serde(flatten)]
    pub(super) answers: Answers,
}

/// By what names are proved to an ACME server.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Answers {
    /// Over HTTP: what is answered, by token.
    pub(super) challenges: BTreeMap<String, String>,
    /// In handshakes: the digest that is shown, by name, as [`Proofs::of`] takes it.
    ///
    /// [`Proofs::of`]: crate::tls::proof::Proofs::of
    #[serde(default)]
    pub(super) proofs: BTreeMap<String, String>,
}

/// Where the records of an order are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) certificate: String,
    pub(super) claim: String,
    /// Who has looked last whether the certificate is revoked.
    pub(super) look: String,
}

/// At which revisions this node has seen the records of an order last.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) certificate: Option<i64>,
    pub(super) claim: Option<i64>,
}

// === impl Record ===

impl Record {
    /// The record of a certificate that has just been issued. `serial` where the issuer has its
    /// own way of writing it.
    ///
    /// # Errors
    /// Chain and key are not what can be served.
    pub(super) fn new(
        chain: String,
        key: Hidden,
        serial: Option<String>,
        by: &str,
    ) -> Result<Self, IssueError> {
        let parsed = Certificate::parse(&chain, key.expose())
            .map_err(|error| IssueError::Unusable(error.to_string()))?;
        let leaf = parsed.key.cert.first().map(|der| der.as_ref()).unwrap_or_default();
        let (_, leaf) = X509Certificate::from_der(leaf)
            .map_err(|error| IssueError::Unusable(error.to_string()))?;
        let now = clock::unix();
        let left = parsed.not_after - now;
        if left <= 0 {
            return Err(IssueError::Ended { ago_s: -left, node: by.to_owned() });
        }
        if left < SHORTEST_S {
            let said = format!(
                "it ends in {left} s by this node's clock, expected at least {SHORTEST_S}: is the \
                 clock right, and the issuer's TTL long enough?"
            );
            return Err(IssueError::Unusable(said));
        }
        let life = ahead(parsed.not_before, parsed.not_after, now);
        let share = RENEWED_AFTER - 0.02 * fastrand::f64();
        Ok(Self {
            not_before: parsed.not_before,
            not_after: parsed.not_after,
            renew_at: now + (life as f64 * share) as i64,
            serial: serial.unwrap_or_else(|| leaf.raw_serial_as_string()),
            issuer: leaf.issuer().to_string(),
            by: by.to_owned(),
            key,
            chain,
        })
    }

    /// How long it need not be renewed when the calendar says `now`: until its moment, and no
    /// longer than such a certificate is served, whatever was done to the calendar since.
    pub(super) fn rest(&self, now: i64) -> Duration {
        let life = clock::until(self.not_after, self.not_before);
        clock::until(self.renew_at, now).min(life.mul_f64(RENEWED_AFTER))
    }

    /// Seconds until its end.
    pub(super) fn left(&self) -> i64 {
        self.not_after - clock::unix()
    }
}

/// The seconds of its life that a certificate has before it when the calendar says `now`: what is
/// left, not what the issuer dated back; and no more than all, since a calendar that is behind
/// would have it renewed when it is over.
fn ahead(not_before: i64, not_after: i64, now: i64) -> i64 {
    (not_after - now).min(not_after - not_before)
}

// === impl Answers ===

impl Answers {
    pub(super) fn is_empty(&self) -> bool {
        self.challenges.is_empty() && self.proofs.is_empty()
    }
}

// === impl Place ===

impl Place {
    pub(super) fn new(ssl: &str, digest: &str) -> Self {
        let at = |what: &str| format!("{BESIDE}issued/{ssl}/{digest}/{what}");
        Self { certificate: at("certificate"), claim: at("claim"), look: at("look") }
    }
}

/// A private key as a record holds it: base64, without a line break in it. A parser of JSON would
/// put the text of an escaped one together in a buffer that nobody overwrites.
mod unescaped {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use serde::de::Error as _;
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};
    use zeroize::Zeroizing;

    use crate::resource::hidden::Hidden;

    pub(super) fn serialize<S: Serializer>(key: &Hidden, serializer: S) -> Result<S::Ok, S::Error> {
        Zeroizing::new(STANDARD.encode(key.expose())).as_str().serialize(serializer)
    }

    pub(super) fn deserialize<'d, D: Deserializer<'d>>(from: D) -> Result<Hidden, D::Error> {
        let stored = Hidden::deserialize(from)?;
        // As records of a first version have it.
        if stored.expose().starts_with("---") {
            return Ok(stored);
        }
        let wrong = || D::Error::custom("expected a key, base64");
        let key = STANDARD.decode(stored.expose()).map_err(|_| wrong())?;
        String::from_utf8(key).map(Hidden).map_err(|_| wrong())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renews_at_two_thirds_of_what_is_left() {
        let mut params = rcgen::CertificateParams::new(vec!["a.test".to_owned()]).unwrap();
        let at = |seconds: i64| {
            std::time::SystemTime::UNIX_EPOCH
                + std::time::Duration::from_secs(u64::try_from(clock::unix() + seconds).unwrap())
        };
        (params.not_before, params.not_after) = (at(-9000).into(), at(900).into());
        let key = rcgen::KeyPair::generate().unwrap();
        let cert = params.self_signed(&key).unwrap();
        let record = Record::new(cert.pem(), Hidden(key.serialize_pem()), None, "one").unwrap();
        let due = record.renew_at - clock::unix();
        assert!((575..=600).contains(&due), "{due}");
        assert!(!format!("{record:?}").contains("PRIVATE"));
        let error = Record::new("x".into(), record.key.clone(), None, "one").unwrap_err();
        assert!(error.to_string().contains("cannot be served"), "{error}");
    }

    #[test]
    fn a_calendar_that_is_wrong_puts_no_renewal_off() {
        const HOUR: i64 = 60 * 60;
        const NOON: i64 = 1_800_000_000;
        // Issued at noon for three hours, on nodes whose calendars differ.
        let life = |by: i64| ahead(NOON, NOON + 3 * HOUR, NOON + by);
        assert_eq!([-24 * HOUR, 0, HOUR].map(life), [3 * HOUR, 3 * HOUR, 2 * HOUR]);
        let record = Record {
            chain: String::new(),
            key: Hidden(String::new()),
            not_before: NOON,
            not_after: NOON + 3 * HOUR,
            renew_at: NOON + 2 * HOUR,
            serial: String::new(),
            issuer: String::new(),
            by: String::new(),
        };
        let rest = |by: i64| i64::try_from(record.rest(NOON + by).as_secs()).unwrap();
        assert_eq!([-24 * HOUR, 0, HOUR].map(rest), [2 * HOUR, 2 * HOUR, HOUR]);
        assert_eq!([2 * HOUR, 24 * HOUR].map(rest), [0, 0]);
    }

    /// What has to be unescaped is put together in a buffer that nobody overwrites.
    #[test]
    fn a_stored_key_is_read_as_it_stands() {
        let made = rcgen::generate_simple_self_signed(["a.test".to_owned()]).unwrap();
        let key = Hidden(made.signing_key.serialize_pem());
        let record = Record::new(made.cert.pem(), key.clone(), None, "one").unwrap();
        let mut stored = serde_json::to_value(&record).unwrap();
        let text = stored["key"].to_string();
        assert!(!text.contains('\\') && !text.contains("PRIVATE"), "a key that is escaped");
        assert_eq!(serde_json::from_value::<Record>(stored.clone()).unwrap(), record);
        stored["key"] = key.expose().into();
        assert_eq!(serde_json::from_value::<Record>(stored.clone()).unwrap(), record);
        stored["key"] = "no key".into();
        assert!(serde_json::from_value::<Record>(stored).is_err());
    }
}
