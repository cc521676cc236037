//! W10, third part: finding the ssl object of a server name, and what one takes in memory.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use sluice::tls::{Served, ServerSpec, SniMap, Terms};

use crate::config_road::resident;
use crate::table::{Report, Table};
use crate::weight::weigh;

/// How many ssl objects there are, one name each.
const OBJECTS: usize = 10_000;

/// Lookups in a batch; a batch is what the clock is read around.
const LOOKUPS: usize = 20_000;

/// Batches a case.
const BATCHES: usize = 11;

/// How many changes are timed.
const CHANGES: usize = 1_000;

/// What clients ask for.
#[derive(Clone, Copy)]
enum Asked {
    Exact,
    Wildcard,
    /// Nobody has it.
    Miss,
}

/// Times every case and adds the table.
pub fn run(report: &mut Report) -> Result<()> {
    let rsa = rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256)?;
    // Kept, so that the next ones do not take over its memory.
    let (_of_rsa, of_rsa) = objects(&rsa)?;
    let ecdsa = rcgen::KeyPair::generate()?;
    let (all, of_ecdsa) = objects(&ecdsa)?;
    let mut table = Table::new(
        "W10  SNI lookup, 10,000 objects; bytes of an object, and of its name in the map",
        &["name", "ns min", "ns median", "ns max", "ECDSA", "RSA 2048", "name", "change µs"],
    );
    let mut figures = Vec::new();
    for asked in [Asked::Exact, Asked::Wildcard, Asked::Miss] {
        let (map, bytes) = weigh(|| {
            let mut map = SniMap::default();
            for (n, served) in all.iter().enumerate() {
                map.insert([asked.written(n).as_str()], served);
            }
            map
        });
        let bytes = bytes as f64 / OBJECTS as f64;
        let ([min, median, max], change) = (lookups(&map, asked)?, change(&map, asked, &all));
        let whole = |value: f64| format!("{value:.0}");
        table.row([
            asked.name().to_owned(),
            whole(min),
            whole(median),
            whole(max),
            whole(of_ecdsa),
            whole(of_rsa),
            whole(bytes),
            format!("{change:.1}"),
        ]);
        figures.push(json!({
            "name": asked.name(), "ns_min": min, "ns_median": median, "ns_max": max,
            "bytes_ecdsa": of_ecdsa, "bytes_rsa": of_rsa, "bytes_name": bytes,
            "change_us": change,
        }));
    }
    report.add("W10 names", table, Value::from(figures));
    Ok(())
}

/// Objects of one name and one certificate each; and the bytes that one of them takes, which the
/// crypto library asks the system for, so that the process is what is weighed.
fn objects(key: &rcgen::KeyPair) -> Result<(Vec<Arc<Served>>, f64)> {
    let params = rcgen::CertificateParams::new(vec!["www.example.com".to_owned()])?;
    let (cert, key) = (params.self_signed(key)?.pem(), key.serialize_pem());
    let protocols = ["TLSv1.2".to_owned(), "TLSv1.3".to_owned()];
    let terms = Terms::default();
    let before = resident()?;
    let mut all = Vec::with_capacity(OBJECTS);
    for n in 0..OBJECTS {
        all.push(Arc::new(Served::new(&ServerSpec {
            ssl: n.to_string().into(),
            pairs: vec![(&cert, &key)],
            protocols: &protocols,
            clients: None,
            http2: true,
            stapling: None,
            terms: &terms,
        })?));
    }
    let bytes = resident()?.saturating_sub(before);
    Ok((all, bytes as f64 / OBJECTS as f64))
}

fn lookups(map: &SniMap, asked: Asked) -> Result<[f64; 3]> {
    // Made before the clock runs, and in no order that a cache could like.
    let mut random = fastrand::Rng::with_seed(1);
    let names: Vec<(usize, String)> =
        (0..LOOKUPS).map(|_| random.usize(..OBJECTS)).map(|n| (n, asked.sent(n))).collect();
    for (n, name) in &names {
        let found = map.find(name).map(|served| &*served.ssl);
        let expected = n.to_string();
        let expected = (!matches!(asked, Asked::Miss)).then_some(expected.as_str());
        ensure!(found == expected, "{name} found {found:?}");
    }
    let mut batches: Vec<f64> = (0..BATCHES)
        .map(|_| {
            let began = Instant::now();
            for (_, name) in &names {
                black_box(map.find(name));
            }
            began.elapsed().as_nanos() as f64 / LOOKUPS as f64
        })
        .collect();
    batches.sort_by(f64::total_cmp);
    Ok([batches[0], batches[BATCHES / 2], batches[BATCHES - 1]])
}

/// Median microseconds of one change: an object out of the newest version, and in again.
fn change(map: &SniMap, asked: Asked, all: &[Arc<Served>]) -> f64 {
    let mut newest = map.clone();
    let mut took = Vec::with_capacity(CHANGES);
    for turn in 0..CHANGES {
        // Any object, far from the one before.
        let n = turn * 7919 % OBJECTS;
        let name = asked.written(n);
        let began = Instant::now();
        let mut next = newest.clone();
        next.remove(&all[n].ssl, [name.as_str()]);
        next.insert([name.as_str()], &all[n]);
        newest = next;
        took.push(began.elapsed().as_secs_f64() * 1e6);
    }
    took.sort_by(f64::total_cmp);
    took[CHANGES / 2]
}

// === impl Asked ===

impl Asked {
    fn name(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Wildcard => "of a wildcard",
            Self::Miss => "of nobody",
        }
    }

    /// What object `n` is for.
    fn written(self, n: usize) -> String {
        match self {
            Self::Exact => format!("host-{n}.example.com"),
            Self::Wildcard | Self::Miss => format!("*.host-{n}.example.com"),
        }
    }

    /// What a client sends to get object `n`.
    fn sent(self, n: usize) -> String {
        match self {
            Self::Exact => format!("host-{n}.example.com"),
            Self::Wildcard => format!("www.host-{n}.example.com"),
            Self::Miss => format!("www.{n}.example.org"),
        }
    }
}
