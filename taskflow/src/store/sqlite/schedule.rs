//! Ticks of schedules.

use rusqlite::params;

use super::insert;
use super::statements::Statements;
use super::transaction::Transaction;
use crate::model::time;
use crate::store::{Fire, Fired, ScheduleState};

/// Changes a row only for a tick later than all before.
const NOTE: &str = "
INSERT INTO taskflow_schedules (name, last_tick) VALUES (?1, ?2)
ON CONFLICT (name) DO UPDATE SET last_tick = excluded.last_tick WHERE excluded.last_tick > last_tick";

const ALL: &str = "SELECT name, last_tick FROM taskflow_schedules ORDER BY name";

pub(super) fn fire(tx: &mut Transaction<'_, '_>, fire: &Fire) -> rusqlite::Result<Fired> {
    if tx.sql.execute(NOTE, params![fire.schedule, time::to_micros(fire.tick)])? == 0 {
        return Ok(Fired::Before);
    }
    let Some(batch) = &fire.batch else { return Ok(Fired::Passed) };
    Ok(match insert::insert(tx, batch)?.pop() {
        Some(Ok(mut inserted)) => inserted.pop().map_or(Fired::Passed, Fired::Inserted),
        Some(Err(refusal)) => Fired::Refused(refusal),
        None => Fired::Passed,
    })
}

pub(super) fn schedules(sql: &Statements<'_>) -> rusqlite::Result<Vec<ScheduleState>> {
    let mut all = sql.get(ALL)?;
    let rows = all.query_map([], |row| {
        Ok(ScheduleState {
            name: row.get(0)?,
            last_tick: Some(time::from_micros(row.get(1)?)),
            ..ScheduleState::default()
        })
    })?;
    rows.collect()
}
