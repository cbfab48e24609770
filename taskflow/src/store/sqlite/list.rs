//! Pages of records, newest or oldest first.
//!
//! Each way of finding rows (a *source*) either is ordered by id or is small. Tasks that ended without success have a
//! table by state and id. Pending and running tasks are gathered from their indexes if there are few of them together.
//! Everything else is read along the index of ids. A page examines at most [`MAX_LOOKED_AT`](TaskFilter::MAX_LOOKED_AT)
//! rows in all.

use rusqlite::types::ValueRef;
use rusqlite::{OptionalExtension, Row};

use super::read::with_former_attempts;
use super::readable;
use super::reader::on_one_state;
use super::row::{self, outline_query, record_query};
use super::row_state::RowState;
use super::statements::Statements;
use crate::model::{Cursor, Order, Page, TaskFilter, TaskId, TaskRecord, TaskStatus, time};

/// Up to this many pending, held and running tasks are gathered and sorted. If there are more, they are read along the
/// index of ids.
const FEW: usize = 5_000;

/// Greater than every id: an id has 16 bytes.
const BEYOND: [u8; 17] = [0xff; 17];

/// A query along an index that has the order of a page. `?1` is where the page begins.
#[derive(Clone, Copy)]
struct Along {
    newest: &'static str,
    oldest: &'static str,
}

/// Selects the columns that a filter's conditions need.
macro_rules! light_query {
    ($rest:literal) => {
        concat!("SELECT seq, id, state, name, queue, created_at, tags FROM taskflow_tasks ", $rest)
    };
}

const BY_ID: Along = Along {
    newest: light_query!("WHERE id < ?1 ORDER BY id DESC"),
    oldest: light_query!("WHERE id > ?1 ORDER BY id"),
};

/// Selects the same columns of the tasks that ended badly in one state.
macro_rules! badly {
    ($rest:literal) => {
        concat!(
            "SELECT t.seq, t.id, t.state, t.name, t.queue, t.created_at, t.tags
FROM taskflow_ended_badly b CROSS JOIN taskflow_tasks t ON t.id = b.id
WHERE b.state = ?2 AND ",
            $rest
        )
    };
}

const BADLY: Along =
    Along { newest: badly!("b.id < ?1 ORDER BY b.id DESC"), oldest: badly!("b.id > ?1 ORDER BY b.id") };

const DUE: &str = light_query!("INDEXED BY taskflow_tasks_ready WHERE state = 0 AND id > ?1 AND id < ?2");

const LATER: &str = "
SELECT t.seq, t.id, t.state, t.name, t.queue, t.created_at, t.tags
FROM taskflow_later l CROSS JOIN taskflow_tasks t ON t.seq = l.task WHERE t.id > ?1 AND t.id < ?2";

const BLOCKED: &str = "
SELECT t.seq, t.id, t.state, t.name, t.queue, t.created_at, t.tags
FROM taskflow_blocked p CROSS JOIN taskflow_tasks t ON t.seq = p.task WHERE t.id > ?1 AND t.id < ?2";

const LAPSED: &str = "
SELECT t.seq, t.id, t.state, t.name, t.queue, t.created_at, t.tags
FROM taskflow_expiring e CROSS JOIN taskflow_tasks t ON t.seq = e.task WHERE e.lapsed = 1 AND t.id > ?1 AND t.id < ?2";

const LEASED: &str =
    light_query!("INDEXED BY taskflow_tasks_leases WHERE lease_until IS NOT NULL AND id > ?1 AND id < ?2");

const UNFINISHED: &str =
    "SELECT coalesce(sum(blocked + due + later + held + running), 0) FROM taskflow_queues";

/// A matching row: its id and its number.
type Found = (TaskId, i64);

/// The result of a source: matching rows, and the id up to which it is complete, in the order of the page; `None` if it is
/// complete to the end.
struct Given {
    found: Vec<Found>,
    up_to: Option<TaskId>,
}

pub(super) fn list(sql: &Statements<'_>, filter: &TaskFilter) -> rusqlite::Result<Page<TaskRecord>> {
    list_of(sql, filter, |sql, seq| {
        let mut query = sql.get(record_query!("WHERE t.seq = ?1"))?;
        let found = query.query_row([seq], row::record).optional()?;
        found.map(|(seq, record)| with_former_attempts(sql, seq, record)).transpose()
    })
}

pub(super) fn outlines(sql: &Statements<'_>, filter: &TaskFilter) -> rusqlite::Result<Page<TaskRecord>> {
    list_of(sql, filter, |sql, seq| {
        let found = sql.get(outline_query!("WHERE t.seq = ?1"))?.query_row([seq], row::record).optional()?;
        Ok(found.map(|(_, record)| TaskRecord { attempts: Vec::new(), ..record }))
    })
}

