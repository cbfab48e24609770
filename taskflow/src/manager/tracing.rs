//! The options of the builder for spans and traces.

use std::sync::Arc;

#[cfg(feature = "api")]
use super::TaskManager;
use super::TaskManagerBuilder;
use crate::observe::{Traces, Tracing};

impl TaskManagerBuilder {
    /// Connects taskflow's spans with a tracing system, so that a task belongs to the trace of the request that added it.
    /// With the feature `otel`: `.tracing(taskflow::observe::OpenTelemetry)`. Without it, a task still keeps the trace that
    /// the headers of its request name, and [`TaskContext::trace`](crate::TaskContext::trace) returns it for outgoing calls.
    pub fn tracing(mut self, adapter: impl Tracing) -> Self {
        self.trace.adapter = Some(Arc::new(adapter));
        self
    }

    /// Sets whether a run is a child of the span that added the task, or begins its own trace that links to that span. Default
    /// [`Traces::Auto`]: a child if it is the first attempt and begins within 60 s.
    pub fn traces(mut self, traces: Traces) -> Self {
        self.trace.traces = traces;
        self
    }

    /// Shows these tags in the span of each run, as `taskflow.tags = "tenant=42"`. Default: none, since a tag may name a
    /// person.
    pub fn span_tags<N: Into<String>>(mut self, names: impl IntoIterator<Item = N>) -> Self {
        self.trace.tags = names.into_iter().map(Into::into).collect();
        self
    }

    /// Whether each line that a task logs ([`TaskContext::log`](crate::TaskContext::log)) is also a `tracing` event with the
    /// target `taskflow::log`. Default `true`.
    pub fn log_events(mut self, events: bool) -> Self {
        self.trace.logs = events;
        self
    }
}

#[cfg(feature = "api")]
impl TaskManager {
    /// Whether the current span belongs to a trace.
    pub(crate) fn is_in_a_trace(&self) -> bool {
        self.0.core.settings.trace.current().is_some()
    }
}
