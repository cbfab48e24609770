//! Statistics: what tasks did, minute by minute, over all processes.

use std::ops::AddAssign;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::{Error, Histogram, time};

/// Counts of tasks and runs in a period. Each run that starts ends as exactly one of `succeeded`, `failed`, `retried`,
/// `snoozed`, `cancelled`, `handed_back`, `interrupted` and `lost`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct RunCounts {
    /// Tasks that were added: by adds, and by ticks of schedules. Tasks added by SQL or within a transaction of the program
    /// do not count.
    pub added: u64,
    /// Runs that started.
    pub started: u64,
    /// Runs that succeeded.
    pub succeeded: u64,
    /// Runs that failed and were the last attempt.
    pub failed: u64,
    /// Runs that failed and are retried.
    pub retried: u64,
    /// Runs that asked to run later.
    pub snoozed: u64,
    /// Runs that were cancelled.
    pub cancelled: u64,
    /// Runs that were interrupted by a shutdown, by a lease that could not be renewed, or by a doubt whether other processes
    /// still see that this one is alive. Their tasks went back to the queue.
    pub handed_back: u64,
    /// Runs that were interrupted by a shutdown, or by a lease that could not be renewed. Their tasks may not run twice.
    pub interrupted: u64,
    /// Runs that were [lost](crate::AttemptOutcome::Lost), counted by the process that recovered them: in the queue in which that
    /// process first counted a task of this name, or else in `default`.
    pub lost: u64,
    /// Runs that panicked. They also count as `failed` or `retried`.
    pub panicked: u64,
    /// Runs that exceeded their timeout. They also count as `failed` or `retried`.
    pub timed_out: u64,
    /// Tasks that a full queue refused, and ticks of schedules whose task was refused.
    pub rejected: u64,
}

impl RunCounts {
    /// The number of runs that ended, with any outcome.
    #[must_use]
    pub fn ended(&self) -> u64 {
        let ends = [
            self.succeeded,
            self.failed,
            self.retried,
            self.snoozed,
            self.cancelled,
            self.handed_back,
            self.interrupted,
            self.lost,
        ];
        ends.into_iter().fold(0, u64::saturating_add)
    }

    /// For each outcome that occurred, its name, and counts with only this outcome.
    pub(crate) fn by_outcome(&self) -> impl Iterator<Item = (&'static str, Self)> {
        macro_rules! alone {
            ($($outcome:ident)*) => {
                [$((stringify!($outcome), Self { $outcome: self.$outcome, ..Self::default() })),*]
            };
        }
        let all = alone!(succeeded failed retried snoozed cancelled handed_back interrupted lost);
        all.into_iter().filter(|(_, counts)| counts.ended() > 0)
    }
}

impl AddAssign<&Self> for RunCounts {
    fn add_assign(&mut self, other: &Self) {
        macro_rules! add {
            ($($field:ident)*) => {
                // Destructures every field, so that a new field cannot be forgotten.
                let Self { $($field),* } = other;
                $(self.$field = self.$field.saturating_add(*$field);)*
            };
        }
        add!(
            added started succeeded failed retried snoozed cancelled handed_back interrupted lost panicked timed_out
            rejected
        );
    }
}

/// What tasks did in a period: counts and durations.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RunStats {
    /// How many tasks were added, and how many runs started and ended.
    pub counts: RunCounts,
    /// How long tasks waited for their first attempt: from when they were added or became due, whichever is later.
    pub wait: Histogram,
    /// How long their bodies ran.
    pub run: Histogram,
}

impl AddAssign<&Self> for RunStats {
    fn add_assign(&mut self, other: &Self) {
        self.counts += &other.counts;
        self.wait += &other.wait;
        self.run += &other.run;
    }
}

/// One step of a series.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct StatsPoint {
    /// The start of the step.
    #[serde(with = "time::rfc3339_serde")]
    pub at: SystemTime,
    /// What tasks did during the step.
    #[serde(flatten)]
    pub stats: RunStats,
}

