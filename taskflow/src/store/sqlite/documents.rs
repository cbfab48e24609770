//! The documents: small values of other parts of taskflow, such as statistics, by kind and key.

use std::ops::Range;

use rusqlite::{OptionalExtension, Row};

use super::readable;
use super::statements::Statements;
use super::transaction::Transaction;
use crate::model::time;
use crate::store::document::is_version;
use crate::store::transition::later;
use crate::store::{Document, DocumentQuery, DocumentWrite};

const FIND: &str = "SELECT version, expires_at FROM taskflow_documents WHERE kind = ?1 AND key = ?2";

const PUT: &str = "
INSERT INTO taskflow_documents (kind, key, version, written_at, expires_at, value) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
ON CONFLICT (kind, key) DO UPDATE SET
    version = excluded.version, written_at = excluded.written_at, expires_at = excluded.expires_at,
    value = excluded.value";

const DELETE: &str = "DELETE FROM taskflow_documents WHERE kind = ?1 AND key = ?2";

/// Without a SQL limit, because a row that another program has damaged must not count towards the query's limit.
const ASCENDING: &str = "
SELECT key, version, written_at, value FROM taskflow_documents
WHERE kind = ?1 AND key >= ?2 AND key < ?3 AND (expires_at IS NULL OR expires_at > ?4) ORDER BY kind, key";

const DESCENDING: &str = "
SELECT key, version, written_at, value FROM taskflow_documents
WHERE kind = ?1 AND key >= ?2 AND key < ?3 AND (expires_at IS NULL OR expires_at > ?4)
ORDER BY kind DESC, key DESC";

const DELETE_EXPIRED: &str = "
DELETE FROM taskflow_documents WHERE rowid IN (
    SELECT rowid FROM taskflow_documents WHERE expires_at <= ?1 ORDER BY expires_at LIMIT ?2
)";

/// Greater than every key, because no UTF-8 text has this byte.
const BEHIND_ALL: &[u8] = b"\xff";

pub(super) fn write(
    tx: &mut Transaction<'_, '_>,
    writes: &[DocumentWrite],
) -> rusqlite::Result<Vec<Option<u64>>> {
    writes.iter().map(|write| write_one(tx, write)).collect()
}

fn write_one(tx: &Transaction<'_, '_>, write: &DocumentWrite) -> rusqlite::Result<Option<u64>> {
    let DocumentWrite { kind, key, value, expires_in, expected } = write;
    let key = key.as_bytes();
    let now = tx.now;
    let found = tx.sql.get(FIND)?.query_row((kind, key), |row| {
        let is_there = readable::number(row.get_ref(1)?).is_none_or(|expires_at| expires_at > now);
        Ok(readable::number(row.get_ref(0)?).filter(|version| is_there && is_version(*version)))
    });
    let version = found.optional()?.flatten().unwrap_or(0);
    if expected.is_some_and(|expected| i64::try_from(expected) != Ok(version)) {
        return Ok(None);
    }
    let answer = match value {
        Some(value) => {
            let expires_at = expires_in.map(|length| later(now, length));
            tx.sql.execute(PUT, (kind, key, version + 1, now, expires_at, value))?;
            version + 1
        }
        None => {
            tx.sql.execute(DELETE, (kind, key))?;
            version
        }
    };
    Ok(Some(answer.unsigned_abs()))
}

pub(super) fn read(sql: &Statements<'_>, query: &DocumentQuery) -> rusqlite::Result<Vec<Document>> {
    let limit = query.limit.min(Document::MAX_BATCH);
    let Range { start, end } =
        query.from.as_bytes()..query.before.as_ref().map_or(BEHIND_ALL, |before| before.as_bytes());
    let mut statement = sql.get(if query.descending { DESCENDING } else { ASCENDING })?;
    let mut rows = statement.query((query.kind, start, end, time::now_micros()))?;
    let mut documents = Vec::new();
    while documents.len() < limit
        && let Some(row) = rows.next()?
    {
        documents.extend(document(row)?);
    }
    Ok(documents)
}

/// The document of a row; `None` if another program has damaged it.
fn document(row: &Row<'_>) -> rusqlite::Result<Option<Document>> {
    let key = row.get_ref(0)?.as_blob().ok().and_then(|key| std::str::from_utf8(key).ok());
    let version = readable::number(row.get_ref(1)?).filter(|version| is_version(*version));
    let written_at = readable::instant(row.get_ref(2)?);
    let value = row.get_ref(3)?.as_blob().ok();
    let (Some(key), Some(version), Some(written_at), Some(value)) = (key, version, written_at, value) else {
        return Ok(None);
    };
    Ok(Some(Document::new(key, version.unsigned_abs(), written_at, value.to_vec())))
}

/// Deletes up to `limit` documents that have expired. Answers how many.
pub(super) fn prune(tx: &Transaction<'_, '_>, limit: usize) -> rusqlite::Result<usize> {
    tx.sql.execute(DELETE_EXPIRED, (tx.now, i64::try_from(limit).unwrap_or(i64::MAX)))
}
