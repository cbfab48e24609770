//! What all processes together may take from a queue, and what is refused.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use taskflow::store::{
    Claim, Claimed, Finish, FinishKind, Finished, Inserted, InsertedAs, Refusal, Release, SharedLimits,
    Start, Verdict,
};
use taskflow::{AttemptOutcome, NewTask, QueueConfig, TaskFilter, TaskId, TaskStatus};

use super::lab::*;

/// A claim of up to `limit` tasks from a queue with these limits.
async fn take(lab: &Lab, limit: usize, limits: QueueConfig) -> Vec<Claimed> {
    lab.ask(request(lab, limit, &limits)).await.tasks
}

fn request(lab: &Lab, limit: usize, limits: &QueueConfig) -> Claim {
    let mut claim = Claim::new(
        lab.me.id,
        LONG,
        names(&["alpha", "beta", "gamma"]),
        vec![("default".into(), limit), ("mail".into(), limit)],
        limit,
    );
    claim.limits = Arc::from([("default".into(), SharedLimits::of(limits))]);
    claim
}

fn keyed(key: &str) -> NewTask {
    with(task("alpha"), |task| task.concurrency_key = Some(key.to_owned()))
}

async fn succeed(lab: &Lab, task: &Claimed) {
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
    // Whoever runs them: a lease at insert counts as well.
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
            // That it has ended makes no room: the limit is on starts.
            succeed(&lab, task).await;
        }
        if claims.tasks.is_empty() {
            let next = claims.next_due.expect("when another may start");
            assert!(next <= per + per / 50, "{next:?}");
        }
    }
    for (at, (_, begin)) in starts.iter().enumerate() {
        // What was claimed surely before the stretch that began with this start was over.
        let within = starts[at..].iter().filter(|(_, end)| *end < *begin + per - Duration::from_millis(2));
        // A claim's answer comes after its start: only starts of one claim are surely in one stretch.
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
    // What a store keeps of the queue is there before they come: to make it is no part of what lets them wait.
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
        // What started under the shorter one is remembered, and over in time.
        let (mut started, patience) = (0, Patience::new("another three starts"));
        while started < 3 {
            patience.wait().await;
            started += take(&lab, 9, limits.clone()).await.len();
        }
        assert_eq!(lab.store.counts().await.expect("counts").running, expected);
    }
}

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
    // However a run ends, the next of its key comes: the most urgent, then the oldest.
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
    // All the rest comes, one by one.
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

pub(crate) async fn every_key_gets_on_while_processes_disagree_about_its_limit(lab: Lab) {
    let crowd = (0..3_000).map(|_| waiting(keyed("crowd"))).collect();
    lab.try_insert(crowd).await.expect("no limit");
    let mut left = HashMap::new();
    for n in 0..30 {
        let key = format!("tenant:{}", n % 10);
        left.insert(lab.add(keyed(&key)).await, key);
    }
    let mut of_crowd = 0;
    for turn in 0..60 {
        let mut claim = request(&lab, 4, &QueueConfig::new().key_concurrency(1 + turn % 2));
        if turn % 2 == 1 {
            claim.instance = lab.other.id;
        }
        let runs: Vec<_> = lab.ask(claim).await.tasks.iter().map(|task| task.run).collect();
        lab.finish_all(runs.iter().map(|run| Finish::new(*run, success())).collect()).await;
        of_crowd += runs.iter().filter(|run| left.remove(&run.id).is_none()).count();
    }
    assert!(left.is_empty(), "these still wait: {:?}", left.values());
    assert!(of_crowd >= 60, "of the crowd came {of_crowd}");
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
    // The next in turn is cancelled before anybody claims it, and so is one that is not.
    lab.store.cancel(vec![waiting[1], waiting[3]], "no".to_owned()).await.expect("cancel");
    let next = take(&lab, 10, one.clone()).await;
    assert_eq!(next.iter().map(|task| task.run.id).collect::<Vec<_>>(), [waiting[2]]);
    // Given back, it may be claimed by another, and nobody of its key beside it.
    lab.finish(next[0].run, give_back(None)).await;
    let next = take(&lab, 10, one.clone()).await;
    assert_eq!(next.len(), 1);
    // The first of the key may be one that nobody here knows.
    let stranger =
        lab.add(with(keyed("tenant"), |task| (task.name, task.priority) = ("omega".into(), 9))).await;
    succeed(&lab, &next[0]).await;
    let next = take(&lab, 10, one.clone()).await;
    assert_eq!(next.iter().map(|task| task.run.id).collect::<Vec<_>>(), [waiting[4]]);
    // A limit that grows or goes lets those go that it kept.
    assert_eq!(take(&lab, 10, one.clone().key_concurrency(2)).await.len(), 1);
    lab.add(keyed("tenant")).await;
    assert!(take(&lab, 10, one.clone().key_concurrency(2)).await.is_empty());
    assert_eq!(take(&lab, 10, QueueConfig::new()).await.len(), 1);
    assert_eq!(lab.status(stranger).await, TaskStatus::Pending);
    lab.assert_counts_are_true().await;
}