fn list_of(
    sql: &Statements<'_>,
    filter: &TaskFilter,
    read: impl Fn(&Statements<'_>, i64) -> rusqlite::Result<Option<TaskRecord>>,
) -> rusqlite::Result<Page<TaskRecord>> {
    on_one_state(sql, |sql| {
        let limit = filter.limit.clamp(1, TaskFilter::MAX_LIMIT);
        let given = gather(sql, filter, limit)?;
        page(sql, filter.order, limit, given, read)
    })
}

/// Asks the sources. A source that is ordered by id gives at most one row more than the page holds.
fn gather(sql: &Statements<'_>, filter: &TaskFilter, limit: usize) -> rusqlite::Result<Vec<Given>> {
    let mut wanted = filter.statuses.clone();
    wanted.sort_unstable();
    wanted.dedup();
    let (pending, running) = (wanted.contains(&TaskStatus::Pending), wanted.contains(&TaskStatus::Running));
    let along_ids = wanted.is_empty()
        || wanted.contains(&TaskStatus::Success)
        || ((pending || running)
            && sql.get(UNFINISHED)?.query_row([], |row| row.get::<_, i64>(0))? > row::to_i64(FEW));
    let search = Search { sql, filter, limit };
    if along_ids {
        return Ok(vec![search.along(BY_ID, None, TaskFilter::MAX_LOOKED_AT)?]);
    }
    let mut given = Vec::new();
    if pending {
        for query in [DUE, LATER, BLOCKED, LAPSED] {
            given.push(search.among(query)?);
        }
    }
    if pending || running {
        given.push(search.among(LEASED)?);
    }
    wanted.retain(|status| status.is_final());
    for status in &wanted {
        let most = (TaskFilter::MAX_LOOKED_AT - FEW) / wanted.len();
        given.push(search.along(BADLY, Some(RowState::ended(*status)), most)?);
    }
    Ok(given)
}

/// Merges the results of the sources in order, and reads the records of one page.
fn page(
    sql: &Statements<'_>,
    order: Order,
    limit: usize,
    given: Vec<Given>,
    read: impl Fn(&Statements<'_>, i64) -> rusqlite::Result<Option<TaskRecord>>,
) -> rusqlite::Result<Page<TaskRecord>> {
    // Up to this id, the results of all sources are complete.
    let up_to = given.iter().filter_map(|given| given.up_to).min_by(|a, b| order.compare(*a, *b));
    let mut found: Vec<Found> = given.into_iter().flat_map(|given| given.found).collect();
    found.retain(|(id, _)| up_to.is_none_or(|up_to| order.compare(*id, up_to).is_le()));
    found.sort_unstable_by(|a, b| order.compare(a.0, b.0));
    let next = if found.len() > limit {
        found.truncate(limit);
        found.last().map(|(id, _)| Cursor::after(*id))
    } else {
        up_to.map(Cursor::after)
    };
    let mut records = Vec::with_capacity(found.len());
    for (_, seq) in found {
        records.extend(read(sql, seq)?);
    }
    Ok(Page::new(records, next))
}

/// The search for the rows of one page.
struct Search<'l, 'c> {
    sql: &'l Statements<'c>,
    filter: &'l TaskFilter,
    limit: usize,
}

impl Search<'_, '_> {
    /// The page contains only ids between these two.
    fn between(&self) -> [Vec<u8>; 2] {
        let after = self.filter.after.map(|cursor| cursor.id().as_bytes().to_vec());
        match self.filter.order {
            Order::Newest => [Vec::new(), after.unwrap_or_else(|| BEYOND.to_vec())],
            Order::Oldest => [after.unwrap_or_default(), BEYOND.to_vec()],
        }
    }

    /// Reads along an index that has the order of the page. Examines at most `most` rows.
    fn along(&self, query: Along, state: Option<RowState>, most: usize) -> rusqlite::Result<Given> {
        let [above, below] = self.between();
        let (query, start) = match self.filter.order {
            Order::Newest => (query.newest, below),
            Order::Oldest => (query.oldest, above),
        };
        let mut query = self.sql.get(query)?;
        let mut rows = match state {
            Some(state) => query.query(rusqlite::params![start, state.number()])?,
            None => query.query([start])?,
        };
        let (mut found, mut looked_at) = (Vec::new(), 0);
        while let Some(row) = rows.next()? {
            looked_at += 1;
            let here = found_at(row)?;
            if self.matches(row)? {
                found.push(here);
            }
            if found.len() > self.limit || looked_at >= most {
                return Ok(Given { found, up_to: Some(here.0) });
            }
        }
        Ok(Given { found, up_to: None })
    }

    /// Reads the whole of a small index.
    fn among(&self, query: &'static str) -> rusqlite::Result<Given> {
        let mut query = self.sql.get(query)?;
        let mut rows = query.query(self.between())?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            if self.matches(row)? {
                found.push(found_at(row)?);
            }
        }
        Ok(Given { found, up_to: None })
    }

    /// [`TaskFilter::matches_base`] without building a record for every examined row.
    fn matches(&self, row: &Row<'_>) -> rusqlite::Result<bool> {
        let filter = self.filter;
        // A column that cannot be read matches no name and no queue.
        let any = |words: &[String], word: ValueRef<'_>| {
            words.is_empty() || word.as_str().is_ok_and(|word| words.iter().any(|one| one == word))
        };
        let status = RowState::from_number(row.get(2)?).status();
        if !(filter.statuses.is_empty() || filter.statuses.contains(&status))
            || !any(&filter.names, row.get_ref(3)?)
            || !any(&filter.queues, row.get_ref(4)?)
        {
            return Ok(false);
        }
        let created_at = time::from_micros(row.get(5)?);
        if filter.created_after.is_some_and(|at| created_at < at)
            || filter.created_before.is_some_and(|at| created_at >= at)
        {
            return Ok(false);
        }
        if filter.tags.is_empty() {
            return Ok(true);
        }
        let tags = row::tags(row.get_ref(6)?.as_str_or_null().unwrap_or_default());
        Ok(filter.tags.iter().all(|(key, value)| tags.get(key) == Some(value)))
    }
}

fn found_at(row: &Row<'_>) -> rusqlite::Result<Found> {
    Ok((TaskId::from_bytes(readable::id(row.get_ref(1)?)), row.get(0)?))
}
