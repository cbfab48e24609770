//! Finds what a person should look at, for the dashboard's overview, `taskflow status` and `taskflow top`.

use std::time::{Duration, SystemTime};

use super::words::{Words, between, counted, first_line, number};
use super::{Actor, AdminError, Console, FailureGroup, Failures};
use crate::model::{
    Counts, Health, InstanceInfo, QueueInfo, ScheduleInfo, TaskFilter, TaskId, TaskInfo, TaskPhase,
    TaskRecord, TaskStatus,
};

/// A schedule that is this late is reported, and a queue whose oldest due task has waited this long (or `max_wait`, if that is
/// less).
const LATE: Duration = Duration::from_secs(60);

/// Failures of this last hour need attention.
pub(crate) const LATELY: Duration = Duration::from_secs(3600);

/// How many groups of failures are reported one by one.
const GROUPS: usize = 4;

/// How many runs that are past their timeout are reported.
const OVERRUNNING: usize = 3;

/// How long the message of a failure may be, in bytes.
const MESSAGE: usize = 200;

/// The state of a store, as read for [`Console::attention`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Situation {
    /// When it was read.
    pub now: SystemTime,
    /// The number of tasks in each status, in all queues.
    pub counts: Counts,
    /// The queues that the actor may see.
    pub queues: Vec<QueueInfo>,
    /// The processes.
    pub instances: Vec<InstanceInfo>,
    /// The schedules that the actor may see.
    pub schedules: Vec<ScheduleInfo>,
    /// The tasks that live processes know, as far as the actor may see them.
    pub types: Vec<TaskInfo>,
    /// The health of the process that read it.
    pub health: Health,
}

/// Something that a person should look at.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Attention {
    /// What it is.
    pub matter: Matter,
    /// Whether tasks do not run, are refused, or are not added in time. Then `taskflow status --check` fails. A paused queue does
    /// not count.
    pub is_unhealthy: bool,
    /// By its kind: the last failure, the tick that is late, the start of the overrunning run, or when the store was read.
    pub at: Option<SystemTime>,
}

/// What needs attention.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Matter {
    /// There are tasks that have not ended, and no process runs any.
    NoWorker {
        /// How many tasks have not ended.
        waiting: u64,
    },
    /// A queue has pending tasks, due or not, and no process runs the queue.
    Unserved {
        /// The queue.
        queue: String,
        /// How many of its tasks are pending.
        waiting: u64,
    },
    /// A queue with pending tasks is paused.
    Paused {
        /// The queue.
        queue: String,
        /// How many of its tasks are pending.
        waiting: u64,
    },
    /// A queue [is full](QueueInfo::is_full).
    Full {
        /// The queue.
        queue: String,
        /// How many of its tasks are due.
        waiting: u64,
    },
    /// A task of a queue has been due for long.
    Slow {
        /// The queue.
        queue: String,
        /// How long.
        oldest: Duration,
        /// How many of its tasks run, and how many may run over all processes, if that is known.
        busy: Option<(u64, u64)>,
    },
    /// A schedule has not ticked in time. An actor that is narrowed to some queues is not told.
    Late {
        /// The schedule.
        schedule: String,
        /// When it should have ticked.
        due: SystemTime,
    },
    /// Tasks have ended badly in the last hour.
    Failing {
        /// Their group.
        group: Box<FailureGroup>,
    },
    /// There are more groups of tasks that ended badly in the last hour than are reported one by one.
    FailingToo {
        /// How many.
        groups: u64,
    },
    /// A run is past its timeout.
    Overrunning {
        /// The task.
        id: TaskId,
        /// Its name.
        name: String,
        /// By how much.
        over: Duration,
    },
    /// Several versions of taskflow run side by side.
    Versions {
        /// The versions.
        versions: Vec<String>,
    },
    /// Processes know different options of the same tasks.
    Differs {
        /// The first of these tasks.
        task: String,
        /// How many others there are.
        others: u64,
    },
    /// The process that read the store has lost leases since it started. Those that other processes lost are not shown.
    LostLeases {
        /// How many.
        leases: u64,
    },
    /// A part of taskflow has panicked in the process that read the store.
    Panicked {
        /// How often.
        panics: u64,
        /// The last message.
        message: String,
    },
}

