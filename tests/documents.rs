//! Documents outlast their process, can be read by a process that may not write, and withstand the writes of other programs.

#![allow(clippy::unwrap_used, reason = "a test that finds an error fails")]

#[path = "support/servers/mod.rs"]
mod servers;
mod support;

use std::sync::Arc;
use std::time::Duration;

use servers::postgres::PostgresServer;
use servers::redis::RedisServer;
use support::{Place, soon};
use taskflow::store::{Document, DocumentQuery, DocumentWrite, IntoStore, Retention};
use taskflow::{Store, TaskManager};

const KIND: &str = "notes";

#[taskflow::task(name = "documents.keep")]
async fn keep() {}

fn put(key: &str, value: &str) -> DocumentWrite {
    DocumentWrite::put(KIND, key, value.into())
}

async fn write(store: &dyn Store, writes: Vec<DocumentWrite>) -> Vec<Option<u64>> {
    soon(store.write_documents(writes)).await.unwrap()
}

async fn read(store: &dyn Store) -> Vec<Document> {
    soon(store.documents(DocumentQuery::all(KIND))).await.unwrap()
}

async fn values(store: &dyn Store) -> Vec<(String, u64, String)> {
    let value = |it: Document| (it.key, it.version, String::from_utf8(it.value).unwrap());
    read(store).await.into_iter().map(value).collect()
}

/// Makes the store of the place if there is none, and returns a new handle to it.
async fn open(place: &Place) -> Arc<dyn Store> {
    soon(place.builder().migrate()).await.unwrap();
    place.store()
}

