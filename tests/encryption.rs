//! Encryption at rest: which values are sealed, that it works with every way to add and run, and that every change is noticed.

#![allow(clippy::unwrap_used, reason = "a test that finds an error fails")]

#[path = "support/everywhere.rs"]
mod everywhere;
#[path = "encryption/seen.rs"]
mod seen;
#[path = "support/servers/mod.rs"]
mod servers;
mod support;

use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

use everywhere::everywhere;
use support::{Place, ends, eventually, reaches, record, soon};
use taskflow::crypt::{Encrypt, Key, Keyring, OpenError};
use taskflow::model::FailureKind;
use taskflow::observe::{BoxFuture, EventKind, MemoryObserver, Middleware, Next, Run, RunOutcome};
use taskflow::rusqlite::{self, Connection};
use taskflow::task::IntoNewTask;
use taskflow::{
    AddError, Every, LogLevel, NewTask, TaskContext, TaskFilter, TaskId, TaskManager, TaskRecord, TaskStatus,
};

/// The text that no store may show.
const SECRET: &str = "correct-horse-battery";

#[taskflow::task]
async fn greet(name: String) -> Result<String, String> {
    Ok(format!("hello, {name}"))
}

#[taskflow::task]
fn shout(name: String) -> Result<String, String> {
    Ok(name.to_uppercase())
}

#[taskflow::task(retries = 3, delay = "1ms", jitter = 0.0)]
async fn at_last(context: TaskContext, name: String) -> Result<String, String> {
    if context.attempt() < 3 { Err(format!("{name} failed")) } else { Ok(name) }
}

#[taskflow::task]
async fn echo(text: String) -> Result<String, String> {
    Ok(text)
}

#[taskflow::task(retries = 1, delay = "1ms", jitter = 0.0)]
async fn talk(context: TaskContext, secret: String) -> Result<(), String> {
    context.log(LogLevel::Info, format!("I know {secret}"));
    if secret == "wait" {
        context.cancelled().await;
    }
    Err(format!("I told {secret}"))
}

#[taskflow::task]
async fn panics(secret: String) {
    panic!("not {secret}");
}

/// It takes and returns nothing, and is sealed anyway.
#[taskflow::schedule(every = "1h", run_on_startup)]
async fn hourly() {}

#[taskflow::task(encrypt)]
async fn marked(secret: String) -> Result<String, String> {
    Ok(secret)
}

#[taskflow::task(encrypt = false)]
async fn open(text: String) -> Result<String, String> {
    Ok(text)
}

fn key(n: u8) -> Key {
    Key::from_parts([n; 4], [n; 32])
}

/// Runs tasks with this key.
async fn start(place: &Place, encrypt: Encrypt) -> TaskManager {
    place.builder().schedules(false).encrypt(encrypt).start().await.unwrap()
}

/// Adds tasks, and runs none.
async fn connect(place: &Place, encrypt: Encrypt) -> TaskManager {
    place.builder().encrypt(encrypt).connect().await.unwrap()
}

fn secret() -> String {
    SECRET.to_owned()
}

/// All texts of a record.
fn text(record: &TaskRecord) -> String {
    serde_json::to_string(record).unwrap()
}

