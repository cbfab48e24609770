//! What a claim takes beyond the free slots of its process.

use std::sync::Arc;
use std::time::Duration;

use crate::model::{AttemptOutcome, NewTask, QueueConfig, TaskId, TaskStatus};
use crate::store::{Claim, Claims, Finish, Finished, Reopen, RunRef, SharedLimits, Start};

use super::lab::*;

/// A claim for this many free slots, and for this many tasks beyond them.
fn request(lab: &Lab, slots: usize, prefetch: usize) -> Claim {
    let mut claim = lab.request(slots + prefetch);
    claim.prefetch = prefetch;
    claim
}

async fn claim(lab: &Lab, slots: usize, prefetch: usize) -> (Vec<TaskId>, bool) {
    answer(&lab.ask(request(lab, slots, prefetch)).await)
}

fn answer(claims: &Claims) -> (Vec<TaskId>, bool) {
    (claims.tasks.iter().map(|task| task.run.id).collect(), claims.needs_slot)
}

/// Adds tasks: each `r` may run twice, each `n` may not.
async fn backlog(lab: &Lab, kinds: &str) -> Vec<TaskId> {
    let new = |kind| if kind == 'r' { with_attempts("alpha", 2) } else { task("alpha") };
    let mut added = Vec::new();
    for kind in kinds.chars() {
        added.push(lab.add(new(kind)).await);
    }
    added
}

pub(crate) async fn beyond_the_free_slots_a_claim_takes_only_what_may_run_twice(lab: Lab) {
    let added = backlog(&lab, "nrnrrrnr").await;
    assert_eq!(claim(&lab, 0, 5).await, (vec![], true), "the first needs a slot");
    assert_eq!(claim(&lab, 3, 5).await, (added[..6].to_vec(), true), "to the first that needs a slot");
    assert_eq!(claim(&lab, 0, 5).await, (vec![], true));
    assert_eq!(claim(&lab, 1, 5).await, (added[6..].to_vec(), false), "there are no more");
    assert_eq!(claim(&lab, 0, 5).await, (vec![], false));
    lab.assert_counts_are_true().await;
}

pub(crate) async fn a_claim_ends_at_the_first_task_that_needs_a_slot(lab: Lab) {
    // More tasks than a store would read at first, all alike but one.
    let added = backlog(&lab, &"r".repeat(40)).await;
    let urgent = lab.add(with(task("alpha"), |task| task.priority = 1)).await;
    let later = backlog(&lab, &("n".to_owned() + &"r".repeat(40))).await;
    assert_eq!(claim(&lab, 0, 100).await, (vec![], true), "an urgent one that needs a slot comes first");
    assert_eq!(claim(&lab, 1, 9).await, ([&[urgent], &added[..9]].concat(), false), "it asked for no more");
    assert_eq!(claim(&lab, 0, 100).await, (added[9..].to_vec(), true));
    assert_eq!(claim(&lab, 1, 100).await, (later, false));
}

pub(crate) async fn tasks_of_every_name_and_queue_keep_their_order(lab: Lab) {
    let places = [("alpha", "default"), ("beta", "mail"), ("gamma", "reports"), ("beta", "default")];
    let mut added = Vec::new();
    for n in 0..12 {
        let (name, queue) = places[n % places.len()];
        let new = if n == 7 { task(name) } else { with_attempts(name, 3) };
        added.push(lab.add(with(new, |task| task.queue = queue.into())).await);
    }
    // The claims do not have its name, so it ends none of them.
    let unknown = lab.add(with(task("unknown"), |task| task.priority = 9)).await;
    assert_eq!(claim(&lab, 2, 20).await, (added[..7].to_vec(), true));
    assert_eq!(claim(&lab, 1, 2).await, (added[7..10].to_vec(), false));
    assert_eq!(claim(&lab, 0, 20).await, (added[10..].to_vec(), false));
    assert_eq!(lab.status(unknown).await, TaskStatus::Pending);

    // A task in a full or paused queue does not end a claim either.
    let full = lab.add(with(task("alpha"), |task| task.queue = "mail".into())).await;
    let paused = lab.add(with(task("alpha"), |task| task.queue = "reports".into())).await;
    lab.store.set_paused("reports".to_owned(), true).await.unwrap();
    let free = lab.add(with_attempts("alpha", 2)).await;
    let mut request = request(&lab, 0, 5);
    request.queues.lower("mail", 0);
    assert_eq!(answer(&lab.ask(request).await), (vec![free], false));
    lab.store.set_paused("reports".to_owned(), false).await.unwrap();
    assert_eq!(claim(&lab, 2, 5).await, (vec![full, paused], false));
}

pub(crate) async fn a_queue_that_is_not_prefetched_from_needs_a_slot_for_each_task(lab: Lab) {
    let mut added = Vec::new();
    for n in 0..8 {
        let queue = if n == 2 || n == 5 { "mail" } else { "default" };
        added.push(lab.add(with(with_attempts("alpha", 2), |task| task.queue = queue.into())).await);
    }
    let ask = async |slots, prefetch| {
        let mut request = request(&lab, slots, prefetch);
        let queues = request.queues.iter().map(|mut queue| {
            queue.prefetch &= *queue.name != *"mail";
            queue
        });
        request.queues = queues.collect();
        answer(&lab.ask(request).await)
    };
    assert_eq!(ask(1, 9).await, (added[..2].to_vec(), true));
    assert_eq!(ask(0, 9).await, (vec![], true));
    assert_eq!(ask(1, 9).await, (added[2..5].to_vec(), true));
    assert_eq!(ask(9, 0).await, (added[5..].to_vec(), false));
}

