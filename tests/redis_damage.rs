//! Other programs write junk into the keys of taskflow on Redis: it harms no other task, and stops no call for ever.

#![allow(clippy::unwrap_used, reason = "a test that finds an error fails")]

#[path = "support/servers/mod.rs"]
mod servers;
mod support;

use std::collections::HashSet;
use std::time::Duration;

use servers::redis::{RedisServer, Reply};
use support::{DEADLINE, Gate, Notes, eventually, reaches, soon};
use taskflow::{
    QueueConfig, State, TaskFilter, TaskId, TaskManager, TaskManagerBuilder, TaskRecord, TaskStatus,
};

#[taskflow::task]
async fn note(State(notes): State<Notes<u64>>, number: u64) {
    notes.write(number);
}

#[taskflow::task(retries = 3, delay = "10ms", timeout = "30s")]
async fn with_policy(State(notes): State<Notes<u64>>, number: u64) {
    notes.write(number);
}

#[taskflow::task]
async fn waits(State(gate): State<Gate>) {
    gate.pass().await;
}

fn builder(url: &str, notes: &Notes<u64>) -> TaskManagerBuilder {
    TaskManager::builder()
        .store(url)
        .state(notes.clone())
        .state(Gate::default())
        .queue("limited", QueueConfig::new().key_concurrency(1))
        .max_concurrent_tasks(8)
}

const PREFIX: &str = "{taskflow:default}:";

fn key(name: &str) -> Vec<u8> {
    format!("{PREFIX}{name}").into_bytes()
}

/// Writes that field of a hash.
fn set(server: &RedisServer, hash: &str, id: TaskId, value: &[u8]) {
    server.command(&[b"HSET", &key(hash), id.as_bytes(), value]).unwrap();
}

/// The stored parts of a waiting task.
fn of_task(server: &RedisServer, id: TaskId) -> Vec<u8> {
    server.command(&[b"HGET", &key("task"), id.as_bytes()]).unwrap().into_bytes()
}

async fn added(tasks: &TaskManager, number: u64) -> TaskId {
    soon(tasks.add_task(note, (number,)).into_future()).await.unwrap().id()
}

/// Damages one waiting task.
type Damage = fn(&RedisServer, TaskId);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_task_fails_with_the_reason_and_everything_else_goes_on() {
    let Some(server) = RedisServer::start() else { return };
    // Printed if the test fails.
    let _ = tracing_subscriber::fmt().with_test_writer().with_max_level(tracing::Level::WARN).try_init();
    let damages: [(&str, Damage); 13] = [
        ("an empty record", |server, id| set(server, "task", id, b"")),
        ("a record cut short", |server, id| {
            let task = of_task(server, id);
            set(server, "task", id, &task[..70]);
        }),
        ("arguments cut short", |server, id| {
            let task = of_task(server, id);
            set(server, "task", id, &task[..task.len() - 4]);
        }),
        ("a record of other bytes", |server, id| set(server, "task", id, &[0xff; 200])),
        ("a record that is gone", |server, id| {
            server.command(&[b"HDEL", &key("task"), id.as_bytes()]).unwrap();
        }),
        ("an empty state", |server, id| set(server, "state", id, b"")),
        ("a state of other bytes", |server, id| set(server, "state", id, &[0x7f; 90])),
        ("the state of a task that has ended", |server, id| {
            let task = of_task(server, id);
            let mut state = vec![77; 52];
            state.extend_from_slice(&task[ready_list_at(&task) - 2..body_at(&task)]);
            set(server, "state", id, &state);
        }),
        ("a ready_list that is not text", |server, id| {
            damage_at(server, id, ready_list_at(&of_task(server, id)) + 2, b"\xff\xfe");
        }),
        ("a ready_list with an absurd length", |server, id| {
            damage_at(server, id, ready_list_at(&of_task(server, id)) - 2, b"\xff\xff");
        }),
        ("a fence that cannot grow", |server, id| {
            let task = of_task(server, id);
            let mut state = vec![0; 16];
            state.extend([0xff; 8]);
            state.extend([0; 28]);
            state.extend_from_slice(&task[ready_list_at(&task) - 2..body_at(&task)]);
            set(server, "state", id, &state);
        }),
        ("a policy that is not JSON", |server, id| {
            let task = of_task(server, id);
            let at = body_at(&task);
            let mut damaged = task[..at].to_vec();
            damaged.extend(b"\x05\0\0\0{\"x\":");
            damaged.extend(&task[at + 4..]);
            set(server, "task", id, &damaged);
        }),
        ("arguments that are not text", |server, id| {
            let task = of_task(server, id);
            let at = body_at(&task);
            let mut damaged = task[..at + 8].to_vec();
            damaged.extend(b"[\xff\xfe]");
            set(server, "task", id, &damaged);
        }),
    ];
    for (what, damage) in damages {
        server.command(&[b"FLUSHALL"]).unwrap();
        let notes = Notes::default();
        let adds = builder(&servers::made(server.url()), &notes).connect().await.unwrap();
        adds.pause_queue("default").await.unwrap();
        let mut good = Vec::new();
        for number in 0..10 {
            good.push(added(&adds, number).await);
        }
        let bad = added(&adds, 999).await;
        for number in 10..20 {
            good.push(added(&adds, number).await);
        }
        damage(&server, bad);
        let tasks = builder(&server.url(), &notes).start().await.unwrap();
        tasks.resume_queue("default").await.unwrap();
        for id in &good {
            reaches(&tasks, *id, TaskStatus::Success).await;
        }
        let ended = reaches(&tasks, bad, TaskStatus::Failed).await;
        let error = ended.error.unwrap_or_default();
        // Arguments that are cut short are found when they are decoded.
        let says_why = error.contains("damaged in the store: ") || error.contains("its arguments are not");
        assert!(says_why, "{what}: {error}");
        let filter = TaskFilter::default().status(TaskStatus::Failed);
        let failed = tasks.list(filter).await.unwrap().items;
        assert_eq!(failed.iter().map(|record| record.id).collect::<Vec<_>>(), [bad], "{what}");
        let mut noted = notes.read();
        noted.sort_unstable();
        assert_eq!(noted, (0..20).collect::<Vec<_>>(), "{what}: each good one ran once");
        // A repair counts the tasks anew at its end.
        eventually(&format!("{what}: the numbers are right"), || async {
            let counts = tasks.counts().await.unwrap();
            let numbers = (counts.success, counts.failed, counts.pending, counts.running);
            (numbers == (20, 1, 0, 0)).then_some(())
        })
        .await;
        assert_eq!(
            tasks.delete_all(TaskFilter::default().status(TaskStatus::Failed)).await.unwrap(),
            1,
            "{what}"
        );
        assert!(tasks.get(bad).await.unwrap().is_none(), "{what}");
        adds.shutdown(Duration::from_secs(5)).await.unwrap();
        tasks.shutdown(Duration::from_secs(5)).await.unwrap();
    }
}

