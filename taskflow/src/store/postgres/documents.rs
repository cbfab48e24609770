//! The documents: small values that the store keeps beside the tasks, by kind and key.

use std::collections::{HashMap, HashSet};

use sqlx::Row;
use sqlx::postgres::PgRow;

use super::error::Fault;
use super::session::Session;
use super::value::{Instant, length};
use crate::model::time;
use crate::store::document::VERSIONS;
use crate::store::{Document, DocumentQuery, DocumentWrite, codec};

/// Whether a document is there: it has not expired, and no other program has damaged it.
macro_rules! is_there {
    () => {
        "((d.expires_at IS NULL OR d.expires_at > now()) AND d.version BETWEEN 1 AND $6 - 1)"
    };
}

/// Writes documents, each key once. An upsert cannot see which version was expected of its row, so there is one
/// statement for each kind of expectation: none, no document, and a version. Each checks its condition again after it
/// has waited for another transaction. Answers the new version of each written document, the last version of each
/// deleted one, and -1 where a delete expected no document and found one.
const WRITE: &str = concat!(
    "
WITH w AS MATERIALIZED (
    SELECT kind, key, expected, now() + length * interval '1 microsecond' AS expires_at, value
    FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::bytea[])
        AS w (kind, key, expected, length, value)
    ORDER BY kind, key
), put AS (
    INSERT INTO taskflow_documents AS d (kind, key, version, written_at, expires_at, value)
    SELECT kind, key, 1, now(), expires_at, value FROM w WHERE value IS NOT NULL AND expected IS NULL
    ON CONFLICT (kind, key) DO UPDATE SET
        version = CASE WHEN ",
    is_there!(),
    " THEN d.version + 1 ELSE 1 END,
        written_at = excluded.written_at, expires_at = excluded.expires_at, value = excluded.value
    RETURNING kind, key, version
), created AS (
    INSERT INTO taskflow_documents AS d (kind, key, version, written_at, expires_at, value)
    SELECT kind, key, 1, now(), expires_at, value FROM w WHERE value IS NOT NULL AND expected = 0
    ON CONFLICT (kind, key) DO UPDATE SET
        version = 1, written_at = excluded.written_at, expires_at = excluded.expires_at, value = excluded.value
    WHERE NOT ",
    is_there!(),
    "
    RETURNING kind, key, version
), changed AS (
    UPDATE taskflow_documents d SET
        version = d.version + 1, written_at = now(), expires_at = w.expires_at, value = w.value
    FROM w
    WHERE d.kind = w.kind AND d.key = w.key AND w.value IS NOT NULL AND d.version = w.expected AND ",
    is_there!(),
    "
    RETURNING d.kind, d.key, d.version
), deleted AS (
    DELETE FROM taskflow_documents d USING w
    WHERE d.kind = w.kind AND d.key = w.key AND w.value IS NULL
      AND (w.expected IS NULL OR w.expected = CASE WHEN ",
    is_there!(),
    " THEN d.version ELSE 0 END)
    RETURNING d.kind, d.key, CASE WHEN ",
    is_there!(),
    " THEN d.version ELSE 0 END
), kept AS (
    -- A delete that expects no document keeps the one that it finds.
    SELECT d.kind, d.key, -1 FROM taskflow_documents d JOIN w ON d.kind = w.kind AND d.key = w.key
    WHERE w.value IS NULL AND w.expected = 0 AND ",
    is_there!(),
    "
)
SELECT kind, key, version FROM put UNION ALL SELECT * FROM created UNION ALL SELECT * FROM changed
UNION ALL SELECT * FROM deleted UNION ALL SELECT * FROM kept"
);

macro_rules! read {
    ($order:literal) => {
        concat!(
            "
SELECT key, version, written_at, value FROM taskflow_documents
WHERE kind = $1 AND key >= $2 AND key < $3 AND (expires_at IS NULL OR expires_at > now())
  AND version BETWEEN 1 AND $5 - 1
ORDER BY ",
            $order,
            " LIMIT $4"
        )
    };
}

const ASCENDING: &str = read!("kind, key");
const DESCENDING: &str = read!("kind DESC, key DESC");

const DELETE_EXPIRED: &str = "
DELETE FROM taskflow_documents WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM taskflow_documents WHERE expires_at IS NOT NULL AND expires_at <= now()
    ORDER BY expires_at LIMIT $1 FOR UPDATE SKIP LOCKED
))";

