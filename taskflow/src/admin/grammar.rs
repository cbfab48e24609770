//! The words of filters: the same in the search box, in query strings, in JSON bodies and on the command line.
//!
//! | word | a task matches if |
//! |---|---|
//! | `status` | it has this status: `pending`, `running`, `success`, `failed`, `interrupted`, `cancelled`, `rejected` |
//! | `phase` | it is in this phase: `waiting`, `scheduled`, `retrying`, `running`, `overrunning`, `ended` |
//! | `name`, `queue` | it has this name, it is in this queue |
//! | `tag.plan` | its tag `plan` has this value |
//! | `arg.user_id` | its argument `user_id` has this JSON value; a text that is not JSON is a string |
//! | `error` | its error contains this text, in either case |
//! | `key` | it has this idempotency key |
//! | `source` | it was added by `manager`, `request` or `schedule` |
//! | `since` | it was added in this time: `since:6h` |
//! | `created_after`, `created_before` | it was added then: an instant (RFC 3339, or a date in UTC) or `-6h` |
//! | `finished_after`, `finished_before` | it ended then |
//! | `frozen_at` | it was added before that instant, and has not ended at it or later |
//! | `all` | `true` says that a filter without other words means every task |
//!
//! Words of one kind are alternatives (`status:failed status:rejected`, or `status:failed,rejected`); tags and arguments must
//! all match. Lengths have the units `ms`, `s`, `m`, `h`, `d` and `w`.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use serde::Deserialize;
use serde::de::value::{Error as WordError, StrDeserializer};
use serde_json::value::RawValue;

use super::AdminError;
use crate::model::error::closest;
use crate::model::{ArgCondition, TaskFilter, TaskId, TaskPhase, TaskSource, TaskStatus, time};

/// The words without those that begin with `tag.` and `arg.`.
const WORDS: [&str; 14] = [
    "status",
    "phase",
    "name",
    "queue",
    "error",
    "key",
    "source",
    "since",
    "created_after",
    "created_before",
    "finished_after",
    "finished_before",
    "frozen_at",
    "all",
];

/// The most words of one filter.
const MAX_WORDS: usize = 100;

/// What a search box says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Search {
    /// The one task that it names.
    pub id: Option<TaskId>,
    /// The words with their values, in order: the fields of the canonical query string.
    pub pairs: Vec<(String, String)>,
    /// The bare words: each matches the names that contain it.
    pub bare: Vec<String>,
}

impl Search {
    /// Reads the text of a search box: `status:failed queue:mail arg.user_id:42 error:"timed out" since:6h`.
    ///
    /// # Errors
    /// For an unknown word, with the closest one that exists; and for a quotation that does not end.
    pub fn parse(text: &str) -> Result<Self, AdminError> {
        let mut search = Self::default();
        if let Ok(id) = text.trim().parse() {
            search.id = Some(id);
            return Ok(search);
        }
        let mut rest = text.trim_start();
        while !rest.is_empty() {
            let end = rest.find(|c: char| c.is_whitespace() || c == ':').unwrap_or(rest.len());
            let (word, after) = rest.split_at(end);
            if word.is_empty() {
                return Err(invalid("q", "a word is missing before `:`"));
            }
            let Some(after) = after.strip_prefix(':') else {
                search.bare.push(word.to_owned());
                rest = after.trim_start();
                continue;
            };
            check_word(word, &[])?;
            let (values, after) = values(word, after)?;
            for value in values {
                search.pairs.push((word.to_owned(), value));
            }
            rest = after.trim_start();
        }
        Ok(search)
    }

    /// The pairs, with each bare word replaced by the known names that contain it.
    ///
    /// # Errors
    /// For a bare word that no known name contains.
    pub fn expand(mut self, known: &[&str]) -> Result<Vec<(String, String)>, AdminError> {
        for bare in self.bare {
            let holds = |name: &&str| name.to_lowercase().contains(&bare.to_lowercase());
            let names: Vec<_> = known.iter().copied().filter(holds).collect();
            if names.is_empty() {
                let hint = closest(&bare, WORDS).map(|word| format!("; did you mean `{word}:`?"));
                let hint = hint.or_else(|| {
                    closest(&bare, known.iter().copied()).map(|name| format!("; did you mean `name:{name}`?"))
                });
                let hint = hint.unwrap_or_else(|| "; words look like `status:failed`".to_owned());
                return Err(invalid("q", format!("no known task is named like `{bare}`{hint}")));
            }
            self.pairs.extend(names.into_iter().map(|name| ("name".to_owned(), name.to_owned())));
        }
        Ok(self.pairs)
    }
}

