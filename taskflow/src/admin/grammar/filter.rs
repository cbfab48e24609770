//! Filters from words and values, and back.

use std::collections::BTreeMap;
use std::time::SystemTime;

use serde::Deserialize;
use serde::de::value::{Error as WordError, StrDeserializer};
use serde_json::value::RawValue;

use super::times::{bad_length, instant, length};
use super::words::{check_word, invalid, is_word};
use crate::admin::AdminError;
use crate::model::spelling::closest;
use crate::model::{ArgCondition, TaskFilter, TaskPhase, TaskSource, TaskStatus, time};

/// The most words of one filter.
const MAX_WORDS: usize = 100;

/// Makes a filter of words and their values. Relative times count from `now`. Fields that are not words of filters are ignored:
/// check them with [`check_word`].
///
/// # Errors
/// [`AdminError::Invalid`] names the word.
pub fn filter<'a>(
    pairs: impl IntoIterator<Item = (&'a str, &'a str)>,
    now: SystemTime,
) -> Result<TaskFilter, AdminError> {
    let mut filter = TaskFilter::new();
    let mut words = 0;
    for (word, value) in pairs {
        if !is_word(word) {
            continue;
        }
        words += 1;
        if words > MAX_WORDS {
            return Err(invalid(word, format!("a filter has at most {MAX_WORDS} words")));
        }
        if value.contains('\0') {
            return Err(invalid(word, "the value has a NUL"));
        }
        filter = add(filter, word, value, now)?;
    }
    Ok(filter)
}

fn add(filter: TaskFilter, word: &str, value: &str, now: SystemTime) -> Result<TaskFilter, AdminError> {
    let at = || instant(word, value, now);
    Ok(match word {
        "status" => {
            let words = TaskStatus::ALL.map(TaskStatus::as_str);
            filter.status(one_of::<TaskStatus>(word, value, &words)?)
        }
        "phase" => {
            let words = ["waiting", "scheduled", "retrying", "running", "overrunning", "ended"];
            filter.phase(one_of::<TaskPhase>(word, value, &words)?)
        }
        "source" => filter.source(one_of::<TaskSource>(word, value, &["manager", "request", "schedule"])?),
        "name" => filter.name(filled(word, value)?),
        "queue" => filter.queue(filled(word, value)?),
        "key" => filter.idempotency_key(filled(word, value)?),
        "run_key" => filter.run_key(filled(word, value)?),
        "concurrency_key" => filter.concurrency_key(filled(word, value)?),
        "trace" => filter.trace(filled(word, value)?),
        "error" => filter.error_contains(filled(word, value)?),
        "since" => {
            let back = length(value).and_then(|length| now.checked_sub(length));
            filter.created_after(back.ok_or_else(|| invalid(word, bad_length(value)))?)
        }
        "created_after" => filter.created_after(at()?),
        "created_before" => filter.created_before(at()?),
        "finished_after" => filter.finished_after(at()?),
        "finished_before" => filter.finished_before(at()?),
        "frozen_at" => filter.frozen(at()?),
        "all" => match value {
            "true" => TaskFilter { everything: true, ..filter },
            "false" => filter,
            _ => return Err(invalid(word, "it is `true` or `false`")),
        },
        _ => match word.split_once('.') {
            Some(("tag", name)) if !name.is_empty() => filter.tag(name, value),
            Some(("arg", path)) if !path.is_empty() => {
                let mut filter = filter;
                let json = match serde_json::from_str::<&RawValue>(value) {
                    Ok(json) => json.get().to_owned(),
                    Err(_) => serde_json::Value::from(value).to_string(),
                };
                filter.args.push(ArgCondition { path: path.to_owned(), json: Some(json) });
                filter
            }
            _ => return Err(invalid(word, "a name is missing after the dot")),
        },
    })
}

/// Makes a filter of a JSON object with the same words. A value is a text, a number, a boolean, or a list of these as
/// alternatives; the value of an argument is any JSON.
///
/// # Errors
/// As for [`filter`], and for unknown words.
pub fn filter_of_json(
    words: &BTreeMap<String, Box<RawValue>>,
    now: SystemTime,
) -> Result<TaskFilter, AdminError> {
    let mut pairs = Vec::new();
    for (word, json) in words {
        check_word(word, &[])?;
        if word.starts_with("arg.") {
            pairs.push((word.as_str(), json.get().to_owned()));
            continue;
        }
        let text = json.get();
        let items: Vec<Scalar> = match text.starts_with('[') {
            true => serde_json::from_str(text),
            false => serde_json::from_str(text).map(|one| vec![one]),
        }
        .map_err(|_| invalid(word, "it must be text, or a list of texts"))?;
        pairs.extend(items.into_iter().map(|item| (word.as_str(), item.0)));
    }
    filter(pairs.iter().map(|(word, value)| (*word, value.as_str())), now)
}

/// A text, a number or a boolean, as text.
struct Scalar(String);

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match serde_json::Value::deserialize(deserializer)? {
            serde_json::Value::String(text) => Ok(Self(text)),
            json @ (serde_json::Value::Number(_) | serde_json::Value::Bool(_)) => Ok(Self(json.to_string())),
            _ => Err(serde::de::Error::custom("neither text nor a number")),
        }
    }
}

/// Writes a filter as words and values, with absolute times: the fields of its canonical query string.
#[must_use]
pub fn pairs(filter: &TaskFilter) -> Vec<(String, String)> {
    let mut pairs: Vec<(String, String)> = Vec::new();
    let mut add = |word: &str, value: &str| pairs.push((word.to_owned(), value.to_owned()));
    filter.statuses.iter().for_each(|status| add("status", status.as_str()));
    filter.phases.iter().for_each(|phase| add("phase", phase.as_str()));
    filter.names.iter().for_each(|name| add("name", name));
    filter.queues.iter().for_each(|queue| add("queue", queue));
    filter.idempotency_keys.iter().for_each(|key| add("key", key));
    filter.run_keys.iter().for_each(|key| add("run_key", key));
    filter.concurrency_keys.iter().for_each(|key| add("concurrency_key", key));
    filter.traces.iter().for_each(|trace| add("trace", trace));
    filter.sources.iter().for_each(|source| add("source", source.as_str()));
    filter.error.iter().for_each(|text| add("error", text));
    filter.tags.iter().for_each(|(name, value)| add(&format!("tag.{name}"), value));
    for condition in &filter.args {
        add(&format!("arg.{}", condition.path), condition.json.as_deref().unwrap_or("null"));
    }
    let times = [
        ("created_after", filter.created_after),
        ("created_before", filter.created_before),
        ("finished_after", filter.finished_after),
        ("finished_before", filter.finished_before),
        ("frozen_at", filter.frozen_at),
    ];
    for (word, at) in times {
        at.into_iter().for_each(|at| add(word, &time::rfc3339(at)));
    }
    if filter.everything {
        add("all", "true");
    }
    pairs
}

fn one_of<'de, T: Deserialize<'de>>(word: &str, value: &'de str, words: &[&str]) -> Result<T, AdminError> {
    let parsed = T::deserialize(StrDeserializer::<WordError>::new(value));
    parsed.map_err(|_| {
        let hint = match closest(value, words.iter().copied()) {
            Some(one) => format!("did you mean `{one}`?"),
            None => format!("it is one of {}", words.join(", ")),
        };
        invalid(word, format!("there is no `{value}`; {hint}"))
    })
}

fn filled<'a>(word: &str, value: &'a str) -> Result<&'a str, AdminError> {
    if value.is_empty() { Err(invalid(word, "the value is empty")) } else { Ok(value) }
}
