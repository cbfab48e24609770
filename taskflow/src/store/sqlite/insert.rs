//! Inserts of new tasks.

use std::sync::Arc;
use std::time::Duration;

use rusqlite::params;

use super::instance;
use super::queue_counts::QueueNumber;
use super::row;
use super::row_state::RowState;
use super::transaction::Transaction;
use super::unique_keys::{self, KeyKind};
use super::{due, expiring, expiry};
use crate::model::{NewTask, TaskId, When, time};
use crate::store::{InsertBatch, InsertGroup, InsertTask, Inserted, InsertedAs, Refusal, Start};

const INSERT: &str = "
INSERT INTO taskflow_tasks
    (id, state, queue, priority, name, attempt, max_attempts, fence, instance, lease_until, run_at, created_at,
     scheduled_for, expires_at, started_at, source, idempotency_key, run_key, concurrency_key, policy, tags, args,
     prefetch, trace)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23, ?24)
ON CONFLICT DO NOTHING";

const INSERT_LATER: &str = "
INSERT OR REPLACE INTO taskflow_later (run_at, task, queue, name) VALUES (?1, ?2, ?3, ?4)";

const REPLACE: &str = "
UPDATE taskflow_tasks
SET state = ?2, queue = ?3, priority = ?4, args = ?5, tags = ?6, policy = ?7, max_attempts = ?8, run_at = ?9,
    scheduled_for = ?10, expires_at = ?11, concurrency_key = ?12, prefetch = ?13, trace = ?14
WHERE seq = ?1";

/// The fence of a run or hold that begins with the insert. The fence of a claim is greater, so a run under this one
/// always began with the insert.
const FIRST_FENCE: i64 = crate::store::RunRef::FIRST_FENCE as i64;

/// One call of insert, with the values that all its tasks share.
struct Batch<'b> {
    batch: &'b InsertBatch,
    /// The row number of the inserting instance. It is read when a lease first needs it.
    instance: Option<i64>,
}

pub(super) fn insert(
    tx: &mut Transaction<'_, '_>,
    batch: &InsertBatch,
) -> rusqlite::Result<Vec<Result<Vec<Inserted>, Refusal>>> {
    // Only `LeaseIfIdle` checks whether any task is due, so only then tasks that have come due matter.
    let mut tasks = batch.groups.iter().flat_map(|group| &group.tasks);
    if tasks.any(|task| task.start == Start::LeaseIfIdle) {
        expiry::lapse(tx)?;
        due::promote(tx)?;
    }
    let mut context = Batch { batch, instance: None };
    batch.groups.iter().map(|group| insert_group(tx, &mut context, group)).collect()
}

fn insert_group(
    tx: &mut Transaction<'_, '_>,
    context: &mut Batch<'_>,
    group: &InsertGroup,
) -> rusqlite::Result<Result<Vec<Inserted>, Refusal>> {
    // Only a group in which a task after the first can be refused has anything to undo.
    let may_undo = group.tasks.iter().skip(1).any(|task| task.max_size.is_some());
    let before = may_undo.then(|| tx.counts.clone());
    if may_undo {
        tx.sql.execute("SAVEPOINT insert_group", [])?;
    }
    let mut answers = Vec::with_capacity(group.tasks.len());
    for task in &group.tasks {
        match insert_one(tx, context, task)? {
            Ok(answer) => answers.push(answer),
            Err(refusal) => {
                if let Some(before) = before {
                    tx.sql.execute("ROLLBACK TO insert_group", [])?;
                    tx.sql.execute("RELEASE insert_group", [])?;
                    tx.counts = before;
                    // The row of the instance may have been undone too.
                    context.instance = None;
                }
                reject(tx, group, &refusal)?;
                return Ok(Err(refusal));
            }
        }
    }
    if may_undo {
        tx.sql.execute("RELEASE insert_group", [])?;
    }
    Ok(Ok(answers))
}

