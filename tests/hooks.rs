//! Hooks on adds: they see every add, and may tag, route, change and refuse it.

#![allow(clippy::unwrap_used, reason = "a test that finds an error fails")]

mod support;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use futures_util::StreamExt;
use support::{DEADLINE, Notes, Place, ends, eventually, record, soon};
use taskflow::admin::{Actor, By, Console, Face, Role};
use taskflow::model::{TaskEventKind, TaskSource};
use taskflow::observe::{EventKind, MemoryObserver, OnAdd};
use taskflow::task::IntoNewTask;
use taskflow::{
    AddError, Every, NewTask, QueueConfig, TaskContext, TaskFilter, TaskManager, TaskManagerBuilder,
    TaskStatus,
};

#[taskflow::task]
async fn ping(n: u32) -> Result<u32, String> {
    Ok(n)
}

#[taskflow::task]
async fn pong(context: TaskContext) -> Result<String, String> {
    Ok(context.queue().to_owned())
}

static TICKS: LazyLock<Notes<String>> = LazyLock::new(Notes::default);

#[taskflow::schedule(every = "100ms")]
async fn tick(context: TaskContext) {
    TICKS.write(format!("{} {:?}", context.queue(), context.tags()));
}

#[taskflow::task]
async fn adds_another(tasks: TaskManager) -> Result<String, AddError> {
    Ok(tasks.add(ping(1)).await?.id().to_string())
}

/// Counts the adds that it sees.
#[derive(Clone, Default)]
struct Count(Arc<AtomicUsize>);

impl OnAdd for Count {
    fn on_add(&self, task: &mut NewTask) -> Result<(), AddError> {
        let number = self.0.fetch_add(1, Ordering::SeqCst) + 1;
        task.tags.insert("number".into(), number.to_string());
        Ok(())
    }
}

fn with(place: &Place, hook: impl OnAdd) -> TaskManagerBuilder {
    place.builder().schedules(false).queue("side", QueueConfig::new()).on_add(hook)
}

