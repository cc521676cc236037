//! Answers in the making, and what is thought of them.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, CustomExtension, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, SerialNumber, SigningKey,
};

use super::*;

const NOW: i64 = 1_795_558_200;
const THIS: &str = "20261124220000Z";
const NEXT: &str = "20261125220000Z";
const YEAR_2020: (i32, u8, u8) = (2020, 1, 1);
const YEAR_2040: (i32, u8, u8) = (2040, 1, 1);
/// ecdsa-with-SHA256, as an AlgorithmIdentifier.
const ECDSA: &[u8] = &[0x30, 0x0a, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];

/// An issuer, a certificate of its, and what is answered about it.
struct Scene {
    issuer: CertifiedIssuer<'static, KeyPair>,
    leaf: Vec<u8>,
    question: Question,
}

/// An answer in the making.
struct Reply<'a> {
    state: &'a [u8],
    this: &'a str,
    next: Option<&'a str>,
    serial: u8,
    signer: &'a KeyPair,
    certificates: Vec<Vec<u8>>,
}

// === impl Scene ===

impl Scene {
    fn new() -> Self {
        let issuer = issuer("ROOT");
        let leaf = leaf(&issuer, |params| {
            let uri = b"http://ocsp.test/a";
            let mut access = vec![0x30, 32, 0x30, 30, 6, 8, 0x2b, 6, 1, 5, 5, 7, 0x30, 1, 0x86, 18];
            access.extend(uri);
            let oid = &[1, 3, 6, 1, 5, 5, 7, 1, 1];
            params.custom_extensions.push(CustomExtension::from_oid_content(oid, access));
        });
        let question = Question::new(&leaf, issuer.der()).unwrap();
        Self { issuer, leaf, question }
    }

    fn reply(&self) -> Reply<'_> {
        Reply {
            state: &[0x80, 0],
            this: THIS,
            next: Some(NEXT),
            serial: 7,
            signer: self.issuer.key(),
            certificates: Vec::new(),
        }
    }

    fn check(&self, reply: &Reply<'_>) -> Result<Answer, OcspError> {
        self.question.read(&self.answer(reply), NOW, true)
    }

    fn answer(&self, reply: &Reply<'_>) -> Vec<u8> {
        let sha1 = |bytes: &[u8]| digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, bytes);
        let id = wrap(
            SEQUENCE,
            &[
                &wrap(SEQUENCE, &[&wrap(OID, &[SHA1]), &wrap(NULL, &[])]),
                &wrap(OCTET_STRING, &[sha1(&self.question.name).as_ref()]),
                &wrap(OCTET_STRING, &[sha1(&self.question.key).as_ref()]),
                &wrap(INTEGER, &[&[reply.serial]]),
            ],
        );
        let next = reply.next.map(|next| wrap(0xa0, &[&wrap(TIME, &[next.as_bytes()])]));
        let single = wrap(
            SEQUENCE,
            &[&id, reply.state, &wrap(TIME, &[reply.this.as_bytes()]), &next.unwrap_or_default()],
        );
        let data = wrap(
            SEQUENCE,
            &[
                &wrap(0xa2, &[&wrap(OCTET_STRING, &[&[1; 20]])]),
                &wrap(TIME, &[THIS.as_bytes()]),
                &wrap(SEQUENCE, &[&single]),
            ],
        );
        let signature = reply.signer.sign(&data).unwrap();
        let certificates = match reply.certificates.concat() {
            none if none.is_empty() => none,
            some => wrap(0xa0, &[&wrap(SEQUENCE, &[&some])]),
        };
        let basic =
            wrap(SEQUENCE, &[&data, ECDSA, &wrap(BIT_STRING, &[&[0], &signature]), &certificates]);
        let bytes = wrap(SEQUENCE, &[&wrap(OID, &[BASIC]), &wrap(OCTET_STRING, &[&basic])]);
        wrap(SEQUENCE, &[&wrap(ENUMERATED, &[&[0]]), &wrap(0xa0, &[&bytes])])
    }
}

