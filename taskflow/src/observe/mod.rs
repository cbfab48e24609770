//! Code around tasks: [`Middleware`], hooks on adds ([`OnAdd`]) and observers ([`Observer`]), with observers that write JSON
//! lines to a log ([`LogObserver`]) or a file ([`FileObserver`]) or keep events for a test ([`MemoryObserver`]); and the bridge
//! to a tracing system ([`Tracing`]).
//!
//! | to | write |
//! |---|---|
//! | do something around each attempt, change its outcome, hand values to the body | a [`Middleware`] |
//! | tag, route, change or refuse tasks before they are stored | an [`OnAdd`], or a closure |
//! | receive what has happened, without delaying tasks | an [`Observer`] |
//! | connect the spans of tasks with a tracing system | a [`Tracing`], or install the one for OpenTelemetry |
//!
//! The guide `docs/hooks.md` in the repository compares the first three, and the example `hooks` shows them. The guide
//! `docs/observability.md` describes spans, traces and metrics.

mod calls;
mod counter;
#[cfg(feature = "metrics")]
mod facade;
#[cfg(feature = "api")]
mod faces;
#[cfg(any(feature = "api", feature = "metrics"))]
mod families;
mod file;
mod interest;
mod line;
mod log;
mod memory;
mod meter;
mod observer;
mod on_add;
#[cfg(feature = "otel")]
mod otel;
#[cfg(any(feature = "api", feature = "metrics"))]
mod prometheus;
#[cfg(feature = "metrics")]
mod pushed;
mod refusals;
mod trace;

pub(crate) use self::calls::Calls;
pub(crate) use self::counter::Counter;
#[cfg(any(feature = "api", feature = "metrics"))]
pub(crate) use self::counter::{OUTCOMES, SOURCES, STATUSES};
#[cfg(feature = "api")]
pub(crate) use self::faces::{HttpUsage, Watching};
#[cfg(any(feature = "api", feature = "metrics"))]
pub(crate) use self::families::{Family, Labels, LastRead};
pub use self::file::FileObserver;
pub use self::interest::Interest;
pub use self::log::LogObserver;
pub use self::memory::MemoryObserver;
pub(crate) use self::meter::{CellId, InRow, Meter, Values};
pub use self::observer::Observer;
pub use self::on_add::OnAdd;
#[cfg(feature = "otel")]
pub use self::otel::OpenTelemetry;
#[cfg(any(feature = "api", feature = "metrics"))]
pub(crate) use self::prometheus::text;
#[cfg(feature = "metrics")]
pub(crate) use self::pushed::{Pushed, has_recorder};
pub(crate) use self::refusals::{Refusals, reason};
pub(crate) use self::trace::TraceSettings;
pub use self::trace::{Traces, Tracing};
#[doc(inline)]
pub use crate::model::{
    BoxFuture, EventKind, Extensions, Middleware, Next, Run, RunOutcome, Tags, TraceContext,
};