#[tokio::test]
async fn tasks_run_as_before_and_the_store_never_sees_what_they_take_and_return() {
    for place in everywhere() {
        let tasks = start(&place, Encrypt::new(key(1))).await;
        let one = tasks.add_task(greet, (secret(),)).idempotency_key("one").await.unwrap();
        assert_eq!(soon(one.wait()).await.unwrap(), format!("hello, {SECRET}"));
        let again = tasks.add_task(greet, (secret(),)).idempotency_key("one").await.unwrap();
        assert!(again.is_duplicate());
        assert_eq!(soon(again.wait()).await.unwrap(), format!("hello, {SECRET}"));

        let mut ids = vec![one.id()];
        let all = tasks.add_all((0..20).map(|n| greet(format!("{SECRET}{n}")))).await.unwrap();
        for (n, task) in all.iter().enumerate() {
            assert_eq!(soon(task.wait()).await.unwrap(), format!("hello, {SECRET}{n}"));
        }
        ids.extend(all.iter().map(|task| task.id()));

        let eager = tasks.add_task(greet, (secret(),)).eager(true).await.unwrap();
        assert!(soon(eager.wait()).await.is_ok());
        let blocking = tasks.add_task(shout, (secret(),));
        let blocking = tokio::task::spawn_blocking(|| blocking.blocking()).await.unwrap().unwrap();
        assert_eq!(soon(blocking.wait()).await.unwrap(), SECRET.to_uppercase());
        let retried = tasks.add_task(at_last, (secret(),)).await.unwrap();
        assert_eq!(soon(retried.wait()).await.unwrap(), SECRET);
        let hold = tasks.hold();
        let held = hold.add_task(greet, (secret(),)).await.unwrap();
        hold.release().await.unwrap();
        assert!(soon(held.wait()).await.is_ok());
        ids.extend([eager.id(), blocking.id(), retried.id(), held.id()]);

        for id in ids {
            let stored = record(&tasks, id).await;
            assert!(
                !stored.args.get().contains(SECRET)
                    && !stored.result.as_ref().unwrap().get().contains(SECRET)
            );
            assert_eq!(stored.sealed_with(), Some("01010101"));
            let opened = tasks.open(&stored).unwrap();
            assert!(opened.args.get().contains(SECRET), "{opened:?}");
            assert_eq!(opened.sealed_with(), None);
        }

        // Another process waits for the result, and one without keys cannot read it.
        let other = connect(&place, Encrypt::new(key(1))).await;
        let same = other.add_task(greet, (secret(),)).idempotency_key("one").await.unwrap();
        assert_eq!(soon(same.wait()).await.unwrap(), format!("hello, {SECRET}"));
        let blind = place.builder().connect().await.unwrap();
        let same = blind.add_task(greet, (secret(),)).idempotency_key("one").await.unwrap();
        let failure = soon(same.wait()).await.unwrap_err();
        assert_eq!((failure.kind(), failure.status()), (FailureKind::Sealed, TaskStatus::Success));
        assert!(failure.message().contains("key `01010101` is not in this process's key ring"), "{failure}");
        assert_eq!(blind.health().missing_keys, ["01010101"]);
        for manager in [tasks, other, blind] {
            manager.shutdown(Duration::ZERO).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_replacement_keeps_its_id_and_opens_with_its_run_key() {
    for place in everywhere() {
        let adder = connect(&place, Encrypt::new(key(1))).await;
        let add = |name: &str| {
            adder.add_task(greet, (name.to_owned(),)).run_key("digest").run_in(Duration::from_millis(300))
        };
        let first = add("Ada").await.unwrap();
        let second = add("Grace").await.unwrap();
        assert!(second.is_replacement());
        assert_eq!(first.id(), second.id());
        let stored = record(&adder, first.id()).await;
        assert_eq!(adder.open(&stored).unwrap().args.get(), r#"{"name":"Grace"}"#);
        let runner = start(&place, Encrypt::new(key(1)).strict()).await;
        assert_eq!(soon(second.wait()).await.unwrap(), "hello, Grace");
        runner.shutdown(Duration::ZERO).await.unwrap();
        adder.shutdown(Duration::ZERO).await.unwrap();
    }
}

#[tokio::test]
async fn the_largest_arguments_and_results_fit() {
    for place in everywhere() {
        let tasks = start(&place, Encrypt::new(key(1))).await;
        let large = "x".repeat(NewTask::MAX_PAYLOAD - r#"{"text":""}"#.len());
        let task = tasks.add_task(echo, (large.clone(),)).await.unwrap();
        assert!(soon(task.wait()).await.unwrap() == large);
        let larger = tasks.add_task(echo, (large + "x",)).await.unwrap_err();
        assert!(matches!(larger, AddError::TooLarge { what: "payload", .. }), "{larger}");
        tasks.shutdown(Duration::ZERO).await.unwrap();
    }
}

#[tokio::test]
async fn the_file_holds_no_word_of_a_task_that_is_sealed_whole() {
    let place = Place::sqlite();
    let all = Encrypt::new(key(1)).args().results().errors().logs();
    let tasks = start(&place, all).await;
    let greeting = tasks.add_task(greet, (secret(),)).await.unwrap();
    soon(greeting.wait()).await.unwrap();
    let talking = tasks.add_task(talk, (secret(),)).await.unwrap();
    let failure = soon(talking.wait()).await.unwrap_err();
    assert_eq!((failure.kind(), failure.message()), (FailureKind::Ended, "I told correct-horse-battery"));
    let panicking = tasks.add_task(panics, (secret(),)).await.unwrap();
    let failure = soon(panicking.wait()).await.unwrap_err();
    assert!(failure.message().contains("not correct-horse-battery"), "{failure}");
    // Lines that are stored while the task runs.
    let waiting = tasks.add_task(talk, ("wait".to_owned(),)).await.unwrap();
    let lines = eventually("a line is stored", || async {
        tasks.logs(waiting.id()).await.unwrap().filter(|lines| !lines.is_empty())
    });
    let line = lines.await.remove(0);
    assert!(!line.message.contains("wait"), "{line:?}");
    tasks.cancel(waiting.id()).await.unwrap();
    let cancelled = ends(&tasks, waiting.id()).await;
    assert_eq!(cancelled.error.as_deref(), Some("cancelled while it ran"));

    let stored = record(&tasks, talking.id()).await;
    assert_eq!(stored.attempts.len(), 2);
    let opened = tasks.open(&stored).unwrap();
    assert_eq!(opened.error.as_deref(), Some("I told correct-horse-battery"));
    assert!(opened.attempts.iter().all(|it| it.error.as_deref() == Some("I told correct-horse-battery")));
    let lines = tasks.logs(talking.id()).await.unwrap().unwrap();
    assert!(lines.iter().all(|line| !line.message.contains(SECRET)));
    let lines = tasks.open_logs(&stored, lines).unwrap();
    assert_eq!(
        lines.iter().map(|line| &*line.message).collect::<Vec<_>>(),
        ["I know correct-horse-battery"; 2]
    );

    // The sealed error of one attempt does not open as the error of another.
    let mut mixed = stored.clone();
    mixed.attempts[0].error.clone_from(&stored.attempts[1].error);
    assert_eq!(tasks.open(&mixed).unwrap_err(), OpenError::Refused { key: "01010101".to_owned() });

    tasks.shutdown(Duration::ZERO).await.unwrap();
    let Place::Sqlite(directory) = &place else { unreachable!() };
    let mut read = 0;
    for entry in std::fs::read_dir(directory.path()).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        read += bytes.len();
        let found = bytes.windows(SECRET.len()).any(|part| part == SECRET.as_bytes());
        assert!(!found);
        assert!(!bytes.windows(6).any(|part| part == b"hello,"));
    }
    assert!(read > 10_000, "{read} bytes were read");
}

#[tokio::test]
async fn only_the_chosen_parts_are_sealed() {
    let place = Place::memory();
    let tasks = start(&place, Encrypt::new(key(1)).results()).await;
    let task = tasks.add_task(greet, ("Ada".to_owned(),)).await.unwrap();
    assert_eq!(soon(task.wait()).await.unwrap(), "hello, Ada");
    let stored = record(&tasks, task.id()).await;
    assert_eq!(stored.args.get(), r#"{"name":"Ada"}"#);
    assert!(stored.result.unwrap().get().contains("enc1"));
    let failing = tasks.add_task(talk, ("Ada".to_owned(),)).await.unwrap();
    assert_eq!(ends(&tasks, failing.id()).await.error.as_deref(), Some("I told Ada"));
}

#[tokio::test]
async fn a_mark_decides_for_its_task() {
    let place = Place::memory();
    let tasks = start(&place, Encrypt::new(key(1)).marked_only()).await;
    let is_sealed = async |id| record(&tasks, id).await.sealed_with().is_some();
    let plain = tasks.add_task(greet, ("Ada".to_owned(),)).await.unwrap();
    let sealed = tasks.add_task(marked, ("Ada".to_owned(),)).await.unwrap();
    assert!(!is_sealed(plain.id()).await && is_sealed(sealed.id()).await);
    assert_eq!(soon(sealed.wait()).await.unwrap(), "Ada");

    let all = start(&place, Encrypt::new(key(1))).await;
    let opted_out = all.add_task(open, ("Ada".to_owned(),)).await.unwrap();
    assert!(!is_sealed(opted_out.id()).await);
    assert_eq!(soon(opted_out.wait()).await.unwrap(), "Ada");

    // Without keys a marked task is refused, also by its name alone.
    let keyless = place.builder().connect().await.unwrap();
    let refused = keyless.add_task(marked, ("Ada".to_owned(),)).await.unwrap_err();
    assert!(
        matches!(&refused, AddError::Option { option: "encrypt", message } if message.contains("`marked`")),
        "{refused}"
    );
    let by_name = NewTask::new("marked", Ok(r#"{"secret":"Ada"}"#.into()));
    assert!(keyless.add_all([by_name]).await.is_err());
    let timed = keyless.schedule(
        keyless.add_task(marked, ("Ada".to_owned(),)),
        Every::new(Duration::from_secs(60)).unwrap(),
    );
    assert!(timed.await.is_err());
    assert!(keyless.add_task(greet, ("Ada".to_owned(),)).await.is_ok());
}

#[tokio::test]
async fn a_strict_process_refuses_what_is_not_sealed() {
    let place = Place::memory();
    let keyless = place.builder().connect().await.unwrap();
    let strict = start(&place, Encrypt::new(key(1)).strict()).await;
    let refused = keyless.add_task(at_last, ("Ada".to_owned(),)).await.unwrap();
    let ended = ends(&strict, refused.id()).await;
    assert_eq!((ended.status, ended.attempts.len()), (TaskStatus::Failed, 1));
    assert!(ended.error.unwrap().contains("not sealed, and this process is strict"));
    let own = strict.add_task(greet, ("Ada".to_owned(),)).await.unwrap();
    assert!(soon(own.wait()).await.is_ok());
    let opted_out = keyless.add_task(open, ("Ada".to_owned(),)).await.unwrap();
    assert_eq!(ends(&strict, opted_out.id()).await.status, TaskStatus::Success);
    strict.shutdown(Duration::ZERO).await.unwrap();

    // Without `strict` both kinds run side by side: that is how encryption is turned on.
    let lenient = start(&place, Encrypt::new(key(1))).await;
    lenient.retry(refused.id()).await.unwrap();
    assert_eq!(ends(&lenient, refused.id()).await.status, TaskStatus::Success);
}

#[tokio::test]
async fn a_schedule_hands_its_sealed_arguments_to_each_tick() {
    let place = Place::sqlite();
    let strict = place.builder().encrypt(Encrypt::new(key(1)).strict());
    let tasks = soon(strict.start()).await.unwrap();
    let declared = eventually("the declared schedule has run", || async {
        let page = tasks.list(TaskFilter::new().name("hourly").status(TaskStatus::Success)).await.unwrap();
        page.items.into_iter().next()
    });
    assert_eq!(tasks.open(&declared.await).unwrap().args.get(), "{}");
    let schedule = || {
        let add = tasks.add_task(greet, (secret(),));
        tasks.schedule(add, Every::new(Duration::from_millis(200)).unwrap()).named("greeting")
    };
    soon(schedule()).await.unwrap();
    let definition =
        async || place.store().schedule("greeting".to_owned()).await.unwrap().unwrap().definition.unwrap();
    let first = definition().await;
    assert!(!first.contains(SECRET) && first.contains("enc1"), "{first}");
    let ticked = eventually("a tick runs", || async {
        let page = tasks.list(TaskFilter::new().name("greet").status(TaskStatus::Success)).await.unwrap();
        page.items.into_iter().next()
    });
    let ticked = ticked.await;
    assert_eq!(tasks.open(&ticked).unwrap().result.unwrap().get(), format!("\"hello, {SECRET}\""));
    // A restart defines it again, word for word.
    soon(schedule()).await.unwrap();
    assert_eq!(definition().await, first);
    let now = soon(tasks.run_now("greeting")).await.unwrap();
    assert_eq!(soon(now.wait()).await.unwrap(), format!("hello, {SECRET}"));
    tasks.remove_schedule("greeting").await.unwrap();

    // The same arguments in a task that no schedule has added.
    let later = tasks.add_task(greet, (secret(),)).run_in(Duration::from_hours(1)).await.unwrap();
    change(&place, later.id(), ticked.args.get());
    tasks.cancel(later.id()).await.unwrap();
    tasks.retry(later.id()).await.unwrap();
    let ended = ends(&tasks, later.id()).await;
    assert!(ended.error.unwrap().contains("it does not open with key"));
}

#[tokio::test]
async fn adds_in_a_transaction_are_sealed_too_and_those_of_sql_are_not() {
    let place = Place::sqlite();
    let tasks = start(&place, Encrypt::new(key(1))).await;
    let Place::Sqlite(directory) = &place else { unreachable!() };
    let sql = Connection::open(directory.path().join("tasks.db")).unwrap();
    let task = tasks.add_task(greet, (secret(),)).within_sqlite(&sql).unwrap();
    assert_eq!(soon(task.wait()).await.unwrap(), format!("hello, {SECRET}"));
    assert!(!text(&record(&tasks, task.id()).await).contains(SECRET));
    tasks.shutdown(Duration::ZERO).await.unwrap();

    let Some(url) = servers::postgres::shared_url() else { return };
    let place = Place::Server(url.clone());
    let tasks = start(&place, Encrypt::new(key(1))).await;
    let (server, namespace) = url.split_once("?namespace=").unwrap();
    let mut sql =
        <taskflow::sqlx::PgConnection as taskflow::sqlx::Connection>::connect(server).await.unwrap();
    use taskflow::sqlx::Connection as _;
    let mut transaction = sql.begin().await.unwrap();
    let task = tasks.add_task(greet, (secret(),)).within_postgres(&mut transaction).await.unwrap();
    transaction.commit().await.unwrap();
    assert_eq!(soon(task.wait()).await.unwrap(), format!("hello, {SECRET}"));
    assert!(!text(&record(&tasks, task.id()).await).contains(SECRET));
    let add = format!(r#"SELECT taskflow_{namespace}_add('greet', '{{"name":"Ada"}}'::jsonb)::text"#);
    let id: String =
        taskflow::sqlx::query_scalar(taskflow::sqlx::AssertSqlSafe(add)).fetch_one(&mut sql).await.unwrap();
    let id: TaskId = id.parse().unwrap();
    assert!(record(&tasks, id).await.args.get().contains("Ada"));
    let ended = reaches(&tasks, id, TaskStatus::Success).await;
    assert!(!text(&ended).contains("hello"), "its result is sealed");
    tasks.shutdown(Duration::ZERO).await.unwrap();
}

/// Changes the arguments of a task behind the store's back.
fn change(place: &Place, id: TaskId, args: &str) {
    let Place::Sqlite(directory) = place else { unreachable!() };
    let sql = Connection::open(directory.path().join("tasks.db")).unwrap();
    let id: Vec<u8> = id
        .to_string()
        .replace('-', "")
        .as_bytes()
        .chunks(2)
        .map(|hex| u8::from_str_radix(std::str::from_utf8(hex).unwrap(), 16).unwrap())
        .collect();
    let changed =
        sql.execute("UPDATE taskflow_tasks SET args = ?2 WHERE id = ?1", rusqlite::params![id, args]);
    assert_eq!(changed.unwrap(), 1);
}

#[tokio::test]
async fn changed_and_swapped_arguments_never_run() {
    let place = Place::sqlite();
    let adder = connect(&place, Encrypt::new(key(1))).await;
    let mut ids = Vec::new();
    for n in 0..2 {
        ids.push(adder.add_task(at_last, (format!("task {n}"),)).await.unwrap().id());
    }
    let of_another_name = adder.add_task(echo, ("text".to_owned(),)).await.unwrap().id();
    let stored = [record(&adder, ids[0]).await, record(&adder, ids[1]).await];
    change(&place, ids[0], stored[1].args.get());
    change(&place, ids[1], stored[0].args.get());
    change(&place, of_another_name, stored[0].args.get());
    // Flips a bit in each field of the envelope.
    let mut flipped = Vec::new();
    let fields = ["$tf", "k", "n", "c"];
    for field in fields {
        let task = adder.add_task(at_last, (field.to_owned(),)).await.unwrap().id();
        let envelope = record(&adder, task).await.args.get().to_owned();
        let mut value: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&envelope).unwrap();
        let mut bytes = value[field].as_str().unwrap().to_owned().into_bytes();
        bytes[2] = if bytes[2] == b'1' { b'3' } else { b'1' };
        value.insert(field.to_owned(), String::from_utf8(bytes).unwrap().into());
        let ordered = fields.map(|field| format!("\"{field}\":{}", value[field])).join(",");
        change(&place, task, &format!("{{{ordered}}}"));
        flipped.push(task);
    }
    let runner = start(&place, Encrypt::new(key(1))).await;
    for id in ids.into_iter().chain([of_another_name]).chain(flipped.clone()) {
        let ended = ends(&runner, id).await;
        assert_eq!((ended.status, ended.attempts.len()), (TaskStatus::Failed, 1), "{ended:?}");
        assert!(ended.error.as_ref().unwrap().starts_with("its arguments are sealed: "), "{ended:?}");
    }
    let error = async |id| record(&runner, id).await.error.unwrap();
    assert!(error(flipped[0]).await.contains("it was damaged"));
    assert!(error(flipped[1]).await.contains("is not in this process's key ring"));
    assert!(error(flipped[2]).await.contains("it does not open with key `01010101`"));
    assert!(error(flipped[3]).await.contains("it does not open with key `01010101`"));
    runner.shutdown(Duration::ZERO).await.unwrap();
    adder.shutdown(Duration::ZERO).await.unwrap();
}

/// Sealed by another program that follows only the description of the format, with its own HKDF, XChaCha20 and Poly1305.
const SEALED: &str = concat!(
    r#"{"$tf":"enc1","k":"a1b2c3d4","n":"ZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXp7","#,
    r#""c":"Hve-ex-m1IGXh8AL8myLWDJ85Nl8tG0krrLmSBOHffJYyLcMSsSIxQ"}"#
);

#[tokio::test]
async fn what_was_sealed_once_opens_for_ever() {
    let key: Key = "tfk1_a1b2c3d4_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8".parse().unwrap();
    let tasks = Place::memory().builder().encrypt(Encrypt::new(Keyring::new(key))).connect().await.unwrap();
    let mut task = NewTask::new("send_email", Ok(SEALED.into()));
    task.id = "0197c7a8-2f5e-7cc0-8a4f-4d1f0a6b2f10".parse().unwrap();
    let record = task.record(SystemTime::now());
    assert_eq!(tasks.open(&record).unwrap().args.get(), r#"{"to":"ada@example.com"}"#);
    task.id = TaskId::new();
    assert!(tasks.open(&task.record(SystemTime::now())).is_err());
}
