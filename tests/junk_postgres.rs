//! Other programs write junk into the tables of a PostgreSQL store: other tasks go on, and a damaged task fails with the reason.

#![expect(clippy::unwrap_used, reason = "a test that finds an error fails")]

#[path = "support/chance.rs"]
mod chance;
#[path = "support/servers/mod.rs"]
mod servers;
mod support;

use std::sync::Arc;
use std::time::Duration;

use chance::Chance;
use servers::postgres::shared_url;
use support::{DEADLINE, Notes, eventually, soon};
use taskflow::sqlx::{self, Connection, PgConnection};
use taskflow::store::{InsertBatch, InsertGroup, InsertTask, Renewal, Retention, Start};
use taskflow::{
    InstanceInfo, NewTask, PostgresStore, State, Store, TaskFilter, TaskId, TaskManager, TaskRecord,
    TaskStatus,
};

#[taskflow::task]
async fn note(number: i64, State(notes): State<Notes<i64>>) {
    notes.write(number);
}

/// A store with its tables, and a session of another program in the same database.
struct Lab {
    url: String,
    prefix: String,
    store: PostgresStore,
    sql: PgConnection,
    /// A process that is gone, so that its runs are lost.
    gone: InstanceInfo,
}

impl Lab {
    async fn new() -> Option<Self> {
        let url = shared_url()?;
        let (server, namespace) = url.split_once("?namespace=")?;
        let prefix = format!("taskflow_{namespace}");
        let sql = PgConnection::connect(server).await.unwrap();
        let store = PostgresStore::open(&url).unwrap();
        let gone = InstanceInfo::of_this_process(true);
        store.join(&gone).await.unwrap();
        Some(Self { url, prefix, store, sql, gone })
    }

    async fn add(&self, tasks: impl IntoIterator<Item = NewTask>, start: Start) -> Vec<TaskId> {
        let tasks: Vec<_> = tasks.into_iter().map(|task| InsertTask::new(task, start)).collect();
        let ids = tasks.iter().map(|it| it.task.id).collect();
        let batch = InsertBatch::new(self.gone.id, DEADLINE, vec![InsertGroup::new(tasks)]);
        self.store.insert(Arc::new(batch)).await.unwrap()[0].as_ref().unwrap();
        ids
    }

    /// Runs SQL in which `{t}` stands for the prefix of every table's name.
    async fn run(&mut self, sql: &str) -> Result<u64, sqlx::Error> {
        let sql = sql.replace("{t}", &self.prefix);
        let done = sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut self.sql).await?;
        Ok(done.rows_affected())
    }

    /// Puts junk into a column of one task. `false` if the database refuses it.
    async fn junk(&mut self, id: TaskId, column: &str, value: &str) -> bool {
        match self.run(&format!("UPDATE {{t}}_tasks SET {column} = {value} WHERE id = '{id}'")).await {
            Ok(rows) => rows == 1,
            Err(sqlx::Error::Database(_)) => false,
            Err(error) => panic!("{error}"),
        }
    }

    async fn start(&self, notes: &Notes<i64>) -> TaskManager {
        let builder = TaskManager::builder().store(&*self.url).state(notes.clone()).only(["note"]);
        builder.lease(Duration::from_secs(1)).start().await.unwrap()
    }
}

fn task(number: i64) -> NewTask {
    NewTask::new("note", Ok(Arc::from(format!("{{\"number\":{number}}}"))))
}

const INFINITE: [&str; 1] = ["'infinity'"];
const LARGE: [&str; 3] = ["-9223372036854775808", "-1", "9223372036854775807"];
const SMALL: [&str; 2] = ["-2147483648", "-1"];
const NO_JSON: [&str; 7] =
    ["''", "'{'", "'[]'", "'7'", "'\"x\"'", "'{\"retries\":-1}'", "repeat('[', 100000)"];

