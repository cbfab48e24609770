//! Other programs write junk into the tables of a SQLite store: the damaged task fails with the reason, and everything else goes on.

#![allow(clippy::unwrap_used, reason = "a test that finds an error fails")]

mod support;

use std::path::Path;
use std::time::Duration;

use rusqlite::Connection;
use support::{DEADLINE, Place, eventually, soon};
use taskflow::{Page, QueueConfig, TaskFilter, TaskId, TaskManager, TaskRecord, TaskStatus};

#[taskflow::task(name = "damage.good")]
async fn good(number: u32) -> Result<u32, String> {
    Ok(number)
}

#[taskflow::task(name = "damage.victim", queue = "victims", retries = 2, timeout = "30s")]
async fn victim(number: u32) -> Result<u32, String> {
    Ok(number)
}

fn file(place: &Place) -> std::path::PathBuf {
    let Place::Sqlite(directory) = place else { panic!("this test needs a SQLite file") };
    directory.path().join("tasks.db")
}

fn open(path: &Path) -> Connection {
    let connection = Connection::open(path).unwrap();
    connection.busy_timeout(DEADLINE).unwrap();
    connection
}

async fn start(place: &Place) -> TaskManager {
    let config = QueueConfig::new().key_concurrency(2).rate_limit(100_000, Duration::from_secs(1));
    soon(place.builder().queue("victims", config).only(["damage.good", "damage.victim"]).start())
        .await
        .unwrap()
}

/// All records.
async fn all(tasks: &TaskManager) -> Vec<TaskRecord> {
    let (mut filter, mut records) = (TaskFilter::all(), Vec::new());
    loop {
        let Page { items, next, .. } = soon(tasks.list(filter.clone())).await.unwrap();
        records.extend(items);
        match next {
            Some(next) => filter = filter.after(next),
            None => return records,
        }
    }
}

/// A generator of numbers that a seed repeats.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % limit as u64).unwrap()
    }

    fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }
}

/// Values that SQL can write to a column.
const JUNK: &[&str] = &[
    "NULL",
    "-1",
    "0",
    "7",
    "9223372036854775807",
    "-9223372036854775808",
    "4294967296",
    "1e300",
    "''",
    "'junk'",
    "'{'",
    "'{}'",
    "'[]'",
    "'null'",
    "'{\"retries\":\"many\"}'",
    "char(0)",
    "'a' || char(0) || 'b'",
    "CAST(x'ff00fe' AS TEXT)",
    "x''",
    "x'00'",
    "randomblob(16)",
    "randomblob(5)",
    "hex(randomblob(3000))",
];

/// The tables, and their columns.
fn columns(sql: &Connection) -> Vec<(String, String)> {
    let mut query = sql
        .prepare(
            "SELECT t.name, c.name FROM sqlite_schema t, pragma_table_info(t.name) c
             WHERE t.type = 'table' AND t.name LIKE 'taskflow\\_%' ESCAPE '\\' AND t.name <> 'taskflow_migrations'",
        )
        .unwrap();
    let rows = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    rows.collect::<Result<_, _>>().unwrap()
}

