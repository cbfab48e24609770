//! Which tasks a claim returns, and in which order.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::model::{LogLevel, LogLine, QueueConfig, TaskId, TaskStatus, When};
use crate::store::{Claim, Finished, InsertedAs, SharedLimits, Start};

use super::lab::*;

pub(crate) async fn equals_are_claimed_first_come_first_served(lab: Lab) {
    let mut added = Vec::new();
    for name in ["alpha", "beta", "gamma", "alpha", "beta", "alpha"] {
        added.push(lab.add(task(name)).await);
    }
    // The order of adding, not of ids.
    let late_ids: Vec<_> = (0..3).map(|_| task("alpha")).collect();
    for new in late_ids.into_iter().rev() {
        added.push(lab.add(new).await);
    }
    let mut claimed = lab.claim_ids(4).await;
    claimed.extend(lab.claim_ids(100).await);
    assert_eq!(claimed, added);
}

pub(crate) async fn the_highest_priority_goes_first_over_all_queues(lab: Lab) {
    let mut added = Vec::new();
    for (priority, queue) in [
        (0, "default"),
        (5, "mail"),
        (i16::MIN, "default"),
        (5, "default"),
        (i16::MAX, "reports"),
        (-1, "mail"),
    ] {
        let new = with(task("alpha"), |task| (task.priority, task.queue) = (priority, queue.into()));
        added.push((std::cmp::Reverse(priority), added.len(), lab.add(new).await));
    }
    added.sort();
    let expected: Vec<TaskId> = added.into_iter().map(|(_, _, id)| id).collect();
    let mut claimed = lab.claim_ids(2).await;
    claimed.extend(lab.claim_ids(3).await);
    claimed.extend(lab.claim_ids(3).await);
    assert_eq!(claimed, expected);
}

pub(crate) async fn tasks_of_many_names_in_many_queues_have_one_order(lab: Lab) {
    let (names, queues) = (11, 6);
    let name = |number: usize| Arc::<str>::from(format!("name {}", number % names));
    let queue = |number: usize| Arc::<str>::from(format!("queue {}", number % queues));
    let new = |number: usize| {
        let priority = [0, 5, -5][number / 40 % 3];
        // Some lists have many tasks, some have few.
        let (name, queue) = (name(number * number).to_string(), queue(number * number / 7).to_string());
        with(task("alpha"), |task| {
            (task.name, task.priority, task.queue) = (name.into(), priority, queue.into());
        })
    };
    let tasks: Vec<_> = (0..300).map(new).collect();
    let is_unknown = |name: &str| name == "name 4";
    let mut expected: Vec<_> = tasks.iter().filter(|task| !is_unknown(&task.name)).collect();
    expected.sort_by_key(|task| std::cmp::Reverse(task.priority));
    let expected: Vec<TaskId> = expected.iter().map(|task| task.id).collect();
    lab.try_insert(tasks.clone().into_iter().map(waiting).collect()).await.unwrap();
    let known: Arc<[Arc<str>]> = (0..names).map(name).filter(|name| !is_unknown(name)).collect();
    let mut claimed = Vec::new();
    for limit in [1, 2, 20, 3, 64, 300] {
        let queues = (0..queues).map(|number| (queue(number), limit)).collect();
        let tasks = lab.ask(Claim::new(lab.me.id, LONG, Arc::clone(&known), queues, limit)).await.tasks;
        claimed.extend(tasks.iter().map(|task| task.run.id));
        let upto = (claimed.len() - tasks.len() + limit).min(expected.len());
        assert_eq!(claimed, expected[..upto], "after a claim of {limit}");
    }
    assert_eq!(claimed.len(), expected.len());
}

pub(crate) async fn a_task_that_waits_for_its_key_changes_no_order(lab: Lab) {
    let keyed = || with(task("alpha"), |task| task.concurrency_key = Some("tenant".to_owned()));
    let urgent = |new| with(new, |task| task.priority = 1);
    let running = lab.run(keyed()).await;
    let blocked = lab.add(urgent(keyed())).await;
    let first = lab.add(urgent(task("alpha"))).await;
    let mail: Vec<_> = (0..2).map(|_| with(task("alpha"), |task| task.queue = "mail".into())).collect();
    let mail = [lab.add(mail[0].clone()).await, lab.add(mail[1].clone()).await];
    // The claim takes one task of this queue, and not the one that waits for its key.
    let queues = vec![("default".into(), 1), ("mail".into(), 2)];
    let claim = Claim::new(lab.me.id, LONG, names(&["alpha"]), queues, 2);
    let one = SharedLimits::of(&QueueConfig::new().key_concurrency(1));
    let claimed = lab.ask(claim.with_limits("default", one)).await.tasks;
    assert_eq!(claimed.iter().map(|task| task.run.id).collect::<Vec<_>>(), [first, mail[0]]);
    lab.finish(running, success()).await;
    assert_eq!(lab.claim_ids(10).await, [blocked, mail[1]]);
}

