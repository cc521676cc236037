//! Proofs of names for ACME servers (tls-alpn-01): certificates that nobody else is shown.
//!
//! The server shakes hands for the name and offers `acme-tls/1` and no other protocol. What it is
//! shown holds the digest that it has asked for; then the connection ends. Proofs are made when
//! they are asked for, beside the handshakes, and are there for moments.
//!
//! Source: RFC 8737.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rcgen::{CertificateParams, CustomExtension, KeyPair};
use rustls::ServerConfig;
use rustls::server::{ClientHello, NoServerSessionStorage};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls_pki_types::PrivatePkcs8KeyDer;

use super::sni::without_dot;
use super::{TlsError, provider};

/// The protocol that only ACME servers offer.
const ALPN: &[u8] = b"acme-tls/1";

/// What is shown for names that are being proved. Clones share everything.
#[derive(Clone, Default)]
pub struct Proofs(Arc<BTreeMap<String, Proof>>);

#[derive(Clone)]
struct Proof {
    /// As it was asked for.
    digest: String,
    config: Arc<ServerConfig>,
}

// === impl Proofs ===

impl Proofs {
    /// Proofs of `wanted`: by name, in lower case, the SHA-256 digest of the key authorization,
    /// base64url. What these proofs have of it already is taken over; what cannot be made is told
    /// to the log, as the server will tell that the name is not proved.
    #[must_use]
    pub fn of(&self, wanted: &BTreeMap<String, String>) -> Self {
        let is_same = wanted.iter().eq(self.0.iter().map(|(name, proof)| (name, &proof.digest)));
        if is_same {
            return self.clone();
        }
        let mut proofs = BTreeMap::new();
        for (name, digest) in wanted {
            let proof = match self.0.get(name).filter(|proof| proof.digest == *digest) {
                Some(proof) => Ok(proof.clone()),
                None => Proof::new(name, digest),
            };
            match proof {
                Ok(proof) => drop(proofs.insert(name.clone(), proof)),
                Err(error) => tracing::error!(name, %error, "the name cannot be proved"),
            }
        }
        Self(Arc::new(proofs))
    }

    /// What an ACME server is shown. For any other client that is a look at whether there is
    /// anything, and while there is, at its first protocol.
    pub(super) fn find(&self, hello: &ClientHello<'_>) -> Option<Arc<ServerConfig>> {
        if self.0.is_empty() {
            return None;
        }
        let mut protocols = hello.alpn()?;
        if protocols.next() != Some(ALPN) || protocols.next().is_some() {
            return None;
        }
        let name = without_dot(hello.server_name()?).to_ascii_lowercase();
        self.0.get(&name).map(|proof| proof.config.clone())
    }
}

impl std::fmt::Debug for Proofs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

// === impl Proof ===

impl Proof {
    fn new(name: &str, digest: &str) -> Result<Self, TlsError> {
        let bytes = URL_SAFE_NO_PAD.decode(digest).ok();
        let bytes: Option<[u8; 32]> = bytes.and_then(|bytes| bytes.try_into().ok());
        let bytes = bytes.ok_or_else(|| {
            TlsError::Certificate("expected a digest of 32 bytes to prove the name by".to_owned())
        })?;
        let made = certificate(name, &bytes);
        let (shown, key) = made.map_err(|error| TlsError::Certificate(error.to_string()))?;
        let key = PrivatePkcs8KeyDer::from(key.serialize_der());
        let key = provider().key_provider.load_private_key(key.into())?;
        // rustls would look at the certificate, and refuse what it does not know in it.
        let shown = CertifiedKey::new(vec![shown.der().clone()], key);
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(shown)));
        config.alpn_protocols.push(ALPN.to_vec());
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Self { digest: digest.to_owned(), config: Arc::new(config) })
    }
}

/// The certificate that shows `digest` for `name`, signed by its own key.
fn certificate(
    name: &str,
    digest: &[u8; 32],
) -> Result<(rcgen::Certificate, KeyPair), rcgen::Error> {
    let mut params = CertificateParams::new([name.to_owned()])?;
    params.custom_extensions.push(CustomExtension::new_acme_identifier(digest));
    let key = KeyPair::generate()?;
    Ok((params.self_signed(&key)?, key))
}

#[cfg(test)]
mod tests;
