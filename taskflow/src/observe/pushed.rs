//! The exit to the facade `metrics` of what nothing happens for: gauges, and counters that no task moves.

use std::collections::{BTreeMap, BTreeSet};

use metrics::Label;

use super::families::{Family, Labels, Samples};

/// The counters that go to the facade as they happen.
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

/// Whether a recorder is installed. That of the facade itself, which records nothing, is the only one without a size.
pub(crate) fn is_heard() -> bool {
    metrics::with_recorder(|recorder| std::mem::size_of_val(recorder) > 0)
}

impl Pushed {
    /// Sets the gauges, and adds what counters have counted since the last time. A gauge whose labels are no longer there is
    /// set to 0. A family that is not among these stays as it is.
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
