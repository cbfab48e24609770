//! The numbers and the state of each queue.

use std::collections::BTreeSet;
use std::time::Duration;

use parking_lot::Mutex;
use rusqlite::types::ValueRef;
use rusqlite::{OptionalExtension, params};

use super::queue_counts::MINUTE;
use super::readable;
use super::reader::on_one_state;
use super::row;
use super::statements::Statements;
use super::transaction::Transaction;
use crate::model::{LimitsFrom, QueueConfig, QueueInfo, time};
use crate::store::QueueState;

/// The maximum number of overdue tasks to count: tasks that have come due, but that no claim has moved to the due ones.
/// If the queue's tasks are claimed, there are almost none.
const OVERDUE: i64 = 100_000;

/// The maximum number of heads of a queue to examine for the longest wait. A head is the first task of a name and
/// priority, or the first blocked task of a concurrency key and name.
const HEADS: usize = 500;

const QUEUES: &str = "
SELECT name, paused = 1, config, blocked + due + later + held, later, running,
       success + failed + interrupted + cancelled + rejected, refused
FROM taskflow_queues ORDER BY name";

const COME_DUE: &str = "
SELECT queue, run_at FROM taskflow_later WHERE run_at <= ?1 ORDER BY run_at LIMIT ?2";

const ENDED_LATELY: &str = "
SELECT queue, sum(ended) FROM taskflow_ended_lately WHERE second > ?1 AND second <= ?2 GROUP BY queue";

/// The first due task of the first name from `?2` on.
const OF_NAME: &str = "
SELECT name, priority, max(run_at, created_at) FROM taskflow_tasks INDEXED BY taskflow_tasks_ready
WHERE state = 0 AND queue = ?1 AND name >= ?2 ORDER BY name, priority DESC, seq LIMIT 1";

/// The first due task of a name below a priority.
const OF_PRIORITY: &str = "
SELECT name, priority, max(run_at, created_at) FROM taskflow_tasks INDEXED BY taskflow_tasks_ready
WHERE state = 0 AND queue = ?1 AND name = ?2 AND priority < ?3 ORDER BY priority DESC, seq LIMIT 1";

/// The first blocked task of the first key and name from `?2`, `?3` on.
const OF_KEY: &str = "
SELECT p.key, p.name, (SELECT max(t.run_at, t.created_at) FROM taskflow_tasks t WHERE t.seq = p.task)
FROM taskflow_blocked p INDEXED BY taskflow_blocked_next
WHERE p.queue = ?1 AND (p.key, p.name) >= (?2, ?3)
ORDER BY p.key, p.name, p.priority DESC, p.task LIMIT 1";

const STATES: &str = "
SELECT name, paused = 1, config FROM taskflow_queues WHERE paused = 1 OR config IS NOT NULL ORDER BY name";

const PAUSE: &str = "
INSERT INTO taskflow_queues (name, paused) VALUES (?1, ?2)
ON CONFLICT (name) DO UPDATE SET paused = excluded.paused";

const CONFIGURE: &str = "
INSERT INTO taskflow_queues (name, config) VALUES (?1, ?2)
ON CONFLICT (name) DO UPDATE SET config = excluded.config";

pub(super) fn queues(sql: &Statements<'_>) -> rusqlite::Result<Vec<QueueInfo>> {
    on_one_state(sql, |sql| {
        let now = time::now_micros();
        let mut queues = in_each(sql)?;
        let mut come_due = sql.get(COME_DUE)?;
        let mut rows = come_due.query([now, OVERDUE])?;
        while let Some(row) = rows.next()? {
            let since = row.get(1)?;
            let Ok(name) = row.get_ref(0)?.as_str() else { continue };
            if let Some(info) = of_name(&mut queues, name) {
                info.scheduled = info.scheduled.saturating_sub(1);
                note_waiting(info, since, now);
            }
        }
        let second = now.div_euclid(1_000_000);
        let mut ended = sql.get(ENDED_LATELY)?;
        let mut rows = ended.query([second - MINUTE, second])?;
        while let Some(row) = rows.next()? {
            let Ok(name) = row.get_ref(0)?.as_str() else { continue };
            if let Some(info) = of_name(&mut queues, name) {
                info.finished_last_minute = row::to_u64(row.get(1)?).min(QueueInfo::MAX_COUNTED);
            }
        }
        for info in queues.iter_mut().filter(|info| info.pending > 0) {
            note_heads(sql, info, now)?;
        }
        Ok(queues)
    })
}

/// The stored counts of each queue.
fn in_each(sql: &Statements<'_>) -> rusqlite::Result<Vec<QueueInfo>> {
    let mut query = sql.get(QUEUES)?;
    let mut rows = query.query([])?;
    let mut queues = Vec::new();
    while let Some(row) = rows.next()? {
        // Skip a queue whose name is not text: no add can name it.
        let Ok(name) = row.get::<_, String>(0) else { continue };
        let mut info = QueueInfo {
            paused: row.get(1)?,
            pending: row::to_u64(row.get(3)?),
            scheduled: row::to_u64(row.get(4)?),
            running: row::to_u64(row.get(5)?),
            finished: row::to_u64(row.get(6)?),
            rejected: row::to_u64(row.get(7)?),
            ..QueueInfo::new(name)
        };
        let config = config(&info.name, row.get_ref(2)?);
        if let Some(config) = &config {
            info.show_limits(config, LimitsFrom::Store);
        }
        let in_it = info.pending + info.running + info.finished + info.rejected;
        if info.paused || config.is_some() || in_it > 0 {
            queues.push(info);
        }
    }
    Ok(queues)
}