/// Columns with values that no task can run with: the task fails in the end.
const DAMAGE: [(&str, &[&str]); 14] = [
    ("policy", &NO_JSON),
    ("tags", &["''", "'{'", "'[]'", "'{\"a\":1}'", "'null'"]),
    ("args", &["''", "'{'", "'[]'", "'{\"number\":\"x\"}'", "repeat('[', 100000)"]),
    ("expires_at", &INFINITE),
    ("run_at", &["'infinity'"]),
    ("scheduled_for", &["'infinity'", "'-infinity'"]),
    ("fence", &["-9223372036854775808", "-2", "9223372036854775807"]),
    ("attempt", &["-9223372036854775808", "-2", "9223372036854775807", "4294967295"]),
    ("max_attempts", &["-9223372036854775808", "-1", "0", "9223372036854775807"]),
    ("log_lines", &SMALL),
    ("log_bytes", &LARGE),
    ("snoozes", &SMALL),
    ("state", &["9", "-2", "32767", "-32768", "-1"]),
    ("queue", &["repeat('q', 100000)"]),
];

/// Columns with odd values that a task can run with: it ends in some way.
const ODD: [(&str, &[&str]); 14] = [
    ("created_at", &["'infinity'", "'-infinity'", "'294276-12-31'", "'4714-11-24 00:00:00+00 BC'"]),
    ("run_at", &["'-infinity'", "'4714-11-24 00:00:00+00 BC'"]),
    ("started_at", &["'infinity'", "'-infinity'", "'294276-12-31'"]),
    ("finished_at", &["'infinity'", "'-infinity'"]),
    ("lease_until", &["'infinity'", "'-infinity'", "NULL"]),
    ("instance", &["gen_random_uuid()"]),
    ("claim_id", &LARGE),
    ("seq", &LARGE),
    ("priority", &["-32768", "32767"]),
    ("source", &["''", "'nobody'", "repeat('x', 5000)"]),
    ("outcome", &["''", "'exploded'"]),
    ("progress", &NO_JSON),
    ("result", &NO_JSON),
    ("error", &["''", "'\u{2400}'", "repeat('x', 100000)"]),
];

/// Junk outside the tasks; `{id}` is a task that has failed because of its own damage.
const ELSEWHERE: [&str; 26] = [
    "UPDATE {t}_instances SET sign = 9223372036854775807, sign_key = NULL, sign_start = pg_postmaster_start_time()",
    "INSERT INTO {t}_instances (id, host, pid, version, runs, sign, sign_start)
     VALUES (gen_random_uuid(), '', 0, '', true, -9223372036854775808, pg_postmaster_start_time())",
    "INSERT INTO {t}_schedule_log (version, name, removed) VALUES (1000000000000000000, 'a', true)",
    "INSERT INTO {t}_schedules (name, declared, declared_since, skipped, last_skipped)
     VALUES ('note', '[]', 'infinity', 999, '-infinity')",
    "INSERT INTO {t}_attempts (task, number, instance, started_at, finished_at, outcome, error)
     VALUES ('{id}', -1, gen_random_uuid(), 'infinity', '-infinity', 'exploded', '\u{2400}')",
    "INSERT INTO {t}_attempts (task, number, instance, started_at, finished_at, outcome)
     VALUES ('{id}', 9223372036854775807, gen_random_uuid(), '294276-12-31', '4714-11-24 00:00:00+00 BC', '')",
    "INSERT INTO {t}_logs (task, n, attempt, at, level, message)
     VALUES ('{id}', -2147483648, -1, 'infinity', 'loud', ''), ('{id}', 0, 1, '-infinity', '', '')",
    "INSERT INTO {t}_counts (shard, queue, pending) VALUES (-99, 'default', 9223372036854775807)",
    "INSERT INTO {t}_counts (shard, queue, running) VALUES (-98, 'default', -9223372036854775808)",
    "INSERT INTO {t}_counts (shard, queue, refused, later) VALUES (-97, 'x', 9223372036854775807, -5)",
    "UPDATE {t}_counts SET pending = 9223372036854775807, waiting_first = 9223372036854775807",
    "UPDATE {t}_counts SET success = 9223372036854775807, failed = 9223372036854775807",
    "UPDATE {t}_counts SET running = 9223372036854775807, later = -9223372036854775808",
    "DELETE FROM {t}_counts",
    "INSERT INTO {t}_queues (name, config) VALUES ('a', ''), ('b', '[]'), ('c', '{\"max_size\":-1}')",
    "INSERT INTO {t}_queues (name, config, starts, key_limit)
     VALUES ('default', '{\"rate_limit\":{\"starts\":100000,\"per\":0}}',
             '[[9223372036854775807,18446744073709551615],[1,18446744073709551615]]', -9223372036854775808)
     ON CONFLICT (name) DO UPDATE SET config = excluded.config, starts = excluded.starts",
    "INSERT INTO {t}_queues (name, starts, key_limit) VALUES ('default', 'x', 9223372036854775807)
     ON CONFLICT (name) DO UPDATE SET starts = excluded.starts, key_limit = excluded.key_limit",
    "INSERT INTO {t}_queues (name, paused) VALUES (repeat('q', 100000), true)",
    "INSERT INTO {t}_schedules (name, last_outcome, last_task, definition)
     VALUES ('a', 'exploded', gen_random_uuid(), ''), ('b', '', NULL, '[]'), ('c', NULL, NULL, '{\"task\":7}')",
    "INSERT INTO {t}_schedules (name, last_tick) VALUES ('d', 'infinity')",
    "INSERT INTO {t}_schedules (name, last_tick, last_start)
     VALUES ('e', '294276-12-31', '4714-11-24 00:00:00+00 BC')",
    "INSERT INTO {t}_instances (id, host, pid, version, runs, lease)
     VALUES (gen_random_uuid(), '', -9223372036854775808, '', true, '178000000 years')",
    "INSERT INTO {t}_instances (id, host, pid, version, runs, started_at, seen_at)
     VALUES (gen_random_uuid(), '\u{2400}', 9223372036854775807, 'x', false, '-infinity', 'infinity')",
    "INSERT INTO {t}_instances (id, host, pid, version, runs, schedules)
     VALUES (gen_random_uuid(), 'h', 1, 'x', true, ARRAY[NULL, 'a', repeat('s', 10000)])",
    "INSERT INTO {t}_instances (id, host, pid, version, runs, schedules, seen_at, gone_at)
     VALUES (gen_random_uuid(), 'h', 1, 'x', true, '{{a,b},{c,d}}', '294276-12-31', '-infinity')",
    "UPDATE {t}_instances SET lease = '-178000000 years', seen_at = '-infinity'",
];