/// One seed: 200 good tasks, others with junk in random places, and junk in random rows of every other table.
async fn survives(seed: u64, checks: bool) {
    let place = Place::sqlite();
    let before = soon(place.builder().queue("victims", QueueConfig::new()).connect()).await.unwrap();
    let mut goods = Vec::new();
    let mut victims = Vec::new();
    for number in 0..200 {
        goods.push(soon(before.add_task(good, (number,))).await.unwrap().id());
        if number % 5 == 0 {
            let add = before.add_task(victim, (number,)).tag("of", "victim").concurrency_key("key");
            let add = add.idempotency_key(format!("key-{number}")).run_key(format!("run-{number}"));
            let add = if number % 2 == 0 {
                add.expires_at(std::time::SystemTime::now() + Duration::from_secs(3600))
            } else {
                add
            };
            let add = if number % 3 == 0 { add.run_in(Duration::from_millis(500)) } else { add };
            victims.push(soon(add).await.unwrap().id());
        }
    }
    soon(before.set_queue("victims", QueueConfig::new().key_concurrency(3))).await.unwrap();
    soon(before.shutdown(Duration::ZERO)).await.unwrap();

    let sql = open(&file(&place));
    if !checks {
        sql.execute_batch("PRAGMA ignore_check_constraints = ON").unwrap();
    }
    let mut dice = Dice(seed);
    let columns = columns(&sql);
    let mut changes = Vec::new();
    let mut change = |sql: &Connection, statement: String| {
        let answer = sql.execute(&statement, []);
        changes.push(format!("{statement}: {answer:?}"));
    };
    let damage = |dice: &mut Dice, sql: &Connection, change: &mut dyn FnMut(&Connection, String)| {
        let (table, column) = &columns[dice.below(columns.len())];
        let junk = dice.one_of(JUNK);
        let whose = match (&**table, &**column) {
            // Good tasks stay untouched. Ids and numbers, by which rows are found, are damaged one at a time.
            ("taskflow_tasks", "id" | "seq") => {
                "name = 'damage.victim' AND seq = (SELECT max(seq) FROM taskflow_tasks WHERE name = 'damage.victim')"
            }
            ("taskflow_tasks", _) => "name = 'damage.victim' AND abs(random()) % 8 = 0",
            _ => "abs(random()) % 2 = 0",
        };
        change(sql, format!("UPDATE OR IGNORE {table} SET {column} = {junk} WHERE {whose}"));
    };
    for _ in 0..25 {
        damage(&mut dice, &sql, &mut change);
    }
    let tasks = start(&place).await;
    for _ in 0..25 {
        damage(&mut dice, &sql, &mut change);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    drop(sql);
    let history = changes.join("\n");

    for id in &goods {
        let what = format!("seed {seed}: a good task ends, after\n{history}");
        let record = eventually(&what, || async {
            tasks.get(*id).await.unwrap().filter(|record| record.status.is_final())
        });
        assert_eq!(record.await.status, TaskStatus::Success, "seed {seed}:\n{history}");
    }
    // New work of both kinds, and every verb, goes on. A junk queue configuration or count may be in the way for a moment.
    let what = format!("seed {seed}: all calls succeed again, after\n{history}");
    let works = eventually(&what, || async {
        let added = tasks.add_task(victim, (1_000_000,)).concurrency_key("key").await.ok()?;
        tasks.add_task(victim, (1_000_001,)).idempotency_key("key-0").await.ok()?;
        tasks.queues().await.ok()?;
        tasks.schedules().await.ok()?;
        tasks.instances().await.ok()?;
        let ended = tokio::time::timeout(Duration::from_secs(5), added.wait()).await.ok()?;
        ended.ok()
    });
    assert_eq!(works.await, 1_000_000);
    // Every victim ends: with success, failed with its reason, or in the way that the junk set. None waits or runs for ever,
    // unless the junk changed its queue or name, or delayed it for more than a minute.
    let since = std::time::Instant::now();
    let settled = loop {
        let records = all(&tasks).await;
        let far = std::time::SystemTime::now() + Duration::from_secs(60);
        let is_settled = |it: &&TaskRecord| {
            it.status.is_final() || it.run_at > far || it.name != "damage.victim" || it.queue != "victims"
        };
        let counts = tasks.counts().await.unwrap();
        let unsettled: Vec<_> = records.iter().filter(|it| !is_settled(it)).collect();
        if unsettled.is_empty() && counts.total() == records.len() as u64 {
            break records;
        }
        let left = records.len();
        assert!(
            since.elapsed() < DEADLINE,
            "seed {seed}: some wait or run for ever, of {left}, {counts:?}: {unsettled:?}\n{history}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    for record in settled {
        if record.status == TaskStatus::Failed {
            assert!(record.error.is_some(), "seed {seed}: {record:?}\n{history}");
        }
        assert!(soon(tasks.logs(record.id)).await.is_ok());
        assert!(serde_json::to_string(&record).is_ok());
    }
    soon(tasks.shutdown(Duration::from_secs(5))).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn junk_in_random_places_harms_no_other_task() {
    for seed in 0..6 {
        survives(seed, true).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn junk_that_passes_by_the_checks_of_the_database_harms_no_other_task() {
    for seed in 100..106 {
        survives(seed, false).await;
    }
}

/// Damages one of two tasks by this statement, and returns its record when the other has run.
async fn damaged(statement: &str) -> TaskRecord {
    let place = Place::sqlite();
    let before = soon(place.builder().queue("victims", QueueConfig::new()).connect()).await.unwrap();
    let bad = soon(before.add_task(victim, (1,)).tag("of", "victim")).await.unwrap().id();
    soon(before.add_task(victim, (2,))).await.unwrap();
    let sql = open(&file(&place));
    sql.execute(statement, [bad.to_string().replace('-', "")]).unwrap();
    let seen = soon(before.get(bad)).await.unwrap().unwrap();
    assert_eq!(seen.status, TaskStatus::Failed, "whoever looks sees it at once: {seen:?}");
    soon(before.shutdown(Duration::ZERO)).await.unwrap();
    let tasks = start(&place).await;
    assert_eq!(soon(soon(tasks.add_task(victim, (3,))).await.unwrap().wait()).await.unwrap(), 3);
    let record = eventually("the damaged one has ended", || async {
        let page = tasks.list(TaskFilter::new().status(TaskStatus::Failed)).await.unwrap();
        page.items.into_iter().find(|it| it.id == bad)
    });
    let record = record.await;
    let counts = soon(tasks.counts()).await.unwrap();
    assert_eq!((counts.failed, counts.success, counts.total()), (1, 2, 3));
    assert_eq!(soon(tasks.retry_all(TaskFilter::all())).await.unwrap(), 1, "it is a record like any other");
    record
}

#[tokio::test]
async fn a_task_whose_policy_cannot_be_read_is_failed_and_never_runs_under_another() {
    let record =
        damaged("UPDATE taskflow_tasks SET policy = '{\"retries\":' WHERE hex(id) = upper(?1)").await;
    let error = record.error.unwrap();
    assert!(error.contains("damaged") && error.contains("`policy`"), "{error}");
    assert!(record.attempts.is_empty());
}

#[tokio::test]
async fn a_task_whose_tags_or_arguments_cannot_be_read_is_failed_with_the_reason() {
    for column in ["tags", "args", "concurrency_key"] {
        let statement =
            format!("UPDATE taskflow_tasks SET {column} = CAST(x'ff' AS TEXT) WHERE hex(id) = upper(?1)");
        let error = damaged(&statement).await.error.unwrap();
        assert!(error.contains(&format!("`{column}`")) && error.contains("UTF-8"), "{error}");
    }
}

#[tokio::test]
async fn types_and_numbers_that_are_none_are_refused_by_the_database() {
    let place = Place::sqlite();
    let tasks = soon(place.builder().connect()).await.unwrap();
    let added: TaskId = soon(tasks.add_task(good, (1,))).await.unwrap().id();
    let sql = open(&file(&place));
    for (column, junk) in [
        ("run_at", "'tomorrow'"),
        ("name", "x'00'"),
        ("id", "x'00'"),
        ("state", "11"),
        ("attempt", "-1"),
        ("fence", "9223372036854775807"),
    ] {
        let statement = format!("UPDATE taskflow_tasks SET {column} = {junk}");
        assert!(sql.execute(&statement, []).is_err(), "{statement}");
    }
    assert_eq!(soon(tasks.get(added)).await.unwrap().unwrap().status, TaskStatus::Pending);
}

#[tokio::test]
async fn numbers_that_other_hands_change_are_counted_again_and_hold_up_nothing() {
    let place = Place::sqlite();
    let tasks = start(&place).await;
    let sql = open(&file(&place));
    soon(soon(tasks.add_task(good, (1,))).await.unwrap().wait()).await.unwrap();
    // A queue that says it is empty, one that says it is full, and rows that were taken away.
    soon(tasks.pause_queue("default")).await.unwrap();
    let waiting = soon(tasks.add_task(good, (2,))).await.unwrap();
    sql.execute("UPDATE taskflow_queues SET due = 0, waiting_first = 1000000", []).unwrap();
    sql.execute("DELETE FROM taskflow_tasks WHERE state = 4", []).unwrap();
    soon(tasks.resume_queue("default")).await.unwrap();
    assert_eq!(soon(waiting.wait()).await.unwrap(), 2);
    eventually("the counts are those of the rows", || async {
        Some(tasks.counts().await.unwrap()).filter(|counts| counts.total() == 1 && counts.success == 1)
    })
    .await;
}