/// Each place where documents outlast their process.
fn places() -> Vec<Place> {
    let urls = [servers::postgres::shared_url(), servers::redis::shared_url()];
    [Place::sqlite()].into_iter().chain(urls.into_iter().flatten().map(Place::Server)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn documents_outlast_the_process_that_wrote_them() {
    for place in places() {
        let store = open(&place).await;
        write(&*store, vec![put("a", "1"), put("b", "1").expires_in(Duration::from_secs(3600))]).await;
        let written = read(&*store).await;
        drop(store);
        let store = open(&place).await;
        assert_eq!(read(&*store).await, written, "{place:?}");
        assert_eq!(write(&*store, vec![put("a", "2").expected(1)]).await, [Some(2)], "{place:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_handles_that_expect_one_version_one_writes() {
    for place in places() {
        let handles = [open(&place).await, open(&place).await];
        for round in 0..50 {
            let both = handles.iter().map(|store| store.write_documents(vec![put("a", "").expected(round)]));
            let answers = soon(futures_util::future::join_all(both)).await;
            let won = answers.into_iter().filter(|answer| answer.as_ref().unwrap()[0].is_some()).count();
            assert_eq!(won, 1, "{place:?}");
        }
        assert_eq!(values(&*handles[0]).await, [("a".to_owned(), 50, String::new())]);
    }
}

/// If `url` gives only the right to read, documents can be read, and a write is refused like any other write.
async fn looks(url: &str) {
    let store = url.into_store().unwrap();
    assert_eq!(values(&*store).await, [("a".to_owned(), 1, "seen".to_owned())], "{url}");
    let refused = soon(store.write_documents(vec![put("a", "changed")])).await.unwrap_err();
    let other = soon(store.set_paused("default".to_owned(), true)).await.unwrap_err();
    assert_eq!((refused.kind(), refused.to_string()), (other.kind(), other.to_string()), "as any write");
    assert_eq!(values(&*store).await.len(), 1);
}

async fn filled(url: &str) {
    let store = open(&Place::Server(url.to_owned())).await;
    write(&*store, vec![put("a", "seen")]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_postgres_role_that_may_only_select_reads_documents() {
    let Some(server) = PostgresServer::start() else { return };
    filled(&server.url()).await;
    server.query("ALTER DATABASE postgres SET default_transaction_read_only = on");
    looks(&server.url()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_user_that_may_only_read_reads_documents() {
    let Some(server) = RedisServer::start() else { return };
    filled(&server.url()).await;
    let rules =
        ["ACL", "SETUSER", "looks", "on", ">seen", "~*", "&*", "+@read", "+@connection", "+@scripting"];
    server.ask(&[&rules[..], &["+time", "+subscribe", "+info"]].concat()).unwrap();
    looks(&server.url().replace("redis://", "redis://looks:seen@")).await;
}

/// Damaged documents are missing in every answer, do not count towards the limit of a query, and can be written again. All
/// others stay as they were.
async fn stands_damage(store: &dyn Store, damaged: &[&str]) {
    let sound = [("good".to_owned(), 1, "1".to_owned()), ("zoo".to_owned(), 1, "1".to_owned())];
    assert_eq!(values(store).await, sound);
    let mut last = DocumentQuery::all(KIND);
    (last.descending, last.limit) = (true, 2);
    assert_eq!(soon(store.documents(last)).await.unwrap().len(), 2, "no limit counts what is damaged");
    assert_eq!(write(store, vec![put("good", "2").expected(1)]).await, [Some(2)]);
    soon(store.prune(Retention::new(Duration::from_secs(3600)), 100)).await.unwrap();
    for key in damaged {
        assert_eq!(write(store, vec![put(key, "x").expected(7)]).await, [None], "{key}");
        assert_eq!(write(store, vec![put(key, "anew").expected(0)]).await, [Some(1)], "{key}");
    }
    let anew = values(store).await.into_iter().filter(|(_, _, value)| value == "anew").count();
    assert_eq!(anew, damaged.len());
}

const SOUND: [&str; 2] = ["good", "zoo"];
const DAMAGED: [&str; 3] = ["bad", "huge", "less"];

async fn fill(store: &dyn Store) {
    write(store, SOUND.iter().chain(&DAMAGED).map(|key| put(key, "1")).collect()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_rows_of_a_file_hide_no_other_document() {
    let place = Place::sqlite();
    let store = open(&place).await;
    fill(&*store).await;
    let Place::Sqlite(directory) = &place else { panic!("this test needs a SQLite file") };
    let file = rusqlite::Connection::open(directory.path().join("tasks.db")).unwrap();
    file.busy_timeout(support::DEADLINE).unwrap();
    file.execute_batch(
        "PRAGMA ignore_check_constraints = on;
         UPDATE taskflow_documents SET version = -1 WHERE key = CAST('bad' AS BLOB);
         UPDATE taskflow_documents SET version = 9223372036854775807 WHERE key = CAST('huge' AS BLOB);
         UPDATE taskflow_documents SET version = 0, written_at = -9223372036854775808 WHERE key = CAST('less' AS BLOB);
         INSERT INTO taskflow_documents VALUES ('notes', x'7aff', 1, 0, NULL, x'');",
    )
    .unwrap();
    stands_damage(&*store, &DAMAGED).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_rows_of_a_database_hide_no_other_document() {
    let Some(server) = PostgresServer::start() else { return };
    let store = open(&Place::Server(server.url())).await;
    fill(&*store).await;
    server.query(
        "ALTER TABLE taskflow_documents DROP CONSTRAINT taskflow_documents_version_check;
         UPDATE taskflow_documents SET version = -1 WHERE key = 'bad';
         UPDATE taskflow_documents SET version = 9223372036854775807 WHERE key = 'huge';
         UPDATE taskflow_documents SET version = 0, written_at = '-infinity' WHERE key = 'less';
         UPDATE taskflow_documents SET written_at = 'infinity', expires_at = 'infinity' WHERE key = 'zoo'",
    );
    stands_damage(&*store, &DAMAGED).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_keys_of_redis_hide_no_other_document() {
    let Some(server) = RedisServer::start() else { return };
    let store = open(&Place::Server(server.url())).await;
    fill(&*store).await;
    let key = |name: &str| format!("{{taskflow:default}}:{name}");
    let (hash, keys, expiring) =
        (key("documents:notes"), key("document_keys:notes"), key("documents_expiring"));
    let command = |words: &[&[u8]]| drop(server.command(words).unwrap());
    command(&[b"HSET", hash.as_bytes(), b"bad", b"cut short"]);
    command(&[b"HSET", hash.as_bytes(), b"huge", &[0x7f; 30]]);
    command(&[b"HDEL", hash.as_bytes(), b"less"]);
    write(&*store, vec![put("unlisted", "1")]).await;
    command(&[b"ZREM", keys.as_bytes(), b"unlisted"]);
    command(&[b"ZADD", keys.as_bytes(), b"0", b"z\xff"]);
    command(&[b"HSET", hash.as_bytes(), b"z\xff", &[1; 40]]);
    command(&[b"ZADD", expiring.as_bytes(), b"1", b"no kind", b"1", b"notes\0good"]);
    stands_damage(&*store, &[&DAMAGED[..], &["unlisted"]].concat()).await;

    // A key of another type is moved out of the way.
    for key in [&expiring, &keys, &hash] {
        command(&[b"DEL", key.as_bytes()]);
        command(&[b"SET", key.as_bytes(), b"x"]);
        assert_eq!(write(&*store, vec![put("again", "1").expected(0)]).await, [Some(1)], "{key}");
        assert_eq!(write(&*store, vec![DocumentWrite::delete(KIND, "again")]).await, [Some(1)], "{key}");
    }
}

#[tokio::test]
async fn a_manager_prunes_documents_as_it_starts() {
    let place = Place::sqlite();
    let store = open(&place).await;
    write(&*store, vec![put("old", "").expires_in(Duration::ZERO), put("kept", "")]).await;
    let Place::Sqlite(directory) = &place else { panic!("this test needs a SQLite file") };
    let file = rusqlite::Connection::open(directory.path().join("tasks.db")).unwrap();
    let count = || {
        file.query_row("SELECT count(*) FROM taskflow_documents WHERE kind = 'notes'", [], |row| {
            row.get::<_, i64>(0)
        })
        .unwrap()
    };
    assert_eq!(count(), 2);
    let tasks: TaskManager = soon(place.builder().only(["documents.keep"]).start()).await.unwrap();
    support::eventually("the expired document is deleted", || async { (count() == 1).then_some(()) }).await;
    soon(tasks.shutdown(Duration::ZERO)).await.unwrap();
}
