//! Ticks of schedules, and the stored state of schedules.

use rusqlite::{OptionalExtension, Row, params};

use super::insert;
use super::readable;
use super::statements::Statements;
use super::transaction::Transaction;
use crate::model::{TaskId, TickOutcome, time};
use crate::store::codec::{to_i64, to_u64};
use crate::store::{Declaration, Fire, Fired, ScheduleChange, ScheduleChanges, ScheduleState};

const ONE: &str = "
SELECT name, last_tick, last_outcome, last_start, last_task, paused, definition, declared, declared_since, skipped,
       last_skipped
FROM taskflow_schedules WHERE name = ?1";

const ALL: &str = "
SELECT name, last_tick, last_outcome, last_start, last_task, paused, definition, declared, declared_since, skipped,
       last_skipped
FROM taskflow_schedules ORDER BY name";

const KEEP: &str = "
INSERT INTO taskflow_schedules (name, last_tick, last_outcome, last_start, last_task, paused, definition, declared,
                                declared_since, skipped, last_skipped)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)
ON CONFLICT (name) DO UPDATE SET
    last_tick = excluded.last_tick, last_outcome = excluded.last_outcome, last_start = excluded.last_start,
    last_task = excluded.last_task, paused = excluded.paused, definition = excluded.definition,
    declared = excluded.declared, declared_since = excluded.declared_since, skipped = excluded.skipped,
    last_skipped = excluded.last_skipped";

const REMOVE: &str = "DELETE FROM taskflow_schedules WHERE name = ?1";

const VERSION: &str = "SELECT coalesce(max(version), 0) FROM taskflow_schedule_log";

const RECORD_CHANGE: &str = "
INSERT INTO taskflow_schedule_log (version, name, removed)
SELECT coalesce(max(version), 0) + 1, ?1, ?2 FROM taskflow_schedule_log WHERE true
ON CONFLICT (name) DO UPDATE SET version = excluded.version, removed = excluded.removed";

/// Never deletes the latest change, so versions only grow.
const FORGET_REMOVED: &str = "
DELETE FROM taskflow_schedule_log WHERE removed = 1 AND version <= (
    SELECT version FROM taskflow_schedule_log WHERE removed = 1 ORDER BY version DESC LIMIT 1 OFFSET ?1
)";

const CHANGES: &str = "
SELECT c.name, s.last_tick, s.last_outcome, s.last_start, s.last_task, coalesce(s.paused, 0), s.definition, s.declared,
       s.declared_since, coalesce(s.skipped, 0), s.last_skipped, c.version
FROM taskflow_schedule_log c
LEFT JOIN taskflow_schedules s ON s.name = c.name AND s.definition IS NOT NULL
WHERE c.version > ?1 ORDER BY c.version LIMIT ?2";

pub(super) fn fire(tx: &mut Transaction<'_, '_>, fire: &Fire) -> rusqlite::Result<Fired> {
    let known = find(tx.sql, &fire.schedule)?;
    let mut state = known.unwrap_or_else(|| ScheduleState::new(fire.schedule.clone()));
    let batch = match state.admit(fire, tx.now) {
        Ok(batch) => batch,
        Err(fired) => return Ok(fired),
    };
    let inserted = batch.map(|batch| insert::insert(tx, batch)).transpose()?;
    let fired = state.note(fire, inserted);
    keep(tx, &state)?;
    Ok(fired)
}

