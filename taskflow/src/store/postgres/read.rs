//! Queries about tasks.

use std::collections::HashMap;
use std::sync::Arc;

use sqlx::Row;
use uuid::Uuid;

use super::error::Fault;
use super::record::{self, record_query};
use super::session::Session;
use super::sql::total;
use super::value::{Instant, unescape_nul};
use crate::model::{Counts, LogLevel, LogLine, TaskId, TaskRecord, time};
use crate::store::row_state::RowState;
use crate::store::{TaskEnd, codec};

const GET: &str = record_query!("WHERE t.id = $1");

/// The large columns are read only for a task that has ended.
const ENDS: &str = "
SELECT t.id, t.state, CASE WHEN t.state >= 4 THEN t.result END, CASE WHEN t.state >= 4 THEN t.error END
FROM taskflow_tasks t WHERE t.id = ANY ($1)";

/// A task without log lines yields one row without a line; an unknown task yields no row.
const LOGS: &str = "
SELECT l.at, l.level, l.message, l.attempt
FROM taskflow_tasks t LEFT JOIN taskflow_logs l ON l.task = t.id WHERE t.id = $1 ORDER BY l.n";

const COUNTS: &str = concat!(
    "SELECT ",
    total!("pending"),
    ", ",
    total!("running"),
    ", ",
    total!("success"),
    ", ",
    total!("failed"),
    ", ",
    total!("interrupted"),
    ", ",
    total!("cancelled"),
    ", ",
    total!("rejected"),
    " FROM taskflow_counts"
);

pub(super) async fn get(session: &mut Session<'_>, id: TaskId) -> Result<Option<TaskRecord>, Fault> {
    let found = session.optional(session.query(GET).bind(Uuid::from(id))).await?;
    found.map(|row| record::record(&row)).transpose()
}

pub(super) async fn ends(session: &mut Session<'_>, ids: &[TaskId]) -> Result<Vec<TaskEnd>, Fault> {
    let uuids: Vec<Uuid> = ids.iter().map(|id| Uuid::from(*id)).collect();
    let rows = session.all(session.query(ENDS).bind(uuids)).await?;
    let mut found = HashMap::with_capacity(rows.len());
    for row in &rows {
        let status = RowState::from_number(row.try_get::<i16, _>(1)?.into()).status();
        let result = row.try_get::<Option<String>, _>(2)?.map(|json| Arc::from(codec::raw(json).get()));
        let end = TaskEnd::of(status, result, row.try_get::<Option<String>, _>(3)?.map(unescape_nul));
        found.insert(TaskId::from(row.try_get::<Uuid, _>(0)?), end);
    }
    Ok(ids.iter().map(|id| found.get(id).cloned().unwrap_or(TaskEnd::Gone)).collect())
}

pub(super) async fn logs(session: &mut Session<'_>, id: TaskId) -> Result<Option<Vec<LogLine>>, Fault> {
    let rows = session.all(session.query(LOGS).bind(Uuid::from(id))).await?;
    let mut lines = Vec::with_capacity(rows.len());
    for row in &rows {
        if let Some(at) = row.try_get::<Option<Instant>, _>(0)? {
            let level = LogLevel::from_word(row.try_get(1)?).unwrap_or(LogLevel::Info);
            let attempt = codec::to_u32(row.try_get(3)?);
            lines.push(LogLine::new(time::from_micros(at.0), level, unescape_nul(row.try_get(2)?), attempt));
        }
    }
    Ok((!rows.is_empty()).then_some(lines))
}

pub(super) async fn counts(session: &mut Session<'_>) -> Result<Counts, Fault> {
    let row = session.one(session.query(COUNTS)).await?;
    let number = |column: usize| row.try_get(column).map(codec::to_u64);
    Ok(Counts {
        pending: number(0)?,
        running: number(1)?,
        success: number(2)?,
        failed: number(3)?,
        interrupted: number(4)?,
        cancelled: number(5)?,
        rejected: number(6)?,
    })
}
