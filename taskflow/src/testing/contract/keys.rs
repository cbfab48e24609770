//! Idempotency keys and run keys.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use crate::model::{AttemptOutcome, CancelOutcome, NewTask, TaskStatus, When};
use crate::store::{Finished, InsertBatch, InsertGroup, Inserted, InsertedAs, Reopen, Retention, Start};

use super::lab::*;

pub(crate) async fn a_key_stands_for_the_task_that_waits_runs_or_succeeded_with_it(lab: Lab) {
    let first = lab.add(with_key("alpha", "key")).await;
    let duplicate = Inserted::new(first, InsertedAs::Duplicate);
    let again = || lab.begin(with_key("alpha", "key"), Start::Lease);
    assert_eq!(again().await, duplicate);
    // A key belongs to one task name.
    lab.add(with_key("beta", "key")).await;
    lab.add(with_key("alpha", "another key")).await;
    lab.add(task("alpha")).await;

    let run = lab.claim(1).await.remove(0).run;
    assert_eq!(again().await, duplicate, "while it runs");
    lab.finish(run, retry(LONG)).await;
    assert_eq!(again().await, duplicate, "while it waits to be retried");
    assert_eq!(lab.store.cancel(vec![first], String::new()).await.unwrap(), [CancelOutcome::Cancelled]);

    let held = lab.begin(with_key("alpha", "key"), Start::Hold).await;
    let again = || lab.begin(with_key("alpha", "key"), Start::Wait);
    assert_eq!(again().await, Inserted::new(held.id, InsertedAs::Duplicate), "while it is held");
    let succeeded = lab.ended(with_key("gamma", "key"), TaskStatus::Success).await;
    let after = lab.begin(with_key("gamma", "key"), Start::Wait).await;
    assert_eq!(after, Inserted::new(succeeded, InsertedAs::Duplicate));
    assert_eq!(lab.store.counts().await.unwrap().total(), 6);
}

pub(crate) async fn a_key_is_free_again_when_its_task_ended_badly_or_is_gone(lab: Lab) {
    for status in [TaskStatus::Failed, TaskStatus::Cancelled, TaskStatus::Interrupted] {
        lab.ended(with_key("alpha", "key"), status).await;
    }
    let waiting = lab.add(with_key("alpha", "key")).await;
    lab.store.cancel(vec![waiting], "not wanted".to_owned()).await.unwrap();
    let succeeded = lab.ended(with_key("alpha", "key"), TaskStatus::Success).await;
    assert_eq!(lab.store.delete(vec![succeeded]).await.unwrap(), 1);
    lab.ended(with_key("alpha", "key"), TaskStatus::Success).await;
    let patience = Patience::new("the record to be older than nothing");
    while lab.store.counts().await.unwrap().total() > 0 {
        lab.store.prune(Retention::new(Duration::ZERO), 100).await.unwrap();
        patience.wait().await;
    }
    lab.add(with_key("alpha", "key")).await;
}

pub(crate) async fn a_key_twice_in_one_batch_is_one_task(lab: Lab) {
    let (first, second, third) =
        (with_key("alpha", "key"), with_key("alpha", "key"), with_key("alpha", "key"));
    let id = first.id;
    let answers = lab.insert_groups(vec![vec![waiting(first), waiting(second)], vec![waiting(third)]]).await;
    let kinds: Vec<_> = answers.into_iter().flat_map(|answer| answer.unwrap()).collect();
    let duplicate = Inserted::new(id, InsertedAs::Duplicate);
    assert_eq!(kinds, [Inserted::new(id, InsertedAs::Pending), duplicate, duplicate]);
    assert_eq!(lab.claim_ids(10).await, [id]);
}

pub(crate) async fn of_64_adds_at_once_with_one_key_one_is_new(lab: Lab) {
    let answers = at_once(&lab, 64, || with_key("alpha", "key")).await;
    assert_eq!(answers.iter().filter(|inserted| inserted.kind == InsertedAs::Pending).count(), 1);
    assert_eq!(answers.iter().filter(|inserted| inserted.kind == InsertedAs::Duplicate).count(), 63);
    assert_eq!(answers.iter().map(|inserted| inserted.id).collect::<HashSet<_>>().len(), 1);
    assert_eq!(lab.store.counts().await.unwrap().total(), 1);
}

pub(crate) async fn of_64_adds_at_once_with_one_run_key_one_is_new(lab: Lab) {
    let answers = at_once(&lab, 64, || with_run_key("alpha", "key")).await;
    assert_eq!(answers.iter().filter(|inserted| inserted.kind == InsertedAs::Pending).count(), 1);
    assert_eq!(answers.iter().filter(|inserted| inserted.kind == InsertedAs::Replaced).count(), 63);
    assert_eq!(lab.store.counts().await.unwrap().total(), 1);
}

