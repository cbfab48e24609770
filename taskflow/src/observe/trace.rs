//! The bridge to a tracing system: taskflow makes the spans, and an adapter reads and sets the traces to which they belong.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::model::TraceContext;

/// Connects taskflow's spans with the tracing system of the application. Install one with
/// [`tracing`](crate::TaskManagerBuilder::tracing).
///
/// taskflow makes `tracing` spans (`taskflow.add`, `taskflow.run`, `taskflow.store`), and stores the trace of an add with the
/// task. Only an adapter can say which trace a span belongs to, since that is decided outside of the crate `tracing`. The
/// feature `otel` has the adapter for OpenTelemetry, `taskflow::observe::OpenTelemetry`. For another version of OpenTelemetry,
/// or another system, write these two methods.
///
/// ```
/// use taskflow::model::TraceContext;
/// use taskflow::observe::Tracing;
///
/// struct Mine;
///
/// impl Tracing for Mine {
///     fn current(&self) -> Option<TraceContext> {
///         None // the context of the span that is entered now
///     }
///
///     fn attach(&self, span: &tracing::Span, parent: Option<&TraceContext>, links: &[TraceContext]) {
///         let _ = (span, parent, links); // make `span` a child of `parent`, linked to `links`
///     }
/// }
///
/// let builder = taskflow::TaskManager::builder().tracing(Mine);
/// # drop(builder);
/// ```
///
/// Both methods are called on the path of a task. They must not block and must not panic.
pub trait Tracing: Send + Sync + 'static {
    /// The context of the span that is entered now; `None` outside of any trace.
    fn current(&self) -> Option<TraceContext>;

    /// Makes the span a child of `parent` with these links, before it is first entered. Without a parent it begins a trace
    /// of its own.
    fn attach(&self, span: &tracing::Span, parent: Option<&TraceContext>, links: &[TraceContext]);
}

/// How a run belongs to the trace in which its task was added. Set it with
/// [`traces`](crate::TaskManagerBuilder::traces).
///
/// If its run is a child, a task is in the same trace as the request that added it, which every viewer shows. But a trace that
/// still gets spans hours later, or one for each retry, is hard to read, and its sampling decision is stale. Therefore such a run
/// begins its own trace, linked to the first one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Traces {
    /// The first attempt is a child of the add if it begins within this time after it. Any other run begins a trace of its
    /// own that links to the add. This is the default, with 60 s.
    Auto {
        /// How long after the add a first attempt is still its child.
        within: Duration,
    },
    /// Every run is a child of the add.
    Parent,
    /// Every run begins a trace of its own that links to the add.
    Link,
}

impl Default for Traces {
    fn default() -> Self {
        Self::Auto { within: Duration::from_secs(60) }
    }
}

/// The tracing of a process, as its builder sets it.
#[derive(Clone)]
pub(crate) struct TraceSettings {
    pub(crate) adapter: Option<Arc<dyn Tracing>>,
    pub(crate) traces: Traces,
    /// The names of the tags that spans of runs show.
    pub(crate) tags: Arc<[String]>,
    /// Whether log lines of tasks are `tracing` events too.
    pub(crate) logs: bool,
}

impl Default for TraceSettings {
    fn default() -> Self {
        Self { adapter: None, traces: Traces::default(), tags: Arc::default(), logs: true }
    }
}

impl TraceSettings {
    /// The context of the span that is entered now.
    pub(crate) fn current(&self) -> Option<TraceContext> {
        self.adapter.as_ref()?.current()
    }

    /// Makes a span of a run belong to the trace of its add.
    pub(crate) fn attach_run(
        &self,
        span: &tracing::Span,
        added_in: Option<&TraceContext>,
        age: impl FnOnce() -> Option<Duration>,
    ) {
        let Some(adapter) = self.adapter.as_ref().filter(|_| !span.is_disabled()) else { return };
        let is_child = match self.traces {
            Traces::Parent => true,
            Traces::Link => false,
            Traces::Auto { within } => age().is_some_and(|age| age <= within),
        };
        match added_in {
            Some(parent) if is_child => adapter.attach(span, Some(parent), &[]),
            Some(link) => adapter.attach(span, None, std::slice::from_ref(link)),
            None => adapter.attach(span, None, &[]),
        }
    }

    /// Makes a span of an add belong to this trace.
    pub(crate) fn attach_add(&self, span: &tracing::Span, parent: &TraceContext) {
        if let Some(adapter) = self.adapter.as_ref().filter(|_| !span.is_disabled()) {
            adapter.attach(span, Some(parent), &[]);
        }
    }
}

impl fmt::Debug for TraceSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TraceSettings")
            .field("adapter", &self.adapter.is_some())
            .field("traces", &self.traces)
            .field("tags", &self.tags)
            .field("logs", &self.logs)
            .finish()
    }
}
