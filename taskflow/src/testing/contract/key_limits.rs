//! Limits of one concurrency key, over all processes.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::model::{QueueConfig, TaskId, TaskStatus};
use crate::store::{Claimed, Finish, Finished, HoldOutcome, Release};

use super::lab::*;
use super::limits::{keyed, request, succeed, take};

pub(crate) async fn no_more_of_one_key_run_than_a_queue_allows(lab: Lab) {
    let two = QueueConfig::new().key_concurrency(2);
    let mut noisy = Vec::new();
    for _ in 0..6 {
        noisy.push(lab.add(keyed("noisy")).await);
    }
    let quiet = lab.add(keyed("quiet")).await;
    let without = lab.add(task("beta")).await;
    let ids = |tasks: &[Claimed]| tasks.iter().map(|task| task.run.id).collect::<Vec<_>>();
    let first = take(&lab, 10, two.clone()).await;
    assert_eq!(ids(&first), [noisy[0], noisy[1], quiet, without]);
    assert!(take(&lab, 10, two.clone()).await.is_empty());
    assert_eq!(lab.get(noisy[2]).await.status, TaskStatus::Pending);
    // However a run ends, the next task of its key can start: the most urgent, then the oldest.
    let urgent = lab.add(with(keyed("noisy"), |task| task.priority = 1)).await;
    succeed(&lab, &first[0]).await;
    let second = take(&lab, 10, two.clone()).await;
    assert_eq!(ids(&second), [urgent]);
    lab.lose(&[first[1].run]).await;
    let third = take(&lab, 10, two.clone()).await;
    assert_eq!(ids(&third), [noisy[2]]);
    assert_eq!(lab.finish(third[0].run, retry(Duration::ZERO)).await, Finished::Applied(TaskStatus::Pending));
    let fourth = take(&lab, 10, two.clone()).await;
    assert_eq!(ids(&fourth), [noisy[2]], "a retry keeps its place");
    lab.assert_counts_are_true().await;
    assert_eq!(lab.get(noisy[3]).await.concurrency_key.as_deref(), Some("noisy"));
    // All the other tasks follow, one by one.
    let mut running: Vec<Claimed> = vec![second[0].clone(), fourth[0].clone()];
    let mut seen = Vec::new();
    while let Some(task) = running.pop() {
        succeed(&lab, &task).await;
        seen.push(task.run.id);
        running.extend(take(&lab, 10, two.clone()).await);
        assert!(running.len() <= 2);
    }
    assert!(noisy[3..].iter().all(|id| seen.contains(id)), "{seen:?}");
    lab.assert_counts_are_true().await;
}

pub(crate) async fn a_key_is_free_again_after_a_task_whose_hold_was_lost(lab: Lab) {
    let one = QueueConfig::new().key_concurrency(1);
    let held = lab.hold(keyed("tenant")).await;
    lab.lose(&[held]).await;
    let next = lab.add(keyed("tenant")).await;
    let first = take(&lab, 10, one.clone()).await;
    assert_eq!(first.iter().map(|task| task.run.id).collect::<Vec<_>>(), [held.id]);
    succeed(&lab, &first[0]).await;
    let second = take(&lab, 10, one).await;
    assert_eq!(second.iter().map(|task| task.run.id).collect::<Vec<_>>(), [next]);
    lab.assert_counts_are_true().await;
}

pub(crate) async fn a_turn_releases_tasks_that_have_a_key_or_expire(lab: Lab) {
    let one = QueueConfig::new().key_concurrency(1);
    let expiring = |key: &str| with(keyed(key), |task| task.expires_at = Some(SystemTime::now() + LONG));
    let holds = [
        lab.hold(keyed("tenant")).await,
        lab.hold(expiring("tenant")).await,
        lab.hold(expiring("other")).await,
    ];
    let releases = holds.iter().map(|hold| Release::new(*hold, HoldOutcome::Run)).collect();
    let claim = request(&lab, 10, &one);
    let turn = lab.store.release_and_turn(Arc::new(releases), Arc::default(), claim).await;
    let (released, _, claims) = turn.expect("a turn");
    assert_eq!(released, [true; 3]);
    let claimed: Vec<_> = claims.tasks.iter().map(|task| (task.run.id, task.expires_in.is_some())).collect();
    assert_eq!(claimed, [(holds[0].id, false), (holds[2].id, true)]);
    for task in &claims.tasks {
        succeed(&lab, task).await;
    }
    let next = take(&lab, 10, one).await;
    assert_eq!(next.iter().map(|task| task.run.id).collect::<Vec<_>>(), [holds[1].id]);
    lab.assert_counts_are_true().await;
}

pub(crate) async fn every_key_gets_on_while_processes_disagree_about_its_limit(lab: Lab) {
    let concurrency_group = (0..3_000).map(|_| waiting(keyed("busy"))).collect();
    lab.try_insert(concurrency_group).await.expect("no limit");
    let mut left = HashMap::new();
    for n in 0..30 {
        let key = format!("tenant:{}", n % 10);
        left.insert(lab.add(keyed(&key)).await, key);
    }
    let mut of_group = 0;
    for turn in 0..60 {
        let mut claim = request(&lab, 4, &QueueConfig::new().key_concurrency(1 + turn % 2));
        if turn % 2 == 1 {
            claim.instance = lab.other.id;
        }
        let runs: Vec<_> = lab.ask(claim).await.tasks.iter().map(|task| task.run).collect();
        lab.finish_all(runs.iter().map(|run| Finish::new(*run, success())).collect()).await;
        of_group += runs.iter().filter(|run| left.remove(&run.id).is_none()).count();
    }
    assert!(left.is_empty(), "these still wait: {:?}", left.values());
    assert!(of_group >= 60, "of the busy key came {of_group}");
}

