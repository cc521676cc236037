//! Chains in order and out of it, and keys and signatures that are too weak.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use x509_parser::prelude::FromDer as _;

use super::*;
use crate::tls::Certificate;

/// What can be seen of certificates.
fn verdict(chain: &[CertificateDer<'static>]) -> Result<Verdict, String> {
    let read: Vec<_> = chain.iter().map(|der| X509Certificate::from_der(der).unwrap().1).collect();
    judge(&read).map_err(|error| error.to_string())
}

fn of_pem(pem: &str) -> Result<Verdict, String> {
    verdict(&[CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()])
}

/// A root, an authority of it, and a leaf of that; from the leaf on.
fn chain() -> Vec<CertificateDer<'static>> {
    let key = || KeyPair::generate().unwrap();
    let authority = |name: &str| {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
    };
    let root = CertifiedIssuer::self_signed(authority("root"), key()).unwrap();
    let middle = CertifiedIssuer::signed_by(authority("middle"), key(), &root).unwrap();
    let mut leaf = CertificateParams::new(vec!["a.com".to_owned()]).unwrap();
    leaf.distinguished_name.push(DnType::CommonName, "leaf");
    let leaf = leaf.signed_by(&key(), &middle).unwrap();
    vec![leaf.der().clone(), middle.der().clone(), root.der().clone()]
}

#[test]
fn has_no_doubts_about_a_chain_in_order() {
    let chain = chain();
    for length in 1..=3 {
        let verdict = verdict(&chain[..length]).unwrap();
        assert_eq!((verdict.key.as_str(), verdict.weakness), ("ECDSA P-256", None));
        assert_eq!(verdict.doubts, Vec::<String>::new());
        assert_eq!(verdict.issuers_end.is_some(), length > 1);
    }
}

#[test]
fn names_what_is_out_of_order() {
    let [leaf, middle, root] = <[_; 3]>::try_from(chain()).unwrap();
    let doubts = |chain: &[&CertificateDer<'static>]| {
        let chain: Vec<_> = chain.iter().map(|der| (*der).clone()).collect();
        verdict(&chain).unwrap().doubts.join("; ")
    };
    let swapped = doubts(&[&leaf, &root, &middle]);
    let of_leaf = "certificate 2 of the chain (CN=root) has not issued the one before it (CN=leaf)";
    assert!(swapped.starts_with(of_leaf) && swapped.contains("certificate 3 has"), "{swapped}");
    let missing = doubts(&[&leaf, &root]);
    assert!(missing.contains("CN=middle has, which is not there"), "{missing}");
    let twice = doubts(&[&leaf, &middle, &middle, &root]);
    assert!(twice.contains("certificates 2 and 3 of the chain are the same"), "{twice}");
}

#[test]
fn refuses_keys_that_cannot_be_served() {
    let refused = |pem| of_pem(pem).unwrap_err();
    let short = "certificate: its RSA key has 1024 bits; expected 2048 to 8192";
    assert_eq!(refused(RSA_1024), short);
    let odd = "certificate: its key is on the curve 1.3.132.0.10; expected P-256, P-384 or P-521";
    assert_eq!(refused(SECP256K1), odd);
}

#[test]
fn tells_of_signatures_that_can_be_forged() {
    let weakness = of_pem(SHA_1).unwrap().weakness.unwrap();
    assert!(weakness.contains("(CN=a.com) is signed by way of SHA-1"), "{weakness}");
}

#[test]
fn tells_of_a_certificates_end_and_of_names_that_it_is_not_for() {
    let mut params =
        CertificateParams::new(vec!["a.com".to_owned(), "*.b.com".to_owned()]).unwrap();
    params.not_before = rcgen::date_time_ymd(2026, 1, 1);
    params.not_after = rcgen::date_time_ymd(2026, 12, 31);
    let key = KeyPair::generate().unwrap();
    let pem = params.self_signed(&key).unwrap().pem();
    let certificate = Certificate::parse(&pem, &key.serialize_pem()).unwrap();
    let check = |snis: &[&str], days: i64, expected: &[&str]| {
        let snis: Vec<String> = snis.iter().map(ToString::to_string).collect();
        let now = certificate.not_after - days * 24 * 60 * 60;
        assert_eq!(certificate.warnings(&snis, now), expected);
        assert_eq!(certificate.days_left(now), days);
    };
    check(&["A.com.", "*.b.com", "x.b.com", "*"], 100, &[]);
    check(&[], 29, &["expires in 29 days"]);
    check(&[], -3, &["has expired 3 days ago"]);
    check(&[], 365, &["is not valid yet: its time begins in 1 days"]);
    let names = "is not for *.a.com, b.com, x.y.b.com: it is for a.com, *.b.com";
    check(&["a.com", "*.a.com", "b.com", "x.y.b.com"], 100, &[names]);
}