/// Makes every call once. Returns the first error with the name of its call.
async fn ask_everything(tasks: &TaskManager, ids: &[TaskId]) -> Result<Vec<TaskRecord>, String> {
    let say = |what: &str, error: taskflow::Error| format!("{what}: {error}");
    for id in ids {
        let task = tasks.get(*id).await.map_err(|error| say("get", error))?;
        drop(serde_json::to_string(&task.map(|task| (task.phase(), task.clone()))).unwrap());
        tasks.logs(*id).await.map_err(|error| say("logs", error))?;
    }
    let mut found = Vec::new();
    let mut filter = TaskFilter::all();
    loop {
        let page = tasks.list(filter.clone()).await.map_err(|error| say("list", error))?;
        found.extend(page.items);
        let Some(next) = page.next else { break };
        filter = TaskFilter::all().after(next);
    }
    tasks.counts().await.map_err(|error| say("counts", error))?;
    tasks.queues().await.map_err(|error| say("queues", error))?;
    tasks.schedules().await.map_err(|error| say("schedules", error))?;
    tasks.instances().await.map_err(|error| say("instances", error))?;
    Ok(found)
}

/// Repeats [`ask_everything`] until it succeeds: damage may make a call fail, but not for ever.
async fn all_is_answered(tasks: &TaskManager, ids: &[TaskId]) -> Vec<TaskRecord> {
    let mut last = String::new();
    let asking = async {
        loop {
            match ask_everything(tasks, ids).await {
                Ok(found) => return found,
                Err(error) => last = error,
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    match tokio::time::timeout(DEADLINE, asking).await {
        Ok(found) => found,
        Err(_) => panic!("it fails for ever: {last}"),
    }
}

async fn junk_harms_nobody_else(seed: u64) {
    let Some(mut lab) = Lab::new().await else { return };
    let mut chance = Chance::of(seed);
    let good = lab.add((0..200).map(task), Start::Wait).await;
    let witness = lab.add([task(2000)], Start::Wait).await[0];
    let mut bad = Vec::new();
    for number in 1000..1060 {
        // A claim finds damage. For oddities, the task may also be running or held, so that it is recovered.
        let is_damage = number % 2 == 0;
        let odd = *chance.one_of(&[Start::Wait, Start::Lease, Start::Hold]);
        let start = if is_damage { Start::Wait } else { odd };
        bad.push((lab.add([task(number)], start).await[0], is_damage, start));
    }
    lab.store.renew(Renewal::new(lab.gone.id, Duration::from_secs(1), Vec::new())).await.unwrap();
    lab.store.leave(lab.gone.id).await.unwrap();
    let (mut damaged, mut odd) = (Vec::new(), Vec::new());
    for (id, is_damage, start) in bad {
        let (column, values) = *chance.one_of(if is_damage { &DAMAGE } else { &ODD });
        let value = *chance.one_of(values);
        let state = if (column, value) == ("run_at", "'infinity'") { ", state = 1" } else { "" };
        match lab.junk(id, column, &format!("{value}{state}")).await {
            true if is_damage => damaged.push((id, format!("{column} = {value}"))),
            true => odd.push((id, format!("{column} = {value} ({start:?})"))),
            // The database refuses the junk: that is fine too.
            false => {}
        }
    }
    let mut elsewhere = Vec::new();
    for _ in 0..5 {
        let junk = *chance.one_of(&ELSEWHERE);
        elsewhere.push((junk, lab.run(&junk.replace("{id}", &witness.to_string())).await.is_ok()));
    }

    let notes = Notes::default();
    let tasks = lab.start(&notes).await;
    let case = format!("seed {seed}: {damaged:?} {odd:?} {elsewhere:?}");
    let what = |id: TaskId| damaged.iter().chain(&odd).find(|it| it.0 == id).map_or("good", |it| &it.1);
    let ended = async |id: TaskId| {
        let mut last = String::new();
        let asking = async {
            loop {
                match tasks.get(id).await {
                    Ok(Some(task)) if task.status.is_final() => return task,
                    answer => last = format!("{answer:?}"),
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        match tokio::time::timeout(DEADLINE, asking).await {
            Ok(task) => task,
            Err(_) => panic!("{} never ends: {last} {:?} {case}", what(id), tasks.health()),
        }
    };
    for id in good.iter().chain([&witness]) {
        assert_eq!(ended(*id).await.status, TaskStatus::Success, "{case}");
    }
    for (id, what) in &damaged {
        let task = ended(*id).await;
        assert_eq!(task.status, TaskStatus::Failed, "{what}: {task:?}");
        let error = task.error.unwrap_or_default();
        assert!(error.contains("damaged") || error.contains("argument"), "{what}: {error}");
    }
    for (id, _) in &odd {
        ended(*id).await;
    }
    let ids: Vec<TaskId> = good.iter().chain(damaged.iter().map(|(id, _)| id)).copied().collect();
    let found = all_is_answered(&tasks, &ids).await;
    for (id, what) in &damaged {
        assert!(found.iter().any(|task| task.id == *id && task.status == TaskStatus::Failed), "{what}");
    }
    // Everything else still works, also on the damaged tasks.
    let more = soon(tasks.add_task(note, (1,)).into_future()).await.unwrap();
    soon(more.wait()).await.unwrap();
    for (id, what) in damaged.iter().take(5) {
        if tasks.retry(*id).await.is_ok() {
            let task = ended(*id).await;
            assert!(task.status.is_final(), "{what}: {task:?}");
        }
    }
    eventually("what ended is deleted", || async {
        lab.store.prune(Retention::new(Duration::ZERO), 10_000).await.ok()?;
        (tasks.list(TaskFilter::all()).await.ok()?.items.is_empty()).then_some(())
    })
    .await;
    let report = soon(tasks.shutdown(Duration::from_secs(5))).await.unwrap();
    assert_eq!((report.interrupted, report.abandoned), (0, 0), "{case}");
}

#[tokio::test(flavor = "multi_thread")]
async fn junk_in_random_places_harms_nobody_else() {
    for seed in 1..=4 {
        junk_harms_nobody_else(seed).await;
    }
}