fn issuer(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn leaf(
    issuer: &CertifiedIssuer<'static, KeyPair>,
    change: impl FnOnce(&mut CertificateParams),
) -> Vec<u8> {
    certificate(issuer, &KeyPair::generate().unwrap(), |params| {
        params.serial_number = Some(SerialNumber::from(vec![7]));
        change(params);
    })
}

fn certificate(
    issuer: &CertifiedIssuer<'static, KeyPair>,
    key: &KeyPair,
    change: impl FnOnce(&mut CertificateParams),
) -> Vec<u8> {
    let mut params = CertificateParams::new(vec!["test.com".to_owned()]).unwrap();
    let at = |(year, month, day)| rcgen::date_time_ymd(year, month, day);
    (params.not_before, params.not_after) = (at(YEAR_2020), at(YEAR_2040));
    change(&mut params);
    params.signed_by(key, issuer).unwrap().der().to_vec()
}

#[test]
fn reads_what_a_certificate_says_of_ocsp() {
    let scene = Scene::new();
    assert_eq!(responder(&scene.leaf).unwrap(), "http://ocsp.test/a");
    assert!(!must_staple(&scene.leaf));
    let must = leaf(&scene.issuer, |params| {
        let oid = &[1, 3, 6, 1, 5, 5, 7, 1, 24];
        let feature = CustomExtension::from_oid_content(oid, vec![0x30, 3, 2, 1, 5]);
        params.custom_extensions.push(feature);
    });
    assert!(must_staple(&must));
    assert_eq!(responder(&must), Err(OcspError::NoResponder));
    let other = issuer("OTHER");
    assert_eq!(Question::new(&must, other.der()).err(), Some(OcspError::OtherIssuer));
}

#[test]
fn takes_an_answer_of_the_issuer() {
    let scene = Scene::new();
    let answer = scene.check(&scene.reply()).unwrap();
    let wanted =
        Answer { state: State::Good, this_update: NOW - 600, next_update: Some(NOW + 85_800) };
    assert_eq!(answer, wanted);
    let endless = scene.check(&Reply { next: None, ..scene.reply() }).unwrap();
    assert_eq!(endless.next_update, None);
}

#[test]
fn says_why_it_takes_another_not() {
    let scene = Scene::new();
    let reply = || scene.reply();
    let stranger = KeyPair::generate().unwrap();
    for (reply, wanted) in [
        (Reply { state: &[0xa1, 3, TIME, 1, 0], ..reply() }, OcspError::Revoked),
        (Reply { state: &[0x82, 0], ..reply() }, OcspError::Unknown),
        (Reply { serial: 8, ..reply() }, OcspError::OtherCertificate),
        (Reply { this: "20261125000000Z", ..reply() }, OcspError::Early),
        (Reply { next: Some("20261124220500Z"), ..reply() }, OcspError::Late),
        (Reply { signer: &stranger, ..reply() }, OcspError::Untrusted),
    ] {
        assert_eq!(scene.check(&reply), Err(wanted.clone()));
        let unchecked = scene.question.read(&scene.answer(&reply), NOW, false);
        assert_eq!(unchecked.is_ok(), wanted != OcspError::OtherCertificate, "{wanted}");
    }
    let busy = wrap(SEQUENCE, &[&wrap(ENUMERATED, &[&[3]])]);
    assert_eq!(scene.question.read(&busy, NOW, true), Err(OcspError::Refused("tryLater")));
}

#[test]
fn takes_an_answer_of_whom_the_issuer_has_named_for_it() {
    let scene = Scene::new();
    let key = KeyPair::generate().unwrap();
    let by = |certificate: Vec<u8>| {
        scene.check(&Reply { signer: &key, certificates: vec![certificate], ..scene.reply() })
    };
    let usage = |params: &mut CertificateParams| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::OcspSigning];
    };
    assert!(by(certificate(&scene.issuer, &key, usage)).is_ok());
    // Any other certificate of the issuer's is not enough, nor one of another issuer's.
    assert_eq!(by(certificate(&scene.issuer, &key, |_| {})), Err(OcspError::Untrusted));
    let same_name = issuer("ROOT");
    assert_eq!(by(certificate(&same_name, &key, usage)), Err(OcspError::Untrusted));
    let old = certificate(&scene.issuer, &key, |params| {
        usage(params);
        params.not_after = rcgen::date_time_ymd(2021, 1, 1);
    });
    assert_eq!(by(old), Err(OcspError::Untrusted));
}

#[test]
fn no_cut_or_changed_answer_passes_or_panics() {
    let scene = Scene::new();
    let answer = scene.answer(&scene.reply());
    for length in 0..answer.len() {
        assert!(scene.question.read(&answer[..length], NOW, true).is_err());
    }
    for at in 0..answer.len() {
        let mut changed = answer.clone();
        changed[at] ^= 1;
        let read = scene.question.read(&changed, NOW, true);
        // Outermost lengths aside, everything is signed; and what passes says the same.
        assert!(read.is_err() || read == scene.check(&scene.reply()), "changed at {at}");
    }
}
