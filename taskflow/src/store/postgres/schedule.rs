//! Ticks of schedules, and stored schedules.

use std::time::SystemTime;

use sqlx::Row;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use super::error::Fault;
use super::insert;
use super::session::Session;
use super::value::{Instant, escape_nul, unescape_nul};
use crate::model::{TaskId, TickOutcome, time};
use crate::store::codec::{to_i64, to_u64};
use crate::store::hint_set::HintSet;
use crate::store::{Declaration, Fire, Fired, ScheduleChange, ScheduleChanges, ScheduleState};

/// Locks the row of a schedule: the second of two processes waits here for the first.
const LOCK: &str = "
SELECT name, last_tick, last_outcome, last_start, last_task, paused, definition, declared, declared_since, skipped,
       last_skipped, now()
FROM taskflow_schedules WHERE name = $1 FOR UPDATE";

const CLOCK: &str = "SELECT now()";

const INSERT_ROW: &str = "INSERT INTO taskflow_schedules (name) VALUES ($1) ON CONFLICT (name) DO NOTHING";

const KEEP: &str = "
UPDATE taskflow_schedules SET
    last_tick = $2, last_outcome = $3, last_start = $4, last_task = $5, paused = $6, definition = $7, declared = $8,
    declared_since = $9, skipped = $10, last_skipped = $11
WHERE name = $1";

/// The columns that a tick changes. The definition is not written again, because it may be long.
const NOTE_TICK: &str = "
UPDATE taskflow_schedules SET
    last_tick = $2, last_outcome = $3, last_start = $4, last_task = $5, skipped = $6, last_skipped = $7
WHERE name = $1";

const ONE: &str = "
SELECT name, last_tick, last_outcome, last_start, last_task, paused, definition, declared, declared_since, skipped,
       last_skipped
FROM taskflow_schedules WHERE name = $1";

const ALL: &str = "
SELECT name, last_tick, last_outcome, last_start, last_task, paused, definition, declared, declared_since, skipped,
       last_skipped
FROM taskflow_schedules ORDER BY name";

const REMOVE: &str = "DELETE FROM taskflow_schedules WHERE name = $1";

const LOCK_CHANGES: &str = "LOCK TABLE taskflow_schedule_log IN EXCLUSIVE MODE";

const VERSION: &str = "SELECT coalesce(max(version), 0) FROM taskflow_schedule_log";

const NOTE_CHANGE: &str = "
INSERT INTO taskflow_schedule_log (version, name, removed)
SELECT coalesce(max(version), 0) + 1, $1, $2 FROM taskflow_schedule_log
ON CONFLICT (name) DO UPDATE SET version = excluded.version, removed = excluded.removed";

/// The latest change is never among the deleted ones, so versions only grow.
const FORGET_REMOVED: &str = "
DELETE FROM taskflow_schedule_log WHERE removed AND version <= (
    SELECT version FROM taskflow_schedule_log WHERE removed ORDER BY version DESC LIMIT 1 OFFSET $1
)";

const CHANGES: &str = "
SELECT c.name, s.last_tick, s.last_outcome, s.last_start, s.last_task, coalesce(s.paused, false), s.definition, s.declared,
       s.declared_since, coalesce(s.skipped, 0), s.last_skipped, c.version
FROM taskflow_schedule_log c
LEFT JOIN taskflow_schedules s ON s.name = c.name AND s.definition IS NOT NULL
WHERE c.version > $1 ORDER BY c.version LIMIT $2";

pub(super) async fn fire(session: &mut Session<'_>, fire: &Fire) -> Result<Fired, Fault> {
    session.begin().await?;
    let name = escape_nul(&fire.schedule).into_owned();
    let mut row = session.optional(session.query(LOCK).bind(name.clone())).await?;
    if row.is_none() {
        let now = session.one(session.query(CLOCK)).await?.try_get::<Instant, _>(0)?.0;
        if let Err(fired) = ScheduleState::new(fire.schedule.clone()).admit(fire, now) {
            return Ok(fired);
        }
        row = Some(insert_row(session, &name).await?);
    }
    let row = row.ok_or(Fault::Again("a schedule was removed"))?;
    let mut state = read(&row)?;
    let now = row.try_get::<Instant, _>(11)?.0;
    let batch = match state.admit(fire, now) {
        Ok(batch) => batch,
        Err(fired) => return Ok(fired),
    };
    session.changes = HintSet::ALL;
    let inserted = match batch {
        Some(batch) => Some(insert::insert(session, batch).await?),
        None => None,
    };
    let fired = state.note(fire, inserted);
    let note = session
        .query(NOTE_TICK)
        .bind(name)
        .bind(instant(state.last_tick))
        .bind(state.last_outcome.map(TickOutcome::as_str))
        .bind(instant(state.last_start))
        .bind(state.last_task.map(Uuid::from))
        .bind(i64::try_from(state.skipped).unwrap_or(i64::MAX))
        .bind(instant(state.last_skipped));
    session.execute(note).await?;
    Ok(fired)
}

pub(super) async fn schedules(session: &mut Session<'_>) -> Result<Vec<ScheduleState>, Fault> {
    session.all(session.query(ALL)).await?.iter().map(read).collect()
}