pub(crate) async fn no_more_is_claimed_than_asked_from_a_queue_and_in_all(lab: Lab) {
    for queue in ["default", "mail", "reports"] {
        for _ in 0..5 {
            let priority = if queue == "mail" { 1 } else { 0 };
            lab.add(with(task("alpha"), |task| (task.priority, task.queue) = (priority, queue.into()))).await;
        }
    }
    let claim = async |mail: usize, default: usize, limit: usize| {
        let queues = vec![(Arc::from("mail"), mail), (Arc::from("default"), default)];
        let claim = Claim::new(lab.me.id, LONG, names(&["alpha"]), queues, limit);
        let tasks = lab.ask(claim).await.tasks;
        let from = |queue| tasks.iter().filter(|task| &*task.queue == queue).count();
        (from("mail"), from("default"), from("reports"))
    };
    assert_eq!(claim(2, 1, 10).await, (2, 1, 0));
    assert_eq!(claim(0, 1, 10).await, (0, 1, 0));
    assert_eq!(claim(10, 10, 4).await, (3, 1, 0));
    assert_eq!(claim(10, 10, 0).await, (0, 0, 0));
    assert_eq!(claim(10, 10, 10).await, (0, 2, 0));
    assert_eq!(lab.claim_ids(10).await.len(), 5);
}

pub(crate) async fn only_known_names_are_claimed(lab: Lab) {
    for _ in 0..20 {
        lab.add(with(task("from the future"), |task| task.priority = 100)).await;
    }
    let known = lab.add(task("alpha")).await;
    assert_eq!(lab.claim_ids(10).await, [known], "the others are in nobody's way");
    let ask = |known: &[&str]| {
        let queues = vec![(Arc::from("default"), 100)];
        lab.ask(Claim::new(lab.me.id, LONG, names(known), queues, 100))
    };
    assert!(ask(&[]).await.tasks.is_empty());
    let claimed = ask(&["from the future", "beta", "from the future"]).await.tasks;
    assert_eq!(claimed.iter().map(|task| task.run.id).collect::<HashSet<_>>().len(), 20);
    assert_eq!(claimed.len(), 20, "each once");
}

pub(crate) async fn a_paused_queue_gives_nothing_until_it_is_resumed(lab: Lab) {
    let waits = lab.add(task("alpha")).await;
    let mail = lab.add(with(task("alpha"), |task| task.queue = "mail".into())).await;
    let retried = lab.run(with_attempts("alpha", 2)).await;
    lab.store.set_paused("default".to_owned(), true).await.unwrap();
    lab.store.set_paused("default".to_owned(), true).await.unwrap();
    assert_eq!(lab.finish(retried, retry(Duration::ZERO)).await, Finished::Applied(TaskStatus::Pending));
    assert_eq!(lab.claim_ids(10).await, [mail]);
    lab.store.set_paused("default".to_owned(), false).await.unwrap();
    assert_eq!(lab.claim_ids(10).await, [waits, retried.id]);
}

pub(crate) async fn a_task_for_later_is_claimed_when_its_time_has_come(lab: Lab) {
    let soon = Duration::from_millis(150);
    let id = lab.add(with(task("alpha"), |task| task.when = When::In(soon))).await;
    let due = lab.get(id).await.run_at;
    let patience = Patience::new("the task to be due");
    loop {
        let claims = lab.ask(lab.request(10)).await;
        let now = SystemTime::now();
        if let Some(claimed) = claims.tasks.first() {
            assert_eq!((claimed.run.id, claimed.scheduled_for), (id, Some(due)));
            // A store has its own clock, which may differ a little from the test's.
            assert!(now + Duration::from_millis(50) >= due, "claimed {:?} early", due.duration_since(now));
            break;
        }
        if let Some(next_due) = claims.next_due {
            assert!(next_due <= soon, "{next_due:?}");
        }
        patience.wait().await;
    }
    assert_eq!(lab.ask(lab.request(10)).await.next_due, None);
}

pub(crate) async fn a_claim_says_how_long_its_tasks_may_still_begin(lab: Lab) {
    let hour = Duration::from_secs(3600);
    let expiring = with(task("alpha"), |task| task.expires_at = Some(SystemTime::now() + hour));
    lab.add(expiring).await;
    let left = lab.claim_one().await.expires_in.expect("it expires");
    // A store has its own clock, which may differ a little from the test's.
    assert!(left <= hour + Duration::from_secs(1) && left > hour - Duration::from_secs(60), "{left:?}");
    lab.add(task("alpha")).await;
    assert_eq!(lab.claim_one().await.expires_in, None);
}

