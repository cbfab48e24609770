//! Operations on many tasks: they reach only tasks that the operator saw, can be stopped and resumed, and are audited.

#![allow(clippy::unwrap_used, reason = "a test that finds an error fails")]

#[path = "support/everywhere.rs"]
mod everywhere;
#[path = "support/servers/mod.rs"]
mod servers;
mod support;
#[path = "support/wrapper.rs"]
mod wrapper;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use everywhere::everywhere;
use support::{Place, eventually, soon};
use taskflow::admin::{
    Actor, AdminError, AuditEntry, AuditFilter, AuditOutcome, By, Console, Face, OperationState, Permission,
    Role, Selection, Verb,
};
use taskflow::model::{StoreError, StoreErrorKind};
use taskflow::store::{Document, DocumentWrite};
use taskflow::task::IntoNewTask;
use taskflow::{QueueConfig, TaskFilter, TaskId, TaskManager, TaskManagerBuilder, TaskStatus};
use wrapper::{Wrapper, go_on};

#[taskflow::task(name = "operations.nothing")]
async fn nothing(number: u32) {
    let _ = number;
}

fn by(role: Role) -> By {
    By::new(Actor::new("ada", role), Face::Program)
}

/// A manager whose tasks wait, because its queues are paused.
async fn paused(place: &Place) -> TaskManager {
    let builder = place.builder().only(["operations.nothing"]).queue("other", QueueConfig::new());
    let tasks = soon(builder.start()).await.unwrap();
    for queue in ["default", "other"] {
        soon(tasks.pause_queue(queue)).await.unwrap();
    }
    tasks
}

async fn add(tasks: &TaskManager, number: u32) -> Vec<TaskId> {
    let all = (0..number).map(nothing);
    soon(tasks.add_all(all)).await.unwrap().iter().map(taskflow::TaskHandle::id).collect()
}

/// A manager whose store takes 20 ms to cancel a batch: an operation on 3,000 tasks then takes more than a second.
fn slow(place: &Place) -> TaskManagerBuilder {
    let store = Wrapper::new(place.store(), |call| match call {
        "cancel" => Box::pin(async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            Ok(())
        }),
        _ => go_on(),
    });
    TaskManager::builder().store(store)
}

fn all() -> Selection {
    Selection::Filter(TaskFilter::new().name("operations.nothing"))
}

#[tokio::test]
async fn an_operation_acts_only_on_what_the_operator_saw() {
    for place in everywhere() {
        let tasks = paused(&place).await;
        let console = Console::new(&tasks);
        let seen = add(&tasks, 250).await;
        let admin = by(Role::Admin);
        let preview = soon(console.preview(&admin.actor, Verb::Cancel, &all())).await.unwrap();
        assert_eq!((preview.matching, preview.exact, preview.sample.len()), (250, true, 3));
        assert_eq!(preview.by_name["operations.nothing"], 250);

        // Waits for a later instant, so that the time of the preview is before that of the later adds.
        eventually("the clock moves", || async {
            (preview.frozen_at < std::time::SystemTime::now()).then_some(())
        })
        .await;
        let later = add(&tasks, 50).await;
        let frozen = Some(preview.frozen_at);
        let mut running = soon(console.begin(&admin, Verb::Cancel, all(), frozen, Some(250))).await.unwrap();
        let operation = running.within(support::DEADLINE).await;
        assert_eq!((operation.state, operation.acted, operation.skipped), (OperationState::Done, 250, 0));
        for (ids, status) in [(seen, TaskStatus::Cancelled), (later, TaskStatus::Pending)] {
            for id in ids {
                assert_eq!(support::record(&tasks, id).await.status, status);
            }
        }
        let shown = soon(console.operation(&admin.actor, operation.id)).await.unwrap();
        assert_eq!(shown, operation);
    }
}

#[tokio::test]
async fn a_preview_of_thousands_is_exact_and_so_is_the_check_of_its_number() {
    let place = Place::memory();
    let tasks = paused(&place).await;
    let console = Console::new(&tasks);
    let admin = by(Role::Admin);
    add(&tasks, 2_500).await;
    assert_eq!(soon(tasks.cancel_all(TaskFilter::all())).await.unwrap(), 2_500);
    let preview = soon(console.preview(&admin.actor, Verb::Retry, &all())).await.unwrap();
    assert_eq!((preview.matching, preview.exact), (2_500, true));
    let refused = soon(console.begin(&admin, Verb::Retry, all(), None, Some(1_000))).await;
    assert!(matches!(refused, Err(AdminError::Changed { expected: 1_000, now: 2_500 })), "{refused:?}");
}