pub(crate) async fn a_crowd_of_one_key_costs_others_nothing(lab: Lab) {
    let one = QueueConfig::new().key_concurrency(1);
    let crowd: Vec<_> = (0..2_000).map(|_| waiting(keyed("noisy"))).collect();
    lab.try_insert(crowd).await.expect("not refused");
    assert_eq!(take(&lab, 1, one.clone()).await.len(), 1);
    let mut others = Vec::new();
    for n in 0..3 {
        others.push(lab.add(keyed(&format!("quiet-{n}"))).await);
    }
    // Behind two thousand older ones, and yet they come; it may take a few claims until the crowd is out of the way.
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
                        // Before the finish: from then on another may start.
                        running.lock().unwrap()[keys[&task.run.id]] -= 1;
                        let finish = taskflow::store::Finish::new(task.run, success());
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
    // A repetition is the same refusal, and counted once.
    assert_eq!(lab.try_insert(vec![recorded.clone()]).await, Err(refusal.clone()));
    // Also where the queue has no limit by then, and among others that are new.
    let unlimited = waiting(recorded.task);
    let others = [waiting(task("beta")), waiting(task("beta"))];
    let ids = others.clone().map(|it| it.task.id);
    let [first, last] = others;
    let again = lab.insert_groups(vec![vec![first], vec![unlimited], vec![last]]).await;
    let no_limit = Refusal::QueueFull { queue: "default".to_owned(), max_size: 0 };
    let inserted = |id| Ok(vec![Inserted::new(id, InsertedAs::Pending)]);
    assert_eq!(again, [inserted(ids[0]), Err(no_limit), inserted(ids[1])]);
    assert_eq!(lab.claim_ids(10).await, ids);
    // Of several at once no record is kept, and the key of a refused task is free.
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
    // By hand it can be tried again, once its key is free.
    assert!(lab.store.retry(vec![kept]).await.expect("retry")[0].is_err());
    lab.store.cancel(vec![holder], "no".to_owned()).await.expect("cancel");
    lab.store.retry(vec![kept]).await.expect("retry")[0].as_ref().expect("retried");
    assert_eq!(lab.claim_ids(10).await, [kept]);
    lab.assert_counts_are_true().await;
}

pub(crate) async fn a_task_that_has_expired_is_never_started(lab: Lab) {
    let soon = SystemTime::now() + Duration::from_millis(1500);
    let expiring = |name| with(task(name), |task| task.expires_at = Some(soon));
    let in_time = lab.add(expiring("alpha")).await;
    let late = lab.add(expiring("alpha")).await;
    let of_a_stranger = lab.add(expiring("omega")).await;
    let later = lab.add(with(expiring("alpha"), |task| task.when = taskflow::model::When::In(LONG))).await;
    let hold = lab.hold(expiring("beta")).await;
    let lasting = lab.add(with(task("alpha"), |task| task.expires_at = Some(SystemTime::now() + LONG))).await;
    let first = lab.claim(1).await;
    assert_eq!(first[0].run.id, in_time);
    assert_eq!(lab.get(in_time).await.expires_at.map(rounded), Some(rounded(soon)));
    let patience = Patience::new("the expiry");
    let mut recovered = Vec::new();
    while recovered.len() < 3 {
        patience.wait().await;
        recovered.extend(lab.store.recover(lab.other.id).await.expect("recover"));
    }
    let mut ids: Vec<_> = recovered.iter().map(|it| it.id).collect();
    ids.sort();
    assert_eq!(ids, [late, of_a_stranger, later]);
    for id in ids {
        let record = lab.get(id).await;
        assert_eq!(record.status, TaskStatus::Cancelled);
        assert!(record.error.expect("why").starts_with("expired"), "{id}");
        assert!(record.attempts.is_empty());
    }
    // What is held ends when it is released; what was started in time goes on, and is not started again.
    assert_eq!(lab.status(hold.id).await, TaskStatus::Pending);
    assert!(lab.release(hold, Verdict::Run).await);
    assert_eq!(lab.finish(first[0].run, retry(Duration::ZERO)).await, Finished::Applied(TaskStatus::Pending));
    assert_eq!(lab.claim_ids(10).await, [lasting]);
    let ended = lab.recover(&[hold, first[0].run]).await;
    assert_eq!(ended.len(), 2);
    assert_eq!(lab.outcomes(in_time).await, [(1, AttemptOutcome::Failed)]);
    // One that has expired before it is added is not leased either.
    let past = with(task("alpha"), |task| task.expires_at = Some(SystemTime::now() - Duration::from_secs(1)));
    assert_eq!(lab.begin(past, Start::Lease).await.kind, InsertedAs::Pending);
    assert!(lab.claim(10).await.is_empty());
    lab.assert_counts_are_true().await;
}

