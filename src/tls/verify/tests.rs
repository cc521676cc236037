//! Chains of several lengths, and of other authorities.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair,
};

use super::*;

type Issuer = CertifiedIssuer<'static, KeyPair>;

/// A root, the authorities below it one under the other, and a client of the last.
struct Chain {
    root: String,
    leaf: CertificateDer<'static>,
    /// As clients send them: the leaf's issuer first.
    more: Vec<CertificateDer<'static>>,
}

fn authority(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
}

fn chain(between: usize) -> Chain {
    let key = || KeyPair::generate().unwrap();
    let root = Issuer::self_signed(authority("root"), key()).unwrap();
    let mut issuers = vec![root];
    for level in 1..=between {
        let params = authority(&format!("level {level}"));
        let issuer = Issuer::signed_by(params, key(), &issuers[level - 1]).unwrap();
        issuers.push(issuer);
    }
    let mut params = CertificateParams::new(vec!["client".to_owned()]).unwrap();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let leaf = params.signed_by(&key(), &issuers[between]).unwrap().der().clone();
    let more = issuers[1..].iter().rev().map(|issuer| issuer.der().clone()).collect();
    Chain { root: issuers[0].pem(), leaf, more }
}

/// What becomes of `chain` at `depth`, and what is said of it where it may be missing.
fn check(chain: &Chain, ca: &str, depth: u32) -> (bool, Option<String>) {
    let asked = |exempt| Asked { ca, depth, exempt };
    let (strict, none) = asked(Vec::new()).verifier().unwrap();
    assert!(none.is_none() && strict.client_auth_mandatory());
    let now = UnixTime::now();
    let passes = strict.verify_client_cert(&chain.leaf, &chain.more, now).is_ok();
    let (asking, exemption) =
        asked(vec![Pattern::new("^/open", false).unwrap()]).verifier().unwrap();
    assert!(!asking.client_auth_mandatory());
    assert!(asking.verify_client_cert(&chain.leaf, &chain.more, now).is_ok());
    let mut all = vec![chain.leaf.clone()];
    all.extend(chain.more.iter().cloned());
    (passes, exemption.unwrap().problem(&all))
}

#[test]
fn takes_as_many_authorities_between_as_the_depth_says() {
    let too_long = Some("certificate chain too long".to_owned());
    for between in 0..=2 {
        let chain = chain(between);
        for depth in 0..=3 {
            let fits = between <= usize::try_from(depth).unwrap();
            let expected = (fits, if fits { None } else { too_long.clone() });
            assert_eq!(check(&chain, &chain.root, depth), expected, "{between} in {depth}");
        }
    }
}

#[test]
fn counts_what_is_needed_and_not_what_is_sent() {
    let mut sent = chain(1);
    let (root, other) = (sent.root.clone(), chain(2));
    sent.more.extend(other.more);
    assert_eq!(check(&sent, &root, 1), (true, None));
}

#[test]
fn says_what_is_wrong_with_a_certificate_of_another_authority() {
    let of_that_name = Some("certificate signature failure".to_owned());
    assert_eq!(check(&chain(0), &chain(0).root, 1), (false, of_that_name));
    let unknown = Some("unable to verify the first certificate".to_owned());
    let other = CertifiedIssuer::self_signed(authority("other"), KeyPair::generate().unwrap());
    assert_eq!(check(&chain(0), &other.unwrap().pem(), 1), (false, unknown));
}
