//! Tasks added by SQL: every way to call `taskflow_add` works, and it refuses what an add refuses.

#![expect(clippy::unwrap_used, reason = "a test that finds an error fails")]

#[path = "support/servers/mod.rs"]
mod servers;
mod support;

use std::time::Duration;

use servers::postgres::shared_url;
use support::{Notes, ends, soon};
use taskflow::sqlx::types::Uuid;
use taskflow::sqlx::{self, Connection, PgConnection};
use taskflow::{AddError, QueueConfig, State, TaskId, TaskManager, TaskStatus, model::StoreErrorKind};

#[taskflow::task]
async fn greet(to: String, State(notes): State<Notes<String>>) {
    notes.write(to);
}

const TABLES: [&str; 11] = [
    "migrations",
    "tasks",
    "attempts",
    "logs",
    "counts",
    "queues",
    "schedules",
    "schedule_log",
    "documents",
    "instances",
    "adding",
];

struct Lab {
    tasks: TaskManager,
    notes: Notes<String>,
    sql: PgConnection,
    url: String,
    namespace: String,
}

impl Lab {
    async fn new() -> Option<Self> {
        let url = shared_url()?;
        let (server, namespace) = url.split_once("?namespace=")?;
        let (server, namespace) = (server.to_owned(), namespace.to_owned());
        let notes = Notes::default();
        let tasks = Self::start(&url, &notes).await;
        let sql = PgConnection::connect(&server).await.unwrap();
        Some(Self { tasks, notes, sql, url, namespace })
    }

    async fn start(url: &str, notes: &Notes<String>) -> TaskManager {
        let builder = TaskManager::builder().store(url).state(notes.clone()).only(["greet"]);
        builder.queue("mail", QueueConfig::new()).start().await.unwrap()
    }

    /// `{add}` stands for the function, `{t}` for the beginning of the names of all tables.
    fn text(&self, sql: &str) -> String {
        let prefix = format!("taskflow_{}", self.namespace);
        sql.replace("{add}", &format!("public.{prefix}_add")).replace("{t}", &prefix)
    }

    async fn run(&mut self, sql: &str) {
        let text = self.text(sql);
        sqlx::raw_sql(sqlx::AssertSqlSafe(text)).execute(&mut self.sql).await.unwrap();
    }