/// The values behind `word:`, and the rest of the text.
fn values<'a>(word: &str, text: &'a str) -> Result<(Vec<String>, &'a str), AdminError> {
    if word.starts_with("arg.") {
        // A JSON value, which may contain spaces, or a word. The quotes of a string belong to it.
        let mut values = serde_json::Deserializer::from_str(text).into_iter::<&RawValue>();
        let is_json = matches!(values.next(), Some(Ok(_)));
        let end = Some(values.byte_offset())
            .filter(|end| is_json && text[*end..].chars().next().is_none_or(char::is_whitespace));
        if end.is_none() && text.starts_with('"') {
            return Err(invalid(word, "the quotation does not end"));
        }
        let end = end.unwrap_or_else(|| text.find(char::is_whitespace).unwrap_or(text.len()));
        return Ok((vec![text[..end].to_owned()], &text[end..]));
    }
    let mut all = Vec::new();
    let mut rest = text;
    loop {
        let is_list = !word.starts_with("tag.") && word != "error" && word != "key";
        let stops = |c: char| c.is_whitespace() || (is_list && c == ',');
        let (value, end) = match rest.starts_with('"') {
            true => quoted(word, rest)?,
            false => {
                let end = rest.find(stops).unwrap_or(rest.len());
                (rest[..end].to_owned(), end)
            }
        };
        all.push(value);
        match rest[end..].strip_prefix(',') {
            Some(more) if is_list => rest = more,
            _ => return Ok((all, &rest[end..])),
        }
    }
}

/// The text in the quotes with which `text` begins, and where they end. `\"` and `\\` stand for a quote and a backslash.
fn quoted(word: &str, text: &str) -> Result<(String, usize), AdminError> {
    let mut value = String::new();
    let mut chars = text.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Ok((value, at + 1)),
            '\\' => match chars.next() {
                Some((_, c @ ('"' | '\\'))) => value.push(c),
                Some((_, c)) => value.extend(['\\', c]),
                None => break,
            },
            c => value.push(c),
        }
    }
    Err(invalid(word, "the quotation does not end"))
}

/// Whether a field of a query string is a word of filters.
#[must_use]
pub fn is_word(field: &str) -> bool {
    WORDS.contains(&field) || field.starts_with("tag.") || field.starts_with("arg.")
}

/// Refuses a field that is neither a word of filters nor one of `others`, with the closest one that is.
///
/// # Errors
/// [`AdminError::Invalid`].
pub fn check_word(field: &str, others: &[&str]) -> Result<(), AdminError> {
    if is_word(field) || others.contains(&field) {
        return Ok(());
    }
    let all = WORDS.iter().chain(others).copied();
    let hint = match closest(field, all) {
        Some(word) => format!("there is no such word; did you mean `{word}`?"),
        None if field == "tag" || field == "arg" => format!("write `{field}.<name>`"),
        None => format!("there is no such word; there are {}, `tag.<name>` and `arg.<name>`", {
            let words: Vec<_> = WORDS.iter().chain(others).map(|word| format!("`{word}`")).collect();
            words.join(", ")
        }),
    };
    Err(invalid(field, hint))
}

/// The filter that these words and values say; relative times count from `now`. Fields that are no words are ignored: check
/// them with [`check_word`].
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

/// The filter of a JSON body: an object with the same words. A value is text, a number, or a list of alternatives; the value of
/// an argument is any JSON.
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

/// The words and values that say this filter, without relative times: the fields of its canonical query string.
#[must_use]
pub fn pairs(filter: &TaskFilter) -> Vec<(String, String)> {
    let mut pairs: Vec<(String, String)> = Vec::new();
    let mut add = |word: &str, value: &str| pairs.push((word.to_owned(), value.to_owned()));
    filter.statuses.iter().for_each(|status| add("status", status.as_str()));
    filter.phases.iter().for_each(|phase| add("phase", phase.as_str()));
    filter.names.iter().for_each(|name| add("name", name));
    filter.queues.iter().for_each(|queue| add("queue", queue));
    filter.idempotency_keys.iter().for_each(|key| add("key", key));
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

/// The text of a search box that says these pairs.
#[must_use]
pub fn text<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let mut text = String::new();
    for (word, value) in pairs {
        if !text.is_empty() {
            text.push(' ');
        }
        text.push_str(word);
        text.push(':');
        let is_plain = |c: char| !c.is_whitespace() && c != '"' && c != ',';
        match word.starts_with("arg.") || (!value.is_empty() && value.chars().all(is_plain)) {
            true => text.push_str(value),
            false => {
                let value = value.replace('\\', "\\\\").replace('"', "\\\"");
                text.extend(["\"", &value, "\""]);
            }
        }
    }
    text
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

/// An instant: RFC 3339, a date in UTC, or a length before or after now such as `-6h`.
///
/// # Errors
/// [`AdminError::Invalid`] names the field.
pub fn instant(field: &str, text: &str, now: SystemTime) -> Result<SystemTime, AdminError> {
    let relative = text.strip_prefix('-').map(|rest| (rest, true));
    let relative = relative.or_else(|| text.strip_prefix('+').map(|rest| (rest, false)));
    let at = match relative {
        Some((rest, true)) => length(rest).and_then(|length| now.checked_sub(length)),
        Some((rest, false)) => length(rest).and_then(|length| now.checked_add(length)),
        None => time::parse(text),
    };
    at.ok_or_else(|| {
        let message = format!(
            "`{text}` is not an instant: write `2026-11-01T08:00:00Z`, `2026-11-01` or a length such as `-6h`"
        );
        invalid(field, message)
    })
}

/// A length such as `90s`, `1h30m` or `7d`.
#[must_use]
pub fn length(text: &str) -> Option<Duration> {
    let mut total = Duration::ZERO;
    let mut rest = text;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let (number, after) = rest.split_at(digits);
        let unit = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let (unit, after) = after.split_at(unit);
        let millis: u64 = match unit {
            "ms" => 1,
            "s" => 1000,
            "m" | "min" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            "w" => 604_800_000,
            _ => return None,
        };
        let part = number.parse::<u64>().ok()?.checked_mul(millis)?;
        total = total.checked_add(Duration::from_millis(part))?;
        rest = after;
    }
    Some(total)
}