/// Claims the only task. Answers its run, and whether it was prefetched.
async fn claim_only(lab: &Lab) -> (RunRef, bool) {
    let claims = lab.ask(request(lab, 0, 9)).await;
    if !claims.needs_slot {
        return (only(claims.tasks).run, true);
    }
    assert!(claims.tasks.is_empty(), "{claims:?}");
    (lab.claim_one().await.run, false)
}

pub(crate) async fn what_may_be_prefetched_is_what_a_lost_run_may_repeat(lab: Lab) {
    let requeued = || with(task("alpha"), |task| task.policy.to_mut().requeue_on_interrupt = true);
    let poison_at_once = |new| with(new, |task: &mut NewTask| task.policy.to_mut().max_lost_runs = 1);
    for (new, expected) in [
        (task("alpha"), false),
        (with_attempts("alpha", 2), true),
        (requeued(), true),
        (poison_at_once(with_attempts("alpha", 2)), false),
        (poison_at_once(requeued()), false),
    ] {
        let policy = new.policy.clone();
        lab.add(new).await;
        let (run, prefetched) = claim_only(&lab).await;
        assert_eq!(prefetched, expected, "{policy:?}");
        assert_eq!(lab.finish(run, success()).await, Finished::Applied(TaskStatus::Success));
    }

    // A run that is given back does not count as an attempt. The last attempt is not prefetched.
    lab.add(with_attempts("alpha", 2)).await;
    let mut came = Vec::new();
    for kind in [give_back(None), give_back(Some(AttemptOutcome::Snoozed)), retry(Duration::ZERO), success()]
    {
        let (run, prefetched) = claim_only(&lab).await;
        came.push(prefetched);
        lab.finish(run, kind).await;
    }
    assert_eq!(came, [true, true, true, false]);

    // After a lost run a task is not prefetched either, until a run of it has ended.
    lab.add(with(requeued(), |task| task.policy.to_mut().retries = 1)).await;
    let (lost, prefetched) = claim_only(&lab).await;
    assert!(prefetched);
    lab.lose(&[lost]).await;
    let (again, prefetched) = claim_only(&lab).await;
    assert!(!prefetched, "it may be what kills its processes");
    lab.finish(again, give_back(None)).await;
    let (last, prefetched) = claim_only(&lab).await;
    assert!(prefetched);
    assert_eq!(lab.finish(last, end(TaskStatus::Failed)).await, Finished::Applied(TaskStatus::Failed));
    lab.store.retry(Reopen::at_once([last.id])).await.unwrap()[0].as_ref().unwrap();
    let (reopened, prefetched) = claim_only(&lab).await;
    assert!(prefetched, "a manual retry gives it as many attempts again");
    assert_eq!(reopened.id, last.id);
    lab.finish(reopened, success()).await;

    // A replacement brings its own policy.
    lab.add(with_run_key("alpha", "key")).await;
    let replacement = with(with_attempts("alpha", 2), |task| task.run_key = Some("key".to_owned()));
    lab.begin(replacement, Start::Wait).await;
    assert!(claim_only(&lab).await.1);
}

pub(crate) async fn limits_and_keys_hold_for_what_is_prefetched(lab: Lab) {
    let keyed = |key: &str, new| with(new, |task: &mut NewTask| task.concurrency_key = Some(key.to_owned()));
    let limits = QueueConfig::new().global_concurrency(4).key_concurrency(1);
    let ask = async |slots, prefetch| {
        let request = request(&lab, slots, prefetch);
        lab.ask(request.with_limits("default", SharedLimits::of(&limits))).await
    };
    let mut added = Vec::new();
    for (key, attempts) in [("a", 2), ("a", 1), ("b", 2), ("c", 1), ("d", 2), ("e", 2), ("f", 2)] {
        added.push(lab.add(keyed(key, with_attempts("alpha", attempts))).await);
    }
    let first = ask(0, 9).await;
    let expected = [added[0], added[2]];
    assert_eq!(answer(&first), (expected.to_vec(), true), "a's second waits for its first, c's needs a slot");
    assert_eq!(answer(&ask(0, 9).await), (vec![], true));
    assert_eq!(answer(&ask(1, 9).await), (added[3..5].to_vec(), false), "no more than four run");
    assert_eq!(lab.finish(first.tasks[0].run, success()).await, Finished::Applied(TaskStatus::Success));
    assert_eq!(answer(&ask(0, 9).await), (vec![], true), "a's second comes next, and needs a slot");
    assert_eq!(answer(&ask(1, 9).await), (vec![added[1]], false));
    lab.assert_counts_are_true().await;
}

pub(crate) async fn a_turn_prefetches_as_a_claim_does(lab: Lab) {
    let ended = lab.run(task("alpha")).await;
    let added = backlog(&lab, "nrrn").await;
    let turn = async |finishes: Vec<Finish>, slots, prefetch| {
        let (finished, claims) =
            lab.store.turn(Arc::new(finishes), request(&lab, slots, prefetch)).await.unwrap();
        let runs: Vec<RunRef> = claims.tasks.iter().map(|task| task.run).collect();
        (finished, answer(&claims), runs)
    };
    let applied = Finished::Applied(TaskStatus::Success);
    let (finished, claimed, runs) = turn(vec![Finish::new(ended, success())], 1, 9).await;
    assert_eq!((finished, claimed), (vec![applied], (added[..3].to_vec(), true)));
    // The retry that this turn stores is the oldest task, and comes with its last attempt.
    let (finished, claimed, _) = turn(vec![Finish::new(runs[1], retry(Duration::ZERO))], 0, 9).await;
    assert_eq!((finished, claimed), (vec![Finished::Applied(TaskStatus::Pending)], (vec![], true)));
    let (finished, claimed, _) = turn(vec![], 2, 9).await;
    assert_eq!((finished, claimed), (vec![], (vec![added[1], added[3]], false)));
}
