//! Ssl objects, compiled: certificates for clients, and for nodes.

use std::sync::Arc;
use std::time::Duration;

use zeroize::Zeroizing;

use super::{Workshop, Wrong};
use crate::clock;
use crate::expr::Pattern;
use crate::issue::Order;
use crate::resource::{self, Invalid, Said};
use crate::tls::staple::Stapling;
use crate::tls::verify::Asked;
use crate::tls::{Certificate, Served, ServerSpec, Terms, TlsError};

/// A compiled ssl object.
pub(in crate::snapshot) enum SslPart {
    /// Names and what is served for them.
    Server(Vec<String>, Arc<Served>),
    /// Certificate and key to show to upstreams, and what there is to say of the certificate.
    Client((String, Zeroizing<String>), Box<Certificate>),
    /// A dry compile cannot see behind references.
    Unresolved,
}

// === impl Workshop ===

impl Workshop<'_, '_> {
    pub(in crate::snapshot) fn ssl(
        &mut self,
        id: &Arc<str>,
        written: &resource::Ssl,
    ) -> Result<SslPart, Wrong> {
        let stapling = self.stapling(written)?;
        let pairs = written.pairs().map_err(|invalid| vec![invalid])?;
        let mut resolved = Vec::new();
        for (index, (cert, key)) in pairs.into_iter().enumerate() {
            if index == 0
                && let Some(order) = Order::of(written)?
            {
                self.issued.admits().map_err(|invalid| vec![invalid])?;
                let issued = self.resolver.issued(self.issued, id, &order);
                resolved.extend(issued.map(|(cert, key)| (cert, Zeroizing::new(key))));
                continue;
            }
            let cert = self.resolver.text(cert, &pair_path("cert", index));
            let key = self.resolver.text(key.expose(), &pair_path("key", index));
            resolved.extend(cert.zip(key.map(Zeroizing::new)));
        }
        let client_ca = written.client.as_ref();
        let client_ca = client_ca.and_then(|client| self.resolver.text(&client.ca, "/client/ca"));
        self.resolver.finish()?;
        let is_reference = |text: &str| text.starts_with('$');
        if self.dry && resolved.iter().any(|(cert, key)| is_reference(cert) || is_reference(key)) {
            return Ok(SslPart::Unresolved);
        }
        if written.type_ == "client" {
            let (cert, key) = resolved.swap_remove(0);
            let certificate =
                Certificate::parse(&cert, &key).map_err(|error| vec![tls_problem(&error)])?;
            self.refuse_weak(&[&certificate])?;
            return Ok(SslPart::Client((cert, key), Box::new(certificate)));
        }
        // Whoever only asks starts no fetching.
        let unstapled = Terms { staples: None, ..self.settings.terms.clone() };
        let clients = match (&written.client, &client_ca) {
            (Some(client), Some(ca)) => Some(Asked {
                ca,
                depth: client.depth,
                exempt: exempt(&client.skip_mtls_uri_regex)?,
            }),
            _ => None,
        };
        let protocols = &written.ssl_protocols;
        let spec = ServerSpec {
            ssl: id.clone(),
            pairs: resolved.iter().map(|(cert, key)| (cert.as_str(), key.as_str())).collect(),
            protocols: if protocols.is_empty() { &self.settings.protocols } else { protocols },
            clients,
            http2: self.settings.http2,
            stapling,
            terms: if self.dry { &unstapled } else { &self.settings.terms },
        };
        let served = Served::new(&spec).map_err(|error| vec![tls_problem(&error)])?;
        self.refuse_weak(&served.certificates.iter().collect::<Vec<_>>())?;
        let names = written.all_snis().cloned().collect();
        Ok(SslPart::Server(names, Arc::new(served)))
    }

    /// The field is the plugin's: without it, it is as unknown as any other.
    ///
    /// Source: APISIX `apisix/plugins/ocsp-stapling.lua`.
    fn stapling(&self, written: &resource::Ssl) -> Result<Option<Stapling>, Wrong> {
        let Some(stapling) = &written.ocsp_stapling else {
            return Ok(None);
        };
        let name = "ocsp-stapling";
        if self.settings.plugins.as_ref().is_some_and(|on| on.iter().all(|on| on != name)) {
            let expected = format!("no such property unless the plugin {name} is in `plugins`");
            let invalid = Invalid::new("/ocsp_stapling", "an object", expected);
            return Err(vec![invalid.saying(Said::Surplus("ocsp_stapling".to_owned()))]);
        }
        Ok(stapling.enabled.then_some(Stapling {
            skip_verify: stapling.skip_verify,
            cache_ttl: Duration::from_secs(stapling.cache_ttl),
        }))
    }