pub(super) async fn schedule(session: &mut Session<'_>, name: &str) -> Result<Option<ScheduleState>, Fault> {
    let row = session.optional(session.query(ONE).bind(escape_nul(name).into_owned())).await?;
    row.as_ref().map(read).transpose()
}

pub(super) async fn changes(session: &mut Session<'_>, since: &u64) -> Result<ScheduleChanges, Fault> {
    let since = i64::try_from(*since).unwrap_or(i64::MAX);
    let latest: i64 = session.one(session.query(VERSION)).await?.try_get(0)?;
    let mut changes = ScheduleChanges::new(to_u64(latest), Vec::new(), false);
    if latest <= since {
        return Ok(changes);
    }
    let most = ScheduleChanges::MAX;
    let page = session.query(CHANGES).bind(since).bind(to_i64(most) + 1);
    let rows = session.all(page).await?;
    changes.more = rows.len() > most;
    for row in rows.iter().take(most) {
        changes.version = to_u64(row.try_get(11)?);
        changes.changed.push(read(row)?);
    }
    Ok(changes)
}

pub(super) async fn set_schedule(
    session: &mut Session<'_>,
    schedule: &str,
    change: &ScheduleChange,
) -> Result<bool, Fault> {
    session.changes = HintSet::ALL;
    session.begin().await?;
    let name = escape_nul(schedule).into_owned();
    if matches!(change, ScheduleChange::Defined { .. } | ScheduleChange::Removed) {
        session.script(LOCK_CHANGES).await?;
    }
    let known = session.optional(session.query(LOCK).bind(name.clone())).await?;
    let was_known = known.is_some();
    let is_end = matches!(change, ScheduleChange::Removed | ScheduleChange::Undeclared { .. });
    let row = match known {
        Some(row) => row,
        None if is_end => return Ok(false),
        None => insert_row(session, &name).await?,
    };
    let mut state = read(&row)?;
    let was_defined = state.definition.is_some();
    state.change(change, row.try_get::<Instant, _>(11)?.0);
    match change {
        ScheduleChange::Defined { .. } => {
            session.execute(session.query(NOTE_CHANGE).bind(name.clone()).bind(false)).await?;
        }
        ScheduleChange::Removed if !was_defined => return Ok(false),
        ScheduleChange::Removed => {
            session.execute(session.query(NOTE_CHANGE).bind(name.clone()).bind(true)).await?;
            let most = to_i64(ScheduleChanges::MAX_REMOVED);
            session.execute(session.query(FORGET_REMOVED).bind(most)).await?;
            if state.declared.is_none() {
                session.execute(session.query(REMOVE).bind(name)).await?;
                return Ok(true);
            }
        }
        _ => {}
    }
    write(session, name, &state).await?;
    Ok(was_known)
}

fn instant(at: Option<SystemTime>) -> Option<Instant> {
    at.map(|at| Instant(time::to_micros(at)))
}

/// Inserts and locks the row of a schedule that had none.
async fn insert_row(session: &mut Session<'_>, name: &str) -> Result<PgRow, Fault> {
    session.execute(session.query(INSERT_ROW).bind(name.to_owned())).await?;
    let row = session.optional(session.query(LOCK).bind(name.to_owned())).await?;
    row.ok_or(Fault::Again("a schedule was removed"))
}

async fn write(session: &mut Session<'_>, name: String, state: &ScheduleState) -> Result<(), Fault> {
    let declared = state.declared.as_ref();
    let statement = session
        .query(KEEP)
        .bind(name)
        .bind(instant(state.last_tick))
        .bind(state.last_outcome.map(TickOutcome::as_str))
        .bind(instant(state.last_start))
        .bind(state.last_task.map(Uuid::from))
        .bind(state.paused)
        .bind(state.definition.as_deref().map(|text| escape_nul(text).into_owned()))
        .bind(declared.map(|declared| escape_nul(&declared.timing).into_owned()))
        .bind(declared.map(|declared| Instant(time::to_micros(declared.since))))
        .bind(i64::try_from(state.skipped).unwrap_or(i64::MAX))
        .bind(instant(state.last_skipped));
    session.execute(statement).await.map(drop)
}

fn read(row: &PgRow) -> Result<ScheduleState, Fault> {
    let instant = |column: usize| {
        row.try_get::<Option<Instant>, _>(column).map(|at| at.map(|at| time::from_micros(at.0)))
    };
    let text = |column: usize| row.try_get::<Option<String>, _>(column).map(|text| text.map(unescape_nul));
    Ok(ScheduleState {
        name: unescape_nul(row.try_get(0)?),
        last_tick: instant(1)?,
        last_outcome: row.try_get::<Option<&str>, _>(2)?.and_then(TickOutcome::from_word),
        last_start: instant(3)?,
        last_task: row.try_get::<Option<Uuid>, _>(4)?.map(TaskId::from),
        paused: row.try_get(5)?,
        definition: text(6)?,
        declared: text(7)?.zip(instant(8)?).map(|(timing, since)| Declaration::new(timing, since)),
        skipped: to_u64(row.try_get(9)?),
        last_skipped: instant(10)?,
    })
}