pub(crate) async fn a_manual_retry_forgets_an_expiry_that_has_passed(lab: Lab) {
    let add_cancelled = async |expires_at| {
        let id = lab.add(with(task("alpha"), |task| task.expires_at = Some(expires_at))).await;
        lab.store.cancel(vec![id], "no".to_owned()).await.expect("cancel");
        id
    };
    let (past, far) = (SystemTime::now() - Duration::from_secs(1), SystemTime::now() + LONG);
    let late = lab.add(with(task("alpha"), |task| task.expires_at = Some(past))).await;
    let recovered = lab.store.recover(lab.other.id).await.expect("recover");
    assert_eq!(recovered.iter().map(|it| it.id).collect::<Vec<_>>(), [late]);
    let (cancelled_late, cancelled) = (add_cancelled(past).await, add_cancelled(far).await);
    let ids = vec![late, cancelled_late, cancelled];
    let answers = lab.store.retry(ids.clone()).await.expect("retry");
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    assert_eq!(lab.store.recover(lab.other.id).await.expect("recover").len(), 0);
    assert_eq!(lab.get(late).await.expires_at, None);
    assert_eq!(lab.get(cancelled_late).await.expires_at, None);
    assert_eq!(lab.get(cancelled).await.expires_at.map(rounded), Some(rounded(far)), "it is still to come");
    assert_eq!(lab.claim_ids(10).await, ids);
    lab.assert_counts_are_true().await;
}

/// Stores keep microseconds.
fn rounded(at: SystemTime) -> u128 {
    at.duration_since(SystemTime::UNIX_EPOCH).expect("after the epoch").as_micros()
}

pub(crate) async fn a_replacement_brings_its_expiry_and_its_key(lab: Lab) {
    let far = SystemTime::now() + LONG;
    let first = lab.add(with(with_run_key("alpha", "auction"), |task| task.expires_at = Some(far))).await;
    let second = with(with_run_key("alpha", "auction"), |task| {
        task.concurrency_key = Some("tenant".to_owned());
        task.expires_at = Some(far + LONG);
    });
    assert_eq!(lab.begin(second, Start::Wait).await.kind, InsertedAs::Replaced);
    let record = lab.get(first).await;
    assert_eq!(record.expires_at.map(rounded), Some(rounded(far + LONG)));
    assert_eq!(record.concurrency_key.as_deref(), Some("tenant"));
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
    // Handed back by a shutdown, it has not asked for it.
    let claimed = lab.claim_one().await;
    lab.finish(claimed.run, give_back(Some(AttemptOutcome::HandedBack))).await;
    let claimed = lab.claim_one().await;
    assert_eq!(claimed.snoozes, 3);
    lab.finish(claimed.run, end(TaskStatus::Failed)).await;
    lab.store.retry(vec![id]).await.expect("retry")[0].as_ref().expect("retried");
    assert_eq!(lab.claim_one().await.snoozes, 0);
}