fn bad_length(text: &str) -> String {
    format!("`{text}` is not a length: write `90s`, `1h30m` or `7d`")
}

fn invalid(field: &str, message: impl Into<String>) -> AdminError {
    AdminError::Invalid { field: field.to_owned(), message: message.into() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
    }

    fn read(search: &str) -> Result<TaskFilter, String> {
        let search = Search::parse(search).map_err(|error| error.to_string())?;
        let pairs =
            search.expand(&["send_email", "send_sms", "report"]).map_err(|error| error.to_string())?;
        filter(pairs.iter().map(|(a, b)| (&**a, &**b)), at()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_search_box_says_a_filter() {
        let search = "status:failed,interrupted queue:mail tag.plan:pro arg.user_id:42 arg.to:\"42\" \
                      error:\"timed \\\"out\\\"\" since:6h";
        let want = TaskFilter::new()
            .status(TaskStatus::Failed)
            .status(TaskStatus::Interrupted)
            .queue("mail")
            .tag("plan", "pro")
            .arg("user_id", 42)
            .arg("to", "42")
            .error_contains("timed \"out\"")
            .created_after(at() - Duration::from_secs(6 * 3600));
        assert_eq!(read(search), Ok(want));
        assert_eq!(read("send"), Ok(TaskFilter::new().name("send_email").name("send_sms")));
        assert_eq!(read(""), Ok(TaskFilter::new()));
        assert_eq!(read("tag.list:a,b"), Ok(TaskFilter::new().tag("list", "a,b")));
    }

    #[test]
    fn a_wrong_word_gets_a_hint() {
        for (search, hint) in [
            ("stauts:failed", "did you mean `status`?"),
            ("status:faild", "did you mean `failed`?"),
            ("phase:x", "it is one of waiting, scheduled"),
            ("tag:pro", "write `tag.<name>`"),
            ("tag.:pro", "a name is missing"),
            ("since:6", "is not a length"),
            ("created_after:yesterday", "is not an instant"),
            ("error:\"open", "does not end"),
            ("sned_email", "did you mean `name:send_email`?"),
            (":x", "a word is missing"),
            ("all:yes", "`true` or `false`"),
            ("queue:", "is empty"),
        ] {
            let error = read(search).expect_err(search);
            assert!(error.contains(hint), "{search}: {error}");
        }
    }

    #[test]
    fn the_same_words_stand_in_json() {
        let body = r#"{"status": ["failed", "rejected"], "queue": "mail", "tag.n": 7, "arg.big": 18446744073709551616,
                       "created_after": "2027-01-15T08:00:00Z", "all": true}"#;
        let body: BTreeMap<String, Box<RawValue>> = serde_json::from_str(body).expect("JSON");
        let filter = filter_of_json(&body, at()).expect("a filter");
        assert_eq!(filter.statuses, [TaskStatus::Failed, TaskStatus::Rejected]);
        assert_eq!(filter.args[0].json.as_deref(), Some("18446744073709551616"));
        assert_eq!(filter.tags, [("n".to_owned(), "7".to_owned())]);
        assert_eq!(filter.created_after, Some(at()));
        assert!(filter.everything);
    }

    #[test]
    fn an_id_opens_its_task() {
        let id = TaskId::new();
        assert_eq!(Search::parse(&format!(" {id} ")).expect("an id").id, Some(id));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in ".{0,80}") {
            let _ = read(&text);
        }

        #[test]
        fn any_words_are_read_or_refused(word in "(status|arg\\.|tag\\.|since|created_after|x)?.{0,8}", value in ".{0,40}") {
            let _ = filter([(&*word, &*value)], at());
        }

        #[test]
        fn what_a_filter_says_is_read_back(
            name in "[^\0]{1,12}", value in "[^\0]{0,12}", error in "[^\0]{1,12}", millis in 0..4_000_000_000_000_u64
        ) {
            let once = TaskFilter::new()
                .status(TaskStatus::Failed)
                .name(name.clone())
                .tag("t", &value)
                .arg("a", &value)
                .error_contains(error)
                .finished_before(SystemTime::UNIX_EPOCH + Duration::from_millis(millis));
            let pairs = pairs(&once);
            let again = filter(pairs.iter().map(|(a, b)| (&**a, &**b)), at()).expect("its own words");
            prop_assert_eq!(&again, &once);
            let text = text(pairs.iter().map(|(a, b)| (&**a, &**b)));
            let search = Search::parse(&text).expect("its own text");
            prop_assert_eq!(search.pairs, pairs, "{}", text);
        }
    }
}
