//! The documents of the statistics: what one process counted in one minute or hour.
//!
//! A document holds the sums of its minute or hour so far, and each write replaces it. So a repeated write changes nothing,
//! and the store never adds up counts.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::{Histogram, InstanceId, RunCounts, RunStats};
use crate::store::Document;

/// A length of time for which each process writes a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Period {
    pub(super) kind: &'static str,
    pub(super) seconds: u64,
    /// How long after its last write a document is kept.
    pub(super) kept: Duration,
}

/// Documents are kept for longer than a day: a chart of a day begins a day ago, and a reader's clock may differ.
const DAY: Duration = Duration::from_secs(24 * 3600);
const HOUR_LENGTH: Duration = Duration::from_secs(3600);

pub(super) const MINUTE: Period =
    Period { kind: "stats", seconds: 60, kept: DAY.saturating_add(HOUR_LENGTH) };
pub(super) const HOUR: Period =
    Period { kind: "stats_hour", seconds: 3600, kept: DAY.saturating_add(HOUR_LENGTH.saturating_mul(2)) };

/// How many digits the number of a period has in a key. The fixed width makes keys sort by that number.
const DIGITS: usize = 10;

/// The beginning of the keys of the period with this number. It sorts before all of them.
pub(super) fn first_key(number: u64) -> String {
    format!("{number:0DIGITS$}")
}

/// The key of a part of a document. When the clock was set back to an earlier period, the process counts that period again,
/// under another `generation`.
pub(super) fn key(number: u64, instance: InstanceId, generation: u32, part: usize) -> String {
    format!("{}/{instance}/{generation}/{part:03}", first_key(number))
}

/// The number of the period to which a key belongs.
pub(super) fn number(key: &str) -> Option<u64> {
    key.get(..DIGITS)?.parse().ok()
}

/// What happened to the tasks of one name and queue.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Row {
    #[serde(rename = "n")]
    pub(super) name: String,
    #[serde(rename = "q")]
    pub(super) queue: String,
    /// In the order of [`Row::new`], without the zeros at the end.
    #[serde(rename = "c")]
    counts: Vec<u64>,
    #[serde(rename = "w", default, skip_serializing_if = "Lengths::is_empty")]
    wait: Lengths,
    #[serde(rename = "r", default, skip_serializing_if = "Lengths::is_empty")]
    run: Lengths,
}

/// A histogram without the zeros at either end.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Lengths {
    #[serde(rename = "f")]
    first: usize,
    #[serde(rename = "b")]
    buckets: Vec<u64>,
    /// In microseconds.
    #[serde(rename = "s")]
    sum: u64,
}

impl Lengths {
    fn of(histogram: &Histogram) -> Self {
        let first = histogram.buckets.iter().position(|count| *count > 0).unwrap_or(0);
        let buckets = without_last_zeros(histogram.buckets[first..].to_vec());
        Self { first, buckets, sum: u64::try_from(histogram.sum.as_micros()).unwrap_or(u64::MAX) }
    }

    fn is_empty(&self) -> bool {
        self.buckets.is_empty()
    }

    fn histogram(&self) -> Histogram {
        let mut histogram = Histogram { sum: Duration::from_micros(self.sum), ..Histogram::default() };
        for (bucket, count) in histogram.buckets.iter_mut().skip(self.first).zip(&self.buckets) {
            *bucket = *count;
        }
        histogram
    }
}

fn without_last_zeros(mut counts: Vec<u64>) -> Vec<u64> {
    while counts.last() == Some(&0) {
        counts.pop();
    }
    counts
}