#[tokio::test]
async fn an_operation_is_refused_if_much_has_changed_since_the_preview() {
    let place = Place::memory();
    let tasks = paused(&place).await;
    let console = Console::new(&tasks);
    add(&tasks, 100).await;
    let admin = by(Role::Admin);
    let refused = soon(console.begin(&admin, Verb::Cancel, all(), None, Some(50))).await;
    assert!(matches!(refused, Err(AdminError::Changed { expected: 50, now: 100 })), "{refused:?}");
    assert_eq!(soon(tasks.counts()).await.unwrap().pending, 100);
    let empty =
        soon(console.begin(&admin, Verb::Cancel, Selection::Filter(TaskFilter::new()), None, None)).await;
    assert_eq!(empty.unwrap_err().code(), "empty_filter");
    let none = soon(console.begin(&admin, Verb::Cancel, Selection::Ids(Vec::new()), None, None)).await;
    assert_eq!(none.unwrap_err().code(), "invalid");
}

#[tokio::test]
async fn a_stopped_operation_leaves_the_rest_alone_and_can_go_on() {
    for place in everywhere() {
        let tasks = paused(&place).await;
        let here = Console::new(&soon(slow(&place).connect()).await.unwrap());
        let elsewhere = Console::new(&soon(place.builder().connect()).await.unwrap());
        add(&tasks, 3_000).await;
        let admin = by(Role::Admin).reason(Some("INC-311".to_owned()));
        let mut running = soon(here.begin(&admin, Verb::Cancel, all(), None, None)).await.unwrap();
        let id = running.now().id;
        eventually("some are cancelled", || async {
            (tasks.counts().await.unwrap().cancelled >= 100).then_some(())
        })
        .await;
        // Another process stops it.
        soon(elsewhere.stop_operation(&admin, id)).await.unwrap();
        let stopped = running.within(support::DEADLINE).await;
        assert_eq!(stopped.state, OperationState::Stopped);
        assert!(stopped.acted < 3_000, "{stopped:?}");
        let counts = soon(tasks.counts()).await.unwrap();
        assert_eq!((counts.cancelled, counts.pending), (stopped.acted, 3_000 - stopped.acted));

        let mut running = soon(elsewhere.resume_operation(&admin, id)).await.unwrap();
        let done = running.within(support::DEADLINE * 3).await;
        assert_eq!((done.state, done.acted), (OperationState::Done, 3_000), "{done:?}");
        assert_eq!(soon(tasks.counts()).await.unwrap().cancelled, 3_000);
        let again = soon(elsewhere.resume_operation(&admin, id)).await.unwrap_err();
        assert_eq!(again.code(), "invalid", "{again}");
    }
}

#[tokio::test]
async fn an_operation_of_a_process_that_is_gone_is_broken_off_and_goes_on_elsewhere() {
    let place = Place::sqlite();
    let tasks = paused(&place).await;
    add(&tasks, 3_000).await;
    let admin = by(Role::Admin);
    // A runtime that ends in the middle of the operation stands for a process that dies.
    let builder = slow(&place);
    let id = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let admin = by(Role::Admin);
        let id = runtime.block_on(async {
            let tasks = soon(builder.connect()).await.unwrap();
            let running =
                soon(Console::new(&tasks).begin(&admin, Verb::Cancel, all(), None, None)).await.unwrap();
            eventually("some are cancelled", || async {
                (tasks.counts().await.unwrap().cancelled >= 100).then_some(())
            })
            .await;
            running.now().id
        });
        drop(runtime);
        id
    })
    .join()
    .unwrap();
    let console = Console::new(&tasks);
    let broken = eventually("it is seen as broken off", || async {
        let operation = console.operation(&admin.actor, id).await.unwrap();
        (operation.state == OperationState::BrokenOff).then_some(operation)
    })
    .await;
    assert!(broken.acted < 3_000);
    let mut running = soon(console.resume_operation(&admin, id)).await.unwrap();
    let done = running.within(support::DEADLINE * 3).await;
    assert_eq!(done.state, OperationState::Done, "{done:?}");
    assert_eq!(soon(tasks.counts()).await.unwrap().cancelled, 3_000);
}

/// A manager whose store takes 20 ms to cancel a batch, and refuses signs of life while it is `mute`.
fn mute(place: &Place, mute: &Arc<AtomicBool>) -> TaskManagerBuilder {
    let mute = mute.clone();
    let store = Wrapper::new(place.store(), move |call| match call {
        "cancel" => Box::pin(async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            Ok(())
        }),
        "write_documents" if mute.load(Ordering::SeqCst) => {
            Box::pin(async { Err(StoreError::new(StoreErrorKind::Unavailable, "it is mute")) })
        }
        _ => go_on(),
    });
    TaskManager::builder().store(store)
}

