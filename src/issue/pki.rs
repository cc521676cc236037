//! Vault's PKI engine: certificate and key in one answer, and a look at what was revoked since.
//!
//! Source: Vault's API docs, `secret/pki`.

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde_json::{Value, json};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::IssueError;
use super::record::Record;
use crate::resource::hidden::Hidden;
use crate::secret::Secrets;
use crate::secret::vault::Vault;

/// A role of a PKI engine.
pub(super) struct Role<'r> {
    pub(super) secrets: &'r Secrets,
    /// `vault/quickstart`.
    pub(super) vault: &'r str,
    pub(super) mount: &'r str,
    pub(super) role: &'r str,
}

// === impl Role ===

impl Role<'_> {
    fn vault(&self) -> Result<std::sync::Arc<Vault>, IssueError> {
        let found = self.secrets.vault(self.vault);
        found.ok_or_else(|| IssueError::NoIssuer(self.vault.to_owned()))
    }

    /// Has a certificate issued for `names`, the first of which is its common name.
    ///
    /// # Errors
    /// Vault's own words, or that its answer holds no certificate that can be served.
    pub(super) async fn issue(&self, names: &[String], node: &str) -> Result<Record, IssueError> {
        let (first, more) = names.split_first().ok_or(IssueError::Nameless)?;
        let path = format!("{}/issue/{}", self.mount, self.role);
        let body = json!({ "common_name": first, "alt_names": more.join(","), "format": "pem" });
        let answer = self.vault()?.write(&path, &body).await?;
        let data = &answer["data"];
        let text = |name: &str| data[name].as_str().map(str::to_owned);
        let lacks = |name: &str| IssueError::Lacks { place: path.clone(), field: name.to_owned() };
        let certificate = text("certificate").ok_or_else(|| lacks("certificate"))?;
        let key = text("private_key").map(Hidden).ok_or_else(|| lacks("private_key"))?;
        let serial = text("serial_number");
        Record::new(chain(&certificate, data), key, serial, node)
    }

    /// Whether Vault has revoked the certificate with `serial`, by itself or with its lease.
    /// One that Vault keeps no copy of (`no_store`) is never known to be.
    ///
    /// # Errors
    /// Vault does not answer, or not this.
    pub(super) async fn is_revoked(&self, serial: &str) -> Result<bool, IssueError> {
        let answer = self.vault()?.look(&format!("{}/cert/{serial}", self.mount)).await?;
        Ok(answer["data"]["revocation_time"].as_i64().is_some_and(|time| time > 0))
    }
}

/// The leaf with those above it, but for roots: clients have these, or do not believe them.
fn chain(leaf: &str, data: &Value) -> String {
    let above = match data["ca_chain"].as_array() {
        Some(chain) => chain.iter().filter_map(Value::as_str).collect(),
        None => data["issuing_ca"].as_str().into_iter().collect::<Vec<_>>(),
    };
    let mut chain = leaf.trim_end().to_owned();
    for pem in above.into_iter().filter(|pem| !is_root(pem)) {
        chain.push('\n');
        chain.push_str(pem.trim_end());
    }
    chain + "\n"
}

fn is_root(pem: &str) -> bool {
    let Ok(der) = CertificateDer::from_pem_slice(pem.as_bytes()) else {
        return false;
    };
    let parsed = X509Certificate::from_der(&der);
    parsed.is_ok_and(|(_, certificate)| certificate.subject() == certificate.issuer())
}
