//! The cost of limits and expiry, and behaviour that the contract tests cannot see.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::{batch, claim, joined, open, place, task};
use crate::model::{NewTask, QueueConfig, TaskFilter, TaskStatus, When};
use crate::store::sqlite::{SqliteStore, claim as claims};
use crate::store::{Claim, Finish, FinishKind, SharedLimits, Start, Store};

/// The number of steps of SQLite's virtual machine that a claim takes.
async fn steps(store: &SqliteStore, claim: Claim) -> i64 {
    let counted = store.write(move |tx| {
        let before = tx.sql.steps();
        claims::claim(tx, &claim)?;
        Ok(tx.sql.steps() - before)
    });
    counted.await.unwrap()
}

fn of_key(claim: Claim, most: usize) -> Claim {
    let limits = SharedLimits::of(&QueueConfig::new().key_concurrency(most));
    claim.with_limits("default", limits)
}

fn keyed(key: &str) -> NewTask {
    NewTask { concurrency_key: Some(key.to_owned()), ..task("a") }
}

fn many(n: usize, task: impl Fn() -> NewTask) -> Vec<NewTask> {
    (0..n).map(|_| task()).collect()
}

#[tokio::test]
async fn due_tasks_of_names_nobody_asked_for_cost_a_claim_nothing() {
    let (_directory, path) = place();
    let store = open(&path);
    let me = joined(&store).await;
    let one_name = || claim(me, 2);
    let some_names = || Claim { names: Arc::from(["z", "a", "m"].map(Arc::from)), ..claim(me, 2) };
    store.insert(batch(me, Start::Wait, many(20, || task("a")))).await.unwrap();
    for warm_up in [one_name(), some_names()] {
        steps(&store, warm_up).await;
    }
    let alone = (steps(&store, one_name()).await, steps(&store, some_names()).await);
    // At every place of the order: before, between and after the known names, more and less urgent.
    for name in ["0", "b", "zz"] {
        for priority in [-1, 0, 1] {
            let strangers = many(1_000, || NewTask { priority, ..task(name) });
            store.insert(batch(me, Start::Wait, strangers)).await.unwrap();
        }
    }
    let beside = (steps(&store, one_name()).await, steps(&store, some_names()).await);
    assert_eq!(alone.0, beside.0, "steps with one name");
    // One more lookup where an unknown name lies before the next known one.
    assert!(beside.1 <= alone.1 + 40, "{} steps instead of {}", beside.1, alone.1);
    assert_eq!(store.claim(claim(me, 100)).await.unwrap().tasks.len(), 8);
}

#[tokio::test]
async fn tasks_of_a_busy_key_are_blocked_in_bounded_steps_and_then_cost_nothing() {
    let (_directory, path) = place();
    let store = open(&path);
    let me = joined(&store).await;
    store.insert(batch(me, Start::Wait, many(2_500, || keyed("busy")))).await.unwrap();
    let first = store.claim(of_key(claim(me, 2), 1)).await.unwrap();
    assert_eq!((first.tasks.len(), first.next_due), (1, Some(Duration::ZERO)), "it asks to be asked again");
    let mut asked = 1;
    while store.claim(of_key(claim(me, 2), 1)).await.unwrap().next_due == Some(Duration::ZERO) {
        asked += 1;
    }
    assert_eq!(asked, 2, "a thousand at once");
    // All of them wait, and no claim examines them any more.
    let quiet = steps(&store, of_key(claim(me, 2), 1)).await;
    assert!(quiet < 300, "{quiet} steps");
    let info = store.queues().await.unwrap().remove(0);
    assert_eq!((info.pending, info.waiting(), info.running), (2_499, 2_499, 1));
    let page = store.list(TaskFilter::new().status(TaskStatus::Pending).limit(1000)).await.unwrap();
    assert_eq!(page.items.len(), 1000, "what is blocked is listed as pending");

    // A raised limit unblocks all of them, a part with each claim.
    let mut running = 1;
    for _ in 0..20 {
        let claims = store.claim(of_key(claim(me, 3_000), 2_000)).await.unwrap();
        running += claims.tasks.len();
        if claims.next_due.is_none() {
            break;
        }
    }
    assert_eq!(running, 2_000);
    // And so does a removed limit.
    for _ in 0..20 {
        running += store.claim(claim(me, 3_000)).await.unwrap().tasks.len();
    }
    assert_eq!(running, 2_500);
    let left: i64 = store
        .write(|tx| {
            tx.sql.connection().query_row("SELECT count(*) FROM taskflow_blocked", [], |row| row.get(0))
        })
        .await
        .unwrap();
    assert_eq!(left, 0);
}

#[tokio::test]
async fn two_claims_that_disagree_about_a_limit_keep_no_other_key_waiting() {
    let (_directory, path) = place();
    let store = open(&path);
    let me = joined(&store).await;
    store.insert(batch(me, Start::Wait, many(3_000, || keyed("busy")))).await.unwrap();
    store.claim(of_key(claim(me, 1), 1)).await.unwrap();
    let quiet = keyed("quiet");
    let id = quiet.id;
    store.insert(batch(me, Start::Wait, vec![quiet])).await.unwrap();
    let mut started = Vec::new();
    for turn in 0..20 {
        let claims = store.claim(of_key(claim(me, 4), 1 + turn % 2)).await.unwrap();
        started.extend(claims.tasks.iter().map(|it| it.run.id));
    }
    assert!(started.contains(&id) && started.len() == 2, "{started:?}");
}

