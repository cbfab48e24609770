//! Pages of records, newest first.
//!
//! A page reads along an index that has its order: by id, or by state and id for tasks that ended other than
//! `success`. Pending and running tasks are read from the small indexes where that is less. A page looks at no more
//! than [`MAX_LOOKED_AT`](TaskFilter::MAX_LOOKED_AT) rows and says where it stopped.

use sqlx::Row;
use uuid::Uuid;

use super::error::Fault;
use super::record::{self, outline_query, record_query};
use super::session::{Session, Statement};
use super::sql::total;
use super::value::{Instant, escape_nul};
use crate::model::{Cursor, Page, TaskFilter, TaskId, TaskRecord, TaskStatus, time};
use crate::store::codec;
use crate::store::row_state::RowState;

/// Rows to look at for a page, which takes some 20 ms.
const ENOUGH: i64 = TaskFilter::MAX_LOOKED_AT as i64;

/// Up to this many pending tasks are gathered and sorted. If there are more, the index of ids is read.
const FEW: i64 = 5_000;

/// The conditions of a filter on the rows that were looked at.
macro_rules! is_meant {
    () => {
        "(cardinality($3::smallint[]) = 0 OR state = ANY($3))
      AND (cardinality($4::text[]) = 0 OR name = ANY($4))
      AND (cardinality($5::text[]) = 0 OR queue = ANY($5))
      AND ($6::timestamptz IS NULL OR created_at >= $6)
      AND ($7::timestamptz IS NULL OR created_at < $7)
      AND NOT EXISTS (
          SELECT 1 FROM unnest($8::text[]) AS wanted (tag)
          WHERE tags IS NULL
             OR NOT (starts_with(tags, '{' || wanted.tag) OR strpos(tags, ',' || wanted.tag) > 0)
      )"
    };
}

/// How many rows were looked at, the last of them, and the ids of those that match the filter.
macro_rules! look_at {
    ($rows:literal) => {
        concat!(
            "WITH looked_at AS MATERIALIZED (",
            $rows,
            "    ORDER BY id DESC LIMIT $2
)
SELECT count(*), (SELECT id FROM looked_at ORDER BY id LIMIT 1),
       (SELECT array_agg(id ORDER BY id DESC) FROM looked_at WHERE ",
            is_meant!(),
            ")
FROM looked_at"
        )
    };
}

const ALONG_IDS: &str = look_at!(
    "
    SELECT id, state, name, queue, created_at, tags FROM taskflow_tasks WHERE id < $1
"
);

/// Pending and running tasks, and as many as needed of each final state other than `success`, along the index of
/// those.
const AMONG_FEW: &str = look_at!(
    "
    SELECT id, state, name, queue, created_at, tags FROM (
        SELECT * FROM taskflow_tasks WHERE state = -1 AND concurrency_key IS NOT NULL AND 0 = ANY($3)
        UNION ALL SELECT * FROM taskflow_tasks WHERE state = 0 AND 0 = ANY($3)
        UNION ALL SELECT * FROM taskflow_tasks WHERE state = 1 AND 0 = ANY($3)
        UNION ALL SELECT * FROM taskflow_tasks WHERE (state > 0) IS TRUE AND state IN (2, 3)
        UNION ALL (SELECT * FROM taskflow_tasks WHERE state = 5 AND 5 = ANY($3) AND id < $1 ORDER BY id DESC LIMIT $2)
        UNION ALL (SELECT * FROM taskflow_tasks WHERE state = 6 AND 6 = ANY($3) AND id < $1 ORDER BY id DESC LIMIT $2)
        UNION ALL (SELECT * FROM taskflow_tasks WHERE state = 7 AND 7 = ANY($3) AND id < $1 ORDER BY id DESC LIMIT $2)
        UNION ALL (SELECT * FROM taskflow_tasks WHERE state = 8 AND 8 = ANY($3) AND id < $1 ORDER BY id DESC LIMIT $2)
    ) AS few
    WHERE id < $1
"
);

const PENDING: &str = concat!("SELECT ", total!("pending"), " FROM taskflow_counts");

const RECORDS: &str = record_query!("WHERE t.id = ANY($1::uuid[]) ORDER BY t.id DESC");

const OUTLINES: &str = outline_query!("WHERE t.id = ANY($1::uuid[]) ORDER BY t.id DESC");