#[tokio::test]
async fn a_process_that_was_taken_for_dead_leaves_its_operation_to_the_one_that_goes_on() {
    let place = Place::memory();
    let tasks = paused(&place).await;
    add(&tasks, 20_000).await;
    let admin = by(Role::Admin);
    let is_mute = Arc::new(AtomicBool::new(false));
    // This process is not among the instances: others see only its signs of life.
    let here = Console::new(&soon(mute(&place, &is_mute).view()).await.unwrap());
    let mut old = soon(here.begin(&admin, Verb::Cancel, all(), None, None)).await.unwrap();
    let id = old.now().id;
    let elsewhere = Console::new(&tasks);
    let state = || async { soon(elsewhere.operation(&admin.actor, id)).await.unwrap().state };
    assert_eq!(state().await, OperationState::Running);
    is_mute.store(true, Ordering::SeqCst);
    eventually("it is taken for dead", || async {
        (state().await == OperationState::BrokenOff).then_some(())
    })
    .await;
    let mut new = soon(elsewhere.resume_operation(&admin, id)).await.unwrap();
    is_mute.store(false, Ordering::SeqCst);
    let left = old.within(support::DEADLINE).await;
    assert_eq!(left.state, OperationState::BrokenOff, "{left:?}");
    assert!(left.error.unwrap().contains("somebody has resumed the operation"));
    let done = new.within(support::DEADLINE * 3).await;
    assert_eq!(done.state, OperationState::Done, "{done:?}");
    assert_eq!(state().await, OperationState::Done);
    assert_eq!(soon(tasks.counts()).await.unwrap().pending, 0);
}

#[tokio::test]
async fn tries_are_spread_evenly_also_when_there_are_more_than_a_preview_counts() {
    let place = Place::sqlite();
    let tasks = paused(&place).await;
    let console = Console::new(&tasks);
    let admin = by(Role::Admin);
    let ids = add(&tasks, 21_000).await;
    assert_eq!(soon(tasks.cancel_all(TaskFilter::all())).await.unwrap(), 21_000);
    assert!(!soon(console.preview(&admin.actor, Verb::Retry, &all())).await.unwrap().exact);
    let time = Duration::from_secs(21_000);
    let begin = |spread| console.begin_retry_over(&admin, spread, all(), None, None);
    let too_long = soon(begin(Duration::MAX)).await.unwrap_err();
    assert_eq!(too_long.code(), "invalid", "{too_long}");
    let began = std::time::SystemTime::now();
    let operation = soon(begin(time)).await.unwrap().within(support::DEADLINE * 3).await;
    assert_eq!((operation.state, operation.acted, operation.of), (OperationState::Done, 21_000, 21_000));
    assert_eq!((operation.spread, operation.of_exact), (Some(time), true));
    // One each second, the newest first. The operation itself takes some seconds.
    for (number, id) in (0..).zip(ids.iter().rev()).step_by(1_000) {
        let due = support::record(&tasks, *id).await.run_at.duration_since(began).unwrap();
        let expected = Duration::from_secs(number);
        assert!(due.abs_diff(expected) < Duration::from_secs(60), "{number}: {due:?}");
    }
}

#[tokio::test]
async fn an_actor_acts_only_on_its_queues_and_only_as_it_may() {
    let place = Place::memory();
    let tasks = paused(&place).await;
    let console = Console::new(&tasks);
    let mine = add(&tasks, 20).await;
    let other = nothing(0).into_new_task();
    let other = soon(tasks.add_all([{
        let mut task = other;
        task.queue = "other".into();
        task
    }]))
    .await
    .unwrap()[0]
        .id();
    let viewer = by(Role::Viewer);
    let refused = soon(console.begin(&viewer, Verb::Cancel, all(), None, None)).await.unwrap_err();
    assert!(matches!(refused, AdminError::Forbidden { permission: Permission::Cancel, .. }), "{refused}");

    let narrow = By::new(Actor::new("bob", Role::Admin).only_queues(["default"]), Face::Program);
    assert_eq!(soon(console.cancel(&narrow, other)).await.unwrap_err().code(), "not_found");
    let chosen = Selection::Ids(vec![mine[0], other]);
    let mut running = soon(console.begin(&narrow, Verb::Cancel, chosen, None, None)).await.unwrap();
    assert_eq!(running.within(support::DEADLINE).await.acted, 1);
    let mut running = soon(console.begin(&narrow, Verb::Cancel, all(), None, None)).await.unwrap();
    assert_eq!(running.within(support::DEADLINE).await.acted, 19);
    assert_eq!(support::record(&tasks, other).await.status, TaskStatus::Pending);
}

