//! The limits of all texts and numbers that a user can pass, in one table: for the attributes, the builder, the add,
//! [`NewTask`](super::NewTask), queues, schedules, results and the SQL function of the PostgreSQL store.
//!
//! Retries, snoozes, priorities and the counts of a [`QueueConfig`](super::QueueConfig) may have any value of their types.
//! A task has 1 to `u32::MAX` attempts.
//!
//! The attributes check their options at compile time, in a crate of their own. `taskflow-macros/src/options/limits.rs`
//! repeats the limits they need, and `tests/limits.rs` compares the two files.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::time::{Duration, SystemTime};

use serde_json::value::RawValue;

use super::{AddError, Error, time};

/// The longest task name, queue name, schedule name, key, tag name and tag value, in bytes of UTF-8 as counted by
/// [`kept_length`].
pub(crate) const WORD: usize = 1024;
/// The most bytes of name, queue and concurrency key together, for a task with a concurrency key. They form one index entry,
/// and an index entry of PostgreSQL holds at most 2,704 bytes.
pub(crate) const KEYED_WORDS: usize = 2560;
/// The most tags of a task.
pub(crate) const TAGS: usize = 32;
/// The longest payload, in bytes of JSON.
pub(crate) const PAYLOAD: usize = 1 << 20;
/// The longest sealed payload: the longest payload after sealing. Only arguments that are already sealed when they are checked,
/// those of a schedule, are measured against it.
pub(crate) const SEALED_PAYLOAD: usize = PAYLOAD / 3 * 4 + 512;
/// The longest result, in bytes of JSON.
pub(crate) const RESULT: usize = 1 << 20;
/// The most arrays and objects that an argument or a result may nest. `serde_json` cannot read deeper JSON.
pub(crate) const DEPTH: usize = 127;
/// The most tasks of one `add_all`.
pub(crate) const TASKS_AT_ONCE: usize = 100_000;

/// The longest duration: a century. A longer one is a mistake, and an instant computed from it would be out of range.
pub(crate) const LENGTH: Duration = Duration::from_secs(36_525 * 86_400);
/// The shortest timeout of an attempt.
pub(crate) const TIMEOUT_MIN: Duration = Duration::from_millis(1);
/// The shortest interval of a schedule.
pub(crate) const INTERVAL_MIN: Duration = Duration::from_millis(100);
/// The shortest lease: a shorter one cannot be renewed in time.
pub(crate) const LEASE_MIN: Duration = Duration::from_millis(30);

/// The first and the last instant of a task, in microseconds since 1970: from 1970-01-01T00:00:00Z to
/// 2200-01-01T00:00:00Z. Redis represents microseconds exactly up to the year 2255, and delays are added to the instant.
pub(crate) const INSTANTS: RangeInclusive<i64> = 0..=7_258_118_400_000_000;

/// The factor from one delay to the next.
pub(crate) const BACKOFF: RangeInclusive<f64> = 1.0..=1000.0;
/// The share by which jitter may lengthen or shorten a delay.
pub(crate) const JITTER: RangeInclusive<f64> = 0.0..=1.0;
/// The fewest lost runs in a row that mark a task as poison.
pub(crate) const LOST_RUNS_MIN: u32 = 1;

/// Why a text or a number is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// The value is larger than the limit.
    TooLarge { actual: usize, limit: usize },
    /// The value is invalid in another way. The message states the rule.
    Invalid(&'static str),
}

impl Refused {
    /// The error of an add with this `value` in `field`.
    pub(crate) fn in_add(self, field: &'static str, value: &dyn fmt::Debug) -> AddError {
        match self {
            Self::TooLarge { actual, limit } => AddError::TooLarge { what: field, limit, actual },
            Self::Invalid(message) => {
                AddError::Option { option: field, message: format!("it is {value:?}, and {message}") }
            }
        }
    }

    /// The error of a builder or queue `option` with this `value`.
    pub(crate) fn in_config(self, option: &'static str, value: &dyn fmt::Debug) -> Error {
        match self {
            Self::TooLarge { actual, .. } => {
                let value = format!("a name of {actual} bytes");
                Error::Config { option, value, message: "a name has at most 1024 bytes" }
            }
            Self::Invalid(message) => Error::Config { option, value: format!("{value:?}"), message },
        }
    }
}