fn of_name<'q>(queues: &'q mut [QueueInfo], name: &str) -> Option<&'q mut QueueInfo> {
    let at = queues.binary_search_by(|info| (*info.name).cmp(name)).ok()?;
    queues.get_mut(at)
}

/// Updates the longest wait of a queue with a task that has been waiting since `since`.
fn note_waiting(info: &mut QueueInfo, since: i64, now: i64) {
    let length = Duration::from_micros(now.saturating_sub(since).max(0).unsigned_abs());
    info.oldest_waiting = info.oldest_waiting.max(Some(length));
}

/// Updates the longest wait of a queue with its heads.
fn note_heads(sql: &Statements<'_>, info: &mut QueueInfo, now: i64) -> rusqlite::Result<()> {
    let mut looked_at = 0;
    let text = |row: &rusqlite::Row<'_>, column| {
        row.get_ref(column).map(|it| readable::text(it).unwrap_or_default())
    };
    let head = |row: &rusqlite::Row<'_>| Ok((text(row, 0)?, row.get::<_, i64>(1)?, row.get(2)?));
    let (mut of_name, mut of_priority) = (sql.get(OF_NAME)?, sql.get(OF_PRIORITY)?);
    let mut next = of_name.query_row(params![info.name, ""], head).optional()?;
    while let Some((name, priority, since)) = next
        && looked_at < HEADS
    {
        looked_at += 1;
        note_waiting(info, since, now);
        next = of_priority.query_row(params![info.name, name, priority], head).optional()?;
        if next.is_none() {
            // Continue with the first name after this one.
            next = of_name.query_row(params![info.name, name + "\0"], head).optional()?;
        }
    }
    let mut of_key = sql.get(OF_KEY)?;
    let (mut key, mut name) = (String::new(), String::new());
    while looked_at < HEADS {
        looked_at += 1;
        let next = of_key.query_row(params![info.name, key, name], |row| {
            Ok((text(row, 0)?, text(row, 1)?, row.get::<_, Option<i64>>(2)?))
        });
        let Some((of_key, of_name, since)) = next.optional()? else { break };
        note_waiting(info, since.unwrap_or(now), now);
        (key, name) = (of_key, of_name + "\0");
    }
    Ok(())
}

pub(super) fn states(sql: &Statements<'_>) -> rusqlite::Result<Vec<QueueState>> {
    let mut states = sql.get(STATES)?;
    let mut rows = states.query([])?;
    let mut states = Vec::new();
    while let Some(row) = rows.next()? {
        let Ok(name) = row.get::<_, String>(0) else { continue };
        let config = config(&name, row.get_ref(2)?);
        states.push(QueueState::new(name, row.get(1)?, config));
    }
    Ok(states)
}

/// Stores a configuration if the stored one is `from`. Answers whether it was.
pub(super) fn replace_config(
    tx: &mut Transaction<'_, '_>,
    queue: &str,
    from: Option<&QueueConfig>,
    to: Option<&QueueConfig>,
) -> rusqlite::Result<bool> {
    let mut read = tx.sql.get(STORED)?;
    let stored = read.query_row([queue], |row| Ok(config(queue, row.get_ref(0)?))).optional()?.flatten();
    drop(read);
    let is_so = stored.as_ref() == from;
    if is_so {
        set_config(tx, queue, to)?;
    }
    Ok(is_so)
}

const STORED: &str = "SELECT config FROM taskflow_queues WHERE name = ?1";

/// Reads a stored configuration. One that cannot be read counts as `None`: the queue then uses the configuration of
/// each program.
fn config(queue: &str, json: ValueRef<'_>) -> Option<QueueConfig> {
    let json = readable::text(json)?;
    match serde_json::from_str(&json) {
        Ok(config) => Some(config),
        Err(error) => {
            if WARNED.lock().insert(format!("{queue}: {json}")) {
                tracing::error!(
                    %queue, %error,
                    "the stored configuration of a queue is damaged and has no effect; store it again with `set_queue` \
                     or delete it with `reset_queue`"
                );
            }
            None
        }
    }
}

/// The damaged configurations that have been logged. Each is logged only once, because every process reads them each
/// second.
static WARNED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

pub(super) fn set_paused(tx: &mut Transaction<'_, '_>, queue: &str, paused: bool) -> rusqlite::Result<()> {
    tx.sql.execute(PAUSE, params![queue, paused])?;
    let queue = tx.counts.queue(queue);
    tx.counts.reread(queue);
    tx.should_notify = true;
    Ok(())
}

pub(super) fn set_config(
    tx: &mut Transaction<'_, '_>,
    queue: &str,
    config: Option<&QueueConfig>,
) -> rusqlite::Result<()> {
    let config = config
        .map(|config| serde_json::to_string(config).expect("numbers and lengths can be written as JSON"));
    tx.sql.execute(CONFIGURE, params![queue, config])?;
    tx.should_notify = true;
    Ok(())
}
