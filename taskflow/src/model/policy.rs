//! How often and when a task may be tried again.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::de::IgnoredAny;
use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};

use super::{AddError, limits};

/// What a task said about being tried again. It is taken at the add and stored with the task, so that any process can
/// apply it, even one that does not know the task.
///
/// A store keeps it as a JSON object of the fields that differ from [`DEFAULT`](Self::DEFAULT), since every task carries
/// one. What is no such object, or breaks a limit, is an error when it is read: another policy must not stand in its place.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(try_from = "Stored")]
#[non_exhaustive]
pub struct RetryPolicy {
    /// Attempts after the first.
    pub retries: u32,
    /// Before the second attempt.
    pub delay: Duration,
    /// Each further delay is this many times the one before.
    pub backoff: f64,
    /// No delay is longer.
    pub max_delay: Duration,
    /// Each delay is longer or shorter by up to this share, at random.
    pub jitter: f64,
    /// How long one attempt may take.
    pub timeout: Option<Duration>,
    /// A run that a crash or a shutdown cut short may be repeated, however few attempts are left.
    pub requeue_on_interrupt: bool,
    /// So often it may ask to be run later, which is no attempt; once more is a failed one.
    pub max_snoozes: u32,
    /// So many lost runs in a row, and the task is held to be what kills its processes.
    pub max_lost_runs: u32,
}

impl RetryPolicy {
    /// No retries, and for those who ask for some: 1 s, doubled each time up to 1 h, give or take a tenth.
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

    /// Whether every number is within its limits.
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
                return Err(refuse(limits::Refused::Invalid("an attempt may take 1 ms at the least")));
            }
        }
        if self.max_lost_runs < limits::LOST_RUNS_MIN {
            let refused = limits::Refused::Invalid("one lost run is the least");
            return Err(refused.in_add("max_lost_runs", &self.max_lost_runs));
        }
        Ok(())
    }

    /// Attempts in all.
    #[must_use]
    pub fn max_attempts(&self) -> u32 {
        self.retries.saturating_add(1)
    }

    /// Whether attempt number `attempt` may be claimed before a slot is free for it. If its process dies before the attempt
    /// begins, the rule of lost runs must make the task pending again: it may be requeued, or attempts are left, and a single
    /// lost run is not yet poison. A task whose last run was lost is not prefetched
    /// either, so that only runs that began can make it poison.
    #[must_use]
    pub fn may_prefetch(&self, attempt: u32, max_attempts: u32, lost_runs: u32) -> bool {
        lost_runs == 0 && self.max_lost_runs > 1 && (self.requeue_on_interrupt || attempt < max_attempts)
    }

    /// How long to wait after attempt number `attempt` (1 is the first) failed, without jitter:
    /// `min(max_delay, delay · backoff^(attempt-1))`.
    #[must_use]
    pub fn back_off(&self, attempt: u32) -> Duration {
        let exponent = i32::try_from(attempt.saturating_sub(1)).unwrap_or(i32::MAX);
        let seconds = self.delay.as_secs_f64() * self.backoff.powi(exponent);
        // A product that overflows is infinite, and one of 0 and infinity is NaN: neither is a length.
        if seconds.is_nan() {
            return self.delay.min(self.max_delay);
        }
        Duration::try_from_secs_f64(seconds).map_or(self.max_delay, |length| length.min(self.max_delay))
    }

    /// [`back_off`](Self::back_off) with `chance`, from 0 to 1, taken for the jitter: 0 is the shortest, 1 the longest. A
    /// century at most.
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
                // Names every field, so that none can be forgotten.
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

/// A policy as it stands in a store, before its limits are checked.
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
    /// Of a later version. With it, serde reads objects only, and no arrays.
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
    fn a_stored_policy_is_read_as_it_was_or_not_at_all() {
        let timeout = Some(Duration::MAX);
        let policy = RetryPolicy { retries: 7, backoff: 1.5, timeout, max_delay: Duration::MAX, ..policy() };
        let json = serde_json::to_string(&policy).unwrap();
        assert_eq!(serde_json::from_str::<RetryPolicy>(&json).unwrap(), policy);
        let usual = RetryPolicy { retries: 1, ..RetryPolicy::DEFAULT };
        assert_eq!(serde_json::to_string(&usual).unwrap(), r#"{"retries":1}"#);
        // From the SQL function, and from a later version.
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
    fn jitter_moves_a_delay_by_its_share_at_most() {
        assert_eq!(policy().back_off_with(1, 0.0), Duration::from_millis(900));
        assert_eq!(policy().back_off_with(1, 1.0), Duration::from_millis(1100));
    }
}