/// The length of a text as a store keeps it, in bytes. PostgreSQL text cannot contain NUL, so its store escapes NUL with the
/// character `␀`. To have one limit for every store, a NUL always counts as four bytes and `␀` as six.
pub(crate) fn kept_length(text: &str) -> usize {
    if text.len() > WORD {
        return text.len();
    }
    let escaped = text.chars().filter(|character| matches!(character, '\0' | '\u{2400}')).count();
    text.len() + 3 * escaped
}

/// Checks a number of items, or a length in bytes.
pub(crate) fn size(actual: usize, limit: usize) -> Result<(), Refused> {
    if actual > limit { Err(Refused::TooLarge { actual, limit }) } else { Ok(()) }
}

/// Checks a key, a tag name or a tag value: any text of at most [`WORD`] bytes.
pub(crate) fn word(text: &str) -> Result<(), Refused> {
    size(kept_length(text), WORD)
}

/// Checks the name of a task, a queue or a schedule.
pub(crate) fn name(text: &str) -> Result<(), Refused> {
    size(kept_length(text), WORD)?;
    if text.is_empty() {
        return Err(Refused::Invalid("a name must not be empty"));
    }
    if text.trim() != text {
        return Err(Refused::Invalid("a name must not begin or end with a blank"));
    }
    if text.chars().any(char::is_control) {
        return Err(Refused::Invalid("a name must not contain a control character"));
    }
    Ok(())
}

/// Checks arguments that no task call wrote: they must be a JSON object, and each value must be readable.
pub(crate) fn arguments(json: &str) -> Result<(), String> {
    let object: BTreeMap<Cow<'_, str>, &RawValue> = serde_json::from_str(json)
        .map_err(|error| format!("the arguments are not a JSON object: {error}"))?;
    match object.iter().find(|(_, value)| depth(value.get()) > DEPTH) {
        Some((name, _)) => {
            Err(format!("argument `{name}` nests arrays and objects deeper than {DEPTH}, the limit"))
        }
        None => Ok(()),
    }
}

/// The nesting depth of arrays and objects in a JSON value.
fn depth(json: &str) -> usize {
    let (mut depth, mut deepest, mut in_text, mut is_escaped) = (0_usize, 0, false, false);
    for byte in json.bytes() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            b'"' => in_text = !in_text,
            b'[' | b'{' if !in_text => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' if !in_text => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// Checks a duration.
pub(crate) fn length(length: Duration) -> Result<(), Refused> {
    if length > LENGTH {
        return Err(Refused::Invalid("a length of time is at most a century (36525 days)"));
    }
    Ok(())
}

/// Checks a duration that may be unlimited: [`Duration::MAX`].
pub(crate) fn length_or_ever(given: Duration) -> Result<(), Refused> {
    if given == Duration::MAX {
        return Ok(());
    }
    length(given).map_err(|_| {
        Refused::Invalid(
            "a length of time is at most a century (36525 days), or `Duration::MAX` for no limit",
        )
    })
}

/// Checks an instant of a task, such as its due time or its expiry.
pub(crate) fn instant(at: SystemTime) -> Result<(), Refused> {
    if INSTANTS.contains(&time::to_micros(at)) {
        return Ok(());
    }
    Err(Refused::Invalid("an instant is from 1970-01-01T00:00:00Z to 2200-01-01T00:00:00Z"))
}

/// Checks the factor from one delay to the next.
pub(crate) fn backoff(factor: f64) -> Result<(), Refused> {
    if BACKOFF.contains(&factor) {
        return Ok(());
    }
    Err(Refused::Invalid("a factor is a number from 1 to 1000"))
}

/// Checks the share by which jitter may lengthen or shorten a delay.
pub(crate) fn jitter(share: f64) -> Result<(), Refused> {
    if JITTER.contains(&share) {
        return Ok(());
    }
    Err(Refused::Invalid("a share is a number from 0 to 1"))
}