impl Matter {
    /// The two parts of a sentence about it: the subject, and the rest.
    #[must_use]
    pub fn sentence(&self, words: Words, now: SystemTime) -> (String, String) {
        let wait = |n: &u64| format!("{} {}", counted(*n, "task"), if *n == 1 { "waits" } else { "wait" });
        let queue = |name: &String| format!("queue {name}");
        match self {
            Self::NoWorker { waiting } => {
                ("no process runs tasks".to_owned(), format!("; {}", wait(waiting)))
            }
            Self::Unserved { queue: name, waiting } => {
                (queue(name), format!(": no process runs it; {}", wait(waiting)))
            }
            Self::Paused { queue: name, waiting } => (queue(name), format!(" is paused; {}", wait(waiting))),
            Self::Full { queue: name, waiting } => {
                (queue(name), format!(" is full or nearly so, and adds may be refused; {}", wait(waiting)))
            }
            Self::Slow { queue: name, oldest, busy } => {
                let busy = busy
                    .map(|(running, limit)| format!("; {} of {} slots busy", number(running), number(limit)));
                let waited = words.length(*oldest);
                (queue(name), format!(": the oldest task has waited {waited}{}", busy.unwrap_or_default()))
            }
            Self::Late { schedule, due } => {
                (format!("schedule {schedule}"), format!(" should have ticked {}", words.ago(*due, now)))
            }
            Self::Failing { group } => {
                let message = first_line(&group.message);
                let message = &message[..message.floor_char_boundary(MESSAGE)];
                let message = if message.is_empty() { String::new() } else { format!(": {message}") };
                let (count, status) = (number(group.count), group.status);
                (group.name.clone(), format!(": {count} {status} in the last hour{message}"))
            }
            Self::FailingToo { groups } => {
                (counted(*groups, "more group"), " of failures in the last hour".to_owned())
            }
            Self::Overrunning { name, over, .. } => {
                let over = words.length(*over);
                (name.clone(), format!(": a run is {over} past its timeout and has not stopped"))
            }
            Self::Versions { versions } => (
                counted(versions.len() as u64, "version"),
                format!(" of taskflow run side by side: {}", versions.join(", ")),
            ),
            Self::Differs { task, others } => {
                let others = match others {
                    0 => String::new(),
                    n => format!(" and {}", counted(*n, "more type")),
                };
                (task.clone(), format!("{others}: the processes disagree about the options"))
            }
            Self::LostLeases { leases } => (
                counted(*leases, "lease"),
                " lost by this process: it stood still, the store was away, or other processes could not see that it was alive"
                    .to_owned(),
            ),
            Self::Panicked { panics, message } => (counted(*panics, "engine panic"), format!(": {message}")),
        }
    }
}

impl Console {
    /// Reads the state of the store as this actor may see it.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn situation(&self, actor: &Actor) -> Result<Situation, AdminError> {
        let tasks = self.tasks();
        let mut queues = tasks.queues().await?;
        queues.retain(|queue| actor.sees_queue(&queue.name));
        Ok(Situation {
            now: self.now(),
            counts: tasks.counts().await?,
            queues,
            instances: self.instances(actor).await?,
            schedules: self.schedules(actor).await?,
            types: self.types(actor).await?,
            health: tasks.health(),
        })
    }

    /// Returns what a person should look at; first what keeps tasks from running. A task that has been due for longer than
    /// `max_wait` counts as kept from running.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn attention(
        &self,
        actor: &Actor,
        situation: &Situation,
        max_wait: Duration,
    ) -> Result<Vec<Attention>, AdminError> {
        let since = situation.now.checked_sub(LATELY).unwrap_or(SystemTime::UNIX_EPOCH);
        let failures = self.failures(actor, TaskFilter::new().finished_after(since), LATELY).await?;
        let overrunning = self.overrunning(actor).await?;
        Ok(find(actor, situation, &failures, &overrunning, max_wait))
    }

    /// Up to three runs that are past their timeout.
    pub(crate) async fn overrunning(&self, actor: &Actor) -> Result<Vec<TaskRecord>, AdminError> {
        let filter = TaskFilter::new().status(TaskStatus::Running).phase(TaskPhase::Overrunning);
        Ok(self.tasks().list_outlines(&actor.narrow(filter).limit(OVERRUNNING)).await?.items)
    }
}