impl Row {
    pub(super) fn new(name: &str, queue: &str, stats: &RunStats) -> Self {
        let RunCounts {
            added,
            started,
            succeeded,
            failed,
            retried,
            snoozed,
            cancelled,
            handed_back,
            interrupted,
            lost,
            panicked,
            timed_out,
            rejected,
        } = stats.counts;
        let counts = vec![
            added,
            started,
            succeeded,
            failed,
            retried,
            snoozed,
            cancelled,
            interrupted,
            lost,
            panicked,
            timed_out,
            rejected,
            handed_back,
        ];
        Self {
            name: name.to_owned(),
            queue: queue.to_owned(),
            counts: without_last_zeros(counts),
            wait: Lengths::of(&stats.wait),
            run: Lengths::of(&stats.run),
        }
    }

    pub(super) fn stats(&self) -> RunStats {
        let mut counts = self.counts.iter().copied();
        let mut next = || counts.next().unwrap_or(0);
        RunStats {
            counts: RunCounts {
                added: next(),
                started: next(),
                succeeded: next(),
                failed: next(),
                retried: next(),
                snoozed: next(),
                cancelled: next(),
                interrupted: next(),
                lost: next(),
                panicked: next(),
                timed_out: next(),
                rejected: next(),
                handed_back: next(),
            },
            wait: self.wait.histogram(),
            run: self.run.histogram(),
        }
    }

    /// Reads the rows of a document; `None` if another version wrote it in a form that this one does not know.
    pub(super) fn read(document: &[u8]) -> Option<Vec<Self>> {
        serde_json::from_slice(document).ok()
    }
}

/// Packs the rows, in order, into documents of at most [`Document::MAX_VALUE`] bytes. Returns the values of the documents.
pub(super) fn pack(rows: &[Row]) -> Vec<Vec<u8>> {
    let mut parts: Vec<Vec<u8>> = Vec::new();
    for row in rows {
        let text = serde_json::to_vec(row).expect("texts and numbers can be written as JSON");
        // 2 bytes: a comma, and the last bracket.
        match parts.last_mut().filter(|part| part.len() + text.len() + 2 <= Document::MAX_VALUE) {
            Some(part) => {
                part.push(b',');
                part.extend(text);
            }
            None => parts.push([b"[".as_slice(), &text].concat()),
        }
    }
    parts.iter_mut().for_each(|part| part.push(b']'));
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stats(seed: u64) -> RunStats {
        let mut stats = RunStats::default();
        (stats.counts.added, stats.counts.rejected) = (seed, seed % 3);
        stats.run.buckets[usize::try_from(seed).unwrap() % Histogram::BUCKETS] = 7;
        stats.run.sum = Duration::from_micros(seed * 3);
        stats
    }

    #[test]
    fn rows_come_back_from_their_documents() {
        let name = "ä\u{0}\"".repeat(200);
        let rows: Vec<Row> = (0..2000).map(|seed| Row::new(&name, "q", &stats(seed))).collect();
        let parts = pack(&rows);
        assert!(parts.len() > 1 && parts.iter().all(|part| part.len() <= Document::MAX_VALUE));
        let back: Vec<Row> = parts.iter().flat_map(|part| Row::read(part).unwrap()).collect();
        assert_eq!(back, rows);
        assert_eq!(back[1999].stats(), stats(1999));
        assert!(pack(&[]).is_empty());
    }

    #[test]
    fn what_another_version_or_another_hand_wrote_is_left_out_or_read_as_far_as_it_goes() {
        for junk in ["", "{}", "[1]", r#"[{"n":1}]"#, r#"[{"n":"a","q":"b","c":[-1]}]"#] {
            assert_eq!(Row::read(junk.as_bytes()), None, "{junk}");
        }
        let far = r#"[{"n":"a","q":"b","c":[1],"r":{"f":99,"b":[1],"s":2},"later":[]}]"#;
        assert_eq!(Row::read(far.as_bytes()).unwrap()[0].stats().run.count(), 0);
        assert_eq!(number("000000"), None);
        assert_eq!(number(&key(42, InstanceId::new(), 0, 0)), Some(42));
        assert!(
            first_key(42) < key(42, InstanceId::new(), 0, 0)
                && key(42, InstanceId::new(), 9, 9) < first_key(43)
        );
    }
}
