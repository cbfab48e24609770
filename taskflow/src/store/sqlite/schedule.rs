//! Ticks of schedules, and schedules that are kept.

use rusqlite::{OptionalExtension, Row, params};

use super::insert;
use super::statements::Statements;
use super::transaction::Transaction;
use crate::model::{TaskId, TickOutcome, time};
use crate::store::{Fire, FireAfter, Fired, ScheduleChange, ScheduleState};

const ONE: &str = "
SELECT name, last_tick, last_outcome, last_start, last_task, paused, definition
FROM taskflow_schedules WHERE name = ?1";

const ALL: &str = "
SELECT name, last_tick, last_outcome, last_start, last_task, paused, definition
FROM taskflow_schedules ORDER BY name";

const KEEP: &str = "
INSERT INTO taskflow_schedules (name, last_tick, last_outcome, last_start, last_task, paused, definition)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
ON CONFLICT (name) DO UPDATE SET
    last_tick = excluded.last_tick, last_outcome = excluded.last_outcome, last_start = excluded.last_start,
    last_task = excluded.last_task, paused = excluded.paused, definition = excluded.definition";

const REMOVE: &str = "DELETE FROM taskflow_schedules WHERE name = ?1 AND definition IS NOT NULL";

pub(super) fn fire(tx: &mut Transaction<'_, '_>, fire: &Fire) -> rusqlite::Result<Fired> {
    if let Some(by) = fire.early_by(tx.now) {
        return Ok(Fired::Early { by });
    }
    let known = find(tx.sql, &fire.schedule)?;
    let mut state = known.unwrap_or_else(|| ScheduleState::new(fire.schedule.clone()));
    if fire.definition.is_some() && fire.definition != state.definition {
        return Ok(Fired::Before);
    }
    let begins = state.last_tick.is_none() && fire.batch.is_none();
    match fire.after {
        FireAfter::Earlier if !fire.is_after(state.last_tick.map(time::to_micros), tx.now) => {
            return Ok(Fired::Before);
        }
        FireAfter::Earlier => state.last_tick = Some(fire.tick),
        FireAfter::Start(before) if state.last_start.map(time::to_micros) != before.map(time::to_micros) => {
            return Ok(Fired::Before);
        }
        FireAfter::Start(_) => state.last_start = Some(fire.tick),
    }
    let is_paused = state.paused && fire.after == FireAfter::Earlier;
    let fired = match &fire.batch {
        None => Fired::Passed,
        Some(_) if is_paused => Fired::Paused,
        Some(batch) => match insert::insert(tx, batch)?.pop() {
            Some(Ok(mut inserted)) => inserted.pop().map_or(Fired::Passed, Fired::Inserted),
            Some(Err(refusal)) => Fired::Refused(refusal),
            None => Fired::Passed,
        },
    };
    if let Fired::Inserted(inserted) = &fired {
        state.last_task = Some(inserted.id);
    }
    if fire.after == FireAfter::Earlier {
        state.last_outcome = fired.outcome().filter(|_| !begins);
    }
    keep(tx, &state)?;
    Ok(fired)
}

pub(super) fn set(
    tx: &mut Transaction<'_, '_>,
    schedule: &str,
    change: &ScheduleChange,
) -> rusqlite::Result<bool> {
    tx.is_news = true;
    let known = find(tx.sql, schedule)?;
    let was_known = known.is_some();
    let mut state = known.unwrap_or_else(|| ScheduleState::new(schedule.to_owned()));
    match change {
        ScheduleChange::Paused(paused) => state.paused = *paused,
        ScheduleChange::Defined { definition, from } => {
            state.definition = Some(definition.clone());
            state.last_tick = state.last_tick.max(Some(*from));
            state.last_outcome = None;
        }
        ScheduleChange::Removed => return Ok(tx.sql.execute(REMOVE, [schedule])? > 0),
    }
    keep(tx, &state)?;
    Ok(was_known)
}

pub(super) fn schedules(sql: &Statements<'_>) -> rusqlite::Result<Vec<ScheduleState>> {
    sql.get(ALL)?.query_map([], read)?.collect()
}

fn find(sql: &Statements<'_>, schedule: &str) -> rusqlite::Result<Option<ScheduleState>> {
    sql.get(ONE)?.query_row([schedule], read).optional()
}

fn keep(tx: &Transaction<'_, '_>, state: &ScheduleState) -> rusqlite::Result<()> {
    let ScheduleState { name, last_tick, last_outcome, last_start, last_task, paused, definition } = state;
    tx.sql.execute(
        KEEP,
        params![
            name,
            last_tick.map(time::to_micros),
            last_outcome.map(TickOutcome::as_str),
            last_start.map(time::to_micros),
            last_task.as_ref().map(TaskId::as_bytes),
            paused,
            definition,
        ],
    )?;
    Ok(())
}

fn read(row: &Row<'_>) -> rusqlite::Result<ScheduleState> {
    Ok(ScheduleState {
        name: row.get(0)?,
        last_tick: row.get::<_, Option<i64>>(1)?.map(time::from_micros),
        last_outcome: row.get_ref(2)?.as_str_or_null()?.and_then(TickOutcome::from_word),
        last_start: row.get::<_, Option<i64>>(3)?.map(time::from_micros),
        last_task: row.get::<_, Option<[u8; 16]>>(4)?.map(TaskId::from_bytes),
        paused: row.get(5)?,
        definition: row.get(6)?,
    })
}