    async fn add(&mut self, sql: &str) -> Result<TaskId, String> {
        let text = self.text(sql);
        let id: Result<Uuid, sqlx::Error> =
            sqlx::query_scalar(sqlx::AssertSqlSafe(text)).fetch_one(&mut self.sql).await;
        id.map(TaskId::from).map_err(|error| match error {
            sqlx::Error::Database(error) => error.message().to_owned(),
            other => panic!("{other}"),
        })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_type_of_payload_and_number_is_taken() {
    let Some(mut lab) = Lab::new().await else { return };
    let calls = [
        ("SELECT {add}('greet', '{\"to\":\"literal\"}')", "literal", "default", 0),
        ("SELECT {add}('greet', jsonb_build_object('to', 'jsonb'), 'mail', 5)", "jsonb", "mail", 5),
        ("SELECT {add}('greet', json_build_object('to', 'json'), task_priority => 5)", "json", "default", 5),
        ("SELECT {add}('greet', '{\"to\":\"text\"}'::text, 'mail', 7::smallint)", "text", "mail", 7),
        ("SELECT {add}('greet', '{\"to\":\"varchar\"}'::varchar, 'mail'::varchar)", "varchar", "mail", 0),
        (
            "SELECT {add}('greet', row_to_json(r), task_priority => -3::bigint) FROM (VALUES ('row')) AS r (\"to\")",
            "row",
            "default",
            -3,
        ),
        (
            "SELECT {add}(task_args => to_jsonb(r), task_name => 'greet', task_max_attempts => 3::smallint,
                          task_run_at => now()::timestamp, task_expires_at => now() + interval '1 day',
                          task_concurrency_key => 'k')
             FROM (SELECT 'named' AS \"to\") AS r",
            "named",
            "default",
            0,
        ),
        (
            "SELECT {add}('greet', '{\"to\":\"nulls\"}', NULL, NULL, NULL, NULL, NULL, NULL)",
            "nulls",
            "default",
            0,
        ),
        ("SELECT {add}('greet', '{\"to\":\"a\\u0000␀\"}')", "a\0␀", "default", 0),
    ];
    for (call, to, queue, priority) in calls {
        let id = lab.add(call).await.unwrap_or_else(|error| panic!("{call}: {error}"));
        let task = ends(&lab.tasks, id).await;
        assert_eq!(
            (task.status, &*task.queue, task.priority),
            (TaskStatus::Success, queue, priority),
            "{call}"
        );
        assert_eq!(lab.notes.read().last().map(String::as_str), Some(to), "{call}");
    }
    // A call without a payload is not ambiguous either: the task names the missing argument.
    let id = lab.add("SELECT {add}('greet')").await.unwrap();
    assert_eq!(ends(&lab.tasks, id).await.status, TaskStatus::Failed);
    lab.tasks.shutdown(Duration::from_secs(1)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn it_works_in_a_trigger_and_under_any_search_path() {
    let Some(mut lab) = Lab::new().await else { return };
    lab.run(
        "CREATE SCHEMA s{t};
         CREATE TABLE s{t}.users (name text);
         CREATE FUNCTION s{t}.welcome() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             PERFORM {add}('greet', jsonb_build_object('to', new.name), 'mail', 5);
             RETURN new;
         END $$;
         CREATE TRIGGER welcome AFTER INSERT ON s{t}.users FOR EACH ROW EXECUTE FUNCTION s{t}.welcome();
         -- Names that would be taken for ours, if they were looked for along the path.
         CREATE TABLE s{t}.{t}_tasks (id int);
         CREATE TABLE s{t}.{t}_counts (id int);",
    )
    .await;
    for path in ["public", "''", "s{t}", "s{t}, public", "pg_temp, s{t}, public", "\"$user\""] {
        let ids = async |lab: &mut Lab, sql: &str| {
            lab.add(sql).await.unwrap_or_else(|error| panic!("{path}: {error}"))
        };
        lab.run(&format!("SET search_path TO {path}")).await;
        let id = ids(&mut lab, "SELECT {add}('greet', '{\"to\":\"literal\"}')").await;
        assert_eq!(ends(&lab.tasks, id).await.status, TaskStatus::Success, "{path}");
        lab.run("INSERT INTO s{t}.users VALUES ('of a trigger')").await;
    }
    soon(async {
        while lab.notes.read().iter().filter(|to| *to == "of a trigger").count() < 6 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
    lab.tasks.shutdown(Duration::from_secs(1)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn it_refuses_what_an_add_refuses_and_names_the_argument() {
    let Some(mut lab) = Lab::new().await else { return };
    let refused = [
        ("SELECT {add}(NULL, '{}')", "task_name is null"),
        ("SELECT {add}('', '{}')", "task_name is ''"),
        ("SELECT {add}(' greet', '{}')", "without blanks"),
        ("SELECT {add}(E'gr\\teet', '{}')", "without control characters"),
        ("SELECT {add}(repeat('n', 1025), '{}')", "task_name has 1025 bytes"),
        ("SELECT {add}('greet', '{}', repeat('é', 600))", "task_queue has 1200 bytes"),
        ("SELECT {add}('greet', '{}', '')", "task_queue is ''"),
        ("SELECT {add}('greet', NULL)", "task_args is null"),
        ("SELECT {add}('greet', NULL::jsonb)", "task_args is null"),
        ("SELECT {add}('greet', 'no json')", "json"),
        ("SELECT {add}('greet', '[]')", "task_args is a JSON array"),
        ("SELECT {add}('greet', '7'::jsonb)", "task_args is a JSON number"),
        ("SELECT {add}('greet', 'null'::json)", "task_args is a JSON null"),
        ("SELECT {add}('greet', '{\"$tf\":\"enc1\"}')", "task_args begins with {\"$tf\""),
        ("SELECT {add}('greet', json_build_object('$tf', 1))", "task_args begins with {\"$tf\""),
        ("SELECT {add}('greet', jsonb_build_object('$tf', 1, 'later', 2))", "task_args begins with {\"$tf\""),
        ("SELECT {add}('greet', '{\"to\":\"a\",\"to\":\"b\"}')", "'to' twice"),
        ("SELECT {add}('greet', '{\"to\":\"a\",\"to\":\"b\"}'::json)", "'to' twice"),
        ("SELECT {add}('greet', json_build_object('to', repeat('x', 1048576)))", "task_args has"),
        (
            "SELECT {add}('greet', ('{\"to\":' || repeat('[', 127) || repeat(']', 127) || '}'))",
            "deeper than 127",
        ),
        ("SELECT {add}('greet', '{}', 'mail', 32768)", "task_priority is 32768"),
        ("SELECT {add}('greet', '{}', task_max_attempts => 0)", "task_max_attempts is 0"),
        ("SELECT {add}('greet', '{}', task_max_attempts => -1)", "task_max_attempts is -1"),
        ("SELECT {add}('greet', '{}', task_max_attempts => 4294967296)", "task_max_attempts is"),
        ("SELECT {add}('greet', '{}', task_run_at => 'infinity')", "task_run_at is infinity"),
        ("SELECT {add}('greet', '{}', task_run_at => '-infinity')", "task_run_at is -infinity"),
        ("SELECT {add}('greet', '{}', task_expires_at => 'infinity')", "task_expires_at is infinity"),
        ("SELECT {add}('greet', '{}', task_expires_at => '2999-01-01')", "task_expires_at is 2999"),
        (
            "SELECT {add}(repeat('n', 1024), '{}', repeat('q', 1024), task_concurrency_key => repeat('k', 513))",
            "have 2561 bytes together",
        ),
        (
            "SELECT {add}('greet', '{}', task_concurrency_key => repeat('k', 1025))",
            "task_concurrency_key has 1025",
        ),
    ];
    for (call, reason) in refused {
        let error = lab.add(call).await.expect_err(call);
        assert!(error.contains(reason), "{call}: {error}");
    }
    assert_eq!(lab.tasks.counts().await.unwrap().total(), 0);
    // The deepest and the longest arguments that an add may have.
    let deepest = "SELECT {add}('greet', ('{\"to\":' || repeat('[', 126) || repeat(']', 126) || '}'))";
    lab.add(deepest).await.unwrap();
    lab.add(
        "SELECT {add}(repeat('n', 1024), '{}', repeat('q', 1024), task_concurrency_key => repeat('k', 512))",
    )
    .await
    .unwrap();
    lab.add("SELECT {add}('greet', json_build_object('to', repeat('x', 1048500)))").await.unwrap();
    lab.tasks.shutdown(Duration::from_secs(1)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_refuses_it_as_it_refuses_an_add() {
    let Some(mut lab) = Lab::new().await else { return };
    lab.tasks.set_queue("mail", QueueConfig::new().max_size(2)).await.unwrap();
    lab.tasks.pause_queue("mail").await.unwrap();
    let add = "SELECT {add}('greet', '{\"to\":\"a\"}', 'mail')";
    lab.add(add).await.unwrap();
    lab.add(add).await.unwrap();
    let full = lab.add(add).await.unwrap_err();
    assert!(full.contains("queue 'mail' is full"), "{full}");
    lab.add("SELECT {add}('greet', '{\"to\":\"a\"}')").await.unwrap();
    let full = soon(lab.tasks.add_task(greet, ("a".to_owned(),)).queue("mail")).await;
    assert!(matches!(full, Err(AddError::QueueFull { .. })), "{full:?}");
    lab.tasks.reset_queue("mail").await.unwrap();
    lab.add(add).await.unwrap();
    lab.tasks.shutdown(Duration::from_secs(1)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_makes_a_store_again_of_one_whose_tables_were_dropped() {
    let Some(mut lab) = Lab::new().await else { return };
    lab.tasks.shutdown(Duration::from_secs(1)).await.unwrap();
    let one_each = TABLES.iter().skip(1).map(|table| vec![*table]);
    let all_but_migrations = vec![TABLES[1..].to_vec()];
    for dropped in one_each.chain(all_but_migrations).chain([TABLES.to_vec()]) {
        for table in &dropped {
            lab.run(&format!("DROP TABLE {{t}}_{table}")).await;
        }
        lab.tasks = Lab::start(&lab.url, &lab.notes).await;
        let handle = soon(lab.tasks.add_task(greet, ("again".to_owned(),))).await.unwrap();
        soon(handle.wait()).await.unwrap();
        let id = lab.add("SELECT {add}('greet', '{\"to\":\"by SQL\"}')").await.unwrap();
        assert_eq!(ends(&lab.tasks, id).await.status, TaskStatus::Success, "{dropped:?}");
        let counts = lab.tasks.counts().await.unwrap();
        let listed = lab.tasks.list(taskflow::TaskFilter::all()).await.unwrap().items.len();
        assert_eq!(usize::try_from(counts.total()).unwrap(), listed, "{dropped:?}");
        lab.tasks.shutdown(Duration::from_secs(1)).await.unwrap();
    }
}

/// The tables are dropped while a manager works: it reports that, and goes on when another one has made them again.
#[tokio::test(flavor = "multi_thread")]
async fn a_manager_at_work_goes_on_when_its_dropped_tables_are_there_again() {
    let Some(mut lab) = Lab::new().await else { return };
    for table in TABLES {
        lab.run(&format!("DROP TABLE {{t}}_{table}")).await;
    }
    let gone = lab.tasks.counts().await.unwrap_err();
    assert!(gone.to_string().contains("start a manager on it"), "{gone}");
    assert!(
        matches!(&gone, taskflow::Error::Store(error) if error.kind() == StoreErrorKind::NotAStore),
        "{gone:?}"
    );
    servers::made(lab.url.clone());
    let other = TaskManager::builder().store(&*lab.url).connect().await.unwrap();
    let id = lab.add("SELECT {add}('greet', '{\"to\":\"by SQL\"}')").await.unwrap();
    assert_eq!(ends(&other, id).await.status, TaskStatus::Success);
    other.shutdown(Duration::from_secs(1)).await.unwrap();
    lab.tasks.shutdown(Duration::from_secs(1)).await.unwrap();
}
