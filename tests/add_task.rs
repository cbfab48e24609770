//! The record of a task has the options of its add, and an add that cannot be stored is refused.

#![allow(clippy::unwrap_used, reason = "a test that finds an error fails")]

mod support;

use std::time::{Duration, SystemTime};

use support::{Gate, Place, ends, record, soon};
use taskflow::{
    AddError, NewTask, QueueConfig, State, TaskFilter, TaskHandle, TaskManager, TaskManagerBuilder,
    TaskStatus, model::TaskSource, task::IntoNewTask,
};

#[taskflow::task]
async fn double(n: u32) -> Result<u32, String> {
    Ok(n * 2)
}

#[taskflow::task(retries = 3, priority = 4, queue = "mail")]
async fn send(to: String, body: Option<String>) {
    let _ = (to, body);
}

#[taskflow::task]
async fn measure(value: f64) {
    let _ = value;
}

#[taskflow::task]
async fn nested(value: Option<Option<u8>>) {
    let _ = value;
}

#[taskflow::task]
async fn spread(tasks: TaskManager, State(again): State<TaskManager>, n: u32) -> Result<u32, String> {
    let first = tasks.add(double(n)).await.map_err(|error| error.to_string())?;
    let second = again.add(double(n + 1)).await.map_err(|error| error.to_string())?;
    let sum = first.wait().await.map_err(|error| error.to_string())?
        + second.wait().await.map_err(|error| error.to_string())?;
    Ok(sum)
}

#[taskflow::task]
fn spread_in_blocking_code(tasks: TaskManager, n: u32) -> Result<String, AddError> {
    Ok(tasks.add(double(n)).blocking()?.id().to_string())
}

#[taskflow::task]
async fn wait_at(State(gate): State<Gate>) {
    gate.pass().await;
}

fn builder(place: &Place) -> TaskManagerBuilder {
    place
        .builder()
        .state(Gate::default())
        .queue("mail", QueueConfig::new())
        .queue("small", QueueConfig::new().max_size(3))
}