fn insert_one(
    tx: &mut Transaction<'_, '_>,
    context: &mut Batch<'_>,
    insert: &InsertTask,
) -> rusqlite::Result<Result<Inserted, Refusal>> {
    let new = &insert.task;
    let queue = tx.counts.queue(&new.queue);
    // No other process can write meanwhile, so the results of these lookups still hold below. If they did not, the unique
    // indexes would refuse the insert.
    if new.idempotency_key.is_some() || new.run_key.is_some() || insert.max_size.is_some() {
        if let Some(answer) = stands_for(tx, context, insert)? {
            return Ok(answer);
        }
        if let Some(max_size) = insert.max_size
            && tx.counts.waiting_first(queue, tx.sql)? >= row::to_i64(max_size)
        {
            return Ok(Err(Refusal::QueueFull { queue: new.queue.clone().into_owned(), max_size }));
        }
    }
    let begin = begin(tx, context, insert, queue)?;
    let lease = context.batch.lease;
    let Some(seq) = write(tx, new, begin.state, begin.attempt, begin.instance.map(|it| (it, lease)))? else {
        let answer = answer_again(tx, context, insert)?;
        return Ok(answer.unwrap_or(Ok(Inserted::new(new.id, InsertedAs::Pending))));
    };
    if let Some(key) = &new.idempotency_key {
        unique_keys::take(tx, key, &new.name, KeyKind::Idempotency, seq)?;
    }
    if let Some(key) = new.run_key.as_ref().filter(|_| begin.attempt == 0) {
        unique_keys::take(tx, key, &new.name, KeyKind::Run, seq)?;
    }
    wait(tx, seq, new, begin.state)?;
    // A hold is remembered only without a run key, because an add with that key may move it to another queue, and only without
    // a concurrency key: if the hold is lost, its place stays and serves the task's next run, whose key would not be counted.
    match (begin.state, &new.concurrency_key, &new.run_key) {
        (RowState::Running, Some(key), _) => tx.key_runs(&new.queue, key)?,
        (RowState::Running, None, _) | (RowState::Held, None, None) => {
            let queue = Arc::clone(tx.counts.name(queue));
            tx.remember(new.id, seq, &queue);
        }
        _ => {}
    }
    tx.counts.enter(queue, begin.state, begin.attempt);
    tx.should_notify = true;
    Ok(Ok(Inserted::new(new.id, begin.kind)))
}

/// Writes the row of a new task, if its id is not there yet. Answers its row number; `None` if the id is there.
fn write(
    tx: &mut Transaction<'_, '_>,
    new: &NewTask,
    state: RowState,
    attempt: i64,
    lease: Option<(i64, Duration)>,
) -> rusqlite::Result<Option<i64>> {
    let (run_at, scheduled_for) = times(new, tx.now);
    let inserted = tx.sql.execute(
        INSERT,
        params![
            new.id.as_bytes(),
            state.number(),
            new.queue,
            new.priority,
            new.name,
            attempt,
            new.policy.max_attempts(),
            FIRST_FENCE,
            lease.map(|(instance, _)| instance),
            lease.map(|(_, length)| tx.now.saturating_add(time::micros(length))),
            run_at,
            tx.now,
            scheduled_for,
            new.expires_at.map(time::to_micros),
            (state == RowState::Running).then_some(tx.now),
            new.source.as_str(),
            new.idempotency_key,
            new.run_key,
            new.concurrency_key,
            row::policy_json(&new.policy),
            row::tags_json(&new.tags),
            // The code that builds an `InsertTask` has checked the arguments.
            new.args.as_deref().unwrap_or("null"),
            row::prefetch(&new.policy) as i64,
            row::trace_text(new.trace.as_ref()),
        ],
    )?;
    tx.counts.bytes += new.args.as_ref().map_or(0, |args| args.len());
    Ok((inserted > 0).then(|| tx.sql.connection().last_insert_rowid()))
}

/// Adds a waiting row to the tables of later and of expiring tasks, if it belongs there.
fn wait(tx: &mut Transaction<'_, '_>, seq: i64, new: &NewTask, state: RowState) -> rusqlite::Result<()> {
    if state == RowState::Later {
        tx.sql.execute(INSERT_LATER, params![times(new, tx.now).0, seq, new.queue, new.name])?;
    }
    match new.expires_at {
        Some(at) if matches!(state, RowState::Due | RowState::Later) => {
            expiring::expires(tx, seq, time::to_micros(at))
        }
        _ => Ok(()),
    }
}

/// Counts the refused tasks, and stores a record of the refusal if one was asked for.
fn reject(tx: &mut Transaction<'_, '_>, group: &InsertGroup, refusal: &Refusal) -> rusqlite::Result<()> {
    for insert in &group.tasks {
        if tx.row(insert.task.id)?.is_some() {
            // The insert is repeated, and the refusal was counted before.
            return Ok(());
        }
    }
    let Refusal::QueueFull { queue, .. } = refusal;
    let queue = tx.counts.queue(queue);
    tx.counts.refuse(queue, group.tasks.len());
    if let [insert] = &*group.tasks
        && insert.record_rejected
        && let Some(seq) = write(tx, &insert.task, RowState::Rejected, 0, None)?
    {
        tx.reject(seq, &refusal.error())?;
        tx.counts.enter(queue, RowState::Rejected, 0);
        tx.should_notify = true;
    }
    Ok(())
}

/// The instants at which a task is due, and for which it was scheduled.
fn times(new: &NewTask, now: i64) -> (i64, Option<i64>) {
    let scheduled_for = match new.when {
        When::Now => None,
        When::In(length) => Some(now.saturating_add(time::micros(length))),
        When::At(at) => Some(time::to_micros(at)),
    };
    (scheduled_for.unwrap_or(now), scheduled_for)
}

/// How a new task begins.
struct Begin {
    state: RowState,
    attempt: i64,
    instance: Option<i64>,
    kind: InsertedAs,
}

