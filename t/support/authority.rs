//! A certificate authority of a test's own.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair,
};

/// A root that issues certificates. Its root and leaves are valid from now on.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        Self { issuer }
    }

    /// The root, PEM.
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// A certificate for `names` and 127.0.0.1, good for servers and clients, and its key, PEM.
    pub fn issue(&self, names: &[&str]) -> (String, String) {
        self.sign(names, &KeyPair::generate().unwrap())
    }

    /// The same with an RSA key.
    pub fn issue_rsa(&self, names: &[&str]) -> (String, String) {
        self.sign(names, &KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap())
    }

    /// The root's private key, PEM.
    pub fn key_pem(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// As [`Self::issue`], with `change` to what is signed.
    pub fn issue_as(
        &self,
        names: &[&str],
        change: impl FnOnce(&mut CertificateParams),
    ) -> (String, String) {
        self.sign_as(names, &KeyPair::generate().unwrap(), change)
    }

    fn sign(&self, names: &[&str], key: &KeyPair) -> (String, String) {
        self.sign_as(names, key, |_| {})
    }

    fn sign_as(
        &self,
        names: &[&str],
        key: &KeyPair,
        change: impl FnOnce(&mut CertificateParams),
    ) -> (String, String) {
        let all = names.iter().chain(&["127.0.0.1"]).map(ToString::to_string);
        let mut params = CertificateParams::new(all.collect::<Vec<_>>()).unwrap();
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.distinguished_name.push(DnType::CommonName, names[0]);
        change(&mut params);
        let cert = params.signed_by(key, &self.issuer).unwrap();
        (cert.pem(), key.serialize_pem())
    }
}

/// The first certificate of a PEM text, DER.
pub fn der(pem: &str) -> Vec<u8> {
    use rustls_pki_types::CertificateDer;
    use rustls_pki_types::pem::PemObject;
    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap().to_vec()
}
