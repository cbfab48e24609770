//! What a person should look at.

use std::time::{Duration, SystemTime};

use taskflow::model::{TaskInfo, TaskPhase};
use taskflow::{Counts, InstanceInfo, QueueInfo, ScheduleInfo, TaskFilter, TaskStatus};

use crate::cli::failure::Result;
use crate::cli::output::words::{ago, between, counted, first_line, length, number};
use crate::cli::session::Session;

/// How late a schedule may be.
const LATE: Duration = Duration::from_secs(60);

/// The time in which failures need attention.
const LATELY: Duration = Duration::from_secs(3600);

/// How many groups of failures are told.
const GROUPS: usize = 4;

/// Something that a person should look at.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub(in crate::cli) struct Attention {
    /// Whether `status --check` fails.
    pub(in crate::cli) unhealthy: bool,
    pub(in crate::cli) message: String,
    /// The command that shows more, or mends it.
    pub(in crate::cli) command: String,
}

/// What has been read of the store.
#[derive(Clone, Debug)]
pub(in crate::cli) struct Seen {
    pub(in crate::cli) now: SystemTime,
    pub(in crate::cli) counts: Counts,
    pub(in crate::cli) queues: Vec<QueueInfo>,
    pub(in crate::cli) instances: Vec<InstanceInfo>,
    pub(in crate::cli) schedules: Vec<ScheduleInfo>,
    pub(in crate::cli) types: Vec<TaskInfo>,
}

impl Seen {
    pub(in crate::cli) async fn read(session: &Session) -> Result<Self> {
        let tasks = session.tasks();
        Ok(Self {
            now: SystemTime::now(),
            counts: tasks.counts().await?,
            queues: tasks.queues().await?,
            instances: tasks.instances().await?,
            schedules: tasks.schedules().await?,
            types: tasks.tasks().await?,
        })
    }
}

/// Everything that needs attention. A task that has been due for longer than `max_wait` makes its queue unhealthy.
pub(in crate::cli) async fn attention(
    session: &Session,
    seen: &Seen,
    max_wait: Duration,
) -> Result<Vec<Attention>> {
    let mut found = Vec::new();
    of_processes(seen, &mut found);
    for queue in &seen.queues {
        of_queue(queue, max_wait, &mut found);
    }
    for schedule in seen.schedules.iter().filter(|schedule| !schedule.paused) {
        if let Some(next) = schedule.next_run.filter(|next| between(*next, seen.now) >= LATE) {
            let message = format!("schedule {} should have ticked {}", schedule.name, ago(next, seen.now));
            push(&mut found, true, message, &["schedules", &schedule.name]);
        }
    }
    overrunning(session, seen, &mut found).await?;
    failing(session, seen, &mut found).await?;
    Ok(found)
}

fn push(found: &mut Vec<Attention>, unhealthy: bool, message: String, command: &[&str]) {
    let command = command.iter().map(|word| shell(word)).collect::<Vec<_>>().join(" ");
    found.push(Attention { unhealthy, message, command: format!("taskflow {command}") });
}

/// A word as a shell reads it.
pub(in crate::cli) fn shell(word: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "-_./:,=@+%".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

fn of_processes(seen: &Seen, found: &mut Vec<Attention>) {
    let runners: Vec<_> = seen.instances.iter().filter(|it| it.runs).collect();
    if runners.is_empty() && seen.counts.unfinished() > 0 {
        let waits = counted(seen.counts.unfinished(), "task");
        push(found, true, format!("no process runs tasks; {waits} wait"), &["workers"]);
    }
    let mut versions: Vec<_> = runners.iter().map(|it| it.version.as_str()).collect();
    versions.sort_unstable();
    versions.dedup();
    if versions.len() > 1 {
        let message =
            format!("{} versions of taskflow run side by side: {}", versions.len(), versions.join(", "));
        push(found, false, message, &["workers"]);
    }
    for task in seen.types.iter().filter(|task| task.differs) {
        push(
            found,
            false,
            format!("the processes disagree about the task {}", task.name),
            &["types", &task.name],
        );
    }
}

fn of_queue(queue: &QueueInfo, max_wait: Duration, found: &mut Vec<Attention>) {
    let name = &queue.name;
    let waiting = counted(queue.waiting(), "task");
    if queue.paused {
        if queue.pending > 0 {
            let message = format!("queue {name} is paused; {} wait", counted(queue.pending, "task"));
            push(found, false, message, &["queues", "resume", name]);
        }
        return;
    }
    if queue.served_by == 0 && queue.pending > 0 {
        let message = format!("queue {name}: no process runs it; {} wait", counted(queue.pending, "task"));
        push(found, true, message, &["workers"]);
        return;
    }
    if queue.is_full() {
        push(
            found,
            true,
            format!("queue {name} is full and refuses tasks; {waiting} wait"),
            &["queues", name],
        );
    }
    if let Some(oldest) = queue.oldest_waiting.filter(|oldest| oldest.as_secs() >= 60) {
        let busy = queue
            .global_concurrency
            .map(|limit| format!("; {} of {limit} slots busy", number(queue.running)));
        let message = format!(
            "queue {name}: the oldest task has waited {}{}",
            length(oldest),
            busy.unwrap_or_default()
        );
        push(found, oldest > max_wait, message, &["queues", name]);
    }
}

async fn overrunning(session: &Session, seen: &Seen, found: &mut Vec<Attention>) -> Result<()> {
    let filter = TaskFilter::new().status(TaskStatus::Running).phase(TaskPhase::Overrunning).limit(3);
    for record in session.tasks().list_outlines(&filter).await?.items {
        let end = record.started_at.zip(record.timeout).and_then(|(at, timeout)| at.checked_add(timeout));
        let over = end.map(|end| length(between(end, seen.now))).unwrap_or_default();
        let message = format!("a run of {} is {over} past its timeout", record.name);
        push(found, false, message, &["show", &record.id.to_string()]);
    }
    Ok(())
}

async fn failing(session: &Session, seen: &Seen, found: &mut Vec<Attention>) -> Result<()> {
    let since = seen.now.checked_sub(LATELY).unwrap_or(seen.now);
    let groups =
        session.console.failures(session.actor(), TaskFilter::new().finished_after(since), LATELY).await?;
    for group in groups.groups.iter().take(GROUPS) {
        let error = first_line(&group.message);
        let error = if error.is_empty() { String::new() } else { format!(": {error}") };
        let message =
            format!("{} {} {} in the last hour{error}", number(group.count), group.name, group.status);
        push(found, false, message, &["show", &group.sample.to_string()]);
    }
    if groups.groups.len() > GROUPS {
        let more = counted((groups.groups.len() - GROUPS) as u64, "more group");
        push(found, false, format!("{more} of failures in the last hour"), &["failures", "--since", "1h"]);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_can_be_copied_to_a_shell() {
        assert_eq!(shell("mail"), "mail");
        assert_eq!(shell("it's"), "'it'\\''s'");
        assert_eq!(shell("a b;c"), "'a b;c'");
        assert_eq!(shell(""), "''");
    }
}