pub(crate) async fn the_next_due_time_is_that_of_the_names_and_queues_asked_for(lab: Lab) {
    let later = async |name: &'static str, queue: &'static str, minutes: u64| {
        let when = When::In(Duration::from_secs(60 * minutes));
        lab.add(with(task(name), |task| (task.queue, task.when) = (queue.into(), when))).await
    };
    later("alpha", "default", 30).await;
    later("beta", "default", 20).await;
    later("alpha", "mail", 10).await;
    later("unknown", "default", 5).await;
    let gone = later("alpha", "default", 1).await;
    lab.store.cancel(vec![gone], String::new()).await.unwrap();
    lab.run(task("alpha")).await;

    let minutes = |due: Duration| due.as_secs().div_ceil(60);
    for (known, queue, expected) in [
        (&["alpha"][..], "default", Some(30)),
        (&["alpha", "beta"], "default", Some(20)),
        (&["alpha", "beta"], "mail", Some(10)),
        (&["beta"], "mail", None),
        (&["alpha"], "nowhere", None),
    ] {
        let claim = Claim::new(lab.me.id, LONG, names(known), vec![(Arc::from(queue), 5)], 5);
        assert_eq!(lab.ask(claim).await.next_due.map(minutes), expected, "{known:?} in {queue}");
    }
}

pub(crate) async fn what_is_not_due_hides_nothing_that_is(lab: Lab) {
    let far = || waiting(with(task("alpha"), |task| (task.priority, task.when) = (1000, When::In(LONG))));
    for _ in 0..10 {
        lab.try_insert((0..100).map(|_| far()).collect()).await.unwrap();
    }
    let due = lab.add(task("alpha")).await;
    assert_eq!(lab.claim_ids(10).await, [due]);
    assert!(matches!(lab.begin(task("alpha"), Start::LeaseIfIdle).await.kind, InsertedAs::Leased { .. }));
}

pub(crate) async fn a_claim_brings_all_that_running_takes(lab: Lab) {
    let new = with(task("beta"), |task| {
        task.queue = "reports".into();
        task.tags.insert("tenant".to_owned(), "7".to_owned());
        task.policy.to_mut().retries = 2;
        task.policy.to_mut().timeout = Some(Duration::from_millis(1500));
        task.policy.to_mut().backoff = 1.1;
        task.policy.to_mut().max_lost_runs = 9;
    });
    lab.add(new.clone()).await;
    let first = lab.claim_one().await;
    assert_eq!((first.run.id, &*first.name, &*first.queue), (new.id, "beta", "reports"));
    assert_eq!((&first.args, &first.tags), (new.args.as_ref().unwrap(), &new.tags));
    assert_eq!((first.attempt, first.max_attempts, &*first.policy), (1, 3, &*new.policy));
    assert_eq!((first.scheduled_for, first.log_lines, first.log_bytes), (None, 0, 0));

    let say = |message: &str| LogLine::new(SystemTime::now(), LogLevel::Info, message.to_owned(), 1);
    let mut failed = crate::store::Finish::new(first.run, retry(Duration::ZERO));
    failed.lines = vec![say("four"), say("\u{e9}")];
    lab.finish_all(vec![failed]).await;
    let second = lab.claim_one().await;
    assert_eq!((second.attempt, second.max_attempts, second.log_lines, second.log_bytes), (2, 3, 2, 6));
    assert!(second.run.fence > first.run.fence);
}

pub(crate) async fn a_retry_keeps_its_place_before_the_younger(lab: Lab) {
    let first = lab.run(with_attempts("alpha", 2)).await;
    let younger = lab.add(task("alpha")).await;
    lab.finish(first, retry(Duration::ZERO)).await;
    assert_eq!(lab.claim_ids(10).await, [first.id, younger]);
}

pub(crate) async fn many_who_claim_at_once_never_get_the_same_task(lab: Lab) {
    const TASKS: usize = 300;
    lab.try_insert((0..TASKS).map(|_| waiting(task("alpha"))).collect()).await.unwrap();
    let claimers = (0..8).map(|n| {
        let store = Arc::clone(&lab.store);
        let instance = if n % 2 == 0 { lab.me.id } else { lab.other.id };
        tokio::spawn(async move {
            let mut got = Vec::new();
            loop {
                let queues = vec![(Arc::from("default"), 7)];
                let claims =
                    store.claim(Claim::new(instance, LONG, names(&["alpha"]), queues, 7)).await.unwrap();
                if claims.tasks.is_empty() {
                    return got;
                }
                got.extend(claims.tasks.iter().map(|task| task.run.id));
                tokio::task::yield_now().await;
            }
        })
    });
    let mut all = Vec::new();
    for claimer in claimers.collect::<Vec<_>>() {
        all.extend(claimer.await.unwrap());
    }
    assert_eq!((all.len(), all.iter().collect::<HashSet<_>>().len()), (TASKS, TASKS));
    assert_eq!(lab.store.counts().await.unwrap().running, TASKS as u64);
}