fn refuse_all(task: &mut NewTask) -> Result<(), AddError> {
    Err(AddError::refused(format_args!("no {} today", task.name)))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_add_passes() {
    for place in Place::each() {
        let count = Count::default();
        let tasks = with(&place, count.clone()).start().await.unwrap();
        let mut expected = 0;
        let mut passed = |more: usize| {
            expected += more;
            assert_eq!(count.0.load(Ordering::SeqCst), expected);
        };
        let one = tasks.add_task(ping, (1,)).await.unwrap();
        passed(1);
        assert_eq!(record(&tasks, one.id()).await.tags["number"], "1");
        tasks.add(ping(1)).await.unwrap();
        passed(1);
        let three = tasks.add_all((0..3).map(ping)).await.unwrap();
        passed(3);
        assert_eq!(record(&tasks, three[2].id()).await.tags["number"], "5");
        let handle = tasks.clone();
        tokio::task::spawn_blocking(move || handle.add(ping(1)).blocking().unwrap()).await.unwrap();
        passed(1);
        let hold = tasks.hold();
        hold.add(ping(1)).await.unwrap();
        hold.add_all([ping(2)]).await.unwrap();
        hold.release().await.unwrap();
        passed(2);
        soon(tasks.add_task(adds_another, ()).await.unwrap().wait()).await.unwrap();
        passed(2);
        tasks.run_now("tick").await.unwrap();
        passed(1);
        // A retry is no add.
        let task = tasks.add(ping(1)).run_in(Duration::from_secs(3600)).await.unwrap();
        passed(1);
        tasks.cancel(task.id()).await.unwrap();
        tasks.retry(task.id()).await.unwrap();
        passed(0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn adds_in_a_transaction_of_the_caller_pass() {
    let place = Place::sqlite();
    let tasks = with(&place, Count::default()).start().await.unwrap();
    let path = place.url();
    let path = path.trim_start_matches("sqlite://").split('?').next().unwrap();
    let mut connection = taskflow::rusqlite::Connection::open(path).unwrap();
    let behavior = taskflow::rusqlite::TransactionBehavior::Immediate;
    let transaction = connection.transaction_with_behavior(behavior).unwrap();
    let handle = tasks.add(ping(1)).within_sqlite(&transaction).unwrap();
    transaction.commit().unwrap();
    assert_eq!(record(&tasks, handle.id()).await.tags["number"], "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_adds_of_the_admin_and_of_the_test_kit_pass() {
    let t = taskflow::testing::TestTasks::new()
        .only(["ping"])
        .configure(|builder| builder.on_add(Count::default()))
        .start()
        .await;
    let id = t.manager().add(ping(1)).await.unwrap().id();
    t.drain().await;
    assert_eq!(record(t.manager(), id).await.tags["number"], "1");

    let tasks = refusing().await;
    let by = By::new(Actor::new("ada", Role::Admin), Face::Program);
    let task = tasks.add(ping(1)).into_new_task();
    let refused = Console::new(&tasks).add(&by, task).await.unwrap_err();
    assert_eq!((refused.code(), &*refused.to_string()), ("refused", "the add was refused: no ping today"));
}

async fn refusing() -> TaskManager {
    with(&Place::memory(), refuse_all).start().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ticks_of_schedules_pass_and_can_be_tagged_and_routed() {
    for place in Place::each() {
        let hook = |task: &mut NewTask| {
            if task.source == TaskSource::Schedule {
                task.queue = "side".into();
                task.tags.insert("by".into(), task.name.to_string());
            }
            Ok(())
        };
        let tasks = with(&place, hook).schedules(true).only(["tick", "pong"]).start().await.unwrap();
        tasks
            .schedule(tasks.add_task(pong, ()), Every::new(Duration::from_millis(100)).unwrap())
            .named("pongs")
            .await
            .unwrap();
        let wanted = r#"side {"by": "tick"}"#.to_owned();
        eventually("it ticked", || async { TICKS.read().contains(&wanted).then_some(()) }).await;
        let ended = || async {
            let all = tasks.list(TaskFilter::all().name("pong").status(TaskStatus::Success)).await.unwrap();
            all.items.into_iter().next()
        };
        let task = eventually("the stored schedule ticked", ended).await;
        assert_eq!((&*task.queue, &*task.tags["by"]), ("side", "pong"));
        tasks.shutdown(DEADLINE).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_tick_is_skipped_and_the_schedule_goes_on() {
    for place in Place::each() {
        let count = Arc::new(AtomicUsize::new(0));
        let seen = count.clone();
        let hook = move |task: &mut NewTask| match task.source {
            TaskSource::Schedule if seen.fetch_add(1, Ordering::SeqCst) < 2 => refuse_all(task),
            _ => Ok(()),
        };
        let seen = MemoryObserver::new();
        let builder = with(&place, hook).schedules(true).only(["tick"]).observer(seen.clone());
        let tasks = builder.start().await.unwrap();
        soon(seen.wait_for(|event| event.kind.kind() == EventKind::Succeeded)).await;
        let events = seen.events();
        for event in &events[..2] {
            let error = "the add was refused: no tick today".to_owned();
            assert_eq!((&*event.name, &event.kind), ("tick", &TaskEventKind::Rejected { error }));
        }
        assert_eq!(events[2].kind, TaskEventKind::Added);
        let schedules = tasks.schedules().await.unwrap();
        let schedule = schedules.iter().find(|it| it.name == "tick").unwrap();
        assert!(schedule.skipped >= 2, "{schedule:?}");
        tasks.shutdown(DEADLINE).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tick_that_is_routed_to_an_unknown_queue_is_refused() {
    let hook = |task: &mut NewTask| {
        task.queue = "sied".into();
        Ok(())
    };
    let tasks = with(&Place::memory(), hook).schedules(true).only(["tick"]).start().await.unwrap();
    let mut events = tasks.subscribe();
    let event = soon(events.next()).await.unwrap();
    assert!(event.error().unwrap().contains("did you mean `side`?"), "{event:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_queue_has_its_own_limits() {
    for place in Place::each() {
        let hook = |task: &mut NewTask| {
            task.queue = task.tags.remove("to").unwrap_or("side".into()).into();
            Ok(())
        };
        let tasks = with(&place, hook).queue("side", QueueConfig::new().max_size(1)).start().await.unwrap();
        assert_eq!(soon(tasks.add_task(pong, ()).await.unwrap().wait()).await.unwrap(), "side");
        let later = Duration::from_secs(3600);
        tasks.add(ping(1)).run_in(later).await.unwrap();
        let full = tasks.add(ping(1)).await.unwrap_err();
        assert!(matches!(&full, AddError::QueueFull { queue, max_size: 1 } if queue == "side"), "{full}");
        let unknown = tasks.add(ping(1)).tag("to", "sied").await.unwrap_err();
        assert!(unknown.to_string().contains("did you mean `side`?"), "{unknown}");
        tasks.add(ping(1)).tag("to", "default").await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hooks_are_called_in_order_and_limits_are_checked_after_them() {
    for place in Place::each() {
        let builder = with(&place, |task: &mut NewTask| {
            task.tags.insert("said".into(), "a".into());
            Ok(())
        });
        let tasks = builder
            .on_add(|task: &mut NewTask| {
                task.tags.get_mut("said").unwrap().push('b');
                task.priority = 7;
                task.policy.to_mut().retries = 3;
                if let Some(long) = task.tags.get_mut("long") {
                    *long = "x".repeat(NewTask::MAX_WORD + 1);
                }
                if task.tags.contains_key("short") {
                    task.tags.remove("short");
                }
                Ok(())
            })
            .start()
            .await
            .unwrap();
        let handle = tasks.add(ping(1)).tag("short", "x".repeat(5000)).await.unwrap();
        let task = record(&tasks, handle.id()).await;
        assert_eq!((&*task.tags["said"], task.priority, task.max_attempts), ("ab", 7, 4));
        let long = tasks.add(ping(1)).tag("long", "").await.unwrap_err();
        assert!(matches!(long, AddError::TooLarge { what: "tag value", .. }), "{long}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_reaches_the_caller_with_its_reason_and_nothing_is_stored() {
    for place in Place::each() {
        let hook = |task: &mut NewTask| {
            if task.args.as_deref().is_ok_and(|args| args.contains('3')) { refuse_all(task) } else { Ok(()) }
        };
        let tasks = with(&place, hook).start().await.unwrap();
        let mut events = tasks.subscribe();
        let refused = tasks.add_all((0..5).map(ping)).await.unwrap_err();
        assert_eq!(refused.to_string(), "the add was refused: no ping today");
        assert!(matches!(&refused, AddError::Refused { reason } if reason == "no ping today"));
        assert!(!refused.is_transient());
        assert!(tasks.list(TaskFilter::all()).await.unwrap().items.is_empty());
        let event = soon(events.next()).await.unwrap();
        assert_eq!(event.kind, TaskEventKind::Rejected { error: refused.to_string() });
        assert_eq!((&*event.name, &*event.queue, event.attempt), ("ping", "default", 0));
        tasks.add(ping(4)).await.unwrap();
        assert_eq!(soon(events.next()).await.unwrap().kind, TaskEventKind::Added);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hook_that_panics_refuses_the_add_and_nothing_else() {
    for place in Place::each() {
        let hook = |task: &mut NewTask| {
            assert_ne!(task.tags.get("bad").map(String::as_str), Some("yes"), "a bad task");
            Ok(())
        };
        let tasks = with(&place, hook).start().await.unwrap();
        let error = tasks.add(ping(1)).tag("bad", "yes").await.unwrap_err();
        assert!(matches!(error, AddError::Hook { .. }), "{error:?}");
        let text = error.to_string();
        assert!(text.contains("panicked at tests/") && text.contains("a bad task"), "{text}");
        assert!(text.ends_with("the task was not added"), "{text}");
        let good = tasks.add(ping(1)).await.unwrap();
        assert_eq!(ends(&tasks, good.id()).await.status, TaskStatus::Success);
        assert_eq!(tasks.list(TaskFilter::all()).await.unwrap().items.len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_made_eager_by_a_hook_is_not_held() {
    for place in Place::each() {
        let hook = |task: &mut NewTask| {
            task.eager = true;
            Ok(())
        };
        let tasks = with(&place, hook).start().await.unwrap();
        let hold = tasks.hold();
        let handle = hold.add_task(ping, (1,)).await.unwrap();
        assert_eq!(ends(&tasks, handle.id()).await.status, TaskStatus::Success);
        drop(hold);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_web_answers_a_refusal_with_its_reason() {
    use axum::response::IntoResponse;
    let tasks = refusing().await;
    let refused = tasks.add(ping(1)).await.unwrap_err();
    let response = refused.into_response();
    assert_eq!(response.status().as_u16(), 422);
    let body = axum::body::to_bytes(response.into_body(), 1000).await.unwrap();
    assert_eq!(body, "the add was refused: no ping today");
}
