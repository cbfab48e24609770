//! The trace that a task belongs to, as W3C Trace Context writes it.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize};

/// The trace that a task belongs to: the ids of a trace and of one span in it, as the headers `traceparent` and `tracestate`
/// carry them ([W3C Trace Context](https://www.w3.org/TR/trace-context/)).
///
/// It is stored with a task when the task is added, and all attempts keep it. It is the first of these that exists: the one
/// given to [`AddTask::trace_context`](crate::AddTask::trace_context), the current one of the installed
/// [`Tracing`](crate::observe::Tracing), the one in the headers of the request whose handler adds the task, and the one of the
/// task that adds it. Without any of these a task has no trace.
///
/// ```
/// use taskflow::model::TraceContext;
///
/// let header = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
/// let trace: TraceContext = header.parse()?;
/// assert_eq!(trace.trace_id(), "0af7651916cd43dd8448eb211c80319c");
/// assert!(trace.is_sampled());
/// assert_eq!(trace.with_state("vendor=opaque").traceparent(), header);
/// # Ok::<(), taskflow::model::InvalidTraceparent>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct TraceContext(Arc<Inner>);

#[derive(Clone, PartialEq, Eq, Hash)]
struct Inner {
    trace_id: [u8; 16],
    span_id: [u8; 8],
    flags: u8,
    state: Option<Box<str>>,
}

/// The error for a text that is not a valid `traceparent` of W3C Trace Context: `00`, 32 digits, 16 digits and 2 digits, in
/// lower-case hexadecimal and joined by hyphens. Neither id may be all zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a traceparent: expected `00-<32 digits>-<16 digits>-<2 digits>` in lower-case hexadecimal, with ids that are not zero"
)]
#[non_exhaustive]
pub struct InvalidTraceparent;

impl TraceContext {
    /// The longest `tracestate` that is kept, in bytes. A longer one is dropped, as the specification allows.
    pub const MAX_STATE: usize = 512;

    /// The bit of the flags that says that the trace is recorded.
    const SAMPLED: u8 = 1;

    /// The context of the span with these ids. `None` if an id is all zeros.
    #[must_use]
    pub fn new(trace_id: [u8; 16], span_id: [u8; 8], is_sampled: bool) -> Option<Self> {
        Self::with_flags(trace_id, span_id, u8::from(is_sampled))
    }

    fn with_flags(trace_id: [u8; 16], span_id: [u8; 8], flags: u8) -> Option<Self> {
        let is_valid = trace_id != [0; 16] && span_id != [0; 8];
        is_valid.then(|| Self(Arc::new(Inner { trace_id, span_id, flags, state: None })))
    }

    /// The context in the headers of a request. `None` if `traceparent` is not valid: treat the request as one without a trace.
    #[must_use]
    pub fn from_headers(traceparent: &str, tracestate: Option<&str>) -> Option<Self> {
        let context: Self = traceparent.trim().parse().ok()?;
        Some(match tracestate {
            Some(state) => context.with_state(state),
            None => context,
        })
    }

    /// The same context with this `tracestate`. It is dropped if it is empty, longer than [`MAX_STATE`](Self::MAX_STATE) bytes,
    /// or has characters other than printable ASCII.
    #[must_use]
    pub fn with_state(self, tracestate: &str) -> Self {
        let state = tracestate.trim();
        let is_kept = !state.is_empty()
            && state.len() <= Self::MAX_STATE
            && state.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        let inner = Arc::unwrap_or_clone(self.0);
        Self(Arc::new(Inner { state: is_kept.then(|| state.into()), ..inner }))
    }

    /// The value of the header `traceparent`.
    #[must_use]
    pub fn traceparent(&self) -> String {
        format!("00-{}-{}-{:02x}", self.trace_id(), self.span_id(), self.0.flags)
    }

    /// The value of the header `tracestate`, if there is one.
    #[must_use]
    pub fn tracestate(&self) -> Option<&str> {
        self.0.state.as_deref()
    }

    /// The id of the trace: 32 hexadecimal digits.
    #[must_use]
    pub fn trace_id(&self) -> String {
        hex(&self.0.trace_id)
    }

    /// The id of the span: 16 hexadecimal digits.
    #[must_use]
    pub fn span_id(&self) -> String {
        hex(&self.0.span_id)
    }

    /// The id of the trace.
    #[must_use]
    pub fn trace_id_bytes(&self) -> [u8; 16] {
        self.0.trace_id
    }

    /// The id of the span.
    #[must_use]
    pub fn span_id_bytes(&self) -> [u8; 8] {
        self.0.span_id
    }

    /// Whether the trace is recorded.
    #[must_use]
    pub fn is_sampled(&self) -> bool {
        self.0.flags & Self::SAMPLED != 0
    }

    /// Both headers in one text, as stores keep it.
    pub(crate) fn to_stored(&self) -> String {
        match self.tracestate() {
            Some(state) => format!("{} {state}", self.traceparent()),
            None => self.traceparent(),
        }
    }

