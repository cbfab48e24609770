//! Records for snapshots.

use std::fmt;
use std::time::{Duration, SystemTime};

use serde::Serialize;
use serde_json::Value;

use super::tasks::TestTasks;
use crate::model::{TaskRecord, time};

/// Instants of a record that are less than this apart count as one: a timer may fire some microseconds after its time.
const SAME: Duration = Duration::from_millis(10);

/// A record without the values that differ from run to run. See [`TestTasks::redacted`].
#[derive(Clone, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Redacted(Value);

/// Indented JSON.
impl fmt::Display for Redacted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#}", self.0)
    }
}

impl fmt::Debug for Redacted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl TestTasks {
    /// The record as JSON that is the same in each run of the test, for a snapshot: `insta::assert_snapshot!(t.redacted(&record))`.
    ///
    /// An id is `[task 1]`, in the order of the adds of the test, and a process `[instance 1]`, in the order of the attempts of
    /// the task. Instants are `[time 1]`, `[time 2]` in their order. Instants less than 10 ms apart share a number, and
    /// jitter does not change the numbers. Hosts, process ids and traces are `[host]`, `[pid]` and `[trace]`. Fields that are
    /// null or empty are left out.
    ///
    /// ```standalone_crate
    /// use taskflow::testing::TestTasks;
    ///
    /// #[taskflow::task(retries = 1, delay = "1m")]
    /// async fn ping(host: String) -> Result<(), String> {
    ///     Err(format!("no route to {host}"))
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let t = TestTasks::new().start().await;
    /// let ping = t.manager().add(ping("a".into())).await?;
    /// t.drain().await;
    /// assert_eq!(
    ///     t.redacted(&t.record(&ping)).to_string(),
    ///     r#"{
    ///   "args": {
    ///     "host": "a"
    ///   },
    ///   "attempt": 1,
    ///   "attempts": [
    ///     {
    ///       "error": "no route to a",
    ///       "finished_at": "[time 1]",
    ///       "host": "[host]",
    ///       "instance": "[instance 1]",
    ///       "number": 1,
    ///       "outcome": "failed",
    ///       "pid": "[pid]",
    ///       "started_at": "[time 1]"
    ///     }
    ///   ],
    ///   "cancel_requested": false,
    ///   "created_at": "[time 1]",
    ///   "error": "no route to a",
    ///   "id": "[task 1]",
    ///   "max_attempts": 2,
    ///   "name": "ping",
    ///   "priority": 0,
    ///   "queue": "default",
    ///   "run_at": "[time 2]",
    ///   "snoozes": 0,
    ///   "source": "manager",
    ///   "started_at": "[time 1]",
    ///   "status": "pending"
    /// }"#
    /// );
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Panics
    /// If the record cannot be written as JSON, for example because its result is not JSON.
    #[must_use]
    #[track_caller]
    pub fn redacted(&self, record: &TaskRecord) -> Redacted {
        let mut json = match serde_json::to_value(record) {
            Ok(json) => json,
            Err(error) => panic!("the record of `{}` cannot be JSON: {error}", record.name),
        };
        let times = Times::of(record);
        times.replace(&mut json);
        replace(&mut json, "trace", "[trace]");
        for attempt in json.get_mut("attempts").and_then(Value::as_array_mut).into_iter().flatten() {
            times.replace(attempt);
            replace(attempt, "host", "[host]");
            replace(attempt, "pid", "[pid]");
        }
        name_ids(&mut json, &self.names(record));
        leave_out_nothing(&mut json);
        Redacted(json)
    }

    /// The ids that the test knows, each with its placeholder.
    fn names(&self, record: &TaskRecord) -> Vec<(String, String)> {
        let tasks = self.records().into_iter().map(|record| record.id.to_string());
        let tasks = unique(tasks.chain([record.id.to_string()]));
        let instances = unique(record.attempts.iter().map(|attempt| attempt.instance.to_string()));
        let named = |(kind, ids): (&'static str, Vec<String>)| {
            ids.into_iter().zip(1..).map(move |(id, number)| (id, format!("[{kind} {number}]")))
        };
        [("task", tasks), ("instance", instances)].into_iter().flat_map(named).collect()
    }
}

fn unique(all: impl Iterator<Item = String>) -> Vec<String> {
    let mut found = Vec::new();
    for one in all {
        if !found.contains(&one) {
            found.push(one);
        }
    }
    found
}

/// Replaces the value of a field that has one.
fn replace(json: &mut Value, field: &str, with: &str) {
    if let Some(value) = json.get_mut(field).filter(|value| !value.is_null()) {
        *value = with.into();
    }
}

/// Replaces ids in all texts, also in arguments, keys and errors.
fn name_ids(json: &mut Value, names: &[(String, String)]) {
    match json {
        Value::String(text) => {
            for (id, name) in names.iter().filter(|(id, _)| text.contains(id)).collect::<Vec<_>>() {
                *text = text.replace(id, name);
            }
        }
        Value::Array(all) => all.iter_mut().for_each(|one| name_ids(one, names)),
        Value::Object(fields) => fields.values_mut().for_each(|one| name_ids(one, names)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Removes the null and empty fields of the record and of its attempts, but none inside arguments and results.
fn leave_out_nothing(json: &mut Value) {
    let Value::Object(fields) = json else { return };
    fields.retain(|_, value| match value {
        Value::Null => false,
        Value::Array(all) => !all.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
        _ => true,
    });
    for attempt in fields.get_mut("attempts").and_then(Value::as_array_mut).into_iter().flatten() {
        leave_out_nothing(attempt);
    }
}

/// The instants of a record, in their order.
struct Times(Vec<SystemTime>);

impl Times {
    fn of(record: &TaskRecord) -> Self {
        let TaskRecord { created_at, run_at, scheduled_for, expires_at, started_at, finished_at, .. } =
            record;
        let own = [Some(*created_at), Some(*run_at), *scheduled_for, *expires_at, *started_at, *finished_at];
        let attempts = record.attempts.iter().flat_map(|it| [Some(it.started_at), it.finished_at]);
        // The JSON has microseconds.
        let in_micros = |at| time::from_micros(time::to_micros(at));
        let mut times: Vec<_> = own.into_iter().chain(attempts).flatten().map(in_micros).collect();
        times.sort_unstable();
        times.dedup_by(|later, earlier| later.duration_since(*earlier).is_ok_and(|apart| apart < SAME));
        Self(times)
    }

    fn replace(&self, json: &mut Value) {
        const FIELDS: [&str; 6] =
            ["created_at", "run_at", "scheduled_for", "expires_at", "started_at", "finished_at"];
        for field in FIELDS {
            if let Some(at) = json.get(field).and_then(Value::as_str).and_then(time::parse) {
                replace(json, field, &self.name(at));
            }
        }
    }

    fn name(&self, at: SystemTime) -> String {
        format!("[time {}]", self.0.iter().filter(|time| **time <= at).count())
    }
}
