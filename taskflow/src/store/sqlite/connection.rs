//! Opens connections and sets them up.

use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::Synchronous;

/// How often a connection tries again while another connection has the file locked. With the waits in [`wait`], this is
/// about half a minute.
const BUSY_TRIES: i32 = 25_000;

/// Opens a file for reading and writing, without further setup.
#[allow(unused_mut, reason = "some versions of rusqlite set the handler through `&mut`, some through `&`")]
pub(super) fn open(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
    let mut connection = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_handler(Some(wait as fn(i32) -> bool))?;
    keep_plans(&connection)?;
    Ok(connection)
}

/// Opens a file for reading.
#[allow(unused_mut, reason = "some versions of rusqlite set the handler through `&mut`, some through `&`")]
pub(super) fn open_to_read(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags)?;
    connection.busy_handler(Some(wait as fn(i32) -> bool))?;
    keep_plans(&connection)?;
    connection.execute_batch("PRAGMA cache_size = -4000; PRAGMA temp_store = MEMORY;")?;
    Ok(connection)
}

/// Opens a file that cannot be written, for reading. SQLite keeps an index of the log in shared memory beside the file.
/// If it can neither find nor create that index, and there is no log, the file is opened as immutable.
pub(super) fn open_read_only(path: &Path) -> rusqlite::Result<Connection> {
    let can_be_read = |connection: &Connection| {
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get::<_, i64>(0))
    };
    let opened = open_to_read(path).and_then(|connection| can_be_read(&connection).map(|_| connection));
    if opened.is_ok() || log_length(path) > 0 {
        return opened;
    }
    let name = percent_encoding::percent_encode(
        path.as_os_str().as_encoded_bytes(),
        percent_encoding::NON_ALPHANUMERIC,
    );
    let flags =
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
    let connection = Connection::open_with_flags(format!("file:{name}?immutable=1"), flags)?;
    can_be_read(&connection)?;
    Ok(connection)
}

/// The length of a file's write-ahead log, in bytes.
pub(super) fn log_length(path: &Path) -> u64 {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    std::fs::metadata(log).map_or(0, |log| log.len())
}

/// Makes SQLite plan a statement only when it is prepared, and not again when a bound value could lead to another plan.
/// The plans are known to be good, and planning takes longer than most statements.
fn keep_plans(connection: &Connection) -> rusqlite::Result<()> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true).map(drop)
}

/// Sets up a connection for writing. Another thread makes the checkpoints, so that no commit waits for one.
pub(super) fn set_up_to_write(connection: &Connection, synchronous: Synchronous) -> rusqlite::Result<()> {
    connection.execute_batch(match synchronous {
        Synchronous::Full => "PRAGMA synchronous = FULL;",
        Synchronous::Normal => "PRAGMA synchronous = NORMAL;",
    })?;
    connection.execute_batch(
        "PRAGMA wal_autocheckpoint = 0;
         PRAGMA journal_size_limit = 67108864;
         PRAGMA cache_size = -16000;
         PRAGMA temp_store = MEMORY;",
    )
}

/// Puts a file into write-ahead-log mode, in which readers and the writer do not wait for each other. SQLite does not
/// call the busy handler for this, so the retry is here.
pub(super) fn use_write_ahead_log(connection: &Connection) -> rusqlite::Result<bool> {
    let mut tries = 0;
    loop {
        let mode: rusqlite::Result<String> =
            connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0));
        match mode {
            Err(error) if is_busy(&error) && wait(tries) => tries += 1,
            mode => return Ok(mode?.eq_ignore_ascii_case("wal")),
        }
    }
}

/// Whether the error says that another connection has the file locked.
pub(super) fn is_busy(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{DatabaseBusy, DatabaseLocked};
    matches!(error.sqlite_error_code(), Some(DatabaseBusy | DatabaseLocked))
}

/// Waits before the next try: 50 to 100 µs at first, at most 2 ms later. Returns `false` when the tries are used up.
/// The waits are random, so that two processes do not collide again and again.
fn wait(tries: i32) -> bool {
    if tries >= BUSY_TRIES {
        return false;
    }
    let longest = (100_u64 << tries.clamp(0, 5)).min(2_000);
    std::thread::sleep(Duration::from_micros(fastrand::u64(50..=longest)));
    true
}
