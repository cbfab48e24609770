//! Our stores pass the public suite for authors of stores: `taskflow::testing::contract`.

#[path = "support/servers/mod.rs"]
mod servers;

use std::future::{Ready, ready};

use taskflow::testing::contract::{Fixture, Suite, tests};
use taskflow::{MemoryStore, PostgresStore, RedisStore, SqliteStore};

mod memory {
    super::tests!(full: super::Suite::new(super::open_memory).histories(400));
}

mod sqlite {
    super::tests!(full: super::Suite::new(super::open_sqlite).histories(50));
}

mod redis {
    super::tests!(full: super::Suite::new(super::open_redis).histories(50));
}

mod postgres {
    super::tests!(full: super::Suite::new(|| super::open_postgres("")).histories(50));
}

/// PostgreSQL as if behind a pooler that gives each transaction a session of its own.
mod postgres_behind_a_pooler {
    super::tests!(full: super::Suite::new(|| super::open_postgres("&listen=off")).histories(10));
}

fn open_memory() -> Ready<Fixture> {
    let store = MemoryStore::new();
    let same = store.clone();
    ready(Fixture::new(store).another_handle(move || ready(same.clone())))
}

async fn open_sqlite() -> Fixture {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("tasks.db");
    let open = move || SqliteStore::open(&path).expect("a file");
    Fixture::new(open()).another_handle(move || ready(open())).keeping(directory)
}

async fn open_redis() -> Option<Fixture> {
    let url = servers::redis::shared_url()?;
    let open = move || RedisStore::open(&url).expect("a URL");
    Some(Fixture::new(open()).another_handle(move || ready(open())))
}

/// A new namespace on the server that all cases share.
async fn open_postgres(more: &'static str) -> Option<Fixture> {
    let url = format!("{}{more}", servers::postgres::shared_url()?);
    let open = move || PostgresStore::open(&url).expect("a URL");
    Some(Fixture::new(open()).another_handle(move || ready(open())))
}