/// A series of points: one for each step in which something happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct StatsSeries {
    /// The task name, the queue or the outcome, as chosen by [`StatsFilter::by`]; `None` if the series is of all tasks. The
    /// name `other` stands for all names beyond the first 256 of a process. When a process counts 1,024 pairs of a name and a
    /// queue, it counts any further pair under the name `other` and the queue `other`.
    pub key: Option<String>,
    /// The points, oldest first. A step in which nothing happened has none.
    pub points: Vec<StatsPoint>,
}

impl StatsSeries {
    /// The sum of all points.
    #[must_use]
    pub fn total(&self) -> RunStats {
        self.points.iter().fold(RunStats::default(), |mut sum, point| {
            sum += &point.stats;
            sum
        })
    }
}

/// The answer of [`TaskManager::stats`](crate::TaskManager::stats).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Stats {
    /// The start of the first step.
    #[serde(with = "time::rfc3339_serde")]
    pub from: SystemTime,
    /// The end of the last step.
    #[serde(with = "time::rfc3339_serde")]
    pub to: SystemTime,
    /// The length of a step. In JSON it is in seconds.
    #[serde(with = "time::seconds")]
    pub step: Duration,
    /// The series, sorted by key. Without [`by`](StatsFilter::by) there is exactly one.
    pub series: Vec<StatsSeries>,
}

impl Stats {
    /// The start of each step, including steps without a point.
    pub fn instants(&self) -> impl Iterator<Item = SystemTime> + use<> {
        let Self { from, to, step, .. } = *self;
        std::iter::successors(Some(from), move |at| at.checked_add(step)).take_while(move |at| *at < to)
    }

    /// The sum of all series.
    #[must_use]
    pub fn total(&self) -> RunStats {
        self.series.iter().fold(RunStats::default(), |mut sum, series| {
            sum += &series.total();
            sum
        })
    }
}

/// How to group statistics into series.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum StatsBy {
    /// One series of all tasks.
    #[default]
    All,
    /// A series for each task name.
    Name,
    /// A series for each queue.
    Queue,
    /// A series for each way in which runs ended: `succeeded`, `failed`, `retried`, `snoozed`, `cancelled`,
    /// `handed_back`, `interrupted` and `lost`. It has only this count, and no durations.
    Outcome,
}

/// Which statistics [`TaskManager::stats`](crate::TaskManager::stats) reads, and how it groups them.
///
/// ```
/// use std::time::Duration;
/// use taskflow::model::{StatsBy, StatsFilter};
///
/// let filter = StatsFilter::last(Duration::from_secs(3600)).step(Duration::from_secs(300)).by(StatsBy::Queue);
/// # drop(filter);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a filter does nothing until it is passed to `stats`"]
pub struct StatsFilter {
    range: Range,
    step: Option<Duration>,
    pub(crate) name: Option<String>,
    pub(crate) queue: Option<String>,
    pub(crate) by: StatsBy,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Range {
    Last(Duration),
    Between(SystemTime, SystemTime),
}

/// A range in whole steps. All numbers are seconds since the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Steps {
    pub(crate) from: u64,
    pub(crate) to: u64,
    pub(crate) step: u64,
}

impl StatsFilter {
    /// The most steps of one answer.
    pub const MAX_POINTS: usize = 1_440;

    /// The statistics of the last `length` of time, up to now.
    pub fn last(length: Duration) -> Self {
        Self::of(Range::Last(length))
    }

    /// The statistics of the time between two instants.
    pub fn between(from: SystemTime, to: SystemTime) -> Self {
        Self::of(Range::Between(from, to))
    }

    fn of(range: Range) -> Self {
        Self { range, step: None, name: None, queue: None, by: StatsBy::All }
    }

    /// Sets the length of a step: whole minutes. Steps begin at multiples of this length since 1970, and the range is extended
    /// to whole steps. Default: a minute for up to 3 hours, 10 minutes for up to 2 days, else an hour.
    pub fn step(mut self, step: Duration) -> Self {
        self.step = Some(step);
        self
    }

