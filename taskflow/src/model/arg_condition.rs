//! Conditions on the arguments of a task.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::lossless;

/// The condition that an argument has a given value.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ArgCondition {
    /// The name of the argument, or the path of a value inside it: `user_id`, `form.address.city`, `items.0`.
    pub path: String,
    /// The value as JSON; `None` if JSON cannot represent it. No argument matches `None`.
    pub json: Option<String>,
}

impl ArgCondition {
    /// The condition that the argument at `path` equals `value`.
    #[must_use]
    pub fn new(path: &str, value: impl Serialize) -> Self {
        let mut json = Vec::new();
        let json = lossless::write(&mut json, &value).ok().and_then(|()| String::from_utf8(json).ok());
        Self { path: path.to_owned(), json }
    }

    /// Whether these arguments, as JSON, have the value.
    pub(super) fn matches(&self, args: &str) -> bool {
        let found = self.path.split('.').try_fold(args, below);
        found.zip(self.json.as_deref()).is_some_and(|(found, json)| are_same(found, json))
    }
}

type List<'a> = Vec<&'a RawValue>;
type Object<'a> = BTreeMap<String, &'a RawValue>;

/// The value under a key of a JSON object, or at an index of a JSON list.
fn below<'a>(json: &'a str, key: &str) -> Option<&'a str> {
    let found = if json.starts_with('[') {
        serde_json::from_str::<List<'a>>(json).ok()?.get(key.parse::<usize>().ok()?).copied()
    } else {
        serde_json::from_str::<Object<'a>>(json).ok()?.remove(key)
    };
    found.map(RawValue::get)
}

/// Whether two JSON texts represent the same value.
fn are_same(a: &str, b: &str) -> bool {
    fn read<'a, T: Deserialize<'a>>(a: &'a str, b: &'a str) -> Option<(T, T)> {
        Some((serde_json::from_str(a).ok()?, serde_json::from_str(b).ok()?))
    }
    let both_begin_with = |first| a.starts_with(first) && b.starts_with(first);
    let same = |(a, b): (&&RawValue, &&RawValue)| are_same(a.get(), b.get());
    if both_begin_with('[') {
        read::<List<'_>>(a, b).is_some_and(|(a, b)| a.len() == b.len() && a.iter().zip(&b).all(same))
    } else if both_begin_with('{') {
        read::<Object<'_>>(a, b)
            .is_some_and(|(a, b)| a.keys().eq(b.keys()) && a.values().zip(b.values()).all(same))
    } else if is_long_integer(a) || is_long_integer(b) {
        a == b
    } else {
        read::<serde_json::Value>(a, b).is_some_and(|(a, b)| a == b)
    }
}

/// Whether the text is an integer of more than 64 bits. `serde_json` would read it as the nearest float.
fn is_long_integer(json: &str) -> bool {
    let digits = json.strip_prefix('-').unwrap_or(json);
    let is_integer = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_integer && json.parse::<u64>().is_err() && json.parse::<i64>().is_err()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn an_argument_is_compared_as_it_is_stored() {
        assert!(ArgCondition::new("share", 0.1_f32).matches(r#"{"share":0.1}"#));
        assert!(!ArgCondition::new("share", 0.1_f32).matches(r#"{"share":0.2}"#));
    }

    #[test]
    fn a_value_that_json_cannot_represent_matches_no_argument() {
        let null = r#"{"share":null,"shares":[null]}"#;
        assert!(ArgCondition::new("share", None::<f64>).matches(null));
        assert!(ArgCondition::new("shares", [None::<f64>]).matches(null));
        for number in [f64::NAN, f64::INFINITY] {
            assert!(!ArgCondition::new("share", number).matches(null));
            assert!(!ArgCondition::new("share", Some(number)).matches(null));
            assert!(!ArgCondition::new("shares", [number]).matches(null));
        }
        assert!(!ArgCondition::new("share", Some(())).matches(null));
    }

    #[test]
    fn integers_of_any_size_are_compared_to_the_last_digit() {
        let args = |number: &dyn std::fmt::Display| format!(r#"{{"n":{number},"list":[{{"n":{number}}}]}}"#);
        for number in [u128::MAX, u128::from(u64::MAX) + 1, u128::from(u64::MAX)] {
            assert!(ArgCondition::new("n", number).matches(&args(&number)), "{number}");
            assert!(ArgCondition::new("list.0.n", number).matches(&args(&number)), "{number}");
            assert!(ArgCondition::new("list", [BTreeMap::from([("n", number)])]).matches(&args(&number)));
            assert!(!ArgCondition::new("n", number).matches(&args(&(number - 1))), "{number}");
            assert!(!ArgCondition::new("n", number - 1).matches(&args(&number)), "{number}");
            assert!(
                !ArgCondition::new("list", [BTreeMap::from([("n", number)])]).matches(&args(&(number - 1)))
            );
        }
        assert!(ArgCondition::new("n", i128::MIN).matches(&args(&i128::MIN)));
        assert!(!ArgCondition::new("n", i128::MIN + 1).matches(&args(&i128::MIN)));
        assert!(!ArgCondition::new("n", u128::MAX as f64).matches(&args(&u128::MAX)));
    }
}
