//! Several handles to the same store, as several processes have them, and handles that are opened again.

use std::collections::HashSet;
use std::sync::Arc;

use super::lab::*;
use crate::model::{TaskId, TaskStatus};
use crate::store::{Claim, Finish, Finished, HoldOutcome, Release};

pub(crate) async fn what_one_handle_adds_another_runs(lab: Lab) {
    let Some(other) = lab.another_handle().await else { return };
    let id = lab.add(with_key("alpha", "key")).await;
    let mut claim = lab.request(10);
    claim.instance = lab.other.id;
    let run = only(other.claim(claim).await.unwrap().tasks).run;
    assert_eq!(run.id, id);
    assert!(lab.claim(10).await.is_empty(), "it is the other's");
    assert_eq!(lab.status(id).await, TaskStatus::Running);

    // A request to stop reaches the process that runs the task. The task's end reaches the process that added it.
    lab.store.cancel(vec![id], String::new()).await.unwrap();
    assert_eq!(other.asked_to_stop(lab.other.id).await.unwrap(), [run]);
    let finish = Finish::new(run, end(TaskStatus::Cancelled));
    let answers = other.finish(Arc::new(vec![finish])).await.unwrap();
    assert_eq!(answers, [Finished::Applied(TaskStatus::Cancelled)]);
    assert_eq!(lab.status(id).await, TaskStatus::Cancelled);
    assert_eq!(lab.finish(run, success()).await, Finished::Repeated(TaskStatus::Cancelled));

    // A pause and a hold keep tasks back from every handle.
    other.set_paused("default".to_owned(), true).await.unwrap();
    let hold = lab.hold(with(task("alpha"), |task| task.queue = "mail".into())).await;
    lab.add(task("alpha")).await;
    assert!(lab.claim(10).await.is_empty());
    let release = Release::new(hold, HoldOutcome::Run);
    assert_eq!(other.release(Arc::new(vec![release])).await.unwrap(), [true]);
    assert_eq!(lab.claim_ids(10).await, [hold.id]);
    lab.assert_counts_are_true().await;
}

pub(crate) async fn what_was_stored_outlasts_its_handle(lab: Lab) {
    let waits = lab.add(with_key("alpha", "key")).await;
    let hold = lab.hold(task("beta")).await;
    let run = lab.run(with_attempts("alpha", 2)).await;
    let ended = lab.ended(task("gamma"), TaskStatus::Success).await;
    lab.store.set_paused("mail".to_owned(), true).await.unwrap();
    let everything = async |lab: &Lab| {
        let mut portraits = Vec::new();
        for id in [waits, hold.id, run.id, ended] {
            portraits.push(lab.portrait(id).await);
        }
        (portraits, lab.store.counts().await.unwrap(), lab.store.queue_states().await.unwrap())
    };
    let before = everything(&lab).await;
    let Some(lab) = lab.reopened().await else { return };
    lab.store.join(&lab.me).await.unwrap();
    assert_eq!(everything(&lab).await, before);
    let duplicate = lab.begin(with_key("alpha", "key"), crate::store::Start::Wait).await;
    assert_eq!(duplicate.id, waits);

    // The process itself is the same one: its run and its hold are still its own, under the same fences.
    assert_eq!(lab.finish(run, success()).await, Finished::Applied(TaskStatus::Success));
    assert!(lab.release(hold, HoldOutcome::Run).await);
    assert_eq!(lab.claim_ids(10).await, [waits, hold.id]);
    lab.assert_counts_are_true().await;
}

pub(crate) async fn of_many_handles_that_claim_at_once_each_task_goes_to_one(lab: Lab) {
    const TASKS: usize = 120;
    lab.try_insert((0..TASKS).map(|_| waiting(task("alpha"))).collect()).await.unwrap();
    let mut claimers = Vec::new();
    for n in 0..4 {
        let Some(store) = lab.another_handle().await else { return };
        let instance = if n % 2 == 0 { lab.me.id } else { lab.other.id };
        claimers.push(tokio::spawn(async move {
            let mut got: Vec<TaskId> = Vec::new();
            loop {
                let queues = vec![(Arc::from("default"), 7)];
                let claim = Claim::new(instance, LONG, names(&["alpha"]), queues, 7);
                let claims = store.claim(claim).await.unwrap();
                if claims.tasks.is_empty() {
                    return got;
                }
                got.extend(claims.tasks.iter().map(|task| task.run.id));
            }
        }));
    }
    let mut all = Vec::new();
    for claimer in claimers {
        all.extend(claimer.await.unwrap());
    }
    assert_eq!((all.len(), all.iter().collect::<HashSet<_>>().len()), (TASKS, TASKS));
}
