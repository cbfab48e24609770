//! Queues: limits hold in one process and over all processes, can be changed at any time, and never stall the work.

#![expect(clippy::unwrap_used, reason = "a test that finds an error fails")]

#[path = "support/everywhere.rs"]
mod everywhere;
#[path = "support/servers/mod.rs"]
mod servers;
mod support;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use everywhere::everywhere;
use support::{Gate, Notes, Peak, Place, eventually, reaches, record, soon};
use taskflow::{
    AddError, Error, QueueConfig, QueueInfo, State, TaskFilter, TaskManager, TaskManagerBuilder, TaskStatus,
    model::LimitsFrom,
};

#[taskflow::task(queue = "mail")]
async fn work(millis: u64, State(peak): State<Peak>) {
    peak.enter();
    tokio::time::sleep(Duration::from_millis(millis)).await;
    peak.leave();
}

#[taskflow::task(queue = "mail")]
async fn stay(State(gate): State<Gate>) {
    gate.pass().await;
}

#[taskflow::task(queue = "mail")]
async fn note(word: String, State(notes): State<Notes<(String, Instant)>>) {
    notes.write((word, Instant::now()));
}

/// How many of each tenant run at once.
#[derive(Clone, Debug, Default)]
struct Tenants(Arc<Mutex<HashMap<String, Peak>>>);

impl Tenants {
    fn of(&self, tenant: &str) -> Peak {
        self.0.lock().unwrap().entry(tenant.to_owned()).or_default().clone()
    }
}

#[taskflow::task(queue = "mail")]
async fn serve(tenant: String, State(tenants): State<Tenants>) {
    let peak = tenants.of(&tenant);
    peak.enter();
    tokio::time::sleep(Duration::from_millis(5)).await;
    peak.leave();
}

#[derive(Clone, Debug, Default)]
struct World {
    peak: Peak,
    gate: Gate,
    notes: Notes<(String, Instant)>,
    tenants: Tenants,
}

impl World {
    fn builder(&self, place: &Place, mail: QueueConfig) -> TaskManagerBuilder {
        let builder = place.builder().queue("mail", mail).only(["work", "stay", "note", "serve"]);
        let builder = builder.state(self.peak.clone()).state(self.gate.clone());
        builder.state(self.notes.clone()).state(self.tenants.clone())
    }

    async fn start(&self, place: &Place, mail: QueueConfig) -> TaskManager {
        self.builder(place, mail).start().await.unwrap()
    }
}

async fn mail(tasks: &TaskManager) -> QueueInfo {
    tasks.queues().await.unwrap().into_iter().find(|queue| queue.name == "mail").unwrap()
}

/// The time until every process has heard of new limits, with some more for a busy machine.
async fn hear_everywhere() {
    tokio::time::sleep(Duration::from_millis(1500)).await;
}

async fn all_end(tasks: &TaskManager) {
    eventually("everything ends", || async {
        (tasks.counts().await.unwrap().unfinished() == 0).then_some(())
    })
    .await;
}

