//! `ssl_ciphers`: OpenSSL's names of TLS 1.2 cipher suites in, rustls suites in that order out.
//!
//! The suites of TLS 1.3 are not chosen by it, as in OpenSSL. Besides names, the list may hold what
//! people write for nginx: groups (`HIGH`, `ECDHE+AESGCM`) and what is taken out (`!aNULL`).
//!
//! Source: nginx `ssl_ciphers`; openssl-ciphers(1).

use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::{CipherSuite, SupportedCipherSuite};

use super::provider;

/// What a list of ciphers comes to.
pub struct Ciphers {
    /// The process's crypto library, offering these suites.
    pub provider: Arc<CryptoProvider>,
    /// Names in the list that say nothing here, in its order.
    pub unknown: Vec<String>,
    /// Whether a suite of TLS 1.2 is left.
    pub has_tls12: bool,
}

/// In APISIX's own default list, and in no rustls: to be told of them at each start would teach
/// people to read over warnings.
const QUIET: [&str; 2] = ["DHE-RSA-AES128-GCM-SHA256", "DHE-RSA-AES256-GCM-SHA384"];

/// The names that OpenSSL knows each suite of TLS 1.2 by: its own, and those of the groups it is in.
const TLS12: [(CipherSuite, &str, &[&str]); 6] = {
    use CipherSuite as C;
    [
        (
            C::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
            "ECDHE-ECDSA-AES256-GCM-SHA384",
            &["ECDSA", "aECDSA", "AESGCM", "AES256", "AES", "SHA384"],
        ),
        (
            C::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
            "ECDHE-RSA-AES256-GCM-SHA384",
            &["aRSA", "AESGCM", "AES256", "AES", "SHA384"],
        ),
        (
            C::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
            "ECDHE-ECDSA-CHACHA20-POLY1305",
            &["ECDSA", "aECDSA", "CHACHA20"],
        ),
        (
            C::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
            "ECDHE-RSA-CHACHA20-POLY1305",
            &["aRSA", "CHACHA20"],
        ),
        (
            C::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
            "ECDHE-ECDSA-AES128-GCM-SHA256",
            &["ECDSA", "aECDSA", "AESGCM", "AES128", "AES", "SHA256"],
        ),
        (
            C::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
            "ECDHE-RSA-AES128-GCM-SHA256",
            &["aRSA", "AESGCM", "AES128", "AES", "SHA256"],
        ),
    ]
};

/// The groups that every suite of [`TLS12`] is in.
const ALL: [&str; 9] = [
    "ALL",
    "DEFAULT",
    "COMPLEMENTOFDEFAULT",
    "HIGH",
    "ECDHE",
    "EECDH",
    "kECDHE",
    "kEECDH",
    "TLSv1.2",
];

// === impl Ciphers ===

impl Ciphers {
    /// The suites that `names` stand for, after those of TLS 1.3.
    pub fn new<S: AsRef<str>>(names: &[S]) -> Self {
        let mut chosen: Vec<CipherSuite> = Vec::new();
        let mut unknown = Vec::new();
        for name in names.iter().map(AsRef::as_ref).flat_map(|name| name.split([' ', ','])) {
            if name.is_empty() || name.starts_with('@') {
                continue;
            }
            // What is taken out and is not there anyway (`!aNULL`, `!MD5`) is as it is wanted.
            if let Some(out) = name.strip_prefix(['!', '-']) {
                let out = suites(out);
                chosen.retain(|suite| !out.contains(suite));
                continue;
            }
            let found = suites(name.trim_start_matches('+'));
            if found.is_empty() && !QUIET.contains(&name) {
                unknown.push(name.to_owned());
            }
            for suite in found {
                if !chosen.contains(&suite) {
                    chosen.push(suite);
                }
            }
        }
        // `!` holds whatever stands after it.
        for name in names.iter().filter_map(|name| name.as_ref().strip_prefix('!')) {
            let out = suites(name);
            chosen.retain(|suite| !out.contains(suite));
        }
        let all = &provider().cipher_suites;
        let is_13 = |suite: &&SupportedCipherSuite| suite.tls13().is_some();
        let of = |wanted: &CipherSuite| all.iter().find(|suite| suite.suite() == *wanted);
        let cipher_suites = all.iter().filter(is_13).chain(chosen.iter().filter_map(of));
        let cipher_suites = cipher_suites.copied().collect();
        let provider = CryptoProvider { cipher_suites, ..(*provider()).clone() };
        Self { provider: Arc::new(provider), unknown, has_tls12: !chosen.is_empty() }
    }
}

/// The suites that a name stands for: one, those of a group, or those of every group joined by `+`.
fn suites(name: &str) -> Vec<CipherSuite> {
    let parts: Vec<&str> = name.split('+').collect();
    let all = TLS12.iter().filter(|(_, own, groups)| {
        parts.iter().all(|part| part == own || groups.contains(part) || ALL.contains(part))
    });
    all.map(|(suite, ..)| *suite).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(list: &str) -> (Vec<&'static str>, Vec<String>) {
        let names: Vec<&str> = list.split(':').collect();
        let ciphers = Ciphers::new(&names);
        let suites = ciphers.provider.cipher_suites.iter().filter(|suite| suite.tls13().is_none());
        let own = |suite: &SupportedCipherSuite| {
            TLS12.iter().find(|row| row.0 == suite.suite()).unwrap().1
        };
        let tls13 = ciphers.provider.cipher_suites.iter().take_while(|s| s.tls13().is_some());
        assert_eq!(tls13.count(), 3, "those of TLS 1.3 stay, in front");
        let suites: Vec<_> = suites.map(own).collect();
        assert_eq!(ciphers.has_tls12, !suites.is_empty());
        (suites, ciphers.unknown)
    }

    #[test]
    fn keeps_the_order_that_is_written() {
        let list = "ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-CHACHA20-POLY1305:\
                    ECDHE-RSA-AES128-GCM-SHA256";
        let wanted = ["ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-ECDSA-CHACHA20-POLY1305"];
        assert_eq!(check(list), (wanted.to_vec(), vec![]));
    }

    #[test]
    fn skips_what_it_does_not_know_and_says_what() {
        let list = "DHE-RSA-AES128-GCM-SHA256:AES128-SHA:ECDHE-RSA-AES256-GCM-SHA384:nonsense";
        let (suites, unknown) = check(list);
        assert_eq!(suites, ["ECDHE-RSA-AES256-GCM-SHA384"]);
        assert_eq!(unknown, ["AES128-SHA", "nonsense"]);
        assert_eq!(check("AES128-SHA"), (vec![], vec!["AES128-SHA".to_owned()]));
    }

    #[test]
    fn reads_the_groups_that_people_write_for_nginx() {
        assert_eq!(check("HIGH:!aNULL:!MD5").0.len(), 6);
        assert_eq!(check("HIGH:!aNULL:!MD5").1, Vec::<String>::new());
        let (suites, _) = check("EECDH+AESGCM:!aECDSA");
        assert_eq!(suites, ["ECDHE-RSA-AES256-GCM-SHA384", "ECDHE-RSA-AES128-GCM-SHA256"]);
        assert_eq!(check("!CHACHA20:ALL").0.len(), 4);
    }
}