/// Finds what needs attention in what has been read.
pub(crate) fn find(
    actor: &Actor,
    situation: &Situation,
    failures: &Failures,
    overrunning: &[TaskRecord],
    max_wait: Duration,
) -> Vec<Attention> {
    let now = situation.now;
    let mut found = Vec::new();
    let mut push = |is_unhealthy, at, matter| found.push(Attention { matter, is_unhealthy, at });
    let runners: Vec<_> = situation.instances.iter().filter(|it| it.runs).collect();
    let waiting = situation.counts.unfinished();
    let nobody_runs = runners.is_empty() && waiting > 0 && actor.sees_all_queues();
    if nobody_runs {
        push(true, Some(now), Matter::NoWorker { waiting });
    }
    for queue in &situation.queues {
        match of_queue(queue, max_wait) {
            // `NoWorker` says that already.
            Some((_, Matter::Unserved { .. })) if nobody_runs => {}
            Some((is_unhealthy, matter)) => push(is_unhealthy, Some(now), matter),
            None => {}
        }
    }
    for schedule in situation.schedules.iter().filter(|it| !it.paused && actor.sees_all_queues()) {
        if let Some(due) = schedule.next_run.filter(|due| between(*due, now) >= LATE) {
            push(true, Some(due), Matter::Late { schedule: schedule.name.clone(), due });
        }
    }
    for group in failures.groups.iter().take(GROUPS) {
        push(false, Some(group.last), Matter::Failing { group: Box::new(group.clone()) });
    }
    if failures.groups.len() > GROUPS {
        push(false, None, Matter::FailingToo { groups: (failures.groups.len() - GROUPS) as u64 });
    }
    for record in overrunning {
        let end = record.started_at.zip(record.timeout).and_then(|(at, timeout)| at.checked_add(timeout));
        let over = end.map(|end| between(end, now)).unwrap_or_default();
        let (id, name) = (record.id, record.name.clone());
        push(false, record.started_at, Matter::Overrunning { id, name, over });
    }
    let mut versions: Vec<_> = runners.iter().map(|it| it.version.clone()).collect();
    versions.sort_unstable();
    versions.dedup();
    if versions.len() > 1 {
        push(false, None, Matter::Versions { versions });
    }
    let mut differing = situation.types.iter().filter(|it| it.differs);
    if let Some(first) = differing.next() {
        push(false, None, Matter::Differs { task: first.name.clone(), others: differing.count() as u64 });
    }
    let health = &situation.health;
    if health.lost_leases > 0 {
        push(false, None, Matter::LostLeases { leases: health.lost_leases });
    }
    if health.engine_restarts > 0 {
        let message = health.last_engine_panic.clone().unwrap_or_default();
        push(false, None, Matter::Panicked { panics: health.engine_restarts, message });
    }
    found.sort_by_key(|it| !it.is_unhealthy);
    found
}

