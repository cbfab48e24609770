//! The scenario `observed`: the cost of recorded spans, a middleware and an observer of all events.

use std::fmt::Debug;
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
    // Without this, each span that is not recorded would still call the subscriber.
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

/// Copies the values of spans and events into memory, as the bridge to OpenTelemetry does, and drops the copy at once.
#[derive(Default)]
struct Recorder(AtomicU64);

impl Recorder {
    fn keep(record: impl FnOnce(&mut Values)) {
        let mut values = Values(Vec::with_capacity(16));
        record(&mut values);
        black_box(values.0);
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
        Self::keep(|values| span.record(values));
        Id::from_u64(self.0.fetch_add(1, Ordering::Relaxed) + 1)
    }

    fn record(&self, _: &Id, values: &Record<'_>) {
        Self::keep(|kept| values.record(kept));
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        Self::keep(|values| event.record(values));
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

struct Values(Vec<(&'static str, Value)>);

/// A copied value. It is never read, because only the copying is measured.
#[expect(dead_code, reason = "what is measured is that a value is kept; nobody reads it")]
enum Value {
    Text(String),
    Integer(i64),
    Float(f64),
    Bool(bool),
}

impl Values {
    fn push(&mut self, field: &Field, value: Value) {
        self.0.push((field.name(), value));
    }
}

impl Visit for Values {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.push(field, Value::Text(value.to_owned()));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.push(field, Value::Integer(value));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.push(field, Value::Float(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.push(field, Value::Bool(value));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.push(field, Value::Text(format!("{value:?}")));
    }
}