pub(super) async fn write(
    session: &mut Session<'_>,
    writes: &[DocumentWrite],
) -> Result<Vec<Option<u64>>, Fault> {
    let parts = parts(writes);
    if parts.len() > 1 {
        session.begin().await?;
    }
    let mut answers = Vec::with_capacity(writes.len());
    for part in parts {
        write_part(session, part, &mut answers).await?;
    }
    Ok(answers)
}

/// Splits writes so that each part has each key once. Most writes are one part.
fn parts(writes: &[DocumentWrite]) -> Vec<&[DocumentWrite]> {
    let (mut parts, mut begin, mut keys) = (Vec::new(), 0, HashSet::new());
    for (n, write) in writes.iter().enumerate() {
        if !keys.insert((write.kind, &*write.key)) {
            parts.push(&writes[begin..n]);
            begin = n;
            keys = HashSet::from([(write.kind, &*write.key)]);
        }
    }
    if begin < writes.len() {
        parts.push(&writes[begin..]);
    }
    parts
}

async fn write_part(
    session: &mut Session<'_>,
    writes: &[DocumentWrite],
    answers: &mut Vec<Option<u64>>,
) -> Result<(), Fault> {
    let expected = |write: &DocumentWrite| write.expected.map(|version| i64::try_from(version).unwrap_or(-1));
    let statement = session
        .query(WRITE)
        .bind(writes.iter().map(|write| write.kind).collect::<Vec<_>>())
        .bind(writes.iter().map(|write| write.key.clone()).collect::<Vec<_>>())
        .bind(writes.iter().map(expected).collect::<Vec<_>>())
        .bind(writes.iter().map(|write| write.expires_in.map(length)).collect::<Vec<_>>())
        .bind(writes.iter().map(|write| write.value.clone()).collect::<Vec<_>>())
        .bind(VERSIONS);
    let rows = session.all(statement).await?;
    let mut versions = HashMap::with_capacity(rows.len());
    for row in &rows {
        let key: (&str, &str) = (row.try_get(0)?, row.try_get(1)?);
        versions.insert(key, u64::try_from(row.try_get::<i64, _>(2)?).ok());
    }
    answers.extend(writes.iter().map(|write| match versions.get(&(write.kind, &*write.key)) {
        Some(version) => *version,
        None if write.value.is_none() && write.expected.unwrap_or(0) == 0 => Some(0),
        None => None,
    }));
    Ok(())
}

pub(super) async fn read(session: &mut Session<'_>, query: &DocumentQuery) -> Result<Vec<Document>, Fault> {
    // Greater than every key, because none is that long.
    let behind_all = || "\u{10ffff}".repeat(Document::MAX_KEY / 4 + 1);
    let statement = session
        .query(if query.descending { DESCENDING } else { ASCENDING })
        .bind(query.kind)
        .bind(bound(&query.from))
        .bind(query.before.as_deref().map_or_else(behind_all, bound))
        .bind(codec::to_i64(query.limit.min(Document::MAX_BATCH)))
        .bind(VERSIONS);
    session.all(statement).await?.iter().map(document).collect()
}

/// A bound of a range of keys. PostgreSQL's text has no NUL character. Keys have none either, so a bound that is cut at
/// its first NUL and continued with U+0001 selects the same keys.
fn bound(text: &str) -> String {
    match text.split_once('\0') {
        Some((before, _)) => format!("{before}\u{1}"),
        None => text.to_owned(),
    }
}

fn document(row: &PgRow) -> Result<Document, Fault> {
    let version: i64 = row.try_get(1)?;
    let Instant(written_at) = row.try_get(2)?;
    let key: String = row.try_get(0)?;
    Ok(Document::new(key, version.unsigned_abs(), time::from_micros(written_at), row.try_get(3)?))
}

/// Deletes up to `limit` documents that have expired. Answers how many.
pub(super) async fn prune(session: &mut Session<'_>, limit: usize) -> Result<usize, Fault> {
    let deleted = session.execute(session.query(DELETE_EXPIRED).bind(codec::to_i64(limit))).await?;
    Ok(usize::try_from(deleted).unwrap_or(limit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_has_each_key_once_and_the_parts_are_in_order() {
        let put = |key: &str| DocumentWrite::put("kind", key, Vec::new());
        let of_another_kind = DocumentWrite::put("other", "a", Vec::new());
        let writes = [put("a"), put("b"), of_another_kind, put("a"), put("a"), put("b")];
        assert_eq!(parts(&writes).iter().map(|part| part.len()).collect::<Vec<_>>(), [3, 1, 2]);
        assert!(parts(&[]).is_empty());
    }
}
