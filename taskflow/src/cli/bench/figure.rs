//! Figures: samples, their spread over all runs, and their ratio to a baseline.

use std::collections::HashSet;
use std::time::Duration;

use serde::Serialize;

/// The unit of a number, and which direction is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// More is better.
    PerSecond,
    /// Less is better.
    Micros,
    /// Less is better.
    Megabytes,
}

impl Meaning {
    fn unit(self) -> &'static str {
        match self {
            Self::PerSecond => "1/s",
            Self::Micros => "us",
            Self::Megabytes => "MB",
        }
    }

    fn better(self) -> &'static str {
        match self {
            Self::PerSecond => "higher",
            Self::Micros | Self::Megabytes => "lower",
        }
    }
}

/// One number of one measurement.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    /// The scenario; if it has several numbers, also which one: `latency/p50`.
    pub(super) name: &'static str,
    pub(super) value: f64,
    pub(super) meaning: Meaning,
}

impl Sample {
    pub(super) fn rate(name: &'static str, count: u64, took: Duration) -> Self {
        Self { name, value: count as f64 / took.as_secs_f64(), meaning: Meaning::PerSecond }
    }

    pub(super) fn micros(name: &'static str, took: Duration, calls: u32) -> Self {
        Self { name, value: took.as_secs_f64() * 1e6 / f64::from(calls), meaning: Meaning::Micros }
    }
}

/// A number over all runs.
#[derive(Debug, Serialize)]
pub(super) struct Spread {
    pub(super) median: f64,
    pub(super) min: f64,
    pub(super) max: f64,
}

impl Spread {
    fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let at = |place: usize| values.get(place).copied().unwrap_or_default();
        let (low, high) = (values.len().saturating_sub(1) / 2, values.len() / 2);
        let last = values.len().saturating_sub(1);
        Self { median: f64::midpoint(at(low), at(high)), min: at(0), max: at(last) }
    }
}

/// The measurement that a figure is compared with.
#[derive(Debug, Serialize)]
pub(super) struct Baseline {
    /// The kind of baseline: `floor`, `plain route` or `empty store`.
    pub(super) what: &'static str,
    #[serde(flatten)]
    pub(super) spread: Spread,
}

/// A figure beside its baseline.
#[derive(Debug, Serialize)]
pub(super) struct Figure {
    pub(super) scenario: &'static str,
    /// The scenario; if it has several figures, also which one: `latency/p50`.
    pub(super) figure: &'static str,
    pub(super) unit: &'static str,
    /// `higher` or `lower`.
    pub(super) better: &'static str,
    pub(super) ours: Spread,
    pub(super) baseline: Baseline,
    /// Ours, divided by the baseline.
    pub(super) ratio: f64,
}

impl Figure {
    /// The share of the baseline's performance that was reached: 2 means twice as fast, whichever direction is better.
    pub(super) fn reached(&self) -> f64 {
        if self.better == "higher" { self.ratio } else { 1.0 / self.ratio }
    }
}

/// The figures of one scenario, from the samples of all its runs.
pub(super) fn figures(
    scenario: &'static str,
    what: &'static str,
    ours: &[Vec<Sample>],
    baseline: &[Vec<Sample>],
) -> Vec<Figure> {
    let mut names = HashSet::new();
    let each_name = ours.iter().flatten().filter(|sample| names.insert(sample.name));
    let of = |runs: &[Vec<Sample>], name: &str| {
        let samples = runs.iter().flatten().filter(|sample| sample.name == name);
        Spread::of(samples.map(|sample| sample.value).collect())
    };
    let figure = |sample: &Sample| {
        let (ours, baseline) = (of(ours, sample.name), of(baseline, sample.name));
        Figure {
            scenario,
            figure: sample.name,
            unit: sample.meaning.unit(),
            better: sample.meaning.better(),
            ratio: ours.median / baseline.median,
            ours,
            baseline: Baseline { what, spread: baseline },
        }
    };
    each_name.map(figure).collect()
}
