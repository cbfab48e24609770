//! Retry policies: how often and when a task is retried.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::de::IgnoredAny;
use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};

use super::{AddError, limits};

/// The retry policy of a task. It is fixed at the add and stored with the task, so that any process can apply it, even one
/// that does not know the task.
///
/// A store keeps only the fields that differ from [`DEFAULT`](Self::DEFAULT), as a JSON object, because it keeps a policy with
/// every task. Reading anything else, or a value outside its limits, is an error: a task must never run under another policy.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(try_from = "Stored")]
#[non_exhaustive]
pub struct RetryPolicy {
    /// Attempts after the first.
    pub retries: u32,
    /// The delay before the second attempt: at most a century, and at most `max_delay`.
    pub delay: Duration,
    /// The factor from one delay to the next: 1 to 1000. With 1 the delay is constant.
    pub backoff: f64,
    /// The longest delay before jitter: at most a century, or [`Duration::MAX`] for no limit.
    pub max_delay: Duration,
    /// The share by which each delay is randomly longer or shorter: 0 to 1.
    pub jitter: f64,
    /// The most time that one attempt may take: 1 ms to a century. `None` and [`Duration::MAX`] are no limit.
    pub timeout: Option<Duration>,
    /// Whether the task runs again after an interrupted run (a crash, a shutdown, a lost lease), even if no attempts are left.
    pub requeue_on_interrupt: bool,
    /// The number of snoozes that do not count as an attempt. One more snooze is a failed attempt.
    pub max_snoozes: u32,
    /// After this many lost runs in a row the task fails as poison: it probably kills its processes. At least 1.
    pub max_lost_runs: u32,
}

impl RetryPolicy {
    /// The default: no retries. For tasks that set `retries`: a delay of 1 s, doubled each time up to 1 h, with 10 % jitter.
    pub const DEFAULT: Self = Self {
        retries: 0,
        delay: Duration::from_secs(1),
        backoff: 2.0,
        max_delay: Duration::from_secs(3600),
        jitter: 0.1,
        timeout: None,
        requeue_on_interrupt: false,
        max_snoozes: 100,
        max_lost_runs: 3,
    };

    /// Checks that every number is within its limits.
    pub(crate) fn check(&self) -> Result<(), AddError> {
        limits::length(self.delay).map_err(|refused| refused.in_add("delay", &self.delay))?;
        limits::length_or_ever(self.max_delay)
            .map_err(|refused| refused.in_add("max_delay", &self.max_delay))?;
        limits::backoff(self.backoff).map_err(|refused| refused.in_add("backoff", &self.backoff))?;
        limits::jitter(self.jitter).map_err(|refused| refused.in_add("jitter", &self.jitter))?;
        if self.delay > self.max_delay {
            let message = format!(
                "it is {:?}, which is longer than `max_delay`, {:?}; give a longer `max_delay`",
                self.delay, self.max_delay
            );
            return Err(AddError::Option { option: "delay", message });
        }
        if let Some(timeout) = self.timeout {
            let refuse = |refused: limits::Refused| refused.in_add("timeout", &timeout);
            limits::length_or_ever(timeout).map_err(refuse)?;
            if timeout < limits::TIMEOUT_MIN {
                return Err(refuse(limits::Refused::Invalid("the shortest timeout is 1 ms")));
            }
        }
        if self.max_lost_runs < limits::LOST_RUNS_MIN {
            let refused = limits::Refused::Invalid("the least is 1");
            return Err(refused.in_add("max_lost_runs", &self.max_lost_runs));
        }
        Ok(())
    }

    /// The number of attempts in total: `retries + 1`.
    #[must_use]
    pub fn max_attempts(&self) -> u32 {
        self.retries.saturating_add(1)
    }

    /// Whether attempt number `attempt` may be claimed before a slot is free for it (prefetched).
    ///
    /// If the process dies before a prefetched attempt begins, the recovery rule must make the task pending again. So the task
    /// must have `requeue_on_interrupt` or attempts left, and a single lost run must not make it poison. A task is also not
    /// prefetched if its last run was lost, so that only a run that began can make it poison.
    #[must_use]
    pub fn may_prefetch(&self, attempt: u32, max_attempts: u32, lost_runs: u32) -> bool {
        lost_runs == 0 && self.max_lost_runs > 1 && (self.requeue_on_interrupt || attempt < max_attempts)
    }

    /// The delay after attempt number `attempt` (1 is the first) failed, without jitter:
    /// `min(max_delay, delay · backoff^(attempt-1))`.
    #[must_use]
    pub fn back_off(&self, attempt: u32) -> Duration {
        let exponent = i32::try_from(attempt.saturating_sub(1)).unwrap_or(i32::MAX);
        let seconds = self.delay.as_secs_f64() * self.backoff.powi(exponent);
        // An overflow gives infinity, and 0 times infinity gives NaN. Neither is a valid duration.
        if seconds.is_nan() {
            return self.delay.min(self.max_delay);
        }
        Duration::try_from_secs_f64(seconds).map_or(self.max_delay, |length| length.min(self.max_delay))
    }

