//! What is refused: one clear line, an exit code, and nothing changed.

use std::fs;
use std::time::{Duration, Instant};

use taskflow::TaskManager;

use crate::command::{aside, run, run_with, table};
use crate::shop::{Shop, places};
use crate::support::{Gate, Place, eventually, soon};
use crate::terminal::Disk;

/// The id of the only task of a store. The task waits, and no process has the store open.
async fn resting(place: &Place) -> String {
    let shop = Shop::open(place.clone()).await;
    let id = shop.later(1).await.to_string();
    shop.close().await;
    id
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_input_is_answered_with_what_is_valid() {
    for place in places() {
        let id = resting(&place).await;
        let url = place.url();
        aside(move || {
            for (arguments, code, text) in [
                (&["lits"][..], 2, "'list'"),
                (&[], 2, "Usage"),
                (&["list", "stauts:failed"], 2, "did you mean `status`?"),
                (&["list", "status:faild"], 2, "did you mean `failed`?"),
                (&["list", "since:yesterday"], 2, "is not a length"),
                (&["list", "nobody_knows"], 2, "no known task is named like"),
                (&["list", &id], 2, "taskflow show"),
                (&["list", "--limit", "0"], 2, "1..=100000"),
                (&["count", "tag:pro"], 2, "write `tag.<name>`"),
                (&["show", "0193"], 2, "is not the id of a task"),
                (&["show", "no-such-thing"], 2, "is not the id of a task"),
                (&["show", "ffffffff"], 3, "no task whose id begins with"),
                (&["show", "01937c7a-2f5e-7cc0-8a4f-4d1f0a6b2f10"], 3, "there is no task"),
                (&["logs", "01937c7a-2f5e-7cc0-8a4f-4d1f0a6b2f10", "-f"], 3, "there is no task"),
                (&["wait", "01937c7a-2f5e-7cc0-8a4f-4d1f0a6b2f10"], 3, "there is no task"),
                (&["logs", &id, "--level", "loud"], 2, "`debug`, `info`, `warn` or `error`"),
                (&["retry", &id], 4, "only a failed, interrupted, cancelled or rejected task"),
                (&["retry", &id, "status:failed"], 2, "either ids or the words"),
                (&["stats", "--step", "90s"], 2, "whole number of minutes"),
                (&["stats", "--range", "0s"], 2, "write `30s`"),
                (&["status", "--json", "--ndjson"], 2, "cannot be used with"),
                (&["types", "no_such"], 3, "no process knows the task"),
                (&["retry", &id, "--reason", &"x".repeat(501)], 2, "at most 500 characters"),
            ] {
                let ran = run(&url, arguments).exits(code).says(text);
                assert_eq!(ran.out, "", "{ran:?}");
            }
        })
        .await;
        let tasks = soon(place.builder().view()).await.unwrap();
        assert_eq!(soon(tasks.counts()).await.unwrap().pending, 1);
    }
}

#[test]
fn a_store_that_cannot_be_used_is_refused_in_one_line() {
    let directory = tempfile::tempdir().unwrap();
    let text = directory.path().join("notes.txt");
    fs::write(&text, "not a database, but a longer text than the header of one would be".repeat(20)).unwrap();
    let text = format!("sqlite://{}", text.display());
    for (url, code, said) in [
        ("memory:", 2, "the memory of the process that runs the tasks"),
        ("mysql://localhost/app", 2, "there is no store `mysql`"),
        ("tasks.db", 2, "sqlite://tasks.db"),
        (text.as_str(), 2, "notes.txt"),
        ("", 2, "no store is named"),
        ("postgres://ada:s3cret@127.0.0.1:1/none", 5, "127.0.0.1:1"),
        ("redis://:s3cret@127.0.0.1:1/0", 5, "127.0.0.1:1"),
        ("postgres://ada:s3c/ret@127.0.0.1:1/none", 2, "percent-encode"),
    ] {
        let began = Instant::now();
        let ran = run(url, &["status"]).exits(code).says(said);
        assert!(!ran.err.contains("s3c"), "{ran:?}");
        assert!(began.elapsed() < Duration::from_secs(15), "{url} took {:?}", began.elapsed());
    }
}

#[test]
fn looking_at_a_file_that_is_not_there_makes_none_and_only_migrate_makes_a_store() {
    let directory = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", directory.path().join("none.db").display());
    let only_migrate_makes = |url: &str| {
        for _ in 0..2 {
            run(url, &["status"]).exits(2).says("migrate");
            run(url, &["retry", "status:failed", "--yes"]).exits(2);
            run(url, &["add", "greet", "--force"]).exits(2);
            run(url, &["serve", "--loopback", "--listen", "127.0.0.1:0"]).exits(2);
            let would = run(url, &["migrate", "--dry-run", "--json"]).exits(0).json();
            assert_eq!((&would["changed"], &would["dry_run"]), (&true.into(), &true.into()));
            run(url, &["migrate", "--dry-run"]).exits(0).prints("`migrate` would make");
        }
    };
    let is_made = |url: &str| {
        let made = run(url, &["migrate", "--json"]).exits(0).json();
        assert_eq!((&made["changed"], &made["dry_run"]), (&true.into(), &false.into()));
        for arguments in [&["migrate"][..], &["migrate", "-n"]] {
            run(url, arguments).exits(0).prints("is up to date");
        }
        run(url, &["count"]).exits(0).prints("0\n");
    };
    only_migrate_makes(&url);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    is_made(&url);
    let servers = [crate::servers::postgres::unmade_url(), crate::servers::redis::unmade_url()];
    for url in servers.into_iter().flatten() {
        only_migrate_makes(&url);
        is_made(&url);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_of_a_newer_version_is_left_alone() {
    let place = Place::sqlite();
    let id = resting(&place).await;
    let Place::Sqlite(directory) = &place else { unreachable!("it is a file") };
    let connection = rusqlite_open(&directory.path().join("tasks.db"));
    connection.execute("INSERT INTO taskflow_migrations VALUES (999, 0, 'of another time')", []).unwrap();
    drop(connection);
    let left_alone = |url: String, id: String| {
        aside(move || {
            for arguments in [
                &["list"][..],
                &["status", "--check"],
                &["cancel", &id],
                &["delete", "--all", "--yes"],
                &["migrate"],
                &["migrate", "--dry-run"],
            ] {
                run(&url, arguments).exits(2).says("newer").says("update this program");
            }
        })
    };
    left_alone(place.url(), id).await;

    if let Some(server) = crate::servers::postgres::PostgresServer::start() {
        let id = resting(&Place::Server(server.url())).await;
        server.query("INSERT INTO taskflow_migrations (version) VALUES (999)");
        left_alone(server.url(), id).await;
    }
    if let Some(server) = crate::servers::redis::RedisServer::start() {
        let id = resting(&Place::Server(server.url())).await;
        server.ask(&["HSET", "{taskflow:default}:meta", "schema", "999"]).unwrap();
        left_alone(server.url(), id).await;
    }
}

fn rusqlite_open(path: &std::path::Path) -> taskflow::rusqlite::Connection {
    taskflow::rusqlite::Connection::open(path).unwrap()
}

/// Runs verbs that only read the store and end by themselves.
fn looks_at_everything(url: &str, id: &str) {
    let each: [&[&str]; 14] = [
        &["status"],
        &["list"],
        &["count"],
        &["show", id],
        &["logs", id],
        &["failures"],
        &["queues"],
        &["schedules"],
        &["workers"],
        &["types"],
        &["stats"],
        &["audit"],
        &["operations"],
        &["export"],
    ];
    for arguments in each {
        run(url, arguments).exits(0);
        table(url, arguments).exits(0);
    }
}

/// Makes a store with one waiting task on this disk. Returns the URL of its file, and the id of the task.
async fn on_a_disk(disk: &Disk) -> (String, String) {
    let url = format!("sqlite://{}", disk.path().join("tasks.db").display());
    let builder = TaskManager::builder().store(url.as_str()).stats(false);
    let tasks = soon(
        builder.queue("slow", taskflow::QueueConfig::new()).only(["import"]).state(Gate::default()).start(),
    );
    let tasks = tasks.await.unwrap();
    soon(tasks.pause_queue("slow")).await.unwrap();
    let id = soon(tasks.add_all([crate::shop::new_import(&tasks, 1)])).await.unwrap()[0].id().to_string();
    soon(tasks.shutdown(Duration::ZERO)).await.unwrap();
    (url, id)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_looked_at() {
    let Some(disk) = Disk::mount() else { return };
    let (url, id) = on_a_disk(&disk).await;
    disk.fill();
    aside(move || {
        looks_at_everything(&url, &id);
        let refused = run(&url, &["cancel", &id]);
        assert!(refused.code != 0 && !refused.err.is_empty(), "{refused:?}");
        drop(disk);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_may_only_be_read_is_looked_at() {
    let Some(disk) = Disk::mount() else { return };
    let (url, id) = on_a_disk(&disk).await;
    eventually("it is let go", || async { disk.only_reads().then_some(()) }).await;
    aside(move || {
        looks_at_everything(&url, &id);
        run(&url, &["cancel", &id]).exits(2).says("Read-only file system");
        drop(disk);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_only_reads_is_looked_at() {
    let Some(server) = crate::servers::postgres::PostgresServer::start() else { return };
    let shop = Shop::open(Place::Server(server.url())).await;
    let id = shop.later(1).await.to_string();
    shop.close().await;
    server.query("ALTER DATABASE postgres SET default_transaction_read_only = on");
    let url = server.url();
    aside(move || {
        looks_at_everything(&url, &id);
        run(&url, &["cancel", &id]).exits(5).says("only reads");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_user_that_may_only_read_looks_at_everything() {
    let Some(server) = crate::servers::redis::RedisServer::start() else { return };
    let id = resting(&Place::Server(server.url())).await;
    let rules =
        ["ACL", "SETUSER", "looks", "on", ">seen", "~*", "&*", "+@read", "+@connection", "+@scripting"];
    server.ask(&[&rules[..], &["+time", "+subscribe", "+info"]].concat()).unwrap();
    let url = server.url().replace("redis://", "redis://looks:seen@");
    aside(move || {
        looks_at_everything(&url, &id);
        let refused = run(&url, &["cancel", &id]).exits(2);
        assert!(!refused.err.is_empty() && !refused.err.contains("seen"), "{refused:?}");
        drop(server);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn contexts_name_stores_and_production_asks() {
    for place in places() {
        let id = resting(&place).await;
        let directory = tempfile::tempdir().unwrap();
        let config = directory.path().join("config.toml");
        let write = |text: &str| fs::write(&config, text.replace("URL", &place.url())).unwrap();
        let ask = |arguments: &[&str]| run_with(&config, arguments);

        write("[contexts.dev]\nstore = \"URL\"\n");
        ask(&["count"]).exits(0).prints("1\n");
        ask(&["cancel", &id]).exits(0);

        write(
            "default = \"dev\"\n[contexts.dev]\nstore = \"URL\"\n[contexts.prod]\nstore = \"URL\"\nproduction = true\naccent = \"red\"\n\
             [contexts.env]\nstore = \"env:NO_SUCH_STORE\"\n[contexts.secret]\nstore = \"postgres://ada:s3cret@db/shop\"\n",
        );
        ask(&["count"]).exits(0);
        ask(&["retry", &id]).exits(2).says("several contexts").says("--context dev");
        ask(&["retry", &id, "--context", "prod"]).exits(2).says("`prod` is production").says("--yes");
        ask(&["retry", "all:true", "--context", "prod"])
            .exits(2)
            .says("Retry 1 task in `prod`, which is production?");
        ask(&["retry", &id, "--context", "prod", "--yes"]).exits(0);
        // A production store stays one, by its context or by its URL.
        ask(&["cancel", &id, "--store", &place.url()]).exits(2).says("is production");
        ask(&["cancel", &id, "-c", "dev"]).exits(0);
        ask(&["count", "-c", "prdo"]).exits(2).says("there is no context `prdo`").says("`prod`");
        ask(&["count", "-c", "env"]).exits(2).says("NO_SUCH_STORE");
        let contexts = ask(&["contexts", "--json"]).exits(0);
        assert_eq!(contexts.json()["items"].as_array().unwrap().len(), 4);
        assert!(contexts.out.contains("ada:***@db") && !contexts.out.contains("s3cret"), "{contexts:?}");

        write("[contexts.dev]\nstroe = \"s3cret\"\n");
        let wrong = ask(&["count"]).exits(2).says("line 2").says("stroe");
        assert!(!wrong.err.contains("s3cret"), "{wrong:?}");
        write("default = \"none\"\n");
        ask(&["count"]).exits(2).says("names the context `none`");
        run_with(&directory.path().join("missing"), &["count"]).exits(2).says("cannot read");
    }
}