/// A manager that only adds tasks: they stay pending.
async fn idle(place: &Place) -> TaskManager {
    builder(place).connect().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_option_reaches_the_record() {
    for place in Place::each() {
        let tasks = idle(&place).await;
        let at = SystemTime::now() + Duration::from_secs(3600);
        let handle = tasks
            .add_task(send, ("ada@example.com".to_owned(), None))
            .priority(-7)
            .queue("default")
            .idempotency_key("welcome:1")
            .run_key("mail:1")
            .tag("plan", "pro")
            .tags([("attempt", 1), ("plan", 2)])
            .run_at(at)
            .retries(9)
            .await
            .unwrap();
        let task = record(&tasks, handle.id()).await;
        assert_eq!((task.name.as_str(), task.queue.as_str(), task.priority), ("send", "default", -7));
        assert_eq!(task.idempotency_key.as_deref(), Some("welcome:1"));
        assert_eq!(task.run_key.as_deref(), Some("mail:1"));
        let tags: Vec<_> = task.tags.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        assert_eq!(tags, [("attempt", "1"), ("plan", "2")]);
        assert_eq!((task.attempt, task.max_attempts, task.source), (0, 10, TaskSource::Manager));
        assert_eq!(task.args.get(), r#"{"to":"ada@example.com","body":null}"#);
        let off = |instant: SystemTime| instant.duration_since(at).unwrap_or_else(|early| early.duration());
        assert!(off(task.run_at) < Duration::from_millis(1), "{:?}", task.run_at);
        assert!(off(task.scheduled_for.unwrap()) < Duration::from_millis(1));
        assert_eq!(task.status, TaskStatus::Pending);
        assert!(task.started_at.is_none() && task.finished_at.is_none() && task.attempts.is_empty());
    }
}

#[tokio::test]
async fn what_an_add_does_not_say_the_attribute_says() {
    let tasks = idle(&Place::memory()).await;
    let handle = tasks.add(send("a".to_owned(), Some("b".to_owned()))).await.unwrap();
    let task = record(&tasks, handle.id()).await;
    assert_eq!((task.queue.as_str(), task.priority, task.max_attempts), ("mail", 4, 4));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_of_mixed_kinds_is_added_whole_and_in_order() {
    for place in Place::each() {
        let tasks = builder(&place).start().await.unwrap();
        let handles = tasks
            .add_all([
                double(1).into_new_task(),
                tasks.add_task(double, (2,)).priority(9).tag("kind", "option").into_new_task(),
                send("a".to_owned(), None).into_new_task(),
            ])
            .await
            .unwrap();
        let values = [soon(handles[0].wait()).await.unwrap(), soon(handles[1].wait()).await.unwrap()];
        assert_eq!(values, [2, 4]);
        let second = record(&tasks, handles[1].id()).await;
        assert_eq!((second.priority, second.tags["kind"].as_str()), (9, "option"));
        assert_eq!(record(&tasks, handles[2].id()).await.name, "send");

        let typed: Vec<TaskHandle<u32>> = tasks.add_all((0..5).map(double)).await.unwrap();
        for (n, handle) in (0..).zip(&typed) {
            assert_eq!(soon(handle.wait()).await.unwrap(), 2 * n);
        }
        assert!(tasks.add_all(Vec::<taskflow::NewTask>::new()).await.unwrap().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_a_batch_is_stored_if_one_of_it_is_refused() {
    for place in Place::each() {
        let tasks = idle(&place).await;
        let bad = tasks.add_task(double, (1,)).queue("emial").into_new_task();
        assert!(tasks.add_all([double(1).into_new_task(), bad]).await.is_err());
        assert!(tasks.add_all([double(1).into_new_task(), measure(f64::NAN).into_new_task()]).await.is_err());
        let into_small = |n| tasks.add_task(double, (n,)).queue("small");
        let error = tasks.add_all((0..4).map(into_small)).await.unwrap_err();
        assert!(matches!(error, AddError::QueueFull { max_size: 3, .. }), "{error}");
        assert_eq!(tasks.counts().await.unwrap().total(), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_twice_in_one_batch_makes_the_second_the_duplicate_of_the_first() {
    for place in Place::each() {
        let tasks = idle(&place).await;
        let keyed = |n| tasks.add_task(double, (n,)).idempotency_key("k");
        let handles = tasks.add_all([keyed(1), keyed(2)]).await.unwrap();
        assert_eq!(handles[0].id(), handles[1].id());
        assert!(!handles[0].is_duplicate() && handles[1].is_duplicate());
        assert_eq!(record(&tasks, handles[0].id()).await.args.get(), r#"{"n":1}"#);
        assert_eq!(tasks.counts().await.unwrap().total(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_add_owns_what_it_needs_and_may_be_awaited_elsewhere() {
    let tasks = builder(&Place::memory()).start().await.unwrap();
    let runs = tasks.clone();
    let add = tasks.add_task(double, (21,)).into_future();
    drop(tasks);
    let handle = tokio::spawn(add).await.unwrap().unwrap();
    assert_eq!(soon(handle.wait()).await.unwrap(), 42);
    // Without this clone, the manager would shut down after the add, perhaps before the task has run.
    drop(runs);
}

#[tokio::test(flavor = "multi_thread")]
async fn synchronous_code_adds_and_waits_until_it_is_stored() {
    for place in Place::each() {
        let tasks = builder(&place).start().await.unwrap();
        let from_thread = tasks.clone();
        let handle = tokio::task::spawn_blocking(move || from_thread.add(double(4)).blocking())
            .await
            .unwrap()
            .unwrap();
        assert_eq!(soon(handle.wait()).await.unwrap(), 8);

        let handle = tasks.add_task(spread_in_blocking_code, (5,)).await.unwrap();
        let child: taskflow::TaskId = soon(handle.wait()).await.unwrap().parse().unwrap();
        assert_eq!(ends(&tasks, child).await.result.unwrap().get(), "10");
    }
}

#[tokio::test]
async fn synchronous_code_adds_beside_a_runtime_of_one_thread() {
    let tasks = builder(&Place::memory()).start().await.unwrap();
    let handle = tasks.add_task(spread_in_blocking_code, (5,)).await.unwrap();
    soon(handle.wait()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_adds_tasks() {
    for place in Place::each() {
        let tasks = builder(&place).start().await.unwrap();
        let handle = tasks.add_task(spread, (10,)).await.unwrap();
        assert_eq!(soon(handle.wait()).await.unwrap(), 20 + 22);
    }
}

#[tokio::test]
async fn an_unknown_queue_is_refused_with_the_nearest_name() {
    let tasks = idle(&Place::memory()).await;
    let error = tasks.add(double(1)).queue("mial").await.unwrap_err();
    assert!(matches!(&error, AddError::UnknownQueue { suggestion: Some(name), .. } if name == "mail"));
    let text = error.to_string();
    assert!(text.contains("`mial`") && text.contains("did you mean `mail`"), "{text}");
}

#[tokio::test]
async fn what_is_too_large_is_refused_with_its_size_and_the_limit() {
    let tasks = idle(&Place::memory()).await;
    let word = "x".repeat(1025);
    let tags = |count: usize| (0..count).map(|n| (n.to_string(), n)).collect::<Vec<_>>();
    let payload = |length: usize| tasks.add(send("x".repeat(length), None));
    // `{"to":"..","body":null}` is 21 bytes around the text.
    let around = r#"{"to":"","body":null}"#.len();
    payload((1 << 20) - around).await.unwrap();
    tasks.add(double(1)).tags(tags(32)).await.unwrap();
    tasks.add(double(1)).idempotency_key("x".repeat(1024)).await.unwrap();
    let refused = [(payload((1 << 20) - around + 1).await, "payload", 1 << 20, (1 << 20) + 1)];
    for (answer, expected, most, size) in refused {
        let AddError::TooLarge { what, limit, actual } = answer.unwrap_err() else { panic!("{expected}") };
        assert_eq!((what, limit, actual), (expected, most, size));
    }
    let refused = [
        (tasks.add(double(1)).tags(tags(33)).await, "tags"),
        (tasks.add(double(1)).tag(&word, 1).await, "tag name"),
        (tasks.add(double(1)).tag("a", &word).await, "tag value"),
        (tasks.add(double(1)).idempotency_key(&word).await, "idempotency key"),
        (tasks.add(double(1)).run_key(&word).await, "run key"),
    ];
    for (answer, expected) in refused {
        let AddError::TooLarge { what, limit, actual } = answer.unwrap_err() else { panic!("{expected}") };
        assert_eq!((what, actual), (expected, limit + 1));
    }
}

#[tokio::test]
async fn what_json_cannot_say_is_refused_and_names_the_argument() {
    let tasks = idle(&Place::memory()).await;
    for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let error = tasks.add(measure(value)).await.unwrap_err();
        assert!(matches!(&error, AddError::Argument { task: "measure", argument: "value", .. }), "{error}");
        assert!(!error.is_transient());
    }
    let error = tasks.add(nested(Some(None))).await.unwrap_err();
    assert!(error.to_string().contains("`value`"), "{error}");
    tasks.add(nested(None)).await.unwrap();
    assert_eq!(tasks.counts().await.unwrap().total(), 1);
}

#[tokio::test]
async fn a_back_off_that_is_no_factor_is_refused() {
    let tasks = idle(&Place::memory()).await;
    for factor in [f64::NAN, f64::INFINITY, -1.0] {
        let error = tasks.add(double(1)).backoff(factor).await.unwrap_err();
        assert!(matches!(&error, AddError::Option { option: "backoff", .. }), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_refuses_exactly_what_is_beyond_it() {
    for place in Place::each() {
        let tasks = idle(&place).await;
        let adds = (0..20).map(|n| tokio::spawn(tasks.add(double(n)).queue("small").into_future()));
        let mut accepted = 0;
        for add in adds.collect::<Vec<_>>() {
            match add.await.unwrap() {
                Ok(_) => accepted += 1,
                Err(error) => {
                    assert!(matches!(&error, AddError::QueueFull { max_size: 3, .. }), "{error}");
                    assert!(error.is_transient());
                }
            }
        }
        assert_eq!(accepted, 3);
        assert_eq!(tasks.counts().await.unwrap().pending, 3);
        tasks.add(double(1)).await.unwrap();
        tasks.cancel_all(TaskFilter::new().queue("small")).await.unwrap();
        tasks.add(double(1)).queue("small").await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_runs_does_not_fill_a_queue() {
    for place in Place::each() {
        let gate = Gate::default();
        let tasks = builder(&place)
            .state(gate.clone())
            .queue("small", QueueConfig::new().max_size(2).concurrency(1))
            .start()
            .await
            .unwrap();
        tasks.add_task(wait_at, ()).queue("small").await.unwrap();
        gate.reached(1).await;
        for _ in 0..2 {
            tasks.add_task(wait_at, ()).queue("small").await.unwrap();
        }
        let error = tasks.add_task(wait_at, ()).queue("small").await.unwrap_err();
        assert!(matches!(error, AddError::QueueFull { .. }));
        gate.open();
        gate.reached(3).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_shutdown_nothing_can_be_added() {
    for place in Place::each() {
        let tasks = builder(&place).start().await.unwrap();
        tasks.shutdown(Duration::ZERO).await.unwrap();
        assert!(matches!(tasks.add(double(1)).await, Err(AddError::ShutDown)));
        assert!(matches!(tasks.add_all([double(1)]).await, Err(AddError::ShutDown)));
        let connected = idle(&place).await;
        connected.shutdown(Duration::ZERO).await.unwrap();
        assert!(matches!(connected.add(double(1)).await, Err(AddError::ShutDown)));
    }
}

#[tokio::test]
async fn an_add_all_that_would_hold_up_everybody_is_refused_whole() {
    let tasks = Place::memory().builder().connect().await.unwrap();
    let too_many = (0..=NewTask::MAX_AT_ONCE).map(|_| NewTask::new("anything", Ok("{}".into())));
    let refused = tasks.add_all(too_many).await.unwrap_err();
    let AddError::TooLarge { what, limit, actual } = refused else { panic!("{refused}") };
    assert_eq!((what, limit, actual), ("tasks", 100_000, 100_001));
    assert_eq!(tasks.counts().await.unwrap().total(), 0);
}

/// Writes to a file that was unlinked are refused until the file is back.
#[tokio::test(flavor = "multi_thread")]
async fn an_add_to_a_file_that_was_moved_away_is_refused_until_it_is_back() {
    let directory = tempfile::tempdir().unwrap();
    let (file, elsewhere) = (directory.path().join("tasks.db"), directory.path().join("moved.db"));
    let builder = || TaskManager::builder().store(format!("sqlite://{}", file.display()));
    builder().migrate().await.unwrap();
    let tasks = builder().add_timeout(Duration::from_millis(300)).connect().await.unwrap();
    let new = || [NewTask::new("anything", Ok("{}".into()))];
    tasks.add_all(new()).await.unwrap();
    std::fs::rename(&file, &elsewhere).unwrap();
    let refused = tasks.add_all(new()).await.unwrap_err();
    assert!(refused.to_string().contains("was moved, deleted or replaced"), "{refused}");
    assert!(!tasks.health().is_healthy());
    std::fs::write(&file, "").unwrap();
    tasks.add_all(new()).await.unwrap_err();
    std::fs::rename(&elsewhere, &file).unwrap();
    tasks.add_all(new()).await.unwrap();
    assert_eq!(tasks.counts().await.unwrap().total(), 2);
    assert!(tasks.health().is_healthy());
}