const RSA_1024: &str = "\
-----BEGIN CERTIFICATE-----
MIIBqTCCAU+gAwIBAgIBAjAKBggqhkjOPQQDAjANMQswCQYDVQQDDAJjYTAgFw0y
NjExMjQyMjQxNTlaGA8yMTI2MTAzMTIyNDE1OVowEDEOMAwGA1UEAwwFYS5jb20w
gZ8wDQYJKoZIhvcNAQEBBQADgY0AMIGJAoGBALFww2uKfi/ymYLyBHWQ+L5TBu1f
WbHQNplYbq0WZ5xpteulOjm6tnF7/DcMaaDyQbtoV5hvUwvyTXu09PnKrZQpOGZa
RCy62qPZUqVJmJElZaxUf4s8WgSfdI+kvmuHbMHQF+bsLOxZ1RKxDlCItYgLtA0v
Yn1UDejq+2SVLtzVAgMBAAGjVDBSMBAGA1UdEQQJMAeCBWEuY29tMB0GA1UdDgQW
BBSBg9nmOr24Ja6MCV8mcAp4yFKALDAfBgNVHSMEGDAWgBRTrFipcFkIVXWr9/8m
+UXc74aY0TAKBggqhkjOPQQDAgNIADBFAiEA0dqerio5X91JpspBiIcHlX+sEDMR
nF+mfoZnLI0igFsCIGgMvGgzduiaHzxAx0DGNuYjzRkAGq6Ab4XsWFxP/+Zd
-----END CERTIFICATE-----
";

const SECP256K1: &str = "\
-----BEGIN CERTIFICATE-----
MIIBXjCCAQWgAwIBAgIBAzAKBggqhkjOPQQDAjANMQswCQYDVQQDDAJjYTAgFw0y
NjExMjQyMjQxNTlaGA8yMTI2MTAzMTIyNDE1OVowEDEOMAwGA1UEAwwFYS5jb20w
VjAQBgcqhkjOPQIBBgUrgQQACgNCAATsPEDjxZhlOw0Dj7pvMFo+UxTO2BvrrOtj
AIWkcX0brOA4F4pwhvPVxwBtkzbNtaUrCHtIwmSUWyn2607eurVPo1QwUjAQBgNV
HREECTAHggVhLmNvbTAdBgNVHQ4EFgQU2/mn94vBZ9rQ/aC2w0yQekDar/QwHwYD
VR0jBBgwFoAUU6xYqXBZCFV1q/f/JvlF3O+GmNEwCgYIKoZIzj0EAwIDRwAwRAIg
Fd9B3ASgYLGa/gcssq1CHZTaY5D5gwEWs2yA/N3sxCwCIAm35aYSz1l9eaeJ3DiV
q9gwouv6wSTD8p9/6iMmnU02
-----END CERTIFICATE-----
";

const SHA_1: &str = "\
-----BEGIN CERTIFICATE-----
MIIBYDCCAQegAwIBAgIBATAJBgcqhkjOPQQBMA0xCzAJBgNVBAMMAmNhMCAXDTI2
MTEyNDIyNDE1OVoYDzIxMjYxMDMxMjI0MTU5WjAQMQ4wDAYDVQQDDAVhLmNvbTBZ
MBMGByqGSM49AgEGCCqGSM49AwEHA0IABC0GgK6slIQThs66C2qvNsmPBnIPGRok
+x+yWj6rSZ9A6eGf3njehyyCiFELlRxTyniMR3JKttBPWIpIm56xjhWjVDBSMBAG
A1UdEQQJMAeCBWEuY29tMB0GA1UdDgQWBBQ+bRx6QlxUfo3OWBAbw3dDoxY2nzAf
BgNVHSMEGDAWgBRTrFipcFkIVXWr9/8m+UXc74aY0TAJBgcqhkjOPQQBA0gAMEUC
ICVDiyCL8lWFOfE8ucbGZAwC4hzDMhhucxGSz3eBY9nUAiEA7wuvaKfhEG/uhoIk
Cr19IPs2LwqL4IbMmc/wbsqo4oI=
-----END CERTIFICATE-----
";
