//! What was measured: latencies, and how many a second.

use std::time::Duration;

/// The latencies and the rate of one round, or of several pooled ones.
#[derive(Clone, Default)]
pub(crate) struct Series {
    latencies: Vec<Duration>,
    /// How many were completed a second: one figure per round.
    rates: Vec<f64>,
}

impl Series {
    /// A round that took `elapsed` in all; with several calls in flight that is less than the
    /// sum of its latencies.
    pub(crate) fn round(latencies: Vec<Duration>, elapsed: Duration) -> Self {
        let rate = latencies.len() as f64 / elapsed.as_secs_f64();
        Self { latencies, rates: vec![rate] }
    }

    /// Adds the rounds of another series of the same thing.
    pub(crate) fn absorb(&mut self, other: Self) {
        self.latencies.extend(other.latencies);
        self.rates.extend(other.rates);
    }

    /// The latency that `percent` of all do not exceed (nearest rank); zero for an empty series.
    pub(crate) fn percentile(&self, percent: usize) -> Duration {
        let mut latencies = self.latencies.clone();
        let rank = (latencies.len() * percent).div_ceil(100).max(1) - 1;
        if rank >= latencies.len() {
            return Duration::ZERO;
        }
        *latencies.select_nth_unstable(rank).1
    }

    /// The median latency.
    pub(crate) fn p50(&self) -> Duration {
        self.percentile(50)
    }

    /// Completed a second, in the median round.
    pub(crate) fn per_second(&self) -> f64 {
        median(&self.rates)
    }

    /// Each that was measured, in no order.
    pub(crate) fn latencies(&self) -> &[Duration] {
        &self.latencies
    }
}

/// The middle value, the upper one of two; NaN for none.
fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
