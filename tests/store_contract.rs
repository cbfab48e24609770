//! One suite over every store: the documentation of [`taskflow::store::Store`] as cases, and random histories compared
//! with an abstract model. Another store is one `open` function and one line.

#![expect(clippy::unwrap_used, reason = "a test that finds an error fails")]

mod contract;
#[path = "support/servers/mod.rs"]
mod servers;

use contract::contract;
use contract::lab::Opened;

contract!(memory, crate::open_memory, 400);
contract!(sqlite, crate::open_sqlite, 50);
contract!(redis, crate::open_redis, 50);
contract!(postgres, crate::open_postgres, 50);
contract!(postgres_behind_a_pooler, crate::open_postgres_behind_a_pooler, 10);

fn open_memory() -> Opened {
    Opened::new(taskflow::store::MemoryStore::new(), ())
}

fn open_sqlite() -> Opened {
    let directory = tempfile::tempdir().expect("a directory");
    let store = taskflow::store::SqliteStore::open(directory.path().join("tasks.db")).expect("a new file");
    Opened::new(store, directory)
}

fn open_redis() -> Option<Opened> {
    let store = taskflow::RedisStore::open(servers::redis::shared_url()?).expect("a URL");
    Some(Opened::new(store, ()))
}

/// One server for all, a namespace for each.
fn open_postgres() -> Option<Opened> {
    let url = servers::postgres::shared_url()?;
    Some(Opened::new(taskflow::PostgresStore::open(&url).expect("a URL"), ()))
}

/// As if behind a pooler that gives each transaction a session of its own.
fn open_postgres_behind_a_pooler() -> Option<Opened> {
    let url = format!("{}&listen=off", servers::postgres::shared_url()?);
    Some(Opened::new(taskflow::PostgresStore::open(&url).expect("a URL"), ()))
}