/// Where the ready list of a task of these tests begins: behind its length.
fn ready_list_at(task: &[u8]) -> usize {
    let ready_list = b"7:defaultnote";
    task.windows(ready_list.len()).position(|bytes| bytes == ready_list).expect("it is in that ready list")
}

/// Where the body of such a task begins: behind the ready list and the length of its concurrency group, which is empty.
fn body_at(task: &[u8]) -> usize {
    ready_list_at(task) + 13 + 2
}

fn damage_at(server: &RedisServer, id: TaskId, at: usize, bytes: &[u8]) {
    let mut task = of_task(server, id);
    task[at..at + bytes.len()].copy_from_slice(bytes);
    set(server, "task", id, &task);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_that_wait_for_a_damaged_task_of_their_key_run_once_it_has_failed() {
    let Some(server) = RedisServer::start() else { return };
    let (notes, gate) = (Notes::default(), Gate::default());
    let tasks = builder(&server.url(), &notes).state(gate.clone()).start().await.unwrap();
    let first = tasks.add_task(waits, ()).queue("limited").concurrency_key("k");
    let first = soon(first.into_future()).await.unwrap().id();
    gate.reached(1).await;
    let mut waiting = Vec::new();
    for number in 0..3_u64 {
        let task = tasks.add_task(note, (number,)).queue("limited").concurrency_key("k");
        waiting.push(soon(task.into_future()).await.unwrap().id());
    }
    let blocked = || async {
        (server.command(&[b"ZCARD", &key("blocked:limited")]).unwrap() == Reply::Number(3)).then_some(())
    };
    eventually("all three are blocked", blocked).await;
    set(&server, "state", first, b"junk");
    // A wrong index makes the store check everything.
    server.command(&[b"HINCRBY", &key("counts"), b"Rlimited", b"1"]).unwrap();
    reaches(&tasks, first, TaskStatus::Failed).await;
    for id in waiting {
        reaches(&tasks, id, TaskStatus::Success).await;
    }
    let mut ran = notes.read();
    ran.sort_unstable();
    assert_eq!(ran, [0, 1, 2], "each of them ran once");
    gate.open();
    tasks.shutdown(Duration::from_secs(5)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_that_is_in_its_lane_twice_runs_once() {
    let Some(server) = RedisServer::start() else { return };
    // In the second queue, claims count the runs of each key.
    for queue in ["default", "limited"] {
        let notes = Notes::default();
        let tasks = builder(&server.url(), &notes).start().await.unwrap();
        tasks.pause_queue(queue).await.unwrap();
        let mut ids = Vec::new();
        for number in 0..5_u64 {
            let task = tasks.add_task(note, (number,)).queue(queue);
            ids.push(soon(task.into_future()).await.unwrap().id());
        }
        let twice = [&[0; 8][..], ids[2].as_bytes()].concat();
        server.command(&[b"ZADD", &key(&format!("due:7:{queue}note")), b"0", &twice]).unwrap();
        tasks.resume_queue(queue).await.unwrap();
        for id in ids {
            reaches(&tasks, id, TaskStatus::Success).await;
        }
        // A second claim would have run by now too, because the task that is added here comes last.
        reaches(&tasks, added(&tasks, 5).await, TaskStatus::Success).await;
        let mut noted = notes.read();
        noted.sort_unstable();
        assert_eq!(noted, [0, 1, 2, 3, 4, 5], "{queue}");
        tasks.shutdown(Duration::from_secs(5)).await.unwrap();
    }
}

/// Writes random junk into a random place of the namespace. Returns the task's id if the place belongs to a task.
fn write_junk(server: &RedisServer, rng: &mut fastrand::Rng, ids: &[TaskId]) -> Option<TaskId> {
    let Reply::List(keys) = server.command(&[b"KEYS", b"*"]).unwrap() else { panic!("KEYS answers no list") };
    let keys: Vec<Vec<u8>> = keys
        .into_iter()
        .map(Reply::into_bytes)
        // Keys that were moved aside belong to nobody.
        .filter(|key| !String::from_utf8_lossy(key).contains("damaged:"))
        .collect();
    let target = &keys[rng.usize(..keys.len())];
    let junk: Vec<u8> = (0..rng.usize(..120)).map(|_| rng.u8(..)).collect();
    let some_id = ids[rng.usize(..ids.len())];
    let number = [&b"-1"[..], b"inf", b"-inf", b"1e300", b"9223372036854775807"][rng.usize(..5)];
    let Reply::Text(kind) = server.command(&[b"TYPE", target]).unwrap() else { panic!("no text") };
    let run = |command: &[&[u8]]| drop(server.command(command));
    match (&*kind, rng.u8(..4)) {
        // A task's own data: only that task may be harmed.
        ("hash", 0..=2) if is_of_tasks(target) => {
            run(&[b"HSET", target, some_id.as_bytes(), &junk]);
            return Some(some_id);
        }
        ("hash", 0) => run(&[b"HSET", target, some_id.as_bytes(), &junk]),
        ("hash", _) => run(&[b"HSET", target, &junk, number]),
        ("zset", 0) => run(&[b"ZADD", target, number, some_id.as_bytes()]),
        ("zset", 1) => {
            let member = [&[0; 8][..], some_id.as_bytes()].concat();
            run(&[b"ZADD", target, number, &member]);
        }
        ("zset", _) => run(&[b"ZADD", target, number, &junk]),
        ("set", _) => run(&[b"SADD", target, &junk]),
        ("list", _) => run(&[b"LPUSH", target, &junk]),
        _ => run(&[b"SET", target, &junk]),
    }
    // Keys that hold everything of all tasks cannot be replaced without harm; those of an index can.
    let name = String::from_utf8_lossy(target).into_owned();
    let is_index = [
        "due", "later", "leases", "ids", "expiring", "ended", "blocked", "since", "stopping", "seq", "counts",
    ]
    .iter()
    .any(|index| name.strip_prefix(PREFIX).is_some_and(|name| name.starts_with(index)));
    if is_index && rng.u8(..4) == 0 {
        run(&[b"DEL", target]);
        match rng.u8(..3) {
            0 => run(&[b"SET", target, &junk]),
            1 => run(&[b"LPUSH", target, &junk]),
            _ => run(&[b"HSET", target, b"x", b"y"]),
        }
    }
    None
}

fn is_of_tasks(key: &[u8]) -> bool {
    let name = String::from_utf8_lossy(key).into_owned();
    let hashes = ["task", "state", "body", "key", "run_key", "error", "result", "progress", "past"];
    name.strip_prefix(PREFIX).is_some_and(|name| hashes.contains(&name))
}

/// The record of a task once it has ended. If it does not end, all its stored parts are printed.
async fn final_record(server: &RedisServer, tasks: &TaskManager, id: TaskId, seed: u64) -> TaskRecord {
    let asking = async {
        loop {
            match tasks.get(id).await {
                Ok(Some(record)) if record.status.is_final() => return record,
                _ => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    };
    match tokio::time::timeout(DEADLINE, asking).await {
        Ok(record) => record,
        Err(_) => {
            let record = tasks.get(id).await;
            let health = tasks.health();
            panic!("seed {seed}: never ended: {record:?}\n{health:?}\n{}", kept_of(server, id));
        }
    }
}

/// Each key with a part of a task, and the numbers.
fn kept_of(server: &RedisServer, id: TaskId) -> String {
    let mut kept = String::new();
    let Some(Reply::List(keys)) = server.command(&[b"KEYS", b"*"]) else { return kept };
    for key in keys.into_iter().map(Reply::into_bytes) {
        let name = String::from_utf8_lossy(&key).into_owned();
        let Some(Reply::Text(kind)) = server.command(&[b"TYPE", &key]) else { continue };
        let all = match &*kind {
            "hash" => server.command(&[b"HGETALL", &key]),
            "zset" => server.command(&[b"ZRANGE", &key, b"0", b"-1", b"WITHSCORES"]),
            "set" => server.command(&[b"SMEMBERS", &key]),
            _ => None,
        };
        let Some(Reply::List(all)) = all else { continue };
        let all: Vec<Vec<u8>> = all.into_iter().map(Reply::into_bytes).collect();
        let is_of_it = |bytes: &Vec<u8>| bytes.windows(16).any(|part| part == id.as_bytes());
        if all.iter().any(is_of_it)
            || ["counts", "concurrency_groups", "blocked", "meta"].iter().any(|it| name.ends_with(it))
        {
            let shown = all.iter().enumerate().filter(|(at, bytes)| {
                all.len() < 40 || is_of_it(bytes) || (*at > 0 && is_of_it(&all[at - 1]))
            });
            let shown: Vec<_> = shown.map(|(_, bytes)| bytes.escape_ascii().to_string()).collect();
            kept.push_str(&format!("{name} ({} of {kind}): {shown:?}\n", all.len()));
        }
    }
    kept
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_junk_beside_200_good_tasks_harms_only_the_tasks_it_is_written_to() {
    let Some(server) = RedisServer::start() else { return };
    // Printed if the test fails.
    let _ = tracing_subscriber::fmt().with_test_writer().with_max_level(tracing::Level::WARN).try_init();
    let seeds = std::env::var("TASKFLOW_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
    for seed in seeds.map_or(1..9, |seed: u64| seed..seed + 1) {
        server.command(&[b"FLUSHALL"]).unwrap();
        let mut rng = fastrand::Rng::with_seed(seed);
        let notes = Notes::default();
        let adds = builder(&servers::made(server.url()), &notes).connect().await.unwrap();
        for queue in ["default", "limited"] {
            adds.pause_queue(queue).await.unwrap();
        }
        let mut ids = Vec::new();
        for number in 0..200_u64 {
            let task = if number % 3 == 0 {
                adds.add_task(with_policy, (number,))
            } else {
                adds.add_task(note, (number,))
            };
            let task = if number % 5 == 0 {
                task.queue("limited").concurrency_key(format!("k{}", number % 3))
            } else {
                task
            };
            ids.push(soon(task.into_future()).await.unwrap().id());
        }
        let mut harmed = HashSet::new();
        for _ in 0..10 {
            harmed.extend(write_junk(&server, &mut rng, &ids));
        }
        // Restore the pauses: they are no damage.
        for queue in ["default", "limited"] {
            let _ = adds.resume_queue(queue).await;
        }
        let tasks = builder(&server.url(), &notes).start().await.unwrap();
        for _ in 0..10 {
            harmed.extend(write_junk(&server, &mut rng, &ids));
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        for id in &ids {
            if harmed.contains(id) {
                continue;
            }
            let ended = final_record(&server, &tasks, *id, seed).await;
            assert_eq!(ended.status, TaskStatus::Success, "seed {seed}: {ended:?}");
        }
        for id in &harmed {
            final_record(&server, &tasks, *id, seed).await;
        }
        // No call fails for ever.
        eventually("the numbers", || async { tasks.counts().await.ok() }).await;
        eventually("the queues", || async { tasks.queues().await.ok() }).await;
        eventually("a list", || async { tasks.list(TaskFilter::default()).await.ok() }).await;
        eventually("the instances", || async { tasks.instances().await.ok() }).await;
        eventually("the schedules", || async { tasks.schedules().await.ok() }).await;
        let handle = soon(tasks.add_task(note, (1_000_u64,)).into_future()).await.unwrap();
        soon(handle.wait()).await.unwrap();
        adds.shutdown(Duration::from_secs(5)).await.unwrap();
        tasks.shutdown(Duration::from_secs(5)).await.unwrap();
    }
}
