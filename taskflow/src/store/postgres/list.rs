//! Pages of records, newest or oldest first.
//!
//! A page reads along an index that has its order: by id, or by state and id for tasks that ended other than `success`.
//! Pending and running tasks are read from the small indexes if those have fewer rows to read. A page looks at no more
//! than [`MAX_LOOKED_AT`](TaskFilter::MAX_LOOKED_AT) rows and says where it stopped.

use sqlx::Row;
use uuid::Uuid;

use super::error::Fault;
use super::record::{self, outline_query, record_query};
use super::session::{Session, Statement};
use super::sql::total;
use super::value::{Instant, escape_nul};
use crate::model::{Cursor, Order, Page, TaskFilter, TaskId, TaskRecord, TaskStatus, time};
use crate::store::codec;
use crate::store::row_state::RowState;

/// The most rows to look at for a page; this takes some 20 ms.
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

/// A query for a page, in two forms: one for each order. `$1` is where the page begins.
#[derive(Clone, Copy)]
struct Ordered {
    newest: &'static str,
    oldest: &'static str,
}

/// How many rows were looked at, the last of them, and the ids of those that match the filter. The rows are those of `$rows` on
/// the side `$beyond` (`<` or `>`) of `$1`, in the `$order` of their ids; `$reversed` is the other order.
macro_rules! look_at {
    ($rows:ident, $beyond:literal, $order:literal, $reversed:literal) => {
        concat!(
            "WITH looked_at AS MATERIALIZED (",
            $rows!($beyond, $order),
            "    ORDER BY id ",
            $order,
            " LIMIT $2
)
SELECT count(*), (SELECT id FROM looked_at ORDER BY id ",
            $reversed,
            " LIMIT 1),
       (SELECT array_agg(id ORDER BY id ",
            $order,
            ") FROM looked_at WHERE ",
            is_meant!(),
            ")
FROM looked_at"
        )
    };
    ($rows:ident) => {
        Ordered { newest: look_at!($rows, "<", "DESC", "ASC"), oldest: look_at!($rows, ">", "ASC", "DESC") }
    };
}

macro_rules! along_ids {
    ($beyond:literal, $order:literal) => {
        concat!(
            "
    SELECT id, state, name, queue, created_at, tags FROM taskflow_tasks WHERE id ",
            $beyond,
            " $1
"
        )
    };
}

/// Up to `$2` tasks that ended in one state, along the index of such tasks.
macro_rules! ended {
    ($state:literal, $beyond:literal, $order:literal) => {
        concat!(
            "
        UNION ALL (SELECT * FROM taskflow_tasks WHERE state = ",
            $state,
            " AND ",
            $state,
            " = ANY($3) AND id ",
            $beyond,
            " $1 ORDER BY id ",
            $order,
            " LIMIT $2)"
        )
    };
}

/// Pending and running tasks, and up to `$2` of each final state other than `success`.
macro_rules! among_few {
    ($beyond:literal, $order:literal) => {
        concat!(
            "
    SELECT id, state, name, queue, created_at, tags FROM (
        SELECT * FROM taskflow_tasks WHERE state = -1 AND concurrency_key IS NOT NULL AND 0 = ANY($3)
        UNION ALL SELECT * FROM taskflow_tasks WHERE state = 0 AND 0 = ANY($3)
        UNION ALL SELECT * FROM taskflow_tasks WHERE state = 1 AND 0 = ANY($3)
        UNION ALL SELECT * FROM taskflow_tasks WHERE (state > 0) IS TRUE AND state IN (2, 3)",
            ended!("5", $beyond, $order),
            ended!("6", $beyond, $order),
            ended!("7", $beyond, $order),
            ended!("8", $beyond, $order),
            "
    ) AS few
    WHERE id ",
            $beyond,
            " $1
"
        )
    };
}

const ALONG_IDS: Ordered = look_at!(along_ids);

const AMONG_FEW: Ordered = look_at!(among_few);

const PENDING: &str = concat!("SELECT ", total!("pending"), " FROM taskflow_counts");

const RECORDS: &str = record_query!("WHERE t.id = ANY($1::uuid[])");

const OUTLINES: &str = outline_query!("WHERE t.id = ANY($1::uuid[])");

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
    let looked = match along_ids(session, filter).await? {
        // Most rows match, or nothing is known about how many do.
        true => {
            let first = look(session, ALONG_IDS, filter, codec::to_i64(2 * limit)).await?;
            match first.up_to {
                Some(_) if first.found.len() < limit => look(session, ALONG_IDS, filter, ENOUGH).await?,
                _ => first,
            }
        }
        false => look(session, AMONG_FEW, filter, ENOUGH).await?,
    };
    let Looked { mut up_to, mut found } = looked;
    if found.len() > limit {
        found.truncate(limit);
        up_to = found.last().copied();
    }
    let next = up_to.map(|id| Cursor::after(TaskId::from(id)));
    let rows = session.all(session.query(records).bind(found)).await?;
    let mut items = rows.iter().map(record::record).collect::<Result<Vec<_>, _>>()?;
    items.sort_unstable_by(|a, b| filter.order.compare(a.id, b.id));
    Ok(Page::new(items, next))
}

/// The matches among the rows that were looked at.
struct Looked {
    /// The last row that was looked at; none if there are no further rows.
    up_to: Option<Uuid>,
    found: Vec<Uuid>,
}

/// Looks at up to `most` rows.
async fn look(
    session: &mut Session<'_>,
    query: Ordered,
    filter: &TaskFilter,
    most: i64,
) -> Result<Looked, Fault> {
    let after = filter.after.map(|cursor| Uuid::from(cursor.id()));
    let (text, start) = match filter.order {
        Order::Newest => (query.newest, after.unwrap_or(Uuid::max())),
        Order::Oldest => (query.oldest, after.unwrap_or(Uuid::nil())),
    };
    let row = session.one(bind(session.query(text), filter, start, most)).await?;
    let is_end = row.try_get::<i64, _>(0)? < most;
    Ok(Looked {
        up_to: row.try_get::<Option<Uuid>, _>(1)?.filter(|_| !is_end),
        found: row.try_get::<Option<Vec<Uuid>>, _>(2)?.unwrap_or_default(),
    })
}

/// Whether to read along the ids: the filter includes `success` or has no status, or it includes `pending` and more
/// than [`FEW`] tasks are pending.
async fn along_ids(session: &mut Session<'_>, filter: &TaskFilter) -> Result<bool, Fault> {
    if filter.statuses.is_empty() || filter.statuses.contains(&TaskStatus::Success) {
        return Ok(true);
    }
    let pending: i64 = session.one(session.query(PENDING)).await?.try_get(0)?;
    Ok(filter.statuses.contains(&TaskStatus::Pending) && pending > FEW)
}

fn bind(statement: Statement, filter: &TaskFilter, start: Uuid, most: i64) -> Statement {
    let states = |status: &TaskStatus| {
        let of_status = RowState::ALL.into_iter().filter(|state| state.status() == *status);
        of_status.map(|state| i16::try_from(state.number()).unwrap_or(i16::MAX)).collect::<Vec<_>>()
    };
    let instant = |at: Option<std::time::SystemTime>| at.map(|at| Instant(time::to_micros(at)));
    let texts = |words: &[String]| words.iter().map(|word| escape_nul(word).into_owned()).collect::<Vec<_>>();
    statement
        .bind(start)
        .bind(most)
        .bind(filter.statuses.iter().flat_map(states).collect::<Vec<_>>())
        .bind(texts(&filter.names))
        .bind(texts(&filter.queues))
        .bind(instant(filter.created_after))
        .bind(instant(filter.created_before))
        .bind(filter.tags.iter().map(|(key, value)| tag(key, value)).collect::<Vec<_>>())
}

/// A label as it stands in the column, after a brace or a comma. This text cannot stand there for anything else,
/// because a quote inside a string has a backslash before it.
fn tag(key: &str, value: &str) -> String {
    let quoted = |text: &str| serde_json::to_string(text).expect("a string can be written as JSON");
    format!("{}:{}", quoted(key), quoted(value))
}
