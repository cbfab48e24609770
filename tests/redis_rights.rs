//! Missing rights of a Redis user and wrong settings of a server are reported at the start, with the remedy.

#![allow(clippy::unwrap_used, reason = "a test that finds an error fails")]

#[path = "support/log.rs"]
mod log;
#[path = "support/servers/mod.rs"]
mod servers;
mod support;

use std::sync::LazyLock;

use log::Log;
use servers::redis::{RedisServer, Reply};
use support::{DEADLINE, soon};
use taskflow::{Error, TaskManager, model::StoreErrorKind};

#[taskflow::task]
async fn plain(number: u64) -> Result<u64, std::io::Error> {
    Ok(number)
}

/// The log of all tests here.
static LOG: LazyLock<Log> = LazyLock::new(|| {
    let log = Log::default();
    let writer = log.clone();
    tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).init();
    log
});

/// Makes a user with these rules, and the URL by which it connects.
fn user(server: &RedisServer, name: &str, rules: &[&str]) -> String {
    let mut words: Vec<&[u8]> = vec![b"ACL", b"SETUSER", name.as_bytes(), b"on", b">s3cret"];
    words.extend(rules.iter().map(|rule| rule.as_bytes()));
    assert_eq!(server.command(&words), Some(Reply::Text("OK".to_owned())), "{rules:?}");
    format!("redis://{name}:s3cret@127.0.0.1:{}/0", server.port())
}