pub(super) fn set(
    tx: &mut Transaction<'_, '_>,
    schedule: &str,
    change: &ScheduleChange,
) -> rusqlite::Result<bool> {
    tx.should_notify = true;
    let known = find(tx.sql, schedule)?;
    let was_known = known.is_some();
    let is_end = matches!(change, ScheduleChange::Removed | ScheduleChange::Undeclared { .. });
    if is_end && !was_known {
        return Ok(false);
    }
    let mut state = known.unwrap_or_else(|| ScheduleState::new(schedule.to_owned()));
    let was_defined = state.definition.is_some();
    state.change(change, tx.now);
    match change {
        ScheduleChange::Defined { .. } => drop(tx.sql.execute(RECORD_CHANGE, params![schedule, false])?),
        ScheduleChange::Removed if !was_defined => return Ok(false),
        ScheduleChange::Removed => {
            tx.sql.execute(RECORD_CHANGE, params![schedule, true])?;
            tx.sql.execute(FORGET_REMOVED, [to_i64(ScheduleChanges::MAX_REMOVED)])?;
            if state.declared.is_none() {
                tx.sql.execute(REMOVE, [schedule])?;
                return Ok(true);
            }
        }
        _ => {}
    }
    keep(tx, &state)?;
    Ok(was_known)
}

pub(super) fn schedules(sql: &Statements<'_>) -> rusqlite::Result<Vec<ScheduleState>> {
    sql.get(ALL)?.query_map([], read)?.collect()
}

pub(super) fn schedule(sql: &Statements<'_>, name: &str) -> rusqlite::Result<Option<ScheduleState>> {
    find(sql, name)
}

pub(super) fn changes(sql: &Statements<'_>, since: u64) -> rusqlite::Result<ScheduleChanges> {
    let latest: i64 = sql.get(VERSION)?.query_row([], |row| row.get(0))?;
    let mut changes = ScheduleChanges::new(to_u64(latest), Vec::new(), false);
    let since = i64::try_from(since).unwrap_or(i64::MAX);
    if latest <= since {
        return Ok(changes);
    }
    let most = ScheduleChanges::MAX;
    let mut statement = sql.get(CHANGES)?;
    let mut rows = statement.query([since, to_i64(most) + 1])?;
    while let Some(row) = rows.next()? {
        changes.more = changes.changed.len() == most;
        if !changes.more {
            changes.version = to_u64(row.get(11)?);
            changes.changed.push(read(row)?);
        }
    }
    Ok(changes)
}

fn find(sql: &Statements<'_>, schedule: &str) -> rusqlite::Result<Option<ScheduleState>> {
    sql.get(ONE)?.query_row([schedule], read).optional()
}

fn keep(tx: &Transaction<'_, '_>, state: &ScheduleState) -> rusqlite::Result<()> {
    let declared = state.declared.as_ref();
    tx.sql.execute(
        KEEP,
        params![
            state.name,
            state.last_tick.map(time::to_micros),
            state.last_outcome.map(TickOutcome::as_str),
            state.last_start.map(time::to_micros),
            state.last_task.as_ref().map(TaskId::as_bytes),
            state.paused,
            state.definition,
            declared.map(|declared| &declared.timing),
            declared.map(|declared| time::to_micros(declared.since)),
            i64::try_from(state.skipped).unwrap_or(i64::MAX),
            state.last_skipped.map(time::to_micros),
        ],
    )?;
    Ok(())
}

/// Reads a schedule. A value of the wrong type, which another program has written, counts as missing, so that it does
/// not hide the other schedules.
fn read(row: &Row<'_>) -> rusqlite::Result<ScheduleState> {
    let number = |column: usize| row.get::<_, Option<i64>>(column).unwrap_or_default();
    let instant = |column: usize| number(column).map(time::from_micros);
    let text = |column: usize| row.get::<_, Option<String>>(column).unwrap_or_default();
    Ok(ScheduleState {
        name: readable::text(row.get_ref(0)?).unwrap_or_default(),
        last_tick: instant(1),
        last_outcome: text(2).and_then(|word| TickOutcome::from_word(&word)),
        last_start: instant(3),
        last_task: row.get::<_, Option<[u8; 16]>>(4).unwrap_or_default().map(TaskId::from_bytes),
        paused: number(5).is_some_and(|paused| paused != 0),
        definition: text(6),
        declared: text(7).zip(instant(8)).map(|(timing, since)| Declaration::new(timing, since)),
        skipped: number(9).map_or(0, to_u64),
        last_skipped: instant(10),
    })
}