    /// Refuses certificates that can be forged where they are written. What is stored already is
    /// served: there may be clients that take it, and they would lose what they have.
    fn refuse_weak(&self, certificates: &[&Certificate]) -> Result<(), Wrong> {
        let weaknesses = certificates.iter().enumerate().filter_map(|(index, certificate)| {
            let reason = certificate.weakness.as_ref().filter(|_| self.dry)?;
            let error = TlsError::Certificate(reason.clone());
            Some(tls_problem(&TlsError::Pair { index, error: Box::new(error) }))
        });
        let wrong: Wrong = weaknesses.collect();
        if wrong.is_empty() { Ok(()) } else { Err(wrong) }
    }
}

// === impl SslPart ===

impl SslPart {
    /// What whoever writes it should know.
    pub(in crate::snapshot) fn warnings(&self) -> Vec<String> {
        match self {
            Self::Server(names, served) => warnings(names, served),
            Self::Client(_, certificate) => certificate.warnings(&[], clock::unix()),
            Self::Unresolved => Vec::new(),
        }
    }
}

/// What whoever serves it should know: each warning begins with the property that it is about.
pub(in crate::snapshot) fn warnings(names: &[String], served: &Served) -> Vec<String> {
    let now = clock::unix();
    let mut all = Vec::new();
    for (index, certificate) in served.certificates.iter().enumerate() {
        let path = pair_path("cert", index);
        let path = path.trim_start_matches('/');
        let warnings = certificate.warnings(names, now);
        all.extend(warnings.into_iter().map(|warning| format!("{path} {warning}")));
        let before = &served.certificates[..index];
        if before.iter().any(|other| other.fingerprint == certificate.fingerprint) {
            all.push(format!("{path} is written twice"));
        } else if before.iter().any(|other| other.kind == certificate.kind) {
            let kind = &certificate.kind;
            all.push(format!("{path} is never shown: another one before it is {kind} too"));
        }
    }
    all
}

/// Tells the log what there is to say of a certificate that is going to be served.
pub(in crate::snapshot) fn log_warnings(id: &str, names: &[String], served: &Served) {
    let Some(first) = served.certificates.first() else {
        return;
    };
    for warning in warnings(names, served) {
        tracing::warn!(ssl = id, sha256 = first.fingerprint, "{warning}");
    }
}

/// Compiles `skip_mtls_uri_regex`; everything in it that cannot be compiled is told.
fn exempt(written: &[String]) -> Result<Vec<Pattern>, Wrong> {
    let mut patterns = Vec::new();
    let mut wrong = Vec::new();
    for (index, pattern) in written.iter().enumerate() {
        match Pattern::new(pattern, false) {
            Ok(pattern) => patterns.push(pattern),
            Err(reason) => {
                let path = format!("/client/skip_mtls_uri_regex/{index}");
                let expected = format!("a regular expression: {reason}");
                wrong.push(Invalid::new(path, pattern, expected));
            }
        }
    }
    if wrong.is_empty() { Ok(patterns) } else { Err(wrong) }
}

/// Where `field` of one of an ssl object's pairs is written: `/cert`, then `/certs/0`.
fn pair_path(field: &str, index: usize) -> String {
    match index {
        0 => format!("/{field}"),
        more => format!("/{field}s/{}", more - 1),
    }
}

fn tls_problem(error: &TlsError) -> Invalid {
    let (index, error) = match error {
        TlsError::Pair { index, error } => (*index, &**error),
        other => (0, other),
    };
    let said = |what: &str, reason: &str| {
        let pair = match index {
            0 => String::new(),
            more => format!("failed to handle cert-key pair[{more}]: "),
        };
        Said::Whole(format!("{pair}failed to parse {what}: {reason}"))
    };
    let cert = || pair_path("cert", index);
    let key = || pair_path("key", index);
    match error {
        TlsError::Certificate(reason) => {
            Invalid::new(cert(), "a certificate (not shown)", reason.clone())
                .saying(said("cert", reason))
        }
        TlsError::Key(reason) => {
            Invalid::new(key(), "a key (not shown)", reason.clone()).saying(said("key", reason))
        }
        TlsError::Order(at) => {
            let cert = cert();
            let of = cert.trim_start_matches('/');
            let expected = format!(
                "the certificate of the private key first in {of}; it is certificate {at} there"
            );
            Invalid::new(cert.clone(), "a chain (not shown)", expected)
        }
        TlsError::Mismatch => {
            let of = cert();
            let of = of.trim_start_matches('/');
            let expected =
                format!("the private key of the certificate in {of}; this one does not match");
            Invalid::new(key(), "a key (not shown)", expected)
        }
        TlsError::Authorities(reason) => {
            let said = format!("failed to validate client_cert: failed to parse cert: {reason}");
            Invalid::new("/client/ca", "authorities (not shown)", reason.clone())
                .saying(Said::Whole(said))
        }
        TlsError::Protocols(reason) => Invalid::new("/ssl_protocols", "protocols", reason.clone()),
        TlsError::Pair { .. } | TlsError::Rustls(_) => {
            Invalid::new("", "the ssl object", error.to_string())
        }
    }
}