fn keys(server: &RedisServer) -> Vec<Reply> {
    match server.command(&[b"KEYS", b"*"]) {
        Some(Reply::List(keys)) => keys,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_right_is_found_at_the_start_with_the_remedy_and_stores_nothing() {
    let Some(server) = RedisServer::start() else { return };
    let all_keys = ["~*", "&*"];
    let family: [(&str, &[&str], &str); 7] = [
        ("nochannel", &["~*", "+@all", "resetchannels"], "`&{taskflow:default}:*`"),
        ("nokeys", &["~other:*", "&*", "+@all"], "`~{taskflow:default}:*`"),
        ("noeval", &[all_keys[0], all_keys[1], "+@all", "-eval", "-evalsha"], "+@scripting"),
        (
            "readonly",
            &[all_keys[0], all_keys[1], "+@read", "+@scripting", "+@connection", "+@pubsub", "+time"],
            "+@write",
        ),
        ("readonlykeys", &["%R~*", "&*", "+@all"], "`~{taskflow:default}:*`"),
        ("nopublish", &[all_keys[0], all_keys[1], "+@all", "-publish"], "+@pubsub"),
        ("nozadd", &[all_keys[0], all_keys[1], "+@all", "-zadd"], "ZADD"),
    ];
    for (name, rules, remedy) in family {
        let url = user(&server, name, rules);
        // By `start`, because a process that only connects may go on as a viewer.
        let error = soon(TaskManager::builder().store(&*url).start()).await.map(drop).expect_err(name);
        let Error::Store(store_error) = &error else { panic!("{name}: {error:?}") };
        assert_eq!(store_error.kind(), StoreErrorKind::Denied, "{name}: {error}");
        let text = format!("{error} {error:?}");
        assert!(text.contains(remedy) && !text.contains("s3cret"), "{name}: {error}");
        assert!(keys(&server).is_empty(), "{name} left something behind: {:?}", keys(&server));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_with_the_rights_of_the_remedy_can_do_everything_and_needs_no_script_load() {
    let Some(server) = RedisServer::start() else { return };
    let rules = [
        "~{taskflow:default}:*",
        "&{taskflow:default}:*",
        "+@read",
        "+@write",
        "+@scripting",
        "-script|load",
        "+@pubsub",
        "+@connection",
        "+time",
        "+info",
    ];
    let url = user(&server, "app", &rules);
    let tasks = TaskManager::builder().store(&*url).start().await.unwrap();
    let handle = soon(tasks.add_task(plain, (7,)).into_future()).await.unwrap();
    assert_eq!(soon(handle.wait()).await.unwrap(), 7);
    tasks.shutdown(DEADLINE).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_right_that_is_taken_away_later_leaves_no_add_half_done() {
    let Some(server) = RedisServer::start() else { return };
    let url = user(&server, "app", &["~*", "&*", "+@all"]);
    let tasks = TaskManager::builder().store(&*url).start().await.unwrap();
    user(&server, "app", &["resetchannels"]);
    // No notifications arrive, and everything goes on by polling.
    for number in 0..20 {
        let handle = soon(tasks.add_task(plain, (number,)).into_future()).await.unwrap();
        assert_eq!(soon(handle.wait()).await.unwrap(), number);
    }
    tasks.shutdown(DEADLINE).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_evicts_keys_is_refused_with_the_remedy() {
    let Some(server) = RedisServer::start() else { return };
    LazyLock::force(&LOG);
    let (here, mut warnings) = (format!(":{}", server.port()), 0);
    let mut assert_warned = |policy: &str, what: &str| {
        let log = LOG.text();
        let lines = log.lines().filter(|line| line.contains("WARN") && line.contains(&here));
        let warned = lines.filter(|line| line.contains("evicts") || line.contains("deletes tasks")).count();
        warnings += 1;
        assert_eq!(warned, warnings, "{policy}, {what}: {log}");
    };
    for policy in ["allkeys-lru", "volatile-ttl"] {
        server.command(&[b"CONFIG", b"SET", b"maxmemory-policy", policy.as_bytes()]).unwrap();
        let error =
            TaskManager::builder().store(server.url()).start().await.map(drop).unwrap_err().to_string();
        assert!(error.contains(policy) && error.contains("maxmemory-policy noeviction"), "{error}");
        // If this user cannot change the setting, a warning says so, also in a process that only adds.
        servers::made(server.url());
        let url = user(&server, "app", &["~*", "&*", "+@all", "-config"]);
        for builder in [TaskManager::builder().store(&*url), TaskManager::builder().store(server.url())] {
            let tasks = builder.connect().await.unwrap();
            assert_warned(policy, "a process that only adds");
            tasks.shutdown(DEADLINE).await.unwrap();
        }
        let tasks = TaskManager::builder().store(&*url).start().await.unwrap();
        assert_warned(policy, "a process that runs tasks");
        tasks.shutdown(DEADLINE).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_eviction_leaves_everything_else_going_on() {
    let Some(server) = RedisServer::start() else { return };
    for evicted in
        ["due:7:defaultplain", "due", "state", "leases", "counts", "ids", "seq", "task", "meta", "expiring"]
    {
        server.command(&[b"FLUSHALL"]).unwrap();
        let adds = TaskManager::builder().store(servers::made(server.url())).connect().await.unwrap();
        adds.pause_queue("default").await.unwrap();
        let mut handles = Vec::new();
        for number in 0..5 {
            handles.push(soon(adds.add_task(plain, (number,)).into_future()).await.unwrap());
        }
        adds.resume_queue("default").await.unwrap();
        server.command(&[b"DEL", format!("{{taskflow:default}}:{evicted}").as_bytes()]).unwrap();
        let tasks = TaskManager::builder().store(server.url()).start().await.unwrap();
        for (number, handle) in (0..).zip(&handles) {
            let record = support::eventually("it ended", || async {
                let record = tasks.get(handle.id()).await.ok()??;
                record.status.is_final().then_some(record)
            })
            .await;
            if evicted == "task" {
                let error = record.error.unwrap_or_default();
                assert!(error.contains("maxmemory-policy"), "{evicted}: {error}");
            } else {
                assert_eq!(record.result.unwrap().get(), format!("{number}"), "{evicted}");
            }
        }
        let handle = soon(tasks.add_task(plain, (9,)).into_future()).await.unwrap();
        assert_eq!(soon(handle.wait()).await.unwrap(), 9, "{evicted}");
        adds.shutdown(DEADLINE).await.unwrap();
        tasks.shutdown(DEADLINE).await.unwrap();
    }
}
