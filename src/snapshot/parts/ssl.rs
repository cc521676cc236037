//! Ssl objects, compiled: certificates for clients, and for nodes.

use std::sync::Arc;

use super::{Workshop, Wrong};
use crate::issue::Order;
use crate::resource::{self, Invalid, Said};
use crate::tls::{Served, ServerSpec, TlsError};

/// A compiled ssl object.
pub(in crate::snapshot) enum SslPart {
    /// Names and what is served for them.
    Server(Vec<String>, Arc<Served>),
    /// Certificate and key to show to upstreams.
    Client((String, String)),
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
        let pairs = written.pairs().map_err(|invalid| vec![invalid])?;
        let mut resolved = Vec::new();
        for (index, (cert, key)) in pairs.into_iter().enumerate() {
            if index == 0
                && let Some(order) = Order::of(written)?
            {
                self.issued.admits().map_err(|invalid| vec![invalid])?;
                resolved.extend(self.resolver.issued(self.issued, id, &order));
                continue;
            }
            let cert = self.resolver.text(cert, &pair_path("cert", index));
            let key = self.resolver.text(key.expose(), &pair_path("key", index));
            resolved.extend(cert.zip(key));
        }
        let client_ca = written.client.as_ref();
        let client_ca = client_ca.and_then(|client| self.resolver.text(&client.ca, "/client/ca"));
        self.resolver.finish()?;
        if written.type_ == "client" {
            return Ok(SslPart::Client(resolved.swap_remove(0)));
        }
        let is_reference = |text: &String| text.starts_with('$');
        if self.dry && resolved.iter().any(|(cert, key)| is_reference(cert) || is_reference(key)) {
            return Ok(SslPart::Unresolved);
        }
        if let Some(client) =
            written.client.as_ref().filter(|client| !client.skip_mtls_uri_regex.is_empty())
        {
            let expected = "nothing: it is not there yet";
            let count = client.skip_mtls_uri_regex.len();
            let value = format!("{count} expressions");
            return Err(vec![Invalid::new("/client/skip_mtls_uri_regex", value, expected)]);
        }
        let protocols = &written.ssl_protocols;
        let spec = ServerSpec {
            ssl: id.clone(),
            pairs: resolved.iter().map(|(cert, key)| (cert.as_str(), key.as_str())).collect(),
            protocols: if protocols.is_empty() { &self.settings.protocols } else { protocols },
            client_ca: client_ca.as_deref(),
            http2: self.settings.http2,
        };
        let served = Served::new(&spec).map_err(|error| vec![tls_problem(&error)])?;
        let names = written.all_snis().cloned().collect();
        Ok(SslPart::Server(names, Arc::new(served)))
    }
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
        TlsError::Mismatch => {
            let of = cert();
            let of = of.trim_start_matches('/');
            let expected =
                format!("the private key of the certificate in {of}; this one does not match");
            Invalid::new(key(), "a key (not shown)", expected)
        }
        TlsError::Authorities(reason) => Invalid::new("/client/ca", "authorities", reason.clone()),
        TlsError::Protocols(reason) => Invalid::new("/ssl_protocols", "protocols", reason.clone()),
        TlsError::Pair { .. } | TlsError::Rustls(_) => {
            Invalid::new("", "the ssl object", error.to_string())
        }
    }
}