pub(crate) async fn a_queues_stored_configuration_is_read_back_until_it_is_reset(lab: Lab) {
    assert!(lab.store.queue_states().await.expect("states").is_empty());
    let config = QueueConfig::new()
        .concurrency(3)
        .global_concurrency(5)
        .key_concurrency(1)
        .max_size(1_000)
        .rate_limit(10, Duration::from_millis(1500))
        .record_rejected(true);
    lab.store.set_queue("mail".to_owned(), Some(config.clone())).await.expect("set");
    lab.store.set_paused("reports".to_owned(), true).await.expect("pause");
    let states = lab.store.queue_states().await.expect("states");
    let seen: Vec<_> = states.into_iter().map(|it| (it.name, it.paused, it.config)).collect();
    let expected = [("mail".to_owned(), false, Some(config.clone())), ("reports".to_owned(), true, None)];
    assert_eq!(seen, expected);
    let infos = lab.store.queues().await.expect("queues");
    assert_eq!(infos.iter().map(|it| &*it.name).collect::<Vec<_>>(), ["mail", "reports"]);
    assert_eq!(infos[0].global_concurrency, Some(5));
    assert_eq!(infos[0].limits_from, taskflow::model::LimitsFrom::Store);

    let changed = config.concurrency(9);
    lab.store.set_queue("mail".to_owned(), Some(changed.clone())).await.expect("set");
    lab.store.set_paused("mail".to_owned(), true).await.expect("pause");
    let state = lab.store.queue_states().await.expect("states").remove(0);
    assert_eq!((state.paused, state.config), (true, Some(changed)));
    lab.store.set_queue("mail".to_owned(), None).await.expect("reset");
    lab.store.set_paused("reports".to_owned(), false).await.expect("resume");
    let states = lab.store.queue_states().await.expect("states");
    assert_eq!(states.len(), 1, "a pause is not part of the configuration: {states:?}");
    assert_eq!((states[0].paused, &states[0].config), (true, &None));
}

pub(crate) async fn queues_tell_what_waits_for_how_long_and_what_ended_lately(lab: Lab) {
    // Before the add: its answer may come a while after the task is there.
    let since = Instant::now();
    lab.add(with(task("alpha"), |task| task.priority = -1)).await;
    tokio::time::sleep(Duration::from_millis(60)).await;
    for _ in 0..2 {
        lab.add(task("alpha")).await;
    }
    lab.add(with(task("alpha"), |task| task.when = taskflow::model::When::In(LONG))).await;
    lab.add(with(task("alpha"), |task| task.when = taskflow::model::When::At(SystemTime::now() - LONG)))
        .await;
    let ended = lab.run(with(task("beta"), |task| task.queue = "mail".into())).await;
    lab.finish(ended, success()).await;
    let failed = lab.run(with(task("beta"), |task| task.queue = "mail".into())).await;
    lab.finish(failed, retry(LONG)).await;
    let infos = lab.store.queues().await.expect("queues");
    let [default, mail] = &infos[..] else { panic!("{infos:?}") };
    assert_eq!((default.pending, default.scheduled, default.waiting(), default.running), (5, 1, 4, 0));
    // One whose time was an hour ago has waited since it was added.
    let oldest = default.oldest_waiting.expect("four wait");
    assert!(
        oldest >= Duration::from_millis(55) && oldest <= since.elapsed() + Duration::from_millis(5),
        "{oldest:?}"
    );
    assert_eq!(default.finished_last_minute, 0);
    assert_eq!((mail.pending, mail.scheduled, mail.finished, mail.finished_last_minute), (1, 1, 1, 1));
    assert_eq!(mail.oldest_waiting, None);
}

pub(crate) async fn a_search_for_what_is_not_there_comes_to_an_end(lab: Lab) {
    let many: Vec<_> = (0..300).map(|_| waiting(task("alpha"))).collect();
    lab.try_insert(many).await.expect("not refused");
    let filter = TaskFilter::new().tag("plan", "none").status(TaskStatus::Pending);
    let page = lab.store.list(filter).await.expect("list");
    assert!(page.items.is_empty() && page.next.is_none());
}

/// Whatever is held on to while limits are at work, it can be released.
pub(crate) async fn a_hold_is_not_claimed_under_any_limit(lab: Lab) {
    let hold = lab.hold(keyed("tenant")).await;
    let one = QueueConfig::new().key_concurrency(1).global_concurrency(1);
    assert!(take(&lab, 10, one.clone()).await.is_empty());
    let release = Arc::new(vec![Release::new(hold, Verdict::Run)]);
    assert_eq!(lab.store.release(release).await.expect("release"), [true]);
    let taken = take(&lab, 10, one).await;
    assert_eq!(taken.len(), 1);
    let kind = FinishKind::Success { result: "null".into() };
    assert_eq!(lab.finish(taken[0].run, kind).await, Finished::Applied(TaskStatus::Success));
}
