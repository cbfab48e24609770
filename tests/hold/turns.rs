//! Releases that are part of a turn: with the claim, or alone if there is none.

use super::*;

/// Counts the releases of a store: alone, and within a turn.
#[derive(Clone, Default)]
struct Releases(Arc<(AtomicUsize, AtomicUsize)>);

impl Releases {
    fn note(&self, call: &str) {
        match call {
            "release" => self.0.0.fetch_add(1, Ordering::AcqRel),
            "release_and_turn" => self.0.1.fetch_add(1, Ordering::AcqRel),
            _ => 0,
        };
    }

    fn count(&self) -> (usize, usize) {
        (self.0.0.load(Ordering::Acquire), self.0.1.load(Ordering::Acquire))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_is_part_of_the_turn_that_claims_its_task() {
    for place in [Place::memory(), Place::sqlite()] {
        let releases = Releases::default();
        let hook = {
            let releases = releases.clone();
            move |call: &'static str| {
                releases.note(call);
                go_on()
            }
        };
        let ran = Gate::default();
        let store = Wrapper::new(place.store(), hook.clone());
        let tasks = TaskManager::builder()
            .store(store)
            .state(ran.clone())
            .state(Inside::default())
            .start()
            .await
            .unwrap();
        let hold = tasks.hold();
        let task = hold.add_task(mark, ()).await.unwrap();
        assert_eq!(soon(hold.release()).await.unwrap(), 1);
        assert_eq!(ends(&tasks, task.id()).await.status, TaskStatus::Success);
        assert_eq!(releases.count(), (0, 1), "{place:?}");

        // A cancel has nothing to claim.
        let hold = tasks.hold();
        let id = hold.add_task(mark, ()).await.unwrap().id();
        assert_eq!(soon(hold.cancel("not wanted")).await.unwrap(), 1);
        assert_eq!(record(&tasks, id).await.status, TaskStatus::Cancelled);
        assert_eq!(releases.count(), (1, 1), "{place:?}");
        stop(tasks).await;

        // A process that runs nothing takes no turns.
        let before = releases.count();
        let store = Wrapper::new(place.store(), hook.clone());
        let tasks = TaskManager::builder().store(store).connect().await.unwrap();
        let hold = tasks.hold();
        hold.add_task(mark, ()).await.unwrap();
        assert_eq!(soon(hold.release()).await.unwrap(), 1);
        assert_eq!(releases.count(), (before.0 + 1, before.1), "{place:?}");
        stop(tasks).await;

        // The release of a shutdown comes after the last turn.
        let before = releases.count();
        let store = Wrapper::new(place.store(), hook);
        let tasks = TaskManager::builder().store(store).only(["mark"]).state(Gate::default());
        let tasks = tasks.start().await.unwrap();
        let hold = tasks.hold();
        hold.add_task(mark, ()).await.unwrap();
        stop(tasks).await;
        assert_eq!(releases.count(), (before.0 + 1, before.1), "{place:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_waits_neither_for_a_free_slot_nor_for_the_end_of_a_shutdown() {
    for place in everywhere() {
        let (ran, Inside(inside)) = (Gate::default(), Inside::default());
        let builder = place.builder().state(ran.clone()).state(Inside(inside.clone()));
        let builder = builder.max_concurrent_tasks(1).cancel_grace(Duration::from_secs(60));
        let tasks = builder.start().await.unwrap();
        tasks.add_task(stay, ()).await.unwrap();
        inside.reached(1).await;
        // The only slot is taken: nothing can be claimed.
        let hold = tasks.hold();
        hold.add_task(mark, ()).await.unwrap();
        assert_eq!(soon(hold.release()).await.unwrap(), 1, "{place:?}");

        let shutdown = tokio::spawn({
            let tasks = tasks.clone();
            async move { tasks.shutdown(Duration::ZERO).await }
        });
        // The running task is asked to stop, so the shutdown has begun.
        let hold = tasks.hold();
        hold.add_task(mark, ()).await.unwrap();
        inside.reached(2).await;
        assert_eq!(soon(hold.release()).await.unwrap(), 1, "{place:?}");
        inside.open();
        soon(shutdown).await.unwrap().unwrap();
        assert_eq!(ran.count(), 0, "{place:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_during_a_turn_is_written_after_it() {
    let (releases, answered, open) = (Releases::default(), Gate::default(), Gate::default());
    let hook = {
        let (releases, answered, open) = (releases.clone(), answered.clone(), open.clone());
        move |call: &'static str| {
            releases.note(call);
            let (answered, open) = (answered.clone(), open.clone());
            Box::pin(async move {
                if call == "release_and_turn" {
                    answered.note();
                    open.pass().await;
                }
                Ok(())
            }) as wrapper::Before
        }
    };
    let (tasks, ran) = wrapped(hook).await;
    let (runs, never) = (tasks.hold(), tasks.hold());
    runs.add_task(mark, ()).await.unwrap();
    let cancelled = never.add_task(mark, ()).await.unwrap().id();
    let release = runs.release();
    answered.reached(1).await;
    let cancel = never.cancel("not wanted");
    for _ in 0..50 {
        // A tokio task that begins after that of the cancel writes each of these.
        tasks.add_task(mark, ()).run_in(Duration::from_secs(3_600)).await.unwrap();
    }
    assert_eq!(releases.count(), (0, 1), "two writes at once would both have the first release");
    open.open();
    assert_eq!((soon(release).await.unwrap(), soon(cancel).await.unwrap()), (1, 1));
    assert_eq!((releases.count(), tasks.health().stale_writes), ((1, 1), 0));
    ran.reached(1).await;
    assert_eq!(record(&tasks, cancelled).await.status, TaskStatus::Cancelled);
    stop(tasks).await;
    assert_eq!(ran.count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_turn_that_fails_leaves_its_releases_to_a_write_of_their_own() {
    for panics in [false, true] {
        let releases = Releases::default();
        let hook = {
            let releases = releases.clone();
            move |call: &'static str| {
                releases.note(call);
                Box::pin(async move {
                    match call {
                        "release_and_turn" if panics => panic!("planted"),
                        "release_and_turn" => Err(unavailable()),
                        _ => Ok(()),
                    }
                }) as wrapper::Before
            }
        };
        let (tasks, ran) = wrapped(hook).await;
        for count in 1..=3 {
            let hold = tasks.hold();
            hold.add_task(mark, ()).await.unwrap();
            assert_eq!(soon(hold.release()).await.unwrap(), 1);
            ran.reached(count).await;
            let (alone, in_turns) = releases.count();
            assert!(alone >= count && in_turns >= count, "{:?}", releases.count());
        }
        stop(tasks).await;
    }
}
