//! Conversions between the values of a record and the columns of a database: words, numbers and JSON.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use crate::model::{AttemptOutcome, Progress, RetryPolicy, TraceContext};

/// A length as a database stores it; one that does not fit becomes `i64::MAX`.
pub(super) fn to_i64(length: usize) -> i64 {
    i64::try_from(length).unwrap_or(i64::MAX)
}

/// A count that a database stores; a negative number becomes 0.
pub(super) fn to_u64(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

pub(super) fn to_u32(number: i64) -> u32 {
    u32::try_from(number.max(0)).unwrap_or(u32::MAX)
}

/// The column of a retry policy: `NULL` for the default, which most tasks have.
pub(super) fn policy_json(policy: &RetryPolicy) -> Option<String> {
    (*policy != RetryPolicy::DEFAULT)
        .then(|| serde_json::to_string(policy).expect("numbers and lengths can be written as JSON"))
}

/// The stored policy, or the default if it cannot be read.
pub(super) fn policy(json: Option<&str>) -> RetryPolicy {
    readable_policy(json).unwrap_or_default()
}

/// The stored policy, or why it cannot be read. It must be an object, because serde would also read a struct from an
/// array.
pub(super) fn readable_policy(json: Option<&str>) -> Result<RetryPolicy, String> {
    let Some(json) = json else { return Ok(RetryPolicy::DEFAULT) };
    if !json.trim_start().starts_with('{') {
        return Err("its stored retry policy is not a JSON object".to_owned());
    }
    serde_json::from_str(json).map_err(|error| format!("its stored retry policy cannot be read: {error}"))
}

/// The stored tags, or why they cannot be read.
pub(super) fn readable_tags(json: Option<&str>) -> Result<BTreeMap<String, String>, String> {
    let Some(json) = json else { return Ok(BTreeMap::new()) };
    serde_json::from_str(json).map_err(|error| format!("its stored tags cannot be read: {error}"))
}

/// The column of tags: `NULL` if there are none.
pub(super) fn tags_json(tags: &BTreeMap<String, String>) -> Option<String> {
    (!tags.is_empty()).then(|| serde_json::to_string(tags).expect("a map of strings can be written as JSON"))
}

pub(super) fn tags(json: Option<&str>) -> BTreeMap<String, String> {
    json.and_then(|json| serde_json::from_str(json).ok()).unwrap_or_default()
}

/// The column of a trace.
pub(super) fn trace_text(trace: Option<&TraceContext>) -> Option<String> {
    trace.map(TraceContext::to_stored)
}

pub(super) fn trace(text: Option<&str>) -> Option<TraceContext> {
    text.and_then(TraceContext::from_stored)
}

pub(super) fn progress_json(progress: &Progress) -> String {
    serde_json::to_string(progress).expect("a number and a string can be written as JSON")
}

/// The outcome for a stored word. An unknown word, which only a later version writes, becomes `Failed`.
pub(super) fn outcome(word: &str) -> AttemptOutcome {
    use AttemptOutcome::{
        Cancelled, Failed, HandedBack, Interrupted, Lost, Panicked, Running, Snoozed, Success, TimedOut,
    };
    [Running, Success, Panicked, TimedOut, Lost, HandedBack, Interrupted, Cancelled, Snoozed]
        .into_iter()
        .find(|outcome| outcome.as_str() == word)
        .unwrap_or(Failed)
}

/// Text that should be JSON, as JSON. Text that is not JSON becomes a JSON string, because a record must always be
/// readable.
pub(super) fn raw(json: String) -> Box<RawValue> {
    let text = serde_json::value::to_raw_value(&json).expect("a string can be written as JSON");
    RawValue::from_string(json).unwrap_or(text)
}
