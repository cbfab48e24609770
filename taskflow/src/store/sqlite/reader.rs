//! Reader threads. Each has a connection of its own and never waits for the writer.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::Receiver;

use parking_lot::Mutex;
use rusqlite::Connection;

use super::connection;
use super::identity::FileIdentity;
use super::statements::Statements;

/// A question; it sends its answer to its caller.
pub(super) type Question = Box<dyn for<'s, 'c> FnOnce(&'s Statements<'c>) + Send>;

/// Answers questions until the last sender is dropped.
pub(super) fn run(connection: &Connection, questions: &Arc<Mutex<Receiver<Question>>>) {
    let sql = Statements::new(connection);
    loop {
        let question = questions.lock().recv();
        let Ok(question) = question else { return };
        // After a panic, the caller's answer channel closes.
        let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| question(&sql)));
        if !connection.is_autocommit() {
            let _ = sql.execute("ROLLBACK", []);
        }
    }
}

/// Like [`run`], for a file that cannot be written. Opens the file again when it has changed.
pub(super) fn run_read_only(path: &Path, connection: Connection, questions: &Arc<Mutex<Receiver<Question>>>) {
    let now = || (FileIdentity::at(path).ok(), modified(path), connection::log_length(path));
    let (mut connection, mut seen) = (connection, now());
    loop {
        let question = questions.lock().recv();
        let Ok(question) = question else { return };
        if now() != seen
            && let Ok(again) = connection::open_read_only(path)
        {
            (connection, seen) = (again, now());
        }
        let sql = Statements::new(&connection);
        let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| question(&sql)));
    }
}

fn modified(path: &Path) -> Option<(u64, std::time::SystemTime)> {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.len(), metadata.modified().ok()?))
}

/// Runs a question with several statements in one read transaction, so that all see the same state of the file.
pub(super) fn on_one_state<T>(
    sql: &Statements<'_>,
    question: impl FnOnce(&Statements<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    sql.execute("BEGIN", [])?;
    let answer = question(sql);
    sql.execute("ROLLBACK", [])?;
    answer
}