/// What is wrong with a queue, and whether that counts as keeping its tasks from running. A pause does not: somebody wants it.
fn of_queue(queue: &QueueInfo, max_wait: Duration) -> Option<(bool, Matter)> {
    let name = || queue.name.clone();
    if queue.paused {
        return (queue.pending > 0)
            .then(|| (false, Matter::Paused { queue: name(), waiting: queue.pending }));
    }
    if queue.served_by == 0 && queue.pending > 0 {
        return Some((true, Matter::Unserved { queue: name(), waiting: queue.pending }));
    }
    if queue.is_full() {
        return Some((true, Matter::Full { queue: name(), waiting: queue.waiting() }));
    }
    let oldest = queue.oldest_waiting.filter(|oldest| *oldest >= LATE.min(max_wait))?;
    let busy = limit(queue).map(|limit| (queue.running, limit as u64));
    Some((oldest > max_wait, Matter::Slow { queue: name(), oldest, busy }))
}

/// How many tasks of the queue may run at once over all processes, if that is known.
pub(crate) fn limit(queue: &QueueInfo) -> Option<usize> {
    let each = queue.concurrency.filter(|_| queue.served_by > 0);
    let together = each.map(|each| each.saturating_mul(queue.served_by));
    [queue.global_concurrency, together].into_iter().flatten().min()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::Role;

    fn queue(change: impl FnOnce(&mut QueueInfo)) -> QueueInfo {
        let mut queue = QueueInfo::new("mail".to_owned());
        queue.served_by = 1;
        change(&mut queue);
        queue
    }

    #[test]
    fn a_queue_is_told_by_what_is_worst() {
        let told = |change: fn(&mut QueueInfo)| {
            let (is_unhealthy, matter) = of_queue(&queue(change), Duration::from_secs(300))?;
            let (subject, text) = matter.sentence(Words::TERMINAL, SystemTime::UNIX_EPOCH);
            Some((is_unhealthy, format!("{subject}{text}")))
        };
        let says = |is_unhealthy, text: &str| Some((is_unhealthy, text.to_owned()));
        assert_eq!(told(|_| ()), None);
        assert_eq!(told(|it| it.paused = true), None, "nobody waits for it");
        let paused = told(|it| (it.paused, it.pending, it.served_by) = (true, 1, 0));
        assert_eq!(paused, says(false, "queue mail is paused; 1 task waits"));
        let unserved = told(|it| (it.pending, it.served_by) = (2, 0));
        assert_eq!(unserved, says(true, "queue mail: no process runs it; 2 tasks wait"));
        let old = told(|it| it.oldest_waiting = Some(Duration::from_secs(112)));
        assert_eq!(old, says(false, "queue mail: the oldest task has waited 1m52s"));
        let older = told(|it| {
            it.oldest_waiting = Some(Duration::from_secs(301));
            (it.global_concurrency, it.running) = (Some(4), 3);
        });
        assert_eq!(older, says(true, "queue mail: the oldest task has waited 5m1s; 3 of 4 slots busy"));
        assert_eq!(told(|it| it.oldest_waiting = Some(Duration::from_secs(59))), None);
    }

    #[test]
    fn that_nobody_runs_tasks_is_told_once_and_to_an_actor_of_some_queues_by_queue() {
        let situation = Situation {
            now: SystemTime::UNIX_EPOCH,
            counts: Counts { pending: 1, ..Counts::default() },
            queues: vec![queue(|it| (it.pending, it.served_by) = (1, 0))],
            instances: Vec::new(),
            schedules: Vec::new(),
            types: Vec::new(),
            health: Health::default(),
        };
        let told = |actor: &Actor| find(actor, &situation, &Failures::default(), &[], LATE).len();
        assert_eq!(told(&Actor::new("ada", Role::Admin)), 1, "and not again for the queue");
        let narrow = Actor::new("bob", Role::Admin).only_queues(["mail"]);
        let [only] = &find(&narrow, &situation, &Failures::default(), &[], LATE)[..] else { panic!("one") };
        assert!(matches!(only.matter, Matter::Unserved { .. }), "{only:?}");
    }
}