async fn at_once(lab: &Lab, n: usize, new: impl Fn() -> NewTask) -> Vec<Inserted> {
    let inserts: Vec<_> = (0..n)
        .map(|_| {
            let group = InsertGroup::new(vec![waiting(new())]);
            let (store, batch) = (Arc::clone(&lab.store), InsertBatch::new(lab.me.id, LONG, vec![group]));
            tokio::spawn(async move { only(only(store.insert(Arc::new(batch)).await.unwrap()).unwrap()) })
        })
        .collect();
    let mut answers = Vec::new();
    for insert in inserts {
        answers.push(insert.await.unwrap());
    }
    answers
}

pub(crate) async fn a_run_key_replaces_what_waits_and_keeps_its_id_and_place(lab: Lab) {
    let first = lab.add(with(with_run_key("alpha", "report"), |task| task.when = When::In(LONG))).await;
    let created_at = lab.get(first).await.created_at;
    let younger = lab.add(with(task("alpha"), |task| task.priority = 3)).await;
    let replacement = with(with_run_key("alpha", "report"), |task| {
        task.args = Ok(Arc::from(r#"{"to":"another"}"#));
        task.priority = 3;
        task.queue = "mail".into();
        task.tags.insert("kind".to_owned(), "new".to_owned());
        task.policy.to_mut().retries = 6;
    });
    assert_eq!(lab.begin(replacement, Start::Wait).await, Inserted::new(first, InsertedAs::Replaced));
    let record = lab.get(first).await;
    assert_eq!((record.args.get(), record.priority, &*record.queue), (r#"{"to":"another"}"#, 3, "mail"));
    assert_eq!((record.tags["kind"].as_str(), record.max_attempts, record.scheduled_for), ("new", 7, None));
    assert_eq!(record.created_at, created_at);
    assert_eq!(lab.store.counts().await.unwrap().total(), 2);
    lab.assert_counts_are_true().await;
    assert_eq!(lab.claim_ids(10).await, [first, younger], "equal now, and the replaced one is older");
}

pub(crate) async fn a_run_key_is_its_names_own_and_free_after_an_attempt(lab: Lab) {
    let first = lab.add(with_run_key("alpha", "report")).await;
    let other_name = lab.add(with_run_key("beta", "report")).await;
    let claimed = lab.claim(1).await.remove(0);
    assert_eq!(claimed.run.id, first);
    let second = lab.add(with_run_key("alpha", "report")).await;
    lab.finish(claimed.run, retry(LONG)).await;
    let replaced = lab.begin(with_run_key("alpha", "report"), Start::Wait).await;
    assert_eq!(replaced, Inserted::new(second, InsertedAs::Replaced), "not the one that waits to be retried");
    lab.store.cancel(vec![second], String::new()).await.unwrap();
    lab.add(with_run_key("alpha", "report")).await;
    assert_eq!(lab.status(other_name).await, TaskStatus::Pending);
}

pub(crate) async fn a_task_that_comes_back_finds_its_run_key_taken_and_both_run(lab: Lab) {
    let run = lab.run(with_run_key("alpha", "report")).await;
    let younger = lab.add(with_run_key("alpha", "report")).await;
    assert_eq!(lab.finish(run, give_back(None)).await, Finished::Applied(TaskStatus::Pending));
    let replaced = lab.begin(with_run_key("alpha", "report"), Start::Wait).await;
    assert_eq!(replaced, Inserted::new(younger, InsertedAs::Replaced), "the younger add stands for the key");
    assert_eq!(lab.claim_ids(10).await, [run.id, younger]);

    // The same holds after a manual retry, and after a lost run that does not count as an attempt.
    let cancelled = lab.add(with_run_key("beta", "report")).await;
    lab.store.cancel(vec![cancelled], String::new()).await.unwrap();
    lab.add(with_run_key("beta", "report")).await;
    assert!(only(lab.store.retry(Reopen::at_once([cancelled])).await.unwrap()).is_ok());
    let run = with(with_run_key("gamma", "report"), |task| task.policy.to_mut().requeue_on_interrupt = true);
    let run = lab.run(run).await;
    lab.add(with_run_key("gamma", "report")).await;
    lab.lose(&[run]).await;
    assert_eq!(lab.outcomes(run.id).await, [(1, AttemptOutcome::Lost)]);
    assert_eq!(lab.claim_ids(10).await.len(), 4);
}

pub(crate) async fn cancelling_a_run_key_cancels_what_waits_with_it(lab: Lab) {
    let report = lab.add(with(with_run_key("alpha", "report"), |task| task.when = When::In(LONG))).await;
    let of_another_name = lab.hold(with_run_key("beta", "report")).await.id;
    let of_another_key = lab.add(with_run_key("alpha", "reports")).await;
    let running = lab.run(with_run_key("gamma", "report")).await;
    let mut cancelled = lab.store.cancel_by_run_key("report".to_owned()).await.unwrap();
    cancelled.sort();
    assert_eq!(cancelled, [report, of_another_name]);
    for id in cancelled {
        assert_eq!(lab.status(id).await, TaskStatus::Cancelled);
    }
    assert_eq!(lab.status(of_another_key).await, TaskStatus::Pending);
    assert!(!lab.get(running.id).await.cancel_requested);
    assert!(lab.store.cancel_by_run_key("report".to_owned()).await.unwrap().is_empty());
    lab.assert_counts_are_true().await;
}
