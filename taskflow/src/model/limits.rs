//! The limits of every word and number that a user can give, in one table: for the attributes, the builder, the add,
//! [`NewTask`](super::NewTask), queues, schedules, results and the SQL function of the PostgreSQL store.
//!
//! Retries, snoozes, priorities and the counts of a [`QueueConfig`](super::QueueConfig) may have every value of their types:
//! a task has 1 to `u32::MAX` attempts.
//!
//! The attributes check while the program is compiled, in a crate of their own: `taskflow-macros/src/options/limits.rs`
//! repeats what they need, and `tests/limits.rs` compares the two files.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::time::{Duration, SystemTime};

use serde_json::value::RawValue;

use super::{AddError, Error, time};

/// The longest name of a task, queue or schedule, key, name of a tag and value of a tag: bytes of UTF-8, counted by
/// [`kept_length`].
pub(crate) const WORD: usize = 1024;
/// The most bytes of a task's name, queue and concurrency key together, where it has such a key: they are one entry of an
/// index, and PostgreSQL's hold 2,704 bytes.
pub(crate) const KEYED_WORDS: usize = 2560;
/// The most tags of a task.
pub(crate) const TAGS: usize = 32;
/// The longest payload, in bytes of JSON.
pub(crate) const PAYLOAD: usize = 1 << 20;
/// The longest result, in bytes of JSON.
pub(crate) const RESULT: usize = 1 << 20;
/// How many arrays and objects an argument or a result may nest: serde_json reads no more back.
pub(crate) const DEPTH: usize = 127;
/// The most tasks of one `add_all`.
pub(crate) const TASKS_AT_ONCE: usize = 100_000;

/// The longest length of time: a century. Beyond it a length is a slip, and an instant it leads to is out of range.
pub(crate) const LENGTH: Duration = Duration::from_secs(36_525 * 86_400);
/// The shortest timeout of an attempt.
pub(crate) const TIMEOUT_MIN: Duration = Duration::from_millis(1);
/// The shortest interval of a schedule.
pub(crate) const INTERVAL_MIN: Duration = Duration::from_millis(100);
/// The shortest lease: a shorter one cannot be renewed in time.
pub(crate) const LEASE_MIN: Duration = Duration::from_millis(30);

/// The first and the last instant of a task, in microseconds since 1970: from 1970-01-01T00:00:00Z to
/// 2200-01-01T00:00:00Z. Redis counts exactly to the year 2255, and what a task is postponed by must fit too.
pub(crate) const INSTANTS: RangeInclusive<i64> = 0..=7_258_118_400_000_000;

/// The factor from one delay to the next.
pub(crate) const BACKOFF: RangeInclusive<f64> = 1.0..=1000.0;
/// The share by which a delay may vary.
pub(crate) const JITTER: RangeInclusive<f64> = 0.0..=1.0;
/// The fewest lost runs in a row that mark a task as poison.
pub(crate) const LOST_RUNS_MIN: u32 = 1;

/// Why a word or a number is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// It is larger than the limit.
    TooLarge { actual: usize, limit: usize },
    /// It has another fault.
    Invalid(&'static str),
}

impl Refused {
    /// The error of an add in which `field` has this value.
    pub(crate) fn in_add(self, field: &'static str, value: &dyn fmt::Debug) -> AddError {
        match self {
            Self::TooLarge { actual, limit } => AddError::TooLarge { what: field, limit, actual },
            Self::Invalid(message) => {
                AddError::Option { option: field, message: format!("it is {value:?}, and {message}") }
            }
        }
    }

    /// The error of the builder, or of an option of a queue, which has this value.
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

/// How long a text is where a store keeps it. PostgreSQL has no NUL character in its text and escapes it; so that one limit
/// holds everywhere, a NUL counts as four bytes, and the sign `␀`, which marks it there, as six.
pub(crate) fn kept_length(text: &str) -> usize {
    if text.len() > WORD {
        return text.len();
    }
    let escaped = text.chars().filter(|character| matches!(character, '\0' | '\u{2400}')).count();
    text.len() + 3 * escaped
}

/// A number of things, or a length in bytes.
pub(crate) fn size(actual: usize, limit: usize) -> Result<(), Refused> {
    if actual > limit { Err(Refused::TooLarge { actual, limit }) } else { Ok(()) }
}

/// A key, or the name or value of a tag: any text of that length.
pub(crate) fn word(text: &str) -> Result<(), Refused> {
    size(kept_length(text), WORD)
}

/// The name of a task, a queue or a schedule.
pub(crate) fn name(text: &str) -> Result<(), Refused> {
    size(kept_length(text), WORD)?;
    if text.is_empty() {
        return Err(Refused::Invalid("a name is not empty"));
    }
    if text.trim() != text {
        return Err(Refused::Invalid("a name neither begins nor ends with a blank"));
    }
    if text.chars().any(char::is_control) {
        return Err(Refused::Invalid("a name has no control character"));
    }
    Ok(())
}

/// Arguments that no call has written: a JSON object of which each value can be read back.
pub(crate) fn arguments(json: &str) -> Result<(), String> {
    let object: BTreeMap<Cow<'_, str>, &RawValue> = serde_json::from_str(json)
        .map_err(|error| format!("the arguments are not a JSON object: {error}"))?;
    match object.iter().find(|(_, value)| depth(value.get()) > DEPTH) {
        Some((name, _)) => {
            Err(format!("argument `{name}` nests arrays and objects deeper than {DEPTH}, which is the limit"))
        }
        None => Ok(()),
    }
}

/// How many arrays and objects stand in one another in a JSON value.
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

/// A length of time.
pub(crate) fn length(length: Duration) -> Result<(), Refused> {
    if length > LENGTH {
        return Err(Refused::Invalid("a length of time is at most a century (36525 days)"));
    }
    Ok(())
}

/// A length of time that may be without end: [`Duration::MAX`].
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

/// An instant at which something may happen to a task.
pub(crate) fn instant(at: SystemTime) -> Result<(), Refused> {
    if INSTANTS.contains(&time::to_micros(at)) {
        return Ok(());
    }
    Err(Refused::Invalid("an instant is from 1970-01-01T00:00:00Z to 2200-01-01T00:00:00Z"))
}

/// The factor from one delay to the next.
pub(crate) fn backoff(factor: f64) -> Result<(), Refused> {
    if BACKOFF.contains(&factor) {
        return Ok(());
    }
    Err(Refused::Invalid("a factor is a number from 1 to 1000"))
}

/// The share by which a delay may vary.
pub(crate) fn jitter(share: f64) -> Result<(), Refused> {
    if JITTER.contains(&share) {
        return Ok(());
    }
    Err(Refused::Invalid("a share is a number from 0 to 1"))
}
