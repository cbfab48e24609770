//! What must hold at the end of each history.

use std::time::{Duration, SystemTime};

use taskflow::model::{Attempt, AttemptOutcome};
use taskflow::{TaskRecord, TaskStatus};

use crate::history::{Added, History, Kind, Known, Weather};

/// A clock that is set back by no more than this repeats no tick.
const CORRECTION: Duration = Duration::from_secs(60);

/// The oracle's verdict on a history.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) wrong: Vec<String>,
    /// What happened, with its instants. It is the same for the same seed.
    pub(crate) trace: Vec<String>,
}

pub(crate) fn judge(history: &History) -> Found {
    let records = history.t.records();
    let mut wrong = Vec::new();
    let names = ["adds", "cancels", "waiting callers"];
    for (name, number) in names.into_iter().zip(history.stuck()).filter(|(_, number)| *number > 0) {
        wrong.push(format!("{number} {name} never got an answer"));
    }
    let Weather { is_rough, leases_broken, .. } = history.weather;
    let is_lost = |it: &Attempt| matches!(it.outcome, AttemptOutcome::Lost | AttemptOutcome::Interrupted);
    if !is_rough && let Some(record) = records.iter().find(|it| it.attempts.iter().any(is_lost)) {
        wrong.push(format!("a run was lost though every process went on: {record:?}"));
    }
    if !leases_broken {
        for n in history.bodies.twice_at_once() {
            wrong.push(format!("two bodies of task {n} ran at once, and no process stood still"));
        }
        if history.bodies.most_narrow() > 1 {
            wrong.push("two tasks of a queue ran at once that allows one".to_owned());
        }
    }
    for added in &history.added {
        judge_one(added, history, &records, &mut wrong);
    }
    children(history, &records, &mut wrong);
    ticks(history, &records, &mut wrong);
    let trace = history.steps().iter().map(u32::to_string).chain(records.iter().map(told)).collect();
    Found { wrong, trace }
}

/// The tasks that running tasks have added.
fn children(history: &History, records: &[TaskRecord], wrong: &mut Vec<String>) {
    let children: Vec<_> = records.iter().filter(|it| it.name == "child").collect();
    for n in history.bodies.children() {
        let of: Vec<_> = children.iter().filter(|it| has_number(it, n)).collect();
        if of.is_empty() {
            wrong.push(format!("child {n} was accepted, and is not stored"));
        }
        if of.iter().filter(|it| it.status == TaskStatus::Success).count() > 1 {
            wrong.push(format!("the key of child {n} succeeded twice: {of:#?}"));
        }
        let attempts: usize = of.iter().map(|it| it.attempts.len()).sum();
        let runs = history.bodies.begun(n) as usize;
        if runs > attempts {
            wrong.push(format!("child {n} began {runs} times, more often than it has attempts: {of:#?}"));
        }
    }
    for child in children {
        let back = |it: &&Attempt| it.outcome != AttemptOutcome::HandedBack;
        if !child.status.is_final() || child.attempts.iter().filter(back).count() > 1 {
            wrong.push(format!("has not ended, or ran twice and may not: {child:#?}"));
        }
    }
}

/// Whether the arguments of a task have this number.
fn has_number(record: &TaskRecord, n: u32) -> bool {
    let argument = format!("\"n\":{n}");
    let args = record.args.get().trim_end_matches('}');
    args.split([',', '{']).any(|part| part == argument)
}

fn ticks(history: &History, records: &[TaskRecord], wrong: &mut Vec<String>) {
    let mut ticks: Vec<_> =
        records.iter().filter(|it| it.name == "tick").map(|it| it.scheduled_for).collect();
    let number = ticks.len();
    ticks.sort_unstable();
    ticks.dedup();
    if ticks.len() < number && history.weather.set_back <= CORRECTION {
        wrong.push(format!("{} ticks ran twice", number - ticks.len()));
    }
    // After a clock was set back, there are no ticks until it shows the earlier time again.
    let Some(since) = history.well_since.filter(|_| history.weather.jumps == 0) else { return };
    let well = history.t.now().duration_since(since).unwrap_or_default();
    let number = ticks.iter().flatten().filter(|at| **at > since).count();
    if number as u64 + 1 < well.as_secs() / 40 {
        wrong.push(format!("only {number} ticks while all was well for {well:?}"));
    }
}

/// A record for the trace, without the parts that differ from run to run.
fn told(record: &TaskRecord) -> String {
    let since = |at: SystemTime| at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_micros();
    let attempt = |it: &Attempt| {
        format!("{} {:?} {}..{:?}", it.number, it.outcome, since(it.started_at), it.finished_at.map(since))
    };
    let attempts: Vec<_> = record.attempts.iter().map(attempt).collect();
    let (name, args, status) = (&record.name, record.args.get(), record.status);
    format!("{name} {args} {status} {} {attempts:?} {:?}", since(record.created_at), record.error)
}