    /// The delay of [`back_off`](Self::back_off) with jitter. `chance` from 0 to 1 selects the jitter: 0 gives the shortest
    /// delay, 1 the longest. The result is at most a century.
    #[must_use]
    pub fn back_off_with(&self, attempt: u32, chance: f64) -> Duration {
        let factor = 1.0 + self.jitter * (2.0 * chance - 1.0);
        Duration::try_from_secs_f64(self.back_off(attempt).as_secs_f64() * factor.max(0.0))
            .unwrap_or(self.max_delay)
            .min(limits::LENGTH)
    }
}

impl Serialize for RetryPolicy {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_map(None)?;
        macro_rules! unless_default {
            ($($field:ident)*) => {
                // Destructures every field, so that a new field cannot be forgotten.
                let Self { $($field),* } = self;
                $(if *$field != Self::DEFAULT.$field {
                    object.serialize_entry(stringify!($field), $field)?;
                })*
            };
        }
        unless_default!(
            retries delay backoff max_delay jitter timeout requeue_on_interrupt max_snoozes max_lost_runs
        );
        object.end()
    }
}

/// A policy as it is stored, before its limits are checked.
#[derive(Deserialize)]
#[serde(default)]
struct Stored {
    retries: u32,
    delay: Duration,
    backoff: f64,
    max_delay: Duration,
    jitter: f64,
    timeout: Option<Duration>,
    requeue_on_interrupt: bool,
    max_snoozes: u32,
    max_lost_runs: u32,
    /// Fields of a later version, which are ignored. A flattened map also makes serde accept objects only, not arrays.
    #[serde(flatten)]
    _others: BTreeMap<String, IgnoredAny>,
}

impl Default for Stored {
    fn default() -> Self {
        let RetryPolicy {
            retries,
            delay,
            backoff,
            max_delay,
            jitter,
            timeout,
            requeue_on_interrupt,
            max_snoozes,
            max_lost_runs,
        } = RetryPolicy::DEFAULT;
        Self {
            retries,
            delay,
            backoff,
            max_delay,
            jitter,
            timeout,
            requeue_on_interrupt,
            max_snoozes,
            max_lost_runs,
            _others: BTreeMap::new(),
        }
    }
}

impl TryFrom<Stored> for RetryPolicy {
    type Error = AddError;

    fn try_from(stored: Stored) -> Result<Self, AddError> {
        let policy = Self {
            retries: stored.retries,
            delay: stored.delay,
            backoff: stored.backoff,
            max_delay: stored.max_delay,
            jitter: stored.jitter,
            timeout: stored.timeout,
            requeue_on_interrupt: stored.requeue_on_interrupt,
            max_snoozes: stored.max_snoozes,
            max_lost_runs: stored.max_lost_runs,
        };
        policy.check()?;
        Ok(policy)
    }
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self::DEFAULT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> RetryPolicy {
        RetryPolicy { retries: 5, max_delay: Duration::from_secs(10), ..RetryPolicy::DEFAULT }
    }

    #[test]
    fn delays_double_up_to_the_limit() {
        let seconds: Vec<u64> = (1..=6).map(|attempt| policy().back_off(attempt).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 10, 10]);
    }

    #[test]
    fn no_attempt_number_or_factor_overflows() {
        for backoff in [0.0, 1.0, 1e300, f64::INFINITY, f64::NAN] {
            for attempt in [0, 1, 2, 1000, u32::MAX] {
                let policy = RetryPolicy { backoff, ..policy() };
                assert!(policy.back_off_with(attempt, 1.0) <= policy.max_delay.mul_f64(1.2));
            }
        }
    }

    #[test]
    fn a_stored_policy_round_trips_and_an_invalid_one_is_refused() {
        let timeout = Some(Duration::MAX);
        let policy = RetryPolicy { retries: 7, backoff: 1.5, timeout, max_delay: Duration::MAX, ..policy() };
        let json = serde_json::to_string(&policy).unwrap();
        assert_eq!(serde_json::from_str::<RetryPolicy>(&json).unwrap(), policy);
        let usual = RetryPolicy { retries: 1, ..RetryPolicy::DEFAULT };
        assert_eq!(serde_json::to_string(&usual).unwrap(), r#"{"retries":1}"#);
        // A policy written by the SQL function, with a field of a later version.
        let some: RetryPolicy = serde_json::from_str(r#"{"retries":2,"later":[1]}"#).unwrap();
        assert_eq!(some, RetryPolicy { retries: 2, ..RetryPolicy::DEFAULT });
        for junk in [
            "",
            "null",
            "[]",
            "3",
            r#"{"retries":-1}"#,
            r#"{"retries":null}"#,
            r#"{"jitter":null}"#,
            r#"{"jitter":2}"#,
            r#"{"backoff":1e999}"#,
            r#"{"backoff":0.5}"#,
            r#"{"delay":{"secs":1}}"#,
            r#"{"delay":{"secs":18446744073709551615,"nanos":0}}"#,
            r#"{"max_lost_runs":0}"#,
        ] {
            assert!(serde_json::from_str::<RetryPolicy>(junk).is_err(), "{junk}");
        }
    }

    #[test]
    fn jitter_changes_a_delay_by_at_most_its_share() {
        assert_eq!(policy().back_off_with(1, 0.0), Duration::from_millis(900));
        assert_eq!(policy().back_off_with(1, 1.0), Duration::from_millis(1100));
    }
}
