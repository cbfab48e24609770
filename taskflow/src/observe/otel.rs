//! The adapter for OpenTelemetry.

use std::str::FromStr;
use std::sync::Once;

use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState};
use tracing_opentelemetry::OpenTelemetrySpanExt;

use super::trace::Tracing;
use crate::model::TraceContext;

/// Connects taskflow's spans with OpenTelemetry: `.tracing(OpenTelemetry)`. It needs a subscriber with a
/// `tracing_opentelemetry` layer.
///
/// It is for `opentelemetry` 0.33 with `tracing-opentelemetry` 0.34. An application on other versions writes the two methods
/// of [`Tracing`] itself: the code of this adapter is an example, and taskflow's API has no type of OpenTelemetry.
///
/// ```
/// use taskflow::observe::OpenTelemetry;
///
/// let builder = taskflow::TaskManager::builder().tracing(OpenTelemetry);
/// # drop(builder);
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct OpenTelemetry;

impl Tracing for OpenTelemetry {
    fn current(&self) -> Option<TraceContext> {
        let context = tracing::Span::current().context();
        let span = context.span();
        let context = span.span_context();
        if !context.is_valid() {
            return None;
        }
        let ids = (context.trace_id().to_bytes(), context.span_id().to_bytes());
        let state = context.trace_state().header();
        Some(TraceContext::new(ids.0, ids.1, context.is_sampled())?.with_state(&state))
    }

    fn attach(&self, span: &tracing::Span, parent: Option<&TraceContext>, links: &[TraceContext]) {
        if let Some(parent) = parent {
            let context = opentelemetry::Context::new().with_remote_span_context(remote(parent));
            if let Err(error) = span.set_parent(context) {
                static ONCE: Once = Once::new();
                ONCE.call_once(|| {
                    tracing::warn!(
                        %error,
                        "a span does not become a child of the trace of its task; does the subscriber have a layer of \
                         tracing-opentelemetry 0.34? (logged once)"
                    );
                });
            }
        }
        for link in links {
            span.add_link(remote(link));
        }
    }
}

/// The context as that of a span in another process.
fn remote(context: &TraceContext) -> SpanContext {
    let flags = if context.is_sampled() { TraceFlags::SAMPLED } else { TraceFlags::NOT_SAMPLED };
    let state = context.tracestate().and_then(|state| TraceState::from_str(state).ok()).unwrap_or_default();
    let trace = TraceId::from_bytes(context.trace_id_bytes());
    SpanContext::new(trace, SpanId::from_bytes(context.span_id_bytes()), flags, true, state)
}