    /// Reads what [`to_stored`](Self::to_stored) wrote. `None` if it cannot be read: no run depends on its trace.
    #[cfg(any(test, feature = "sqlite", feature = "postgres", feature = "redis"))]
    pub(crate) fn from_stored(text: &str) -> Option<Self> {
        match text.split_once(' ') {
            Some((traceparent, state)) => Self::from_headers(traceparent, Some(state)),
            None => Self::from_headers(text, None),
        }
    }
}

impl FromStr for TraceContext {
    type Err = InvalidTraceparent;

    /// Reads a `traceparent`. A later version than 00 may have more fields, which are ignored.
    fn from_str(text: &str) -> Result<Self, InvalidTraceparent> {
        let read = || {
            let (version, rest) = (byte(text.get(..2)?)?, text.get(2..)?);
            let (ids, more) = rest.split_at_checked(53)?;
            let is_known = match version {
                0 => more.is_empty(),
                0xff => false,
                _ => more.is_empty() || more.starts_with('-'),
            };
            let (trace_id, ids) = ids.strip_prefix('-')?.split_once('-')?;
            let (span_id, flags) = ids.split_once('-')?;
            let flags = if version == 0 { byte(flags)? } else { byte(flags)? & Self::SAMPLED };
            Self::with_flags(bytes(trace_id)?, bytes(span_id)?, flags).filter(|_| is_known)
        };
        read().ok_or(InvalidTraceparent)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn byte(digits: &str) -> Option<u8> {
    bytes::<1>(digits).map(|[byte]| byte)
}

/// Reads exactly `2 * N` lower-case hexadecimal digits.
fn bytes<const N: usize>(digits: &str) -> Option<[u8; N]> {
    let is_hex = digits.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
    if !is_hex || digits.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(digits.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    Some(bytes)
}

impl fmt::Debug for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TraceContext").field(&self.to_stored()).finish()
    }
}

/// The `traceparent`.
impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.traceparent())
    }
}

/// The form of a [`TraceContext`] in JSON.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Headers {
    traceparent: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tracestate: Option<String>,
}

/// An object with the two headers: `{"traceparent": "00-…", "tracestate": "…"}`.
impl Serialize for TraceContext {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let tracestate = self.tracestate().map(str::to_owned);
        Headers { traceparent: self.traceparent(), tracestate }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for TraceContext {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let headers = Headers::deserialize(deserializer)?;
        let context: Self = headers.traceparent.parse().map_err(serde::de::Error::custom)?;
        Ok(match headers.tracestate {
            Some(state) => context.with_state(&state),
            None => context,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEADER: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn only_what_the_specification_allows_is_read() {
        assert_eq!(HEADER.parse::<TraceContext>().unwrap().traceparent(), HEADER);
        let later = format!("cc{}-what-comes-later", &HEADER[2..]);
        assert_eq!(later.parse::<TraceContext>().unwrap().traceparent(), HEADER, "a later version");
        let refused = [
            String::new(),
            HEADER.to_uppercase(),
            format!("{HEADER}-more"),
            format!("{HEADER}0"),
            format!("cc{}more", &HEADER[2..]),
            format!("ff{}", &HEADER[2..]),
            HEADER[..54].to_owned(),
            HEADER.replace('-', "_"),
            HEADER.replace("0af7651916cd43dd8448eb211c80319c", &"0".repeat(32)),
            HEADER.replace("b7ad6b7169203331", &"0".repeat(16)),
            HEADER.replace("b7ad6b71", "b7ad6bé"),
            HEADER.replace("-01", "-+1"),
        ];
        for text in refused {
            assert_eq!(text.parse::<TraceContext>(), Err(InvalidTraceparent), "{text:?}");
        }
    }

    #[test]
    fn a_state_that_is_too_long_or_no_header_is_dropped() {
        let state_of = |state: &str| {
            let context = TraceContext::from_headers(HEADER, Some(state)).unwrap();
            context.tracestate().map(str::to_owned)
        };
        assert_eq!(state_of(" a=1,b=2 ").as_deref(), Some("a=1,b=2"));
        assert_eq!(state_of(&"x".repeat(TraceContext::MAX_STATE)).map(|state| state.len()), Some(512));
        for state in ["", "  ", &"x".repeat(TraceContext::MAX_STATE + 1), "a=1\nb=2", "a=é"] {
            assert_eq!(state_of(state), None, "{state:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_stored_is_read_back(trace in any::<[u8; 16]>(), span in any::<[u8; 8]>(), sampled: bool, state in "[ -~]{0,600}") {
            let Some(context) = TraceContext::new(trace, span, sampled) else { return Ok(()) };
            let context = context.with_state(&state);
            prop_assert_eq!(TraceContext::from_stored(&context.to_stored()), Some(context.clone()));
            let json = serde_json::to_string(&context).unwrap();
            prop_assert_eq!(serde_json::from_str::<TraceContext>(&json).unwrap(), context);
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,60}") {
            let _ = text.parse::<TraceContext>();
            let _ = TraceContext::from_stored(&text);
        }
    }
}
