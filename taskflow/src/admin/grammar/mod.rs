//! The words of filters: the same in the search box, in query strings, in JSON bodies and on the command line.
//!
//! | word | a task matches if |
//! |---|---|
//! | `status` | it has this status: `pending`, `running`, `success`, `failed`, `interrupted`, `cancelled`, `rejected` |
//! | `phase` | it is in this phase: `waiting`, `scheduled`, `retrying`, `running`, `overrunning`, `ended` |
//! | `name`, `queue` | it has this name; it is in this queue |
//! | `tag.plan` | its tag `plan` has this value |
//! | `arg.user_id` | its argument `user_id` has this JSON value; a text that is not JSON is a string |
//! | `error` | its error contains this text; the case of ASCII letters is ignored |
//! | `key`, `run_key`, `concurrency_key` | it has this idempotency key, run key or concurrency key |
//! | `trace` | it belongs to the trace of this id |
//! | `source` | it was added by `manager`, `request` or `schedule` |
//! | `since` | it was added within this time before now: `since:6h` |
//! | `created_after` | it was added at this instant or later: RFC 3339, a date in UTC, or a length from now such as `-6h` |
//! | `created_before` | it was added before this instant |
//! | `finished_after` | it ended at this instant or later |
//! | `finished_before` | it ended before this instant |
//! | `frozen_at` | it was added before this instant, and has not ended at it or later |
//! | `all` | `true` says that a filter without other words means every task |
//!
//! Words of one kind are alternatives (`status:failed status:rejected`, or `status:failed,rejected`); tags and arguments must
//! all match. Of several words `error`, and of several times of one kind, the last one counts. Lengths have the units `ms`,
//! `s`, `m` (or `min`), `h`, `d` and `w`.

mod filter;
mod search;
mod times;
mod words;

pub use filter::{filter, filter_of_json, pairs};
pub use search::{Search, text};
pub use times::{instant, length};
pub use words::{check_word, is_word};

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::{Duration, SystemTime};

    use proptest::prelude::*;
    use serde_json::value::RawValue;

    use super::*;
    use crate::model::{TaskFilter, TaskId, TaskStatus};

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
                .idempotency_key(name.clone())
                .run_key(name.clone())
                .concurrency_key(name.clone())
                .trace("0123")
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
