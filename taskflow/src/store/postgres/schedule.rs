//! Ticks of schedules.

use sqlx::Row;

use super::error::Fault;
use super::insert;
use super::session::Session;
use super::value::{Instant, give, keep};
use crate::model::time;
use crate::store::{Fire, Fired, ScheduleState};

/// Changes a row only for a tick later than all before. Who comes second waits here for the first.
const NOTE: &str = "
INSERT INTO taskflow_schedules AS s (name, last_tick) VALUES ($1, $2)
ON CONFLICT (name) DO UPDATE SET last_tick = excluded.last_tick WHERE excluded.last_tick > s.last_tick";

const ALL: &str = "SELECT name, last_tick FROM taskflow_schedules ORDER BY name";

pub(super) async fn fire(session: &mut Session<'_>, fire: &Fire) -> Result<Fired, Fault> {
    session.begin().await?;
    let tick = Instant(time::to_micros(fire.tick));
    let note = session.query(NOTE).bind(keep(&fire.schedule).into_owned()).bind(tick);
    if session.execute(note).await? == 0 {
        return Ok(Fired::Before);
    }
    session.is_news = true;
    let Some(batch) = &fire.batch else { return Ok(Fired::Passed) };
    Ok(match insert::insert(session, batch).await?.pop() {
        Some(Ok(mut inserted)) => inserted.pop().map_or(Fired::Passed, Fired::Inserted),
        Some(Err(refusal)) => Fired::Refused(refusal),
        None => Fired::Passed,
    })
}

pub(super) async fn schedules(session: &mut Session<'_>) -> Result<Vec<ScheduleState>, Fault> {
    let rows = session.all(session.query(ALL)).await?;
    rows.iter()
        .map(|row| {
            let last_tick = time::from_micros(row.try_get::<Instant, _>(1)?.0);
            Ok(ScheduleState { last_tick: Some(last_tick), ..ScheduleState::new(give(row.try_get(0)?)) })
        })
        .collect()
}
