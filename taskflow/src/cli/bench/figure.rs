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
    /// Less is better.
    Bytes,
    /// Less is better.
    Rows,
}

impl Meaning {
    fn unit(self) -> &'static str {
        match self {
            Self::PerSecond => "1/s",
            Self::Micros => "us",
            Self::Megabytes => "MB",
            Self::Bytes => "B",
            Self::Rows => "rows",
        }
    }

    fn better(self) -> &'static str {
        match self {
            Self::PerSecond => "higher",
            Self::Micros | Self::Megabytes | Self::Bytes | Self::Rows => "lower",
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

    pub(super) fn micros(name: &'static str, took: Duration, calls: u64) -> Self {
        Self { name, value: took.as_secs_f64() * 1e6 / calls as f64, meaning: Meaning::Micros }
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
    /// What the baseline is, such as `floor`, `plain route` or `empty store`.
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
    /// Where the median of the ratio lies, if there were enough runs to say so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) pairs: Option<Interval>,
}

/// Bounds between which a median lies with at least 95 % confidence, whatever the distribution is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Interval {
    pub(super) low: f64,
    pub(super) high: f64,
}

impl Interval {
    /// The bounds for the median of the distribution from which these ratios are a sample. `None` for fewer than six: the
    /// least and the greatest of five enclose the median with only 93.75 % confidence.
    ///
    /// Each ratio lies below the median with a chance of one half, so the number of those that do is binomial. The `k` least
    /// and the `k` greatest are left out, for the greatest `k` that excludes the median in less than 5 % of all cases.
    fn of(mut ratios: Vec<f64>) -> Option<Self> {
        ratios.sort_by(f64::total_cmp);
        let count = ratios.len();
        let all = 2_f64.powi(i32::try_from(count).ok()?);
        let (mut chance, mut ways, mut left_out) = (0.0, 1.0, None);
        for k in 0..count / 2 {
            chance += 2.0 * ways / all;
            if chance >= 0.05 {
                break;
            }
            left_out = Some(k);
            ways *= (count - k) as f64 / (k + 1) as f64;
        }
        let left_out = left_out?;
        Some(Self { low: *ratios.get(left_out)?, high: *ratios.get(count - 1 - left_out)? })
    }
}

impl Figure {
    /// The share of the baseline's performance that was reached: 2 means twice as fast, whichever direction is better.
    pub(super) fn reached(&self) -> f64 {
        if self.better == "higher" { self.ratio } else { 1.0 / self.ratio }
    }
}

/// The figures of a scenario whose runs took turns with those of the baseline: the n-th runs of both form a pair.
pub(super) fn figures_of_pairs(
    scenario: &'static str,
    what: &'static str,
    ours: &[Vec<Sample>],
    baseline: &[Vec<Sample>],
) -> Vec<Figure> {
    let value =
        |run: &[Sample], name| run.iter().find(|sample| sample.name == name).map(|sample| sample.value);
    let mut figures = figures(scenario, what, ours, baseline);
    for figure in &mut figures {
        let ratio = |(ours, baseline): (&Vec<Sample>, &Vec<Sample>)| {
            Some(value(ours, figure.figure)? / value(baseline, figure.figure)?)
        };
        figure.pairs = Interval::of(ours.iter().zip(baseline).filter_map(ratio).collect());
    }
    figures
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
            pairs: None,
            ours,
            baseline: Baseline { what, spread: baseline },
        }
    };
    each_name.map(figure).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interval(count: u32) -> Option<(f64, f64)> {
        Interval::of((1..=count).rev().map(f64::from).collect()).map(|Interval { low, high }| (low, high))
    }

    /// The places of the bounds are those of the published tables of the sign test.
    #[test]
    fn the_bounds_of_a_median_leave_out_what_the_sign_test_allows() {
        assert_eq!(interval(5), None);
        assert_eq!(interval(6), Some((1.0, 6.0)));
        assert_eq!(interval(10), Some((2.0, 9.0)));
        assert_eq!(interval(15), Some((4.0, 12.0)));
        assert_eq!(interval(20), Some((6.0, 15.0)));
    }
}
