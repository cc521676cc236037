//! Load: what a tool sent, and what came of it.

pub mod client;
pub mod h2load;
pub mod handshakes;
pub mod wrk;

use anyhow::{Result, ensure};

/// What a load tool tells of one run.
#[derive(Debug, Clone)]
pub struct Load {
    pub requests: u64,
    /// Requests without an answer, or with another status than 2xx.
    pub errors: u64,
    pub seconds: f64,
    pub p50_us: f64,
    pub p99_us: f64,
}

// === impl Load ===

impl Load {
    /// Of the latencies of all requests, in microseconds.
    pub fn of(mut micros: Vec<f64>, errors: u64, seconds: f64) -> Result<Self> {
        ensure!(!micros.is_empty(), "no request was answered");
        micros.sort_by(f64::total_cmp);
        let at = |part: f64| micros[((micros.len() - 1) as f64 * part) as usize];
        Ok(Self {
            requests: micros.len() as u64,
            errors,
            seconds,
            p50_us: at(0.5),
            p99_us: at(0.99),
        })
    }

    pub fn per_second(&self) -> f64 {
        self.requests as f64 / self.seconds
    }

    /// Refuses a run that says nothing about speed: with requests that failed, or without any.
    pub fn sound(self) -> Result<Self> {
        ensure!(self.requests > 0, "no request was answered");
        ensure!(
            self.errors == 0,
            "{} of {} requests failed",
            self.errors,
            self.requests + self.errors
        );
        Ok(self)
    }
}