#[tokio::test]
async fn the_count_of_a_keys_runs_is_true_however_they_end() {
    let (_directory, path) = place();
    let store = open(&path);
    let me = joined(&store).await;
    let counted = async || {
        let of_file = store.write(|tx| {
            let counted = tx.running_of_key("default", "k")?;
            let count = "SELECT count(*) FROM taskflow_tasks WHERE state = 3 AND concurrency_key = 'k'";
            Ok((counted, tx.sql.connection().query_row(count, [], |row| row.get::<_, i64>(0))?))
        });
        let (counted, there) = of_file.await.unwrap();
        assert_eq!(counted, there);
        there
    };
    store.insert(batch(me, Start::Lease, many(2, || keyed("k")))).await.unwrap();
    store.insert(batch(me, Start::Wait, many(4, || keyed("k")))).await.unwrap();
    assert_eq!(counted().await, 2);
    let claimed = store.claim(claim(me, 4)).await.unwrap().tasks;
    assert_eq!(counted().await, 6);
    let (delay, outcome) = (Duration::ZERO, crate::model::AttemptOutcome::Failed);
    let kinds = [
        FinishKind::Success { result: "null".into() },
        FinishKind::Retry { delay, outcome, error: String::new() },
        FinishKind::GiveBack { delay, outcome: None },
        FinishKind::End { status: TaskStatus::Failed, outcome, error: String::new() },
    ];
    for (at, (run, kind)) in claimed.iter().map(|it| it.run).zip(kinds).enumerate() {
        store.finish(Arc::new(vec![Finish::new(run, kind.clone())])).await.unwrap();
        assert_eq!(counted().await, 5 - at as i64);
        // A late finish is not counted again.
        store.finish(Arc::new(vec![Finish::new(run, kind)])).await.unwrap();
    }
    store.leave(me).await.unwrap();
    assert_eq!(store.recover(me).await.unwrap().len(), 2);
    assert_eq!(counted().await, 0);
}

#[tokio::test]
async fn expired_tasks_cost_no_later_claim_anything_and_are_listed_until_they_end() {
    let (_directory, path) = place();
    let store = open(&path);
    let me = joined(&store).await;
    let expired = SystemTime::now() - Duration::from_secs(1);
    let past = || NewTask { expires_at: Some(expired), ..keyed("k") };
    store.insert(batch(me, Start::Wait, many(300, past))).await.unwrap();
    let later = NewTask { when: When::In(super::LONG), ..past() };
    store.insert(batch(me, Start::Wait, vec![later, task("a")])).await.unwrap();
    assert_eq!(store.claim(of_key(claim(me, 2), 1)).await.unwrap().tasks.len(), 1);
    let quiet = steps(&store, of_key(claim(me, 2), 1)).await;
    assert!(quiet < 300, "{quiet} steps");
    let info = store.queues().await.unwrap().remove(0);
    assert_eq!((info.pending, info.scheduled, info.running), (301, 0, 1));
    let pending = TaskFilter::new().status(TaskStatus::Pending).limit(1000);
    assert_eq!(store.list(pending.clone()).await.unwrap().items.len(), 301);
    let mut ended = 0;
    loop {
        let some = store.recover(me).await.unwrap().len();
        assert!(some <= 256);
        if some == 0 {
            break;
        }
        ended += some;
    }
    assert_eq!((ended, store.list(pending).await.unwrap().items.len()), (301, 0));
    assert_eq!(store.counts().await.unwrap().cancelled, 301);
}

#[tokio::test]
async fn tasks_that_have_come_due_are_not_scheduled_even_if_nobody_claims() {
    let (_directory, path) = place();
    let store = open(&path);
    let me = joined(&store).await;
    let soon = || NewTask { when: When::In(Duration::from_millis(1)), ..task("a") };
    let late = NewTask { when: When::In(super::LONG), ..task("a") };
    store.insert(batch(me, Start::Wait, vec![soon(), soon(), late])).await.unwrap();
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    loop {
        let info = store.queues().await.unwrap().remove(0);
        assert_eq!(info.pending, 3);
        if info.scheduled == 1 && info.oldest_waiting.is_some() {
            break;
        }
        assert!(std::time::Instant::now() < deadline, "{info:?}");
    }
}

#[tokio::test]
async fn a_search_examines_a_limited_number_of_rows_and_continues_from_there() {
    let (_directory, path) = place();
    let store = open(&path);
    let me = joined(&store).await;
    let needle = NewTask { tags: [("plan".to_owned(), "gold".to_owned())].into(), ..task("a") };
    let id = needle.id;
    store.insert(batch(me, Start::Wait, vec![needle])).await.unwrap();
    store.insert(batch(me, Start::Wait, many(TaskFilter::MAX_LOOKED_AT, || task("a")))).await.unwrap();
    let filter = TaskFilter::new().status(TaskStatus::Pending).tag("plan", "gold");
    let first = store.list(filter.clone()).await.unwrap();
    assert!(first.items.is_empty());
    let second = store.list(filter.after(first.next.expect("there is more"))).await.unwrap();
    assert_eq!(second.items.iter().map(|task| task.id).collect::<Vec<_>>(), [id]);
    assert!(second.next.is_none());
}
