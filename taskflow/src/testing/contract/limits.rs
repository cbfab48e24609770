//! What all processes together may take from a queue, and what is refused.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::model::{AttemptOutcome, NewTask, QueueConfig, TaskFilter, TaskStatus};
use crate::store::{
    Claim, Claimed, FinishKind, Finished, HoldOutcome, Inserted, InsertedAs, Refusal, Release, Reopen,
    SharedLimits, Start,
};

use super::lab::*;

/// A claim of up to `limit` tasks from a queue with these limits.
pub(super) async fn take(lab: &Lab, limit: usize, limits: QueueConfig) -> Vec<Claimed> {
    lab.ask(request(lab, limit, &limits)).await.tasks
}

pub(super) fn request(lab: &Lab, limit: usize, limits: &QueueConfig) -> Claim {
    let claim = Claim::new(
        lab.me.id,
        LONG,
        names(&["alpha", "beta", "gamma"]),
        vec![("default".into(), limit), ("mail".into(), limit)],
        limit,
    );
    claim.with_limits("default", SharedLimits::of(limits))
}

pub(super) fn keyed(key: &str) -> NewTask {
    with(task("alpha"), |task| task.concurrency_key = Some(key.to_owned()))
}

pub(super) async fn succeed(lab: &Lab, task: &Claimed) {
    assert_eq!(lab.finish(task.run, success()).await, Finished::Applied(TaskStatus::Success));
}

pub(crate) async fn no_more_run_over_all_processes_than_a_queue_allows(lab: Lab) {
    for _ in 0..10 {
        lab.add(task("alpha")).await;
    }
    let other_queue = lab.add(with(task("alpha"), |task| task.queue = "mail".into())).await;
    let three = QueueConfig::new().global_concurrency(3);
    let first = take(&lab, 10, three.clone()).await;
    assert_eq!(first.len(), 4, "three of the queue, and all of the other");
    assert_eq!(first.iter().filter(|it| it.run.id == other_queue).count(), 1);
    assert!(take(&lab, 10, three.clone()).await.is_empty(), "a second claim has no more");
    // A lease at insert counts towards the limit as well.
    let of_queue: Vec<_> = first.into_iter().filter(|it| &*it.queue == "default").collect();
    succeed(&lab, &of_queue[0]).await;
    assert_eq!(
        lab.finish(of_queue[1].run, retry(Duration::ZERO)).await,
        Finished::Applied(TaskStatus::Pending)
    );
    let run = lab.run(task("beta")).await;
    assert_eq!(take(&lab, 10, three.clone()).await.len(), 1);
    assert_eq!(lab.finish(run, success()).await, Finished::Applied(TaskStatus::Success));
    lab.lose(&[of_queue[2].run]).await;
    assert_eq!(take(&lab, 10, three.clone().global_concurrency(0)).await.len(), 0);
    assert_eq!(take(&lab, 10, three).await.len(), 2);
    assert_eq!(take(&lab, 3, QueueConfig::new()).await.len(), 3, "without a limit there is none");
    lab.assert_counts_are_true().await;
}

pub(crate) async fn a_shared_limit_is_exact_when_many_claim_at_once(lab: Lab) {
    for _ in 0..60 {
        lab.add(task("alpha")).await;
    }
    let five = QueueConfig::new().global_concurrency(5);
    let mut done = 0;
    while done < 60 {
        let claims: Vec<_> = (0..8)
            .map(|_| {
                let (store, claim) = (Arc::clone(&lab.store), request(&lab, 3, &five));
                tokio::spawn(async move { store.claim(claim).await.expect("claim").tasks })
            })
            .collect();
        let mut taken = Vec::new();
        for claim in claims {
            taken.extend(claim.await.expect("no panic"));
        }
        assert!(taken.len() <= 5, "{} run at once", taken.len());
        assert!(!taken.is_empty(), "{done} are done and nothing moves");
        for task in &taken {
            succeed(&lab, task).await;
        }
        done += taken.len();
    }
}

