//! Pushes to the crate `metrics` what is not recorded there as it happens: gauges, and counters that do not count tasks.

use std::collections::{BTreeMap, BTreeSet};

use metrics::Label;

use super::families::{Family, Labels, Samples};

/// The counters that are recorded as they happen, in `facade.rs`.
const AS_THEY_HAPPEN: [&str; 4] = [
    "taskflow_tasks_added_total",
    "taskflow_attempts_total",
    "taskflow_retries_total",
    "taskflow_tasks_ended_total",
];

/// What has been pushed so far.
#[derive(Debug, Default)]
pub(crate) struct Pushed {
    counters: BTreeMap<(&'static str, Labels), u64>,
    gauges: BTreeMap<&'static str, BTreeSet<Labels>>,
}

/// Whether a recorder is installed. Without one, the crate `metrics` gives its own no-op recorder, whose size is 0. (An installed
/// recorder of size 0 would not be noticed either.)
pub(crate) fn has_recorder() -> bool {
    metrics::with_recorder(|recorder| std::mem::size_of_val(recorder) > 0)
}

impl Pushed {
    /// Sets the gauges, and adds what the counters have counted since the last push. A gauge with labels that no longer occur is
    /// set to 0. Families that are missing in `families` do not change.
    pub(crate) fn push(&mut self, families: &[Family]) {
        for family in families {
            let name = family.name;
            match &family.samples {
                Samples::Counter(samples) if !AS_THEY_HAPPEN.contains(&name) => {
                    for (labels, value) in samples {
                        let last = self.counters.entry((name, labels.clone())).or_default();
                        let more = value.saturating_sub(std::mem::replace(last, *value));
                        metrics::counter!(name, own(labels)).increment(more);
                    }
                }
                Samples::Gauge(samples) => {
                    let before = self.gauges.entry(name).or_default();
                    let now: BTreeSet<Labels> = samples.iter().map(|(labels, _)| labels.clone()).collect();
                    for gone in before.difference(&now) {
                        metrics::gauge!(name, own(gone)).set(0.0);
                    }
                    for (labels, value) in samples {
                        metrics::gauge!(name, own(labels)).set(*value);
                    }
                    *before = now;
                }
                Samples::Counter(_) | Samples::Histogram(_) => {}
            }
        }
    }
}

fn own(labels: &Labels) -> Vec<Label> {
    labels.iter().map(|(name, value)| Label::new(*name, value.clone())).collect()
}
