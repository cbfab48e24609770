//! A histogram of lengths of time with fixed buckets.

use std::ops::AddAssign;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::time;

/// How long something took, as counts in fixed buckets from 1 ms to 600 s. Each bound is at most
/// twice the previous one, so a [quantile](Self::quantile) between 1 ms and 600 s is right to within a factor of 2.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Histogram {
    /// The number of lengths in each bucket. A bucket counts lengths up to its [bound](Self::BOUNDS), and the last bucket those
    /// beyond 600 s.
    pub buckets: [u64; Self::BUCKETS],
    /// The sum of all lengths. In JSON it is in seconds.
    #[serde(with = "time::seconds")]
    pub sum: Duration,
}

impl Histogram {
    /// The number of buckets.
    pub const BUCKETS: usize = 24;

    /// The upper bound of each bucket but the last, inclusive. The last bucket has none.
    pub const BOUNDS: [Duration; Self::BUCKETS - 1] = {
        let mut bounds = [Duration::ZERO; Self::BUCKETS - 1];
        let mut at = 0;
        while at < bounds.len() {
            bounds[at] = Duration::from_micros(MICROS[at]);
            at += 1;
        }
        bounds
    };

    /// How many lengths it counts.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// The mean length; `None` if it counts nothing.
    #[must_use]
    pub fn mean(&self) -> Option<Duration> {
        let count = self.count();
        (count > 0).then(|| self.sum.div_f64(count as f64))
    }

    /// The length that this share of all lengths (such as 0.95) does not exceed; `None` if it counts nothing. The lengths in
    /// a bucket are treated as evenly spread. A result in the last bucket is 600 s, although the length may be greater. A
    /// share below 0 counts as 0, and one above 1 as 1.
    ///
    /// ```
    /// use taskflow::model::Histogram;
    ///
    /// let mut run = Histogram::default();
    /// assert_eq!(run.quantile(0.5), None);
    /// // 90 tasks took up to 1 ms, and 10 took between 1.8 ms and 3.4 ms.
    /// (run.buckets[0], run.buckets[2]) = (90, 10);
    /// assert!(run.quantile(0.5).unwrap().as_micros() < 1_000);
    /// assert!(run.quantile(0.99).unwrap().as_micros() > 1_800);
    /// ```
    #[must_use]
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        let share = if share.is_nan() { 1.0 } else { share.clamp(0.0, 1.0) };
        let rank = share * count as f64;
        let mut below = 0.0;
        for (at, &here) in self.buckets.iter().enumerate() {
            let through = below + here as f64;
            if here > 0 && rank <= through {
                let Some(&upper) = Self::BOUNDS.get(at) else { break };
                let lower = at.checked_sub(1).map_or(Duration::ZERO, |before| Self::BOUNDS[before]);
                return Some(lower + (upper - lower).mul_f64((rank - below) / here as f64));
            }
            below = through;
        }
        Self::BOUNDS.last().copied()
    }

    /// The bucket that counts a length of this many microseconds.
    pub(crate) fn bucket(micros: u64) -> usize {
        MICROS.partition_point(|bound| *bound < micros)
    }
}

/// The bounds in microseconds: 22 steps of one factor from 1 ms to 600 s, rounded to two digits.
const MICROS: [u64; Histogram::BUCKETS - 1] = [
    1_000,
    1_800,
    3_400,
    6_100,
    11_000,
    21_000,
    38_000,
    69_000,
    130_000,
    230_000,
    420_000,
    770_000,
    1_400_000,
    2_600_000,
    4_800_000,
    8_700_000,
    16_000_000,
    29_000_000,
    53_000_000,
    98_000_000,
    180_000_000,
    330_000_000,
    600_000_000,
];

impl AddAssign<&Self> for Histogram {
    fn add_assign(&mut self, other: &Self) {
        for (here, there) in self.buckets.iter_mut().zip(&other.buckets) {
            *here = here.saturating_add(*there);
        }
        self.sum = self.sum.saturating_add(other.sum);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_belongs_to_the_bucket_below_it() {
        assert_eq!([0, 1, 1000, 1001].map(Histogram::bucket), [0, 0, 0, 1]);
        assert_eq!([600_000_000, 600_000_001, u64::MAX].map(Histogram::bucket), [22, 23, 23]);
        for pair in MICROS.windows(2) {
            let factor = pair[1] as f64 / pair[0] as f64;
            assert!((1.75..1.95).contains(&factor), "{pair:?}");
        }
    }

    #[test]
    fn a_quantile_lies_in_the_bucket_of_its_rank() {
        let mut histogram = Histogram::default();
        for millis in 1..=1000u64 {
            histogram.buckets[Histogram::bucket(millis * 1000)] += 1;
            histogram.sum += Duration::from_millis(millis);
        }
        for (share, exact) in [(0.1, 0.1), (0.5, 0.5), (0.95, 0.95), (1.0, 1.0)] {
            let found = histogram.quantile(share).unwrap().as_secs_f64();
            assert!((exact / 1.45..exact * 1.45).contains(&found), "{share}: {found}");
        }
        assert_eq!(histogram.mean(), Some(Duration::from_micros(500_500)));
        assert!(
            histogram.quantile(f64::NAN).is_some() && histogram.quantile(-1.0) <= histogram.quantile(0.1)
        );
    }

    #[test]
    fn lengths_beyond_the_last_bound_and_sums_beyond_the_range_do_not_overflow() {
        let mut histogram = Histogram { sum: Duration::MAX, ..Histogram::default() };
        histogram.buckets[23] = u64::MAX;
        let other = histogram.clone();
        histogram += &other;
        assert_eq!(histogram.quantile(0.5), Some(Duration::from_secs(600)));
        assert_eq!(histogram.count(), u64::MAX);
    }
}