pub(crate) async fn no_more_start_in_a_stretch_of_time_than_a_queue_allows(lab: Lab) {
    let per = Duration::from_millis(600);
    let limits = QueueConfig::new().rate_limit(4, per);
    for _ in 0..10 {
        lab.add(task("alpha")).await;
    }
    let mut starts: Vec<(Instant, Instant)> = Vec::new();
    let patience = Patience::new("ten starts");
    while starts.len() < 10 {
        patience.wait().await;
        let before = Instant::now();
        let claims = lab.ask(request(&lab, 10, &limits)).await;
        let after = Instant::now();
        for task in &claims.tasks {
            starts.push((before, after));
            // The end of a run frees no place: the limit counts starts.
            succeed(&lab, task).await;
        }
        if claims.tasks.is_empty() {
            let next = claims.next_due.expect("when another may start");
            assert!(next <= per + per / 50, "{next:?}");
        }
    }
    for (at, (_, begin)) in starts.iter().enumerate() {
        // The starts, from this one on, that were answered less than a period after this one was answered.
        let within = starts[at..].iter().filter(|(_, end)| *end < *begin + per - Duration::from_millis(2));
        // A claim is answered some time after its starts, so only the starts of one claim are surely in one period.
        let of_claim = starts.iter().filter(|(_, end)| end == begin).count();
        assert!(of_claim <= 4 && within.count() <= 8, "{starts:?}");
    }
    let (first, last) = (starts[0].0, starts[9].1);
    assert!(last - first >= 2 * per - Duration::from_millis(20), "ten starts took {:?}", last - first);
}

pub(crate) async fn a_rate_limit_is_exact_when_many_claim_at_once(lab: Lab) {
    for _ in 0..40 {
        lab.add(task("alpha")).await;
    }
    let limits = QueueConfig::new().rate_limit(8, Duration::from_secs(3600));
    // First a single claim, so that the store's record of the queue exists before the concurrent claims come.
    assert_eq!(take(&lab, 1, limits.clone()).await.len(), 1);
    let claims: Vec<_> = (0..32)
        .map(|_| {
            let (store, claim) = (Arc::clone(&lab.store), request(&lab, 1, &limits));
            tokio::spawn(async move { store.claim(claim).await.expect("claim").tasks.len() })
        })
        .collect();
    let mut started = 0;
    for claim in claims {
        started += claim.await.expect("no panic");
    }
    assert_eq!(started, 7);
    assert!(take(&lab, 10, limits.clone()).await.is_empty());
    assert_eq!(take(&lab, 10, limits.rate_limit(10, Duration::from_secs(3600))).await.len(), 2);
}

pub(crate) async fn a_rate_limit_whose_length_grows_goes_on(lab: Lab) {
    for _ in 0..9 {
        lab.add(task("alpha")).await;
    }
    for (per, expected) in [(Duration::from_millis(10), 3), (Duration::from_millis(400), 6)] {
        let limits = QueueConfig::new().rate_limit(3, per);
        // The starts under the shorter period are remembered, and stop counting in time.
        let (mut started, patience) = (0, Patience::new("another three starts"));
        while started < 3 {
            patience.wait().await;
            started += take(&lab, 9, limits.clone()).await.len();
        }
        assert_eq!(lab.store.counts().await.expect("counts").running, expected);
    }
}