#[tokio::test]
async fn each_act_is_in_the_audit_log() {
    for place in everywhere() {
        let tasks = paused(&place).await;
        let console = Console::new(&tasks);
        let ids = add(&tasks, 3).await;
        let operator = by(Role::Operator).reason(Some("INC-7".to_owned()));
        soon(console.cancel(&operator, ids[0])).await.unwrap();
        soon(console.retry(&by(Role::Viewer), ids[0])).await.unwrap_err();
        soon(console.delete(&operator, ids[1])).await.unwrap_err();
        soon(console.resume_queue(&operator, "default")).await.unwrap();
        let mut running =
            soon(console.begin(&by(Role::Admin), Verb::Delete, Selection::Ids(ids.clone()), None, None))
                .await
                .unwrap();
        running.within(support::DEADLINE).await;
        let nothing = Selection::Filter(TaskFilter::new());
        soon(console.begin(&by(Role::Admin), Verb::Cancel, nothing, None, None)).await.unwrap_err();
        let mail = Selection::Filter(TaskFilter::new().queue("mail"));
        soon(console.begin(&by(Role::Viewer), Verb::Retry, mail, None, None)).await.unwrap_err();
        let none = TaskId::new();
        soon(console.stop_operation(&operator, none)).await.unwrap_err();
        soon(console.resume_operation(&operator, none)).await.unwrap_err();
        // The audit entry exists as soon as the end can be seen.
        let entries = soon(console.audit(AuditFilter::default())).await.unwrap().items;
        let told: Vec<_> = entries.iter().rev().map(|it| (it.action.as_str(), it.outcome)).collect();
        let (ok, refused) = (AuditOutcome::Ok, AuditOutcome::Refused);
        assert_eq!(
            told,
            [
                ("cancel", ok),
                ("retry", refused),
                ("delete", refused),
                ("resume_queue", ok),
                ("delete_many", ok),
                ("delete_many", ok),
                ("cancel_many", refused),
                ("retry_many", refused),
                ("stop_operation", refused),
                ("resume_operation", refused),
            ]
        );
        assert_eq!(entries[9].reason.as_deref(), Some("INC-7"));
        assert_eq!(entries[9].target, Some(ids[0].to_string()));
        assert!(entries[4].count.is_some());
        assert_eq!(
            entries[2].filter.as_deref(),
            Some("queue:mail"),
            "the entry has the filter of the refused act"
        );
        // Reads the audit log page by page, and then by conditions.
        let mut filter = AuditFilter::default();
        filter.limit = Some(4);
        let first = soon(console.audit(filter.clone())).await.unwrap();
        assert_eq!(first.items, entries[..4]);
        filter.after = first.next;
        let second = soon(console.audit(filter.clone())).await.unwrap();
        assert_eq!(second.items, entries[4..8]);
        filter.after = second.next;
        let third = soon(console.audit(filter)).await.unwrap();
        assert_eq!((third.items.as_slice(), third.next), (&entries[8..], None));
        let mut filter = AuditFilter::default();
        filter.action = Some("cancel".to_owned());
        assert_eq!(soon(console.audit(filter)).await.unwrap().items, entries[9..]);
        soon(tasks.shutdown(Duration::ZERO)).await.unwrap();
    }
}

/// A later version may write entries that this one cannot read.
#[tokio::test]
async fn entries_that_cannot_be_read_do_not_hide_older_ones() {
    for place in everywhere() {
        let tasks = soon(place.builder().start()).await.unwrap();
        let console = Console::new(&tasks);
        let entry = |number| {
            AuditEntry::at(std::time::SystemTime::now(), "ada", Face::Program, format!("act {number}"))
        };
        soon(console.record(entry(1))).await;
        let store = place.store();
        // These are more entries than one read of the log returns.
        for _ in 0..3 {
            let unreadable = (0..Document::MAX_BATCH / 2).map(|_| {
                DocumentWrite::put("audit", format!("{}-2", TaskId::new()), b"of a later version".to_vec())
            });
            soon(store.write_documents(unreadable.collect())).await.unwrap();
        }
        soon(console.record(entry(2))).await;
        let seen = soon(console.audit(AuditFilter::default())).await.unwrap().items;
        let actions: Vec<_> = seen.iter().map(|entry| &*entry.action).collect();
        assert_eq!(actions, ["act 2", "act 1"], "{place:?}");
        soon(tasks.shutdown(Duration::ZERO)).await.unwrap();
    }
}

#[tokio::test]
async fn a_preview_shows_no_arguments_whatever_selects_the_tasks() {
    let tasks = paused(&Place::memory()).await;
    let ids = add(&tasks, 2).await;
    let admin = by(Role::Admin);
    for selection in [all(), Selection::Ids(ids)] {
        let preview =
            soon(Console::new(&tasks).preview(&admin.actor, Verb::Cancel, &selection)).await.unwrap();
        assert_eq!(preview.sample.len(), 2);
        assert!(preview.sample.iter().all(|task| task.args.get() == "null"), "{selection:?}");
    }
    soon(tasks.shutdown(Duration::ZERO)).await.unwrap();
}