pub(crate) async fn a_key_is_never_stuck_whatever_becomes_of_its_tasks(lab: Lab) {
    let one = QueueConfig::new().key_concurrency(1);
    let mut waiting = Vec::new();
    for _ in 0..6 {
        waiting.push(lab.add(keyed("tenant")).await);
    }
    let running = take(&lab, 10, one.clone()).await;
    assert_eq!(running.len(), 1);
    assert!(take(&lab, 10, one.clone()).await.is_empty());
    succeed(&lab, &running[0]).await;
    // The next task of the key is cancelled before it is claimed, and so is a later one.
    lab.store.cancel(vec![waiting[1], waiting[3]], "no".to_owned()).await.expect("cancel");
    let next = take(&lab, 10, one.clone()).await;
    assert_eq!(next.iter().map(|task| task.run.id).collect::<Vec<_>>(), [waiting[2]]);
    // A task that is given back can be claimed again, and no other task of its key runs beside it.
    lab.finish(next[0].run, give_back(None)).await;
    let next = take(&lab, 10, one.clone()).await;
    assert_eq!(next.len(), 1);
    // The first task of the key may have a name that no process here knows.
    let stranger =
        lab.add(with(keyed("tenant"), |task| (task.name, task.priority) = ("omega".into(), 9))).await;
    succeed(&lab, &next[0]).await;
    let next = take(&lab, 10, one.clone()).await;
    assert_eq!(next.iter().map(|task| task.run.id).collect::<Vec<_>>(), [waiting[4]]);
    // A limit that is raised or removed unblocks tasks.
    assert_eq!(take(&lab, 10, one.clone().key_concurrency(2)).await.len(), 1);
    lab.add(keyed("tenant")).await;
    assert!(take(&lab, 10, one.clone().key_concurrency(2)).await.is_empty());
    assert_eq!(take(&lab, 10, QueueConfig::new()).await.len(), 1);
    assert_eq!(lab.status(stranger).await, TaskStatus::Pending);
    lab.assert_counts_are_true().await;
}

pub(crate) async fn a_crowd_of_one_key_costs_others_nothing(lab: Lab) {
    let one = QueueConfig::new().key_concurrency(1);
    let concurrency_group: Vec<_> = (0..2_000).map(|_| waiting(keyed("noisy"))).collect();
    lab.try_insert(concurrency_group).await.expect("not refused");
    assert_eq!(take(&lab, 1, one.clone()).await.len(), 1);
    let mut others = Vec::new();
    for n in 0..3 {
        others.push(lab.add(keyed(&format!("quiet-{n}"))).await);
    }
    // They are claimed although two thousand older tasks are before them. That may take a few claims.
    let mut taken = Vec::new();
    for _ in 0..20 {
        taken.extend(take(&lab, 10, one.clone()).await.iter().map(|task| task.run.id));
    }
    assert_eq!(taken, others);
    let info = lab.store.queues().await.expect("queues").remove(0);
    assert_eq!((info.pending, info.running, info.scheduled), (1_999, 4, 0));
    assert!(info.oldest_waiting.is_some());
}

pub(crate) async fn key_limits_are_exact_when_many_claim_and_finish_at_once(lab: Lab) {
    let tasks: Vec<_> = (0..90).map(|n| waiting(keyed(["a", "b", "c"][n % 3]))).collect();
    let keys: HashMap<TaskId, usize> = tasks.iter().enumerate().map(|(n, it)| (it.task.id, n % 3)).collect();
    lab.try_insert(tasks).await.expect("not refused");
    let limits = QueueConfig::new().key_concurrency(2);
    let running = Arc::new(std::sync::Mutex::new([0_usize; 3]));
    let done = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let workers: Vec<_> = (0..6)
        .map(|_| {
            let (store, claim) = (Arc::clone(&lab.store), request(&lab, 2, &limits));
            let (running, done, keys) = (Arc::clone(&running), Arc::clone(&done), keys.clone());
            tokio::spawn(async move {
                let patience = Patience::new("ninety ends");
                while done.load(std::sync::atomic::Ordering::Relaxed) < 90 {
                    patience.wait().await;
                    let tasks = store.claim(claim.clone()).await.expect("claim").tasks;
                    for task in &tasks {
                        let mut running = running.lock().unwrap();
                        running[keys[&task.run.id]] += 1;
                        assert!(running[keys[&task.run.id]] <= 2, "{running:?}");
                    }
                    for task in tasks {
                        // Counted before the finish, because another task may start as soon as that is stored.
                        running.lock().unwrap()[keys[&task.run.id]] -= 1;
                        let finish = crate::store::Finish::new(task.run, success());
                        store.finish(Arc::new(vec![finish])).await.expect("finish");
                        done.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    }
                }
            })
        })
        .collect();
    for worker in workers {
        worker.await.expect("no limit is exceeded and nothing is stuck");
    }
}
