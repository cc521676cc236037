//! Measuring side by side: rounds in which everybody takes a turn, and what they add up to.

use std::future::Future;

use anyhow::Result;
use serde_json::{Value, json};

use crate::load::Load;
use crate::process::Process;
use crate::table::{Table, micros, say};

/// The columns of [`Samples::row`].
pub const COLUMNS: [&str; 9] =
    ["work", "proxy", "µs/req min", "median", "max", "× first", "req/s", "p50 µs", "p99 µs"];

/// What one proxy did in all rounds.
pub struct Samples {
    name: String,
    /// CPU time of the proxy for each request, in microseconds, by round.
    cpu_us: Vec<f64>,
    loads: Vec<Load>,
}

/// How some figures spread.
#[derive(Debug, Clone, Copy)]
pub struct Spread {
    pub min: f64,
    pub median: f64,
    pub max: f64,
    /// Half of the figures lie between them.
    pub quartiles: [f64; 2],
}

/// Lets everybody take a turn in each of `rounds` rounds, after one that warms up.
///
/// `turn` loads the proxy of that index. A proxy whose turn fails is told and left out from then
/// on: figures of a broken run would mislead.
pub async fn interleave<F>(
    rounds: usize,
    proxies: &[(String, &Process)],
    mut turn: impl FnMut(usize) -> F,
) -> Result<Vec<Samples>>
where
    F: Future<Output = Result<Load>>,
{
    let mut all: Vec<Option<Samples>> =
        proxies.iter().map(|(name, _)| Some(Samples::new(name))).collect();
    for round in 0..=rounds {
        for (index, samples) in all.iter_mut().enumerate() {
            let Some(these) = samples else {
                continue;
            };
            let process = proxies[index].1;
            let before = process.cpu()?;
            let outcome = turn(index).await;
            let spent = process.cpu()?.saturating_sub(before);
            // A load tool blocks this thread; a signal that came meanwhile is seen here.
            tokio::task::yield_now().await;
            match outcome {
                Ok(_) if round == 0 => {}
                Ok(load) => {
                    these.cpu_us.push(spent.as_secs_f64() * 1e6 / load.requests as f64);
                    these.loads.push(load);
                }
                Err(error) => {
                    say(&format!("{} left out: {error:#}\n", these.name));
                    *samples = None;
                }
            }
        }
    }
    Ok(all.into_iter().flatten().collect())
}

/// Adds a row for each; all are compared with the first.
pub fn rows(table: &mut Table, work: &str, all: &[Samples]) -> Value {
    let first = all.first().map(|first| first.cpu().median);
    let figures = all.iter().map(|samples| {
        let (cpu, ratio) = (samples.cpu(), first.map_or(1.0, |first| samples.cpu().median / first));
        let (rate, p50, p99) = (
            samples.median(Load::per_second),
            samples.median(|load| load.p50_us),
            samples.median(|load| load.p99_us),
        );
        table.row([
            work.to_owned(),
            samples.name.clone(),
            micros(cpu.min),
            micros(cpu.median),
            micros(cpu.max),
            format!("{ratio:.2}"),
            format!("{rate:.0}"),
            micros(p50),
            micros(p99),
        ]);
        json!({
            "proxy": samples.name,
            "cpu_us": { "min": cpu.min, "median": cpu.median, "max": cpu.max },
            "ratio": ratio, "requests_per_second": rate, "p50_us": p50, "p99_us": p99,
        })
    });
    figures.collect()
}

// === impl Samples ===

impl Samples {
    fn new(name: &str) -> Self {
        Self { name: name.to_owned(), cpu_us: Vec::new(), loads: Vec::new() }
    }

    pub fn cpu(&self) -> Spread {
        Spread::of(self.cpu_us.clone())
    }

    /// The median over the rounds of something that the load tool tells.
    pub fn median(&self, what: impl Fn(&Load) -> f64) -> f64 {
        Spread::of(self.loads.iter().map(what).collect()).median
    }
}

// === impl Spread ===

impl Spread {
    pub fn of(mut figures: Vec<f64>) -> Self {
        figures.sort_by(f64::total_cmp);
        let at = |index: usize| figures.get(index).copied().unwrap_or(f64::NAN);
        let last = figures.len().saturating_sub(1);
        Self {
            min: at(0),
            median: at(last / 2),
            max: at(last),
            quartiles: [at(last / 4), at(last * 3 / 4)],
        }
    }
}