fn begin(
    tx: &mut Transaction<'_, '_>,
    context: &mut Batch<'_>,
    insert: &InsertTask,
    queue: QueueNumber,
) -> rusqlite::Result<Begin> {
    let state = RowState::waiting(times(&insert.task, tx.now).0, tx.now);
    let starts = match insert.start {
        Start::Wait => false,
        Start::Hold => {
            let instance = Some(context.instance(tx)?);
            let kind = InsertedAs::Held { fence: 1 };
            return Ok(Begin { state: RowState::Held, attempt: 0, instance, kind });
        }
        Start::Lease => true,
        Start::LeaseIfIdle => tx.counts.due(queue, tx.sql)? == 0,
    };
    let has_expired = insert.task.expires_at.is_some_and(|at| time::to_micros(at) <= tx.now);
    if !starts || state != RowState::Due || has_expired || tx.counts.is_paused(queue, tx.sql)? {
        return Ok(Begin { state, attempt: 0, instance: None, kind: InsertedAs::Pending });
    }
    let instance = Some(context.instance(tx)?);
    let kind = InsertedAs::Leased { fence: 1 };
    Ok(Begin { state: RowState::Running, attempt: 1, instance, kind })
}

impl Batch<'_> {
    fn instance(&mut self, tx: &mut Transaction<'_, '_>) -> rusqlite::Result<i64> {
        match self.instance {
            Some(instance) => Ok(instance),
            None => Ok(*self.instance.insert(instance::number(tx, self.batch.instance)?)),
        }
    }
}

/// The answer, if a task that is there already stands for this add: it has the same id, idempotency key or run key. A waiting
/// task with the run key is replaced.
fn stands_for(
    tx: &mut Transaction<'_, '_>,
    context: &mut Batch<'_>,
    insert: &InsertTask,
) -> rusqlite::Result<Option<Result<Inserted, Refusal>>> {
    let new = &insert.task;
    if let Some(answer) = answer_again(tx, context, insert)? {
        return Ok(Some(answer));
    }
    if let Some(key) = &new.idempotency_key
        && let Some(holder) = unique_keys::holder(tx, key, &new.name, KeyKind::Idempotency)?
    {
        return Ok(Some(Ok(Inserted::new(holder, InsertedAs::Duplicate))));
    }
    if let Some(key) = &new.run_key
        && let Some(waiting) = unique_keys::holder(tx, key, &new.name, KeyKind::Run)?
    {
        replace(tx, waiting, new)?;
        return Ok(Some(Ok(Inserted::new(waiting, InsertedAs::Replaced))));
    }
    Ok(None)
}

/// The first answer to the insert of a task that is there already, if that answer still holds; else `Pending`. `None`
/// if the task is not there.
fn answer_again(
    tx: &mut Transaction<'_, '_>,
    context: &mut Batch<'_>,
    insert: &InsertTask,
) -> rusqlite::Result<Option<Result<Inserted, Refusal>>> {
    let Some(row) = tx.row(insert.task.id)? else { return Ok(None) };
    let is_first = row.fence == FIRST_FENCE && row.instance == Some(context.instance(tx)?);
    let kind = match row.state {
        RowState::Rejected => {
            let (queue, max_size) = (tx.counts.name(row.queue).to_string(), insert.max_size.unwrap_or(0));
            return Ok(Some(Err(Refusal::QueueFull { queue, max_size })));
        }
        RowState::Running if is_first => InsertedAs::Leased { fence: 1 },
        RowState::Held if is_first => InsertedAs::Held { fence: 1 },
        _ => InsertedAs::Pending,
    };
    Ok(Some(Ok(Inserted::new(insert.task.id, kind))))
}

/// Replaces the content of a waiting task with that of another add with the same run key. A hold stays: only its holder
/// ends it.
fn replace(tx: &mut Transaction<'_, '_>, waiting: TaskId, new: &NewTask) -> rusqlite::Result<()> {
    let Some(row) = tx.row(waiting)? else { return Ok(()) };
    let (run_at, scheduled_for) = times(new, tx.now);
    let state = if row.state == RowState::Held { RowState::Held } else { RowState::waiting(run_at, tx.now) };
    tx.left_state(&row, state)?;
    tx.sql.execute(
        REPLACE,
        params![
            row.seq,
            state.number(),
            new.queue,
            new.priority,
            new.args.as_deref().unwrap_or("null"),
            row::tags_json(&new.tags),
            row::policy_json(&new.policy),
            new.policy.max_attempts(),
            run_at,
            scheduled_for,
            new.expires_at.map(time::to_micros),
            new.concurrency_key,
            row::prefetch(&new.policy) as i64,
            row::trace_text(new.trace.as_ref()),
        ],
    )?;
    wait(tx, row.seq, new, state)?;
    let queue = tx.counts.queue(&new.queue);
    tx.counts.exit(row.queue, row.state, row.attempt);
    tx.counts.enter(queue, state, row.attempt);
    tx.should_notify = true;
    Ok(())
}