async fn stop(managers: impl IntoIterator<Item = TaskManager>) {
    for manager in managers {
        manager.shutdown(Duration::from_secs(5)).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_together_run_no_more_than_a_queue_allows() {
    for place in everywhere() {
        let world = World::default();
        let three = QueueConfig::new().global_concurrency(3);
        let managers = [world.start(&place, three.clone()).await, world.start(&place, three).await];
        for n in 0..60 {
            managers[n % 2].add_task(work, (4,)).eager(n % 5 == 0).await.unwrap();
        }
        all_end(&managers[0]).await;
        assert_eq!(managers[0].counts().await.unwrap().success, 60, "{place:?}");
        assert!(world.peak.highest() <= 3, "{place:?}: {} ran at once", world.peak.highest());
        assert!(world.peak.highest() > 1, "{place:?}: nothing ran beside another");
        stop(managers).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_resizes_under_load_neither_stall_nor_overshoot() {
    for place in everywhere() {
        let world = World::default();
        // No later limit is above the first, so even a process that has not heard of a change keeps within the first.
        let eight = QueueConfig::new().global_concurrency(8);
        let managers = [world.start(&place, eight.clone()).await, world.start(&place, eight).await];
        for _ in 0..400 {
            managers[0].add_task(work, (1,)).await.unwrap();
        }
        let mut seed = 0x2545_f491_u32;
        for n in 0..100_usize {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let limit = 1 + (seed >> 16) as usize % 8;
            let config = match n % 3 {
                0 => QueueConfig::new().global_concurrency(limit),
                1 => QueueConfig::new().global_concurrency(8).concurrency(limit.min(4)),
                _ => QueueConfig::new().global_concurrency(limit).concurrency(limit),
            };
            managers[n % 2].set_queue("mail", config).await.unwrap();
            if n % 10 == 0 {
                managers[0].add_task(work, (2,)).await.unwrap();
            }
        }
        all_end(&managers[0]).await;
        assert!(world.peak.highest() <= 8, "{place:?}: {} ran at once", world.peak.highest());
        assert_eq!(managers[0].counts().await.unwrap().success, 410, "{place:?}");
        // The last change holds: first the limit is one, then that of the programs again.
        managers[1].set_queue("mail", QueueConfig::new().global_concurrency(1)).await.unwrap();
        hear_everywhere().await;
        for _ in 0..10 {
            managers[0].add_task(stay, ()).await.unwrap();
        }
        world.gate.reached(1).await;
        assert_eq!(mail(&managers[0]).await.running, 1, "{place:?}");
        managers[0].reset_queue("mail").await.unwrap();
        world.gate.reached(8).await;
        assert_eq!(mail(&managers[1]).await.running, 8, "{place:?}");
        world.gate.open();
        all_end(&managers[0]).await;
        stop(managers).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_that_were_set_hold_everywhere_within_a_second_and_over_restarts_until_they_are_reset() {
    for place in everywhere() {
        // A store in memory ends with its last handle.
        let _keep = place.clone();
        let world = World::default();
        let own = QueueConfig::new().concurrency(5).max_size(50);
        let runs = world.start(&place, own.clone()).await;
        let acts = world.builder(&place, own.clone()).connect().await.unwrap();
        assert_eq!(
            (mail(&acts).await.limits_from, mail(&acts).await.concurrency),
            (LimitsFrom::Program, Some(5))
        );
        acts.set_queue("mail", QueueConfig::new().concurrency(2).max_size(7)).await.unwrap();
        hear_everywhere().await;
        for _ in 0..6 {
            runs.add_task(stay, ()).await.unwrap();
        }
        world.gate.reached(2).await;
        let info = mail(&runs).await;
        assert_eq!((info.running, info.waiting(), info.limits_from), (2, 4, LimitsFrom::Store), "{place:?}");
        for _ in 0..3 {
            acts.add_task(stay, ()).await.unwrap();
        }
        let full = acts.add_task(stay, ()).await.unwrap_err();
        assert!(matches!(full, AddError::QueueFull { max_size: 7, .. }), "{full}");
        assert_eq!(mail(&runs).await.rejected, 1, "{place:?}");
        // A pause stops later tasks, not running ones, and outlives the process.
        acts.pause_queue("mail").await.unwrap();
        world.gate.open();
        eventually("what ran has ended", || async { (mail(&acts).await.running == 0).then_some(()) }).await;
        stop([runs]).await;
        let again = world.start(&place, own.clone()).await;
        let info = mail(&again).await;
        assert_eq!((info.paused, info.concurrency, info.max_size), (true, Some(2), Some(7)), "{place:?}");
        acts.reset_queue("mail").await.unwrap();
        let info = mail(&acts).await;
        assert_eq!((info.paused, info.concurrency, info.limits_from), (true, Some(5), LimitsFrom::Program));
        acts.resume_queue("mail").await.unwrap();
        let resumed = Instant::now();
        eventually("the next begins", || async { (mail(&acts).await.pending < 7).then_some(()) }).await;
        assert!(resumed.elapsed() < Duration::from_millis(1500), "{place:?}: {:?}", resumed.elapsed());
        all_end(&acts).await;
        stop([again, acts]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn starts_are_limited_over_both_processes() {
    for place in everywhere() {
        let world = World::default();
        let five = QueueConfig::new().rate_limit(5, Duration::from_millis(500));
        let managers = [world.start(&place, five.clone()).await, world.start(&place, five).await];
        for n in 0..15 {
            managers[n % 2].add_task(note, (n.to_string(),)).eager(n % 4 == 0).await.unwrap();
        }
        all_end(&managers[0]).await;
        let mut starts: Vec<_> = world.notes.read().into_iter().map(|(_, at)| at).collect();
        starts.sort();
        assert_eq!(starts.len(), 15);
        // Fifteen starts need three periods, and the last one need not end; a task records its start a little late.
        let took = starts[14] - starts[0];
        assert!(took >= Duration::from_millis(900), "{place:?}: {took:?}");
        assert!(took < Duration::from_secs(8), "{place:?}: {took:?}");
        stop(managers).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_noisy_tenant_gets_its_share_and_no_more() {
    for place in everywhere() {
        let world = World::default();
        let config = QueueConfig::new().key_concurrency(2);
        let managers = [world.start(&place, config.clone()).await, world.start(&place, config).await];
        managers[0].pause_queue("mail").await.unwrap();
        let tenant = |tasks: &TaskManager, name: &str| {
            tasks.add_task(serve, (name.to_owned(),)).concurrency_key(format!("tenant:{name}"))
        };
        let noisy: Vec<_> = (0..150).map(|_| tenant(&managers[0], "noisy")).collect();
        managers[0].add_all(noisy).await.unwrap();
        let mut quiet = Vec::new();
        for n in 0..6 {
            quiet.push(tenant(&managers[n % 2], ["ada", "bob"][n % 2]).await.unwrap());
        }
        managers[1].resume_queue("mail").await.unwrap();
        for task in &quiet {
            soon(task.wait()).await.unwrap();
        }
        let left = mail(&managers[0]).await.pending;
        assert!(
            left > 50,
            "{place:?}: the quiet ones came after the busy one, which still has {left} tasks waiting"
        );
        all_end(&managers[0]).await;
        assert_eq!(managers[0].counts().await.unwrap().success, 156, "{place:?}");
        for name in ["noisy", "ada", "bob"] {
            let highest = world.tenants.of(name).highest();
            assert!(highest <= 2, "{place:?}: {highest} of {name} ran at once");
        }
        assert_eq!(world.tenants.of("noisy").highest(), 2, "{place:?}");
        stop(managers).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_is_exact_for_64_who_add_at_once_and_keeps_what_it_refused_if_asked_to() {
    for place in everywhere() {
        let world = World::default();
        let config = QueueConfig::new().max_size(10).record_rejected(true);
        let tasks = world.start(&place, config).await;
        tasks.pause_queue("mail").await.unwrap();
        let adds: Vec<_> = (0..64)
            .map(|_| {
                let tasks = tasks.clone();
                tokio::spawn(async move { tasks.add_task(work, (0,)).idempotency_key("").await })
            })
            .collect();
        // Adds of one key: one adds the task, and the others are duplicates of it.
        for add in adds {
            add.await.unwrap().unwrap();
        }
        assert_eq!(mail(&tasks).await.pending, 1);
        let adds: Vec<_> = (0..64)
            .map(|n| {
                let tasks = tasks.clone();
                tokio::spawn(async move { tasks.add_task(work, (0,)).idempotency_key(n.to_string()).await })
            })
            .collect();
        let mut refused = 0;
        for add in adds {
            match add.await.unwrap() {
                Ok(_) => {}
                Err(AddError::QueueFull { queue, max_size }) => {
                    assert_eq!((queue.as_str(), max_size), ("mail", 10));
                    refused += 1;
                }
                Err(error) => panic!("{error}"),
            }
        }
        let info = mail(&tasks).await;
        assert_eq!((refused, info.pending, info.rejected), (55, 10, 55), "{place:?}");
        assert_eq!(tasks.counts().await.unwrap().rejected, 55, "{place:?}");
        // A batch that does not fit stores nothing, not even a record.
        let batch: Vec<_> = (0..3).map(|_| tasks.add_task(work, (0,))).collect();
        assert!(matches!(tasks.add_all(batch).await, Err(AddError::QueueFull { .. })));
        assert_eq!(
            (mail(&tasks).await.rejected, tasks.counts().await.unwrap().rejected),
            (58, 55),
            "{place:?}"
        );
        // They can be retried by hand, and their keys are free meanwhile.
        let one = tasks
            .list(TaskFilter::new().status(TaskStatus::Rejected).limit(1))
            .await
            .unwrap()
            .items
            .remove(0);
        assert!(one.error.as_deref().unwrap().contains("`mail` was full"), "{one:?}");
        tasks.retry(one.id).await.unwrap();
        assert_eq!(tasks.retry_all(TaskFilter::new().status(TaskStatus::Rejected)).await.unwrap(), 54);
        tasks.resume_queue("mail").await.unwrap();
        all_end(&tasks).await;
        assert_eq!(tasks.counts().await.unwrap().success, 65, "{place:?}");
        stop([tasks]).await;
    }
}

#[tokio::test]
async fn a_misspelt_queue_and_limits_that_cannot_be_meant_are_refused_with_the_remedy() {
    let world = World::default();
    let tasks = world.start(&Place::memory(), QueueConfig::new()).await;
    let unknown = tasks.set_queue("mial", QueueConfig::new()).await.unwrap_err();
    assert_eq!(unknown.to_string(), "queue `mial` is not configured; did you mean `mail`?");
    assert!(matches!(tasks.reset_queue("mial").await, Err(Error::UnknownQueue { .. })));
    let never = QueueConfig::new().rate_limit(1, Duration::ZERO);
    let refused = tasks.set_queue("mail", never.clone()).await.unwrap_err();
    assert!(refused.to_string().contains("rate_limit") && refused.to_string().contains("10 ms"), "{refused}");
    assert!(world.builder(&Place::memory(), never).start().await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_not_begun_in_time_ends_as_expired() {
    for place in everywhere() {
        let world = World::default();
        let tasks = world.start(&place, QueueConfig::new()).await;
        let soon = std::time::SystemTime::now() + Duration::from_millis(200);
        tasks.pause_queue("mail").await.unwrap();
        let late = tasks.add_task(work, (0,)).expires_at(soon).await.unwrap();
        let failure = support::soon(late.wait()).await.unwrap_err();
        assert_eq!(failure.status(), TaskStatus::Cancelled, "{place:?}");
        assert!(failure.message().contains("expired"), "{}", failure.message());
        assert!(record(&tasks, late.id()).await.attempts.is_empty());
        tasks.resume_queue("mail").await.unwrap();
        // A task that has begun goes on after its expiry.
        let soon = std::time::SystemTime::now() + Duration::from_millis(300);
        let begun = tasks.add_task(stay, ()).expires_at(soon).await.unwrap();
        world.gate.reached(1).await;
        tokio::time::sleep(Duration::from_millis(600)).await;
        world.gate.open();
        reaches(&tasks, begun.id(), TaskStatus::Success).await;
        stop([tasks]).await;
    }
}
