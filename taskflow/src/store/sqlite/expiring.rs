//! The list of pending tasks that expire.

use super::transaction::Transaction;

const EXPIRES: &str = "INSERT OR IGNORE INTO taskflow_expiring (lapsed, expires_at, task) VALUES (0, ?1, ?2)";

const NO_LONGER: &str = "
DELETE FROM taskflow_expiring WHERE lapsed IN (0, 1) AND expires_at = ?1 AND task = ?2";

/// Adds a pending row to the list, with its `expires_at`.
pub(super) fn expires(tx: &Transaction<'_, '_>, seq: i64, expires_at: i64) -> rusqlite::Result<()> {
    tx.sql.execute(EXPIRES, [expires_at, seq]).map(drop)
}

/// Removes a row from the list, because it was started, is held, or has ended.
pub(super) fn forget(tx: &Transaction<'_, '_>, seq: i64, expires_at: i64) -> rusqlite::Result<()> {
    tx.sql.execute(NO_LONGER, [expires_at, seq]).map(drop)
}