pub(super) async fn list(session: &mut Session<'_>, filter: &TaskFilter) -> Result<Page<TaskRecord>, Fault> {
    list_of(session, filter, RECORDS).await
}

pub(super) async fn outlines(
    session: &mut Session<'_>,
    filter: &TaskFilter,
) -> Result<Page<TaskRecord>, Fault> {
    list_of(session, filter, OUTLINES).await
}

async fn list_of(
    session: &mut Session<'_>,
    filter: &TaskFilter,
    records: &'static str,
) -> Result<Page<TaskRecord>, Fault> {
    let limit = filter.limit.clamp(1, TaskFilter::MAX_LIMIT);
    let before = filter.after.map_or(Uuid::max(), |cursor| Uuid::from(cursor.id()));
    let looked = match along_ids(session, filter).await? {
        // Most rows match, or nothing is known about how many do.
        true => {
            let first = look(session, ALONG_IDS, filter, before, codec::to_i64(2 * limit)).await?;
            match first.down_to {
                Some(_) if first.found.len() < limit => {
                    look(session, ALONG_IDS, filter, before, ENOUGH).await?
                }
                _ => first,
            }
        }
        false => look(session, AMONG_FEW, filter, before, ENOUGH).await?,
    };
    let Looked { mut down_to, mut found } = looked;
    if found.len() > limit {
        found.truncate(limit);
        down_to = found.last().copied();
    }
    let next = down_to.map(|id| Cursor::after(TaskId::from(id)));
    let rows = session.all(session.query(records).bind(found)).await?;
    let items = rows.iter().map(record::record).collect::<Result<_, _>>()?;
    Ok(Page::new(items, next))
}

/// The matches among the rows that were looked at.
struct Looked {
    /// The last row that was looked at; none if there are no further rows.
    down_to: Option<Uuid>,
    found: Vec<Uuid>,
}

/// Looks at up to `most` rows.
async fn look(
    session: &mut Session<'_>,
    text: &'static str,
    filter: &TaskFilter,
    before: Uuid,
    most: i64,
) -> Result<Looked, Fault> {
    let row = session.one(bind(session.query(text), filter, before, most)).await?;
    let is_end = row.try_get::<i64, _>(0)? < most;
    Ok(Looked {
        down_to: row.try_get::<Option<Uuid>, _>(1)?.filter(|_| !is_end),
        found: row.try_get::<Option<Vec<Uuid>>, _>(2)?.unwrap_or_default(),
    })
}

/// Whether matching tasks may be anywhere among the ids.
async fn along_ids(session: &mut Session<'_>, filter: &TaskFilter) -> Result<bool, Fault> {
    if filter.statuses.is_empty() || filter.statuses.contains(&TaskStatus::Success) {
        return Ok(true);
    }
    let pending: i64 = session.one(session.query(PENDING)).await?.try_get(0)?;
    Ok(filter.statuses.contains(&TaskStatus::Pending) && pending > FEW)
}

fn bind(statement: Statement, filter: &TaskFilter, before: Uuid, most: i64) -> Statement {
    let states = |status: &TaskStatus| {
        let of_status = RowState::ALL.into_iter().filter(|state| state.status() == *status);
        of_status.map(|state| i16::try_from(state.number()).unwrap_or(i16::MAX)).collect::<Vec<_>>()
    };
    let instant = |at: Option<std::time::SystemTime>| at.map(|at| Instant(time::to_micros(at)));
    let texts = |words: &[String]| words.iter().map(|word| escape_nul(word).into_owned()).collect::<Vec<_>>();
    statement
        .bind(before)
        .bind(most)
        .bind(filter.statuses.iter().flat_map(states).collect::<Vec<_>>())
        .bind(texts(&filter.names))
        .bind(texts(&filter.queues))
        .bind(instant(filter.created_after))
        .bind(instant(filter.created_before))
        .bind(filter.tags.iter().map(|(key, value)| tag(key, value)).collect::<Vec<_>>())
}

/// A label as it stands in the column: between a brace or a comma and a comma or a brace, and nowhere else, since a
/// quote inside a string has a backslash before it.
fn tag(key: &str, value: &str) -> String {
    let quoted = |text: &str| serde_json::to_string(text).expect("a string can be written as JSON");
    format!("{}:{}", quoted(key), quoted(value))
}
