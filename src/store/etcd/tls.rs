//! TLS towards the members.

use rustls::RootCertStore;
use rustls_pki_types::{CertificateDer, pem::PemObject};
use tonic::transport::{ClientTlsConfig, Endpoint, Identity};

use super::Tls;
use crate::call::innermost;

/// Puts `written` on `endpoint`.
///
/// # Errors
/// Which of the files holds not what is expected of it, or that there is nothing to verify by.
pub(super) fn apply(endpoint: Endpoint, written: &Tls) -> Result<Endpoint, String> {
    let mut config = ClientTlsConfig::new();
    if let Some((certificate, key)) = &written.certificate {
        config = config.identity(Identity::from_pem(certificate, key));
    }
    if let Some(name) = &written.server_name {
        config = config.domain_name(name);
    }
    let applied = if written.verify {
        let roots = roots(written.ca.as_deref())?;
        endpoint.tls_config(config.trust_anchors(roots.roots))
    } else {
        endpoint.tls_config_with_verifier(config, crate::tls::client::unverified())
    };
    applied.map_err(|error| innermost(&error))
}

/// The authorities in `ca`, or those of the system.
fn roots(ca: Option<&str>) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    let Some(ca) = ca else {
        let found = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(found.certs);
        if roots.is_empty() {
            return Err("the system has no certificate authorities".to_owned());
        }
        return Ok(roots);
    };
    for certificate in CertificateDer::pem_slice_iter(ca.as_bytes()) {
        let certificate = certificate.map_err(|error| format!("ca: {error}"))?;
        roots.add(certificate).map_err(|error| format!("ca: {error}"))?;
    }
    if roots.is_empty() {
        return Err("ca: expected at least one PEM certificate, there is none".to_owned());
    }
    Ok(roots)
}