    /// Only tasks of this name.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Only tasks of this queue.
    pub fn queue(mut self, queue: impl Into<String>) -> Self {
        self.queue = Some(queue.into());
        self
    }

    /// Sets how to group the statistics into series. Default: one series of all tasks.
    pub fn by(mut self, by: StatsBy) -> Self {
        self.by = by;
        self
    }

    /// The range in whole steps.
    ///
    /// # Errors
    /// [`Error::Config`] for an empty range, a step that is not a number of minutes, or too many steps.
    pub(crate) fn steps(&self, now: SystemTime) -> Result<Steps, Error> {
        const MINUTE: u64 = 60;
        let seconds =
            |at: SystemTime| at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let (from, to) = match self.range {
            Range::Last(length) => (seconds(now).saturating_sub(length.as_secs()), seconds(now)),
            Range::Between(from, to) if from >= to => {
                let message = "the statistics of a range need a `from` before its `to`";
                return Err(refuse(
                    "between",
                    format!("{} to {}", time::rfc3339(from), time::rfc3339(to)),
                    message,
                ));
            }
            Range::Between(from, to) => (seconds(from), seconds(to)),
        };
        let step = match self.step {
            None if to - from <= 180 * MINUTE => MINUTE,
            None if to - from <= 48 * 60 * MINUTE => 10 * MINUTE,
            None => 60 * MINUTE,
            Some(step) if step.subsec_nanos() == 0 && step.as_secs() > 0 && step.as_secs() % MINUTE == 0 => {
                step.as_secs()
            }
            Some(step) => {
                return Err(refuse(
                    "step",
                    format!("{step:?}"),
                    "a step is a whole number of minutes, at least one",
                ));
            }
        };
        let first = from / step;
        let last = to / step;
        if last - first >= Self::MAX_POINTS as u64 {
            let message =
                "the range has more than 1,440 steps of this length; give a longer step or a shorter range";
            return Err(refuse("step", format!("{:?}", Duration::from_secs(step)), message));
        }
        let to = last.saturating_add(1).saturating_mul(step);
        Ok(Steps { from: first * step, to, step })
    }
}

fn refuse(option: &'static str, value: String, message: &'static str) -> Error {
    Error::Config { option, value, message }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn a_range_grows_to_whole_steps() {
        let steps = |filter: StatsFilter| filter.steps(at(100_000)).unwrap();
        assert_eq!(steps(StatsFilter::last(MINUTE)), Steps { from: 99_900, to: 100_020, step: 60 });
        let filter = StatsFilter::between(at(3601), at(7199)).step(60 * MINUTE);
        assert_eq!(steps(filter), Steps { from: 3600, to: 7200, step: 3600 });
        assert_eq!(steps(StatsFilter::last(24 * 60 * MINUTE)).step, 600);
        assert_eq!(steps(StatsFilter::between(at(0), at(999_999))).step, 3600);
    }

    #[test]
    fn a_range_that_makes_no_sense_is_refused_with_the_remedy() {
        let refused = |filter: StatsFilter| filter.steps(at(10_000_000)).unwrap_err().to_string();
        assert!(refused(StatsFilter::between(at(5), at(5))).contains("before"));
        for step in [Duration::ZERO, Duration::from_secs(59), Duration::from_millis(60_500)] {
            assert!(refused(StatsFilter::last(MINUTE).step(step)).contains("whole number of minutes"));
        }
        let most = StatsFilter::last(1439 * MINUTE).step(MINUTE);
        assert_eq!(most.steps(at(10_000_000 / 60 * 60)).map(|it| (it.to - it.from) / 60).unwrap(), 1440);
        assert!(refused(StatsFilter::last(1441 * MINUTE).step(MINUTE)).contains("longer step"));
        assert!(refused(StatsFilter::last(Duration::MAX)).contains("longer step"));
        let far = SystemTime::UNIX_EPOCH - Duration::from_secs(1);
        assert!(StatsFilter::between(far, at(60)).steps(at(0)).is_ok());
    }
}
