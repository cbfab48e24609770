//! The scenario `observed`: what it costs that somebody listens to everything.

use std::fmt::{Debug, Write};
use std::hint::black_box;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use taskflow::observe::{BoxFuture, Middleware, Next, Observer, Run, RunOutcome};
use taskflow::{TaskEvent, TaskManagerBuilder};
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing::{Event, Level, Metadata, Subscriber};

/// Whether spans are recorded now.
static RECORDS: AtomicBool = AtomicBool::new(false);

/// Records the spans of runs from now on, or no span at all.
pub(super) fn record_spans(record: bool) {
    static INSTALL: Once = Once::new();
    RECORDS.store(record, Ordering::Relaxed);
    INSTALL.call_once(|| {
        tracing::subscriber::set_global_default(Recorder::default()).expect("the bench installs no other");
    });
    // Without it, a span that is not recorded would still ask the subscriber.
    tracing::callsite::rebuild_interest_cache();
}

/// A manager with one middleware and one observer of all events.
pub(super) fn listens(builder: TaskManagerBuilder) -> TaskManagerBuilder {
    builder.middleware(PassesOn).observer(Counts::default())
}

struct PassesOn;

impl Middleware for PassesOn {
    fn run<'a>(&'a self, _: &'a Run, next: Next<'a>) -> BoxFuture<'a, RunOutcome> {
        Box::pin(next.run())
    }
}

#[derive(Default)]
struct Counts(AtomicU64);

impl Observer for Counts {
    fn on_event(&self, event: &TaskEvent) {
        black_box(event);
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Writes the fields of spans and events into memory, as an exporter does before it sends them.
#[derive(Default)]
struct Recorder(AtomicU64);

impl Recorder {
    fn write(values: impl FnOnce(&mut Text)) {
        let mut text = Text(String::with_capacity(512));
        values(&mut text);
        black_box(text.0);
    }
}

impl Subscriber for Recorder {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.enabled(metadata) { Interest::always() } else { Interest::never() }
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(if RECORDS.load(Ordering::Relaxed) { LevelFilter::INFO } else { LevelFilter::OFF })
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let is_ours = metadata.target().starts_with("taskflow") && *metadata.level() <= Level::INFO;
        is_ours && RECORDS.load(Ordering::Relaxed)
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        Self::write(|text| span.record(text));
        Id::from_u64(self.0.fetch_add(1, Ordering::Relaxed) + 1)
    }

    fn record(&self, _: &Id, values: &Record<'_>) {
        Self::write(|text| values.record(text));
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        Self::write(|text| event.record(text));
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

struct Text(String);

impl Visit for Text {
    // As the bridge to OpenTelemetry does: a text is copied as it is, not written with quotes and escapes.
    fn record_str(&mut self, field: &Field, value: &str) {
        for part in [field.name(), "=", value, " "] {
            self.0.push_str(part);
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let _ = write!(self.0, "{}={value:?} ", field.name());
    }
}