pub(crate) async fn what_a_full_queue_refuses_is_counted_and_kept_if_asked_for(lab: Lab) {
    let full = |record| {
        let mut insert = limited(with_key("alpha", "key"), Start::Wait, 0);
        insert.record_rejected = record;
        insert
    };
    let (quiet, recorded) = (full(false), full(true));
    let (forgotten, kept) = (quiet.task.id, recorded.task.id);
    let refusal = Refusal::QueueFull { queue: "default".to_owned(), max_size: 0 };
    assert_eq!(lab.try_insert(vec![quiet]).await, Err(refusal.clone()));
    assert_eq!(lab.try_insert(vec![recorded.clone()]).await, Err(refusal.clone()));
    assert!(lab.store.get(forgotten).await.expect("get").is_none());
    let record = lab.get(kept).await;
    assert_eq!((record.status, record.attempt, record.attempts.len()), (TaskStatus::Rejected, 0, 0));
    assert!(record.error.expect("why").contains("`default` was full"));
    assert!(record.finished_at.is_some());
    // A repeated insert is refused again, and the refusal is counted once.
    assert_eq!(lab.try_insert(vec![recorded.clone()]).await, Err(refusal.clone()));
    // That holds even if the queue has no limit by then, and if it comes between new tasks.
    let unlimited = waiting(recorded.task);
    let others = [waiting(task("beta")), waiting(task("beta"))];
    let ids = others.clone().map(|it| it.task.id);
    let [first, last] = others;
    let again = lab.insert_groups(vec![vec![first], vec![unlimited], vec![last]]).await;
    let no_limit = Refusal::QueueFull { queue: "default".to_owned(), max_size: 0 };
    let inserted = |id| Ok(vec![Inserted::new(id, InsertedAs::Pending)]);
    assert_eq!(again, [inserted(ids[0]), Err(no_limit), inserted(ids[1])]);
    assert_eq!(lab.claim_ids(10).await, ids);
    // A refused group of several tasks leaves no records, and the key of a refused task is free.
    let several = vec![full(true), full(true)];
    let ids = [several[0].task.id, several[1].task.id];
    assert_eq!(lab.try_insert(several).await, Err(refusal));
    for id in ids {
        assert!(lab.store.get(id).await.expect("get").is_none());
    }
    let holder = lab.add(with_key("alpha", "key")).await;
    let info = lab.store.queues().await.expect("queues").remove(0);
    assert_eq!((info.rejected, info.pending, info.finished, info.running), (4, 1, 1, 2));
    lab.assert_counts_are_true().await;
    // A manual retry of the refused task works once its key is free.
    assert!(lab.store.retry(Reopen::at_once([kept])).await.expect("retry")[0].is_err());
    lab.store.cancel(vec![holder], "no".to_owned()).await.expect("cancel");
    lab.store.retry(Reopen::at_once([kept])).await.expect("retry")[0].as_ref().expect("retried");
    assert_eq!(lab.claim_ids(10).await, [kept]);
    lab.assert_counts_are_true().await;
}

pub(crate) async fn snoozes_are_counted_until_a_manual_retry(lab: Lab) {
    let id = lab.add(task("alpha")).await;
    for snoozes in 0..3 {
        let claimed = lab.claim_one().await;
        assert_eq!((claimed.snoozes, claimed.attempt), (snoozes, 1));
        let kind = give_back(Some(AttemptOutcome::Snoozed));
        assert_eq!(lab.finish(claimed.run, kind).await, Finished::Applied(TaskStatus::Pending));
        assert_eq!(lab.get(id).await.snoozes, snoozes + 1);
    }
    // A task that a shutdown hands back has not snoozed.
    let claimed = lab.claim_one().await;
    lab.finish(claimed.run, give_back(Some(AttemptOutcome::HandedBack))).await;
    let claimed = lab.claim_one().await;
    assert_eq!(claimed.snoozes, 3);
    lab.finish(claimed.run, end(TaskStatus::Failed)).await;
    lab.store.retry(Reopen::at_once([id])).await.expect("retry")[0].as_ref().expect("retried");
    assert_eq!(lab.claim_one().await.snoozes, 0);
}

pub(crate) async fn a_search_for_what_is_not_there_comes_to_an_end(lab: Lab) {
    let many: Vec<_> = (0..300).map(|_| waiting(task("alpha"))).collect();
    lab.try_insert(many).await.expect("not refused");
    let filter = TaskFilter::new().tag("plan", "none").status(TaskStatus::Pending);
    let page = lab.store.list(filter).await.expect("list");
    assert!(page.items.is_empty() && page.next.is_none());
}

/// A held task can be released, whatever the limits of its queue.
pub(crate) async fn a_hold_is_not_claimed_under_any_limit(lab: Lab) {
    let hold = lab.hold(keyed("tenant")).await;
    let one = QueueConfig::new().key_concurrency(1).global_concurrency(1);
    assert!(take(&lab, 10, one.clone()).await.is_empty());
    let release = Arc::new(vec![Release::new(hold, HoldOutcome::Run)]);
    assert_eq!(lab.store.release(release).await.expect("release"), [true]);
    let taken = take(&lab, 10, one).await;
    assert_eq!(taken.len(), 1);
    let kind = FinishKind::Success { result: "null".into() };
    assert_eq!(lab.finish(taken[0].run, kind).await, Finished::Applied(TaskStatus::Success));
}