/// Adds to `found` what is wrong with one task at the end of its history.
fn judge_one(added: &Added, history: &History, records: &[TaskRecord], found: &mut Vec<String>) {
    let n = added.n;
    let of: Vec<_> = records.iter().filter(|it| has_number(it, n)).collect();
    let mut wrong = |what: String| found.push(format!("{added:?}: {what}: {of:#?}"));
    let accepted = added.known.contains(&Known::Accepted);
    let refused = added.known.iter().all(|known| *known == Known::Refused);
    let most = if added.is_keyed { added.known.len() } else { 1 };
    let least = usize::from(accepted && !added.deleted);
    if refused && !of.is_empty() || of.len() > most || of.len() < least {
        return wrong(format!("is stored {} times", of.len()));
    }
    if of.iter().filter(|it| it.status == TaskStatus::Success).count() > 1 {
        wrong("its key succeeded twice".to_owned());
    }
    if let Some(record) = of.iter().find(|it| !it.status.is_final()) {
        return wrong(format!("is {} though all has been well for two minutes", record.status));
    }
    let runs = history.bodies.begun(n) as usize;
    let attempts: Vec<_> = of.iter().flat_map(|it| &it.attempts).collect();
    if runs > attempts.len() && !added.deleted {
        wrong(format!("began {runs} times, more often than it has attempts"));
    }
    if added.deleted {
        return;
    }
    for record in &of {
        judge_record(added, record, runs, &mut wrong);
    }
    if let ([record], Some(told)) = (&*of, &added.told)
        && added.retried == 0
        && told.is_ok() != (record.status == TaskStatus::Success)
    {
        wrong(format!("its caller was told {told:?}"));
    }
}

fn judge_record(added: &Added, record: &TaskRecord, runs: usize, wrong: &mut impl FnMut(String)) {
    use AttemptOutcome::{Failed, HandedBack, Interrupted, Lost, Panicked, Running, Snoozed, TimedOut};
    let number = |outcomes: &[AttemptOutcome]| {
        record.attempts.iter().filter(|it| outcomes.contains(&it.outcome)).count()
    };
    let by_hand = added.retried as usize;
    if !record.attempts.is_sorted_by_key(|attempt| attempt.number) {
        wrong("its attempts are out of order".to_owned());
    }
    if number(&[Running]) > 0 {
        wrong("has ended, and an attempt of it still runs".to_owned());
    }
    let failures = number(&[Failed, TimedOut, Panicked]);
    match added.kind {
        Kind::Once => {
            let counted = record.attempts.len() - number(&[HandedBack, Snoozed]);
            if counted > 1 + by_hand {
                wrong(format!("may not run twice, and has {counted} attempts"));
            }
        }
        Kind::Again { .. } => {
            let counted = failures + number(&[AttemptOutcome::Success]);
            if counted > 3 * (1 + by_hand) {
                wrong(format!("has {counted} attempts, and 3 are allowed"));
            }
        }
    }
    let is_cancelled = record.status == TaskStatus::Cancelled;
    if is_cancelled && !added.cancel_asked {
        wrong("is cancelled, and nobody asked for it".to_owned());
    }
    if added.cancelled && !is_cancelled && by_hand == 0 && !added.is_keyed {
        wrong(format!("was cancelled, and is {}", record.status));
    }
    match (record.status, added.kind) {
        (TaskStatus::Success, kind) => {
            if record.result.as_ref().map(|json| json.get()) != Some(&*added.n.to_string()) {
                wrong("has another result than its own".to_owned());
            }
            if runs == 0 {
                wrong("succeeded without a run".to_owned());
            }
            if let Kind::Again { fails } = kind
                && runs <= fails as usize
            {
                wrong(format!("succeeded after {runs} runs, though its first {fails} fail"));
            }
        }
        (TaskStatus::Failed, Kind::Once) if number(&[TimedOut]) == 0 => {
            wrong("failed, and no run of it does".to_owned());
        }
        (TaskStatus::Failed, Kind::Again { .. }) => {
            let is_poison = record.error.as_deref().is_some_and(|error| error.starts_with("poison"));
            if failures < 3 && !(is_poison && number(&[Lost, Interrupted]) >= 3) {
                wrong("failed before its attempts were used up".to_owned());
            }
        }
        (TaskStatus::Interrupted, Kind::Again { .. }) => {
            wrong("was interrupted, and it may run again".to_owned());
        }
        _ => {}
    }
}
