//! Metrics in the text format of Prometheus, version 0.0.4.

use prometheus::proto;
use prometheus::{Encoder, TextEncoder};

use super::families::{Family, Labels, Samples};
use crate::model::Histogram;

/// The metrics as text. A metric without a sample is left out.
pub(crate) fn text(families: &[Family]) -> String {
    let families: Vec<_> = families.iter().filter(|family| !family.is_empty()).map(family).collect();
    let mut text = Vec::new();
    TextEncoder::new()
        .encode(&families, &mut text)
        .expect("memory takes what is written, and each family has a sample");
    String::from_utf8(text).expect("the format is text")
}

fn family(of: &Family) -> proto::MetricFamily {
    let mut family = proto::MetricFamily::default();
    family.set_name(of.name.to_owned());
    family.set_help(of.help.to_owned());
    let (kind, metrics) = match &of.samples {
        Samples::Counter(samples) => {
            let metric = |(labels, value): &(Labels, u64)| {
                let mut counter = proto::Counter::default();
                counter.set_value(*value as f64);
                let mut metric = labelled(labels);
                metric.set_counter(counter);
                metric
            };
            (proto::MetricType::COUNTER, samples.iter().map(metric).collect::<Vec<_>>())
        }
        Samples::Gauge(samples) => {
            let metric = |(labels, value): &(Labels, f64)| {
                let mut gauge = proto::Gauge::default();
                gauge.set_value(*value);
                let mut metric = labelled(labels);
                metric.set_gauge(gauge);
                metric
            };
            (proto::MetricType::GAUGE, samples.iter().map(metric).collect())
        }
        Samples::Histogram(samples) => {
            let metric = |(labels, value): &(Labels, Histogram)| {
                let mut metric = labelled(labels);
                metric.set_histogram(histogram(value));
                metric
            };
            (proto::MetricType::HISTOGRAM, samples.iter().map(metric).collect())
        }
    };
    family.set_field_type(kind);
    family.set_metric(metrics);
    family
}

fn labelled(labels: &Labels) -> proto::Metric {
    let pair = |(name, value): &(&'static str, String)| {
        let mut pair = proto::LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value(value.clone());
        pair
    };
    let mut metric = proto::Metric::default();
    metric.set_label(labels.iter().map(pair).collect());
    metric
}

fn histogram(of: &Histogram) -> proto::Histogram {
    let mut below = 0;
    let bucket = |(bound, count): (&std::time::Duration, &u64)| {
        below += count;
        let mut bucket = proto::Bucket::default();
        bucket.set_upper_bound(bound.as_secs_f64());
        bucket.set_cumulative_count(below);
        bucket
    };
    let mut histogram = proto::Histogram::default();
    histogram.set_bucket(Histogram::BOUNDS.iter().zip(&of.buckets).map(bucket).collect());
    histogram.set_sample_count(of.count());
    histogram.set_sample_sum(of.sum.as_secs_f64());
    histogram
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped_and_buckets_add_up() {
        let mut lengths = Histogram::default();
        (lengths.buckets[0], lengths.buckets[1], lengths.buckets[Histogram::BUCKETS - 1]) = (2, 1, 4);
        let families = [
            Family::gauge("g", "A gauge.", vec![(vec![("queue", "a\"b\\c\nd".to_owned())], 1.5)]),
            Family::counter("nothing", "Nothing.", Vec::new()),
            Family::histogram("h", "Lengths.", vec![(Vec::new(), lengths)]),
        ];
        let text = text(&families);
        assert!(
            text.starts_with("# HELP g A gauge.\n# TYPE g gauge\ng{queue=\"a\\\"b\\\\c\\nd\"} 1.5\n"),
            "{text}"
        );
        assert!(!text.contains("nothing"), "{text}");
        for line in [
            "h_bucket{le=\"0.001\"} 2\n",
            "h_bucket{le=\"0.0018\"} 3\n",
            "h_bucket{le=\"600\"} 3\n",
            "h_bucket{le=\"+Inf\"} 7\n",
            "h_count 7\n",
        ] {
            assert!(text.contains(line), "no {line:?} in {text}");
        }
    }
}
