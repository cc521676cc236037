//! Handshakes of ACME servers, and of clients that look like one.

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use rustls::server::Acceptor;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::*;

const DIGEST: [u8; 32] = [7; 32];

fn wanted(names: &[&str]) -> BTreeMap<String, String> {
    names.iter().map(|name| ((*name).to_owned(), URL_SAFE_NO_PAD.encode(DIGEST))).collect()
}

/// What a client is shown that offers `protocols` for `name`.
fn shown(proofs: &Proofs, name: &str, protocols: &[&str]) -> Option<Arc<ServerConfig>> {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|one| one.as_bytes().to_vec()).collect();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut client = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).unwrap();
    let mut acceptor = Acceptor::default();
    acceptor.read_tls(&mut &bytes[..]).unwrap();
    let accepted = acceptor.accept().unwrap_or_else(|_| panic!("a hello")).unwrap();
    proofs.find(&accepted.client_hello())
}

#[test]
fn only_who_offers_nothing_else_is_shown_the_proof_of_a_name() {
    let proofs = Proofs::default().of(&wanted(&["a.test"]));
    assert!(shown(&proofs, "A.test", &["acme-tls/1"]).is_some());
    for (name, protocols) in [
        ("a.test", &["acme-tls/1", "h2"][..]),
        ("a.test", &["h2", "acme-tls/1"]),
        ("a.test", &["h2", "http/1.1"]),
        ("a.test", &[]),
        ("b.test", &["acme-tls/1"]),
    ] {
        assert!(shown(&proofs, name, protocols).is_none(), "{name} {protocols:?}");
    }
    assert!(shown(&Proofs::default(), "a.test", &["acme-tls/1"]).is_none());
}

/// RFC 8737, section 3: one name, and the digest in a critical extension.
#[test]
fn the_certificate_holds_the_digest_for_one_name() {
    let proof = Proof::new("a.test", &URL_SAFE_NO_PAD.encode(DIGEST)).unwrap();
    assert_eq!(proof.config.alpn_protocols, [b"acme-tls/1"]);
    let made = certificate("a.test", &DIGEST).unwrap();
    let (_, read) = X509Certificate::from_der(made.0.der()).unwrap();
    let names = read.subject_alternative_name().unwrap().unwrap();
    assert_eq!(names.value.general_names.len(), 1);
    let extension = read
        .extensions()
        .iter()
        .find(|one| one.oid.to_id_string() == "1.3.6.1.5.5.7.1.31")
        .unwrap();
    assert!(extension.critical);
    assert_eq!(extension.value, [&[4, 32][..], &DIGEST].concat());
}

#[test]
fn what_is_there_already_is_taken_over_and_what_cannot_be_made_left_out() {
    let first = Proofs::default().of(&wanted(&["a.test"]));
    let mut more = wanted(&["a.test", "b.test"]);
    more.insert("c.test".to_owned(), "short".to_owned());
    let second = first.of(&more);
    assert!(Arc::ptr_eq(&first.0["a.test"].config, &second.0["a.test"].config));
    assert_eq!(format!("{second:?}"), r#"{"a.test", "b.test"}"#);
    assert!(second.of(&BTreeMap::new()).0.is_empty());
}
