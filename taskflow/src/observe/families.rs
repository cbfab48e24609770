//! Metrics as names, labels and numbers, before they have a format.

use std::sync::Arc;

use tokio::sync::Mutex;

use crate::model::Histogram;
use crate::seam::Instant;

/// The families of the last read and its instant; `None` before the first read.
pub(crate) type LastRead = Mutex<Option<(Instant, Arc<[Family]>)>>;

/// One metric with all its label sets.
#[derive(Clone, Debug)]
pub(crate) struct Family {
    pub(crate) name: &'static str,
    pub(crate) help: &'static str,
    pub(crate) samples: Samples,
}

#[derive(Clone, Debug)]
pub(crate) enum Samples {
    Counter(Vec<(Labels, u64)>),
    Gauge(Vec<(Labels, f64)>),
    Histogram(Vec<(Labels, Histogram)>),
}

/// The labels of one sample, in the order in which they are shown.
pub(crate) type Labels = Vec<(&'static str, String)>;

impl Family {
    pub(crate) fn counter(name: &'static str, help: &'static str, samples: Vec<(Labels, u64)>) -> Self {
        Self { name, help, samples: Samples::Counter(samples) }
    }

    pub(crate) fn gauge(name: &'static str, help: &'static str, samples: Vec<(Labels, f64)>) -> Self {
        Self { name, help, samples: Samples::Gauge(samples) }
    }

    pub(crate) fn histogram(
        name: &'static str,
        help: &'static str,
        samples: Vec<(Labels, Histogram)>,
    ) -> Self {
        Self { name, help, samples: Samples::Histogram(samples) }
    }

    /// Whether it has no sample.
    pub(crate) fn is_empty(&self) -> bool {
        match &self.samples {
            Samples::Counter(samples) => samples.is_empty(),
            Samples::Gauge(samples) => samples.is_empty(),
            Samples::Histogram(samples) => samples.is_empty(),
        }
    }
}
