//! Ticks of schedules, and schedules that are kept.

use sqlx::Row;
use uuid::Uuid;

use super::error::Fault;
use super::insert;
use super::session::Session;
use super::value::{Instant, give, keep};
use crate::model::{TaskId, TickOutcome, time};
use crate::store::{Fire, FireAfter, Fired, ScheduleChange, ScheduleState};

/// Who comes second waits here for the first.
const LOCK: &str = "
SELECT last_tick, last_start, paused, definition, now() FROM taskflow_schedules WHERE name = $1 FOR UPDATE";

const CLOCK: &str = "SELECT now()";

const KNOW: &str = "INSERT INTO taskflow_schedules (name) VALUES ($1) ON CONFLICT (name) DO NOTHING";

const NOTE_TICK: &str = "
UPDATE taskflow_schedules SET last_tick = $2, last_outcome = $3, last_task = coalesce($4, last_task) WHERE name = $1";

const NOTE_START: &str = "
UPDATE taskflow_schedules SET last_start = $2, last_task = coalesce($3, last_task) WHERE name = $1";

const ALL: &str = "
SELECT name, last_tick, last_outcome, last_start, last_task, paused, definition
FROM taskflow_schedules ORDER BY name";

/// The condition on `known` is so that it is read before anything is written.
const PAUSE: &str = "
WITH known AS MATERIALIZED (SELECT 1 FROM taskflow_schedules WHERE name = $1), changed AS (
    INSERT INTO taskflow_schedules (name, paused) VALUES ($1, $2)
    ON CONFLICT (name) DO UPDATE SET paused = excluded.paused
)
SELECT EXISTS (SELECT 1 FROM known)";

const DEFINE: &str = "
WITH known AS MATERIALIZED (SELECT 1 FROM taskflow_schedules WHERE name = $1), changed AS (
    INSERT INTO taskflow_schedules (name, definition, last_tick) VALUES ($1, $2, $3)
    ON CONFLICT (name) DO UPDATE SET
        definition = excluded.definition, last_outcome = NULL,
        last_tick = greatest(taskflow_schedules.last_tick, excluded.last_tick)
)
SELECT EXISTS (SELECT 1 FROM known)";

const REMOVE: &str = "DELETE FROM taskflow_schedules WHERE name = $1 AND definition IS NOT NULL";

pub(super) async fn fire(session: &mut Session<'_>, fire: &Fire) -> Result<Fired, Fault> {
    session.begin().await?;
    let name = keep(&fire.schedule).into_owned();
    let mut row = session.optional(session.query(LOCK).bind(name.clone())).await?;
    if row.is_none() {
        if matches!(fire.after, FireAfter::Start(Some(_))) || fire.definition.is_some() {
            return Ok(Fired::Before);
        }
        let now = session.one(session.query(CLOCK)).await?.try_get::<Instant, _>(0)?.0;
        if let Some(by) = fire.early_by(now) {
            return Ok(Fired::Early { by });
        }
        session.execute(session.query(KNOW).bind(name.clone())).await?;
        row = session.optional(session.query(LOCK).bind(name.clone())).await?;
    }
    let row = row.ok_or(Fault::Again("a schedule was removed"))?;
    if fire.definition.is_some() && fire.definition != row.try_get::<Option<String>, _>(3)?.map(give) {
        return Ok(Fired::Before);
    }
    let now = row.try_get::<Instant, _>(4)?.0;
    if let Some(by) = fire.early_by(now) {
        return Ok(Fired::Early { by });
    }
    let latest = |column: usize| row.try_get::<Option<Instant>, _>(column).map(|at| at.map(|at| at.0));
    let tick = time::to_micros(fire.tick);
    let is_next = match fire.after {
        FireAfter::Earlier => fire.is_after(latest(0)?, now),
        FireAfter::Start(before) => latest(1)? == before.map(time::to_micros),
    };
    if !is_next {
        return Ok(Fired::Before);
    }
    session.is_news = true;
    let is_paused = fire.after == FireAfter::Earlier && row.try_get(2)?;
    let fired = match &fire.batch {
        None => Fired::Passed,
        Some(_) if is_paused => Fired::Paused,
        Some(batch) => match insert::insert(session, batch).await?.pop() {
            Some(Ok(mut inserted)) => inserted.pop().map_or(Fired::Passed, Fired::Inserted),
            Some(Err(refusal)) => Fired::Refused(refusal),
            None => Fired::Passed,
        },
    };
    let task = match &fired {
        Fired::Inserted(inserted) => Some(Uuid::from(inserted.id)),
        _ => None,
    };
    let note = match fire.after {
        FireAfter::Earlier => {
            let begins = latest(0)?.is_none() && fire.batch.is_none();
            let outcome = fired.outcome().filter(|_| !begins).map(TickOutcome::as_str);
            session.query(NOTE_TICK).bind(name).bind(Instant(tick)).bind(outcome).bind(task)
        }
        FireAfter::Start(_) => session.query(NOTE_START).bind(name).bind(Instant(tick)).bind(task),
    };
    session.execute(note).await?;
    Ok(fired)
}

pub(super) async fn schedules(session: &mut Session<'_>) -> Result<Vec<ScheduleState>, Fault> {
    let rows = session.all(session.query(ALL)).await?;
    let instant = |row: &sqlx::postgres::PgRow, column: usize| {
        row.try_get::<Option<Instant>, _>(column).map(|at| at.map(|at| time::from_micros(at.0)))
    };
    rows.iter()
        .map(|row| {
            Ok(ScheduleState {
                name: give(row.try_get(0)?),
                last_tick: instant(row, 1)?,
                last_outcome: row.try_get::<Option<&str>, _>(2)?.and_then(TickOutcome::from_word),
                last_start: instant(row, 3)?,
                last_task: row.try_get::<Option<Uuid>, _>(4)?.map(TaskId::from),
                paused: row.try_get(5)?,
                definition: row.try_get::<Option<String>, _>(6)?.map(give),
            })
        })
        .collect()
}

pub(super) async fn set_schedule(
    session: &mut Session<'_>,
    schedule: &str,
    change: &ScheduleChange,
) -> Result<bool, Fault> {
    session.is_news = true;
    let name = keep(schedule).into_owned();
    let statement = match change {
        ScheduleChange::Paused(paused) => session.query(PAUSE).bind(name).bind(*paused),
        ScheduleChange::Defined { definition, from } => {
            let from = Instant(time::to_micros(*from));
            session.query(DEFINE).bind(name).bind(keep(definition).into_owned()).bind(from)
        }
        ScheduleChange::Removed => {
            return Ok(session.execute(session.query(REMOVE).bind(name)).await? > 0);
        }
    };
    Ok(session.one(statement).await?.try_get(0)?)
}
