//! Spans as OpenTelemetry exports them.

use opentelemetry::trace::{SpanId, TracerProvider};
use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider, SpanData};
use tracing_subscriber::layer::SubscriberExt;

use crate::support::eventually;

/// Spans that a test exports in memory.
#[derive(Clone)]
pub(crate) struct Traced {
    pub(crate) exporter: InMemorySpanExporter,
    pub(crate) provider: SdkTracerProvider,
}

impl Traced {
    pub(crate) fn new() -> Self {
        let exporter = InMemorySpanExporter::default();
        let provider = SdkTracerProvider::builder().with_simple_exporter(exporter.clone()).build();
        Self { exporter, provider }
    }

    pub(crate) fn subscriber(&self) -> impl tracing::Subscriber + Send + Sync + 'static {
        let layer = tracing_opentelemetry::layer().with_tracer(self.provider.tracer("test"));
        let wanted = tracing_subscriber::EnvFilter::new("off,taskflow=trace,traces=debug");
        tracing_subscriber::registry().with(wanted).with(layer)
    }

    /// Collects the spans of this thread, on which the whole test runs.
    pub(crate) fn here(&self) -> tracing::subscriber::DefaultGuard {
        tracing::subscriber::set_default(self.subscriber())
    }

    /// Waits until `count` spans of that name have ended, and returns them, oldest first.
    pub(crate) async fn spans(&self, name: &str, count: usize) -> Vec<SpanData> {
        eventually(&format!("{count} spans `{name}`"), || async {
            let all = self.exporter.get_finished_spans().unwrap();
            let mut named: Vec<_> = all.into_iter().filter(|span| span.name == name).collect();
            named.sort_by_key(|span| span.start_time);
            (named.len() >= count).then_some(named)
        })
        .await
    }

    pub(crate) async fn span(&self, name: &str) -> SpanData {
        self.spans(name, 1).await.remove(0)
    }
}

pub(crate) fn value(span: &SpanData, key: &str) -> Option<String> {
    span.attributes.iter().find(|one| one.key.as_str() == key).map(|one| one.value.to_string())
}

pub(crate) fn trace(span: &SpanData) -> String {
    span.span_context.trace_id().to_string()
}

pub(crate) fn links(span: &SpanData) -> Vec<SpanId> {
    span.links.iter().map(|link| link.span_context.span_id()).collect()
}
