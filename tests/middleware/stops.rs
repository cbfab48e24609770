//! Timeouts, cancels, shutdowns and lost leases reach a middleware as they reach a body.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn the_timeout_covers_a_middleware_that_hangs() {
    for place in Place::each() {
        let hangs = around(|run, next| {
            Box::pin(async move {
                if run.tags().contains_key("after") {
                    let _ = next.run().await;
                }
                std::future::pending().await
            })
        });
        let Bench { tasks, notes, .. } = start(&place, hangs, GRACE).await;
        for add in [
            tasks.add_task(plain, ()),
            tasks.add_task(plain, ()).tag("after", ""),
            tasks.add_task(plain_sync, ()).tag("after", ""),
        ] {
            let handle = add.timeout(Duration::from_millis(30)).await.unwrap();
            let task = ends(&tasks, handle.id()).await;
            assert_eq!((task.status, outcomes(&task)), (TaskStatus::Failed, vec![AttemptOutcome::TimedOut]));
        }
        assert_eq!(notes.read().iter().filter(|note| *note == "the body").count(), 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_is_seen_and_cannot_be_changed() {
    for place in Place::each() {
        let denies = around(|_, next| {
            Box::pin(async move {
                let outcome = next.run().await;
                if outcome.outcome() == AttemptOutcome::Cancelled {
                    RunOutcome::success(&())
                } else {
                    outcome
                }
            })
        });
        let Bench { tasks, notes, gate, .. } = start(&place, Noting("inner", Notes::default()), GRACE).await;
        let handle = tasks.add_task(waits, ()).await.unwrap();
        gate.reached(1).await;
        tasks.cancel(handle.id()).await.unwrap();
        reaches(&tasks, handle.id(), TaskStatus::Cancelled).await;
        assert_eq!(seen(&notes), ["outer Cancelled"]);
        tasks.shutdown(DEADLINE).await.unwrap();

        let Bench { tasks, gate, .. } = start(&place, denies, GRACE).await;
        let handle = tasks.add_task(waits, ()).await.unwrap();
        gate.reached(1).await;
        tasks.cancel(handle.id()).await.unwrap();
        let task = ends(&tasks, handle.id()).await;
        assert_eq!((task.status, outcomes(&task)), (TaskStatus::Cancelled, vec![AttemptOutcome::Cancelled]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_ends_a_middleware_that_hangs_before_or_after_the_body() {
    for place in Place::each() {
        let hanging = Gate::default();
        let here = hanging.clone();
        let hangs = around(move |run, next| {
            let here = here.clone();
            Box::pin(async move {
                if run.tags().contains_key("after") {
                    let _ = next.run().await;
                }
                here.pass().await;
                RunOutcome::success(&9)
            })
        });
        let Bench { tasks, .. } = start(&place, hangs, GRACE).await;
        let adds = [
            tasks.add_task(plain, ()),
            tasks.add_task(plain, ()).tag("after", ""),
            tasks.add_task(plain_sync, ()),
            tasks.add_task(plain_sync, ()).tag("after", ""),
        ];
        for (at, add) in adds.into_iter().enumerate() {
            let handle = add.await.unwrap();
            hanging.reached(at + 1).await;
            tasks.cancel(handle.id()).await.unwrap();
            reaches(&tasks, handle.id(), TaskStatus::Cancelled).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_does_not_begin_after_the_stop() {
    for place in Place::each() {
        let hanging = Gate::default();
        let here = hanging.clone();
        let late = around(move |_, next| {
            let here = here.clone();
            Box::pin(async move {
                here.note();
                TaskContext::current().unwrap().cancelled().await;
                next.run().await
            })
        });
        let Bench { tasks, notes, .. } = start(&place, late, Duration::from_secs(5)).await;
        for (at, add) in [tasks.add_task(plain, ()), tasks.add_task(plain_sync, ())].into_iter().enumerate() {
            let handle = add.await.unwrap();
            hanging.reached(at + 1).await;
            tasks.cancel(handle.id()).await.unwrap();
            reaches(&tasks, handle.id(), TaskStatus::Cancelled).await;
        }
        assert_eq!(notes.read(), ["outer begins", "outer Cancelled", "outer begins", "outer Cancelled"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_hands_back_the_task_and_the_middleware_sees_it() {
    for place in Place::each() {
        let Bench { tasks, notes, gate, .. } = start(&place, around(|_, next| next.run()), GRACE).await;
        let handle = tasks.add_task(waits, ()).await.unwrap();
        gate.reached(1).await;
        let report = soon(tasks.shutdown(Duration::ZERO)).await.unwrap();
        assert_eq!((report.handed_back, report.abandoned, report.unwritten), (1, 0, 0));
        assert_eq!(seen(&notes), ["outer HandedBack"]);
        // The next process runs it again.
        let Bench { tasks, gate, .. } = start(&place, around(|_, next| next.run()), GRACE).await;
        gate.open();
        reaches(&tasks, handle.id(), TaskStatus::Success).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_is_not_held_up_by_a_middleware_that_hangs() {
    for place in Place::each() {
        let hangs = around(|_, next| {
            Box::pin(async move {
                let _ = next.run().await;
                std::future::pending().await
            })
        });
        let Bench { tasks, gate, .. } = start(&place, hangs, GRACE).await;
        tasks.add_task(waits, ()).await.unwrap();
        gate.reached(1).await;
        let began = std::time::Instant::now();
        let report = soon(tasks.shutdown(Duration::ZERO)).await.unwrap();
        assert_eq!((report.handed_back, report.abandoned, report.unwritten), (1, 0, 0));
        assert!(began.elapsed() < Duration::from_secs(10));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_synchronous_body_keeps_its_slot_if_its_middleware_gives_it_up() {
    for place in Place::each() {
        let impatient = around(|run, next| {
            Box::pin(async move {
                match tokio::time::timeout(Duration::from_millis(10), next.run()).await {
                    Ok(outcome) => outcome,
                    Err(_) => RunOutcome::failure(format_args!("given up {}", run.attempt())),
                }
            })
        });
        let Bench { tasks, notes, gate, peak } = start(&place, impatient, GRACE).await;
        let handle = tasks.add_task(waits_sync, ()).await.unwrap();
        eventually("it was given up", || async { (!seen(&notes).is_empty()).then_some(()) }).await;
        // A later task has run, in the slot of the abandoned one.
        soon(tasks.add_task(plain, ()).await.unwrap().wait()).await.unwrap();
        assert_eq!(support::record(&tasks, handle.id()).await.status, TaskStatus::Running);
        gate.open();
        let task = ends(&tasks, handle.id()).await;
        assert_eq!((task.attempts.len(), peak.highest()), (2, 1));
        assert_eq!(task.attempts[0].error.as_deref(), Some("given up 1"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_async_body_is_dropped_if_its_middleware_gives_it_up() {
    for place in Place::each() {
        let impatient = around(|_, next| {
            Box::pin(async move {
                match tokio::time::timeout(Duration::from_millis(10), next.run()).await {
                    Ok(outcome) => outcome,
                    Err(_) => RunOutcome::abort("given up"),
                }
            })
        });
        let Bench { tasks, .. } = start(&place, impatient, GRACE).await;
        let handle = tasks.add_task(waits, ()).await.unwrap();
        assert_eq!(ends(&tasks, handle.id()).await.error.as_deref(), Some("given up"));
    }
}

/// Counts when it is dropped.
struct OnDrop(Gate);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.note();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_lease_drops_the_middleware_and_the_body_at_once() {
    for place in Place::each() {
        let (gate, dropped, notes) = (Gate::default(), Gate::default(), Notes::default());
        let here = dropped.clone();
        let tasks = place
            .builder()
            .state(gate.clone())
            .only(["waits"])
            .lease(Duration::from_millis(600))
            .cancel_grace(DEADLINE)
            .middleware(Noting("outer", notes.clone()))
            .middleware(around(move |_, next| {
                let guard = OnDrop(here.clone());
                Box::pin(async move {
                    let outcome = next.run().await;
                    drop(guard);
                    outcome
                })
            }))
            .start()
            .await
            .unwrap();
        let handle = tasks.add_task(waits, ()).eager(true).await.unwrap();
        gate.reached(1).await;
        // Another process ends the run, as if this process were dead.
        let kind = FinishKind::End {
            status: TaskStatus::Failed,
            outcome: AttemptOutcome::Failed,
            error: "elsewhere".to_owned(),
        };
        // The run began with its add, or with a claim that came first.
        let fences = [RunRef::FIRST_FENCE, RunRef::FIRST_FENCE + 1];
        let ends = fences.map(|fence| Finish::new(RunRef::new(handle.id(), fence), kind.clone())).to_vec();
        let finished = place.store().finish(Arc::new(ends)).await.unwrap();
        assert!(finished.iter().any(|it| matches!(it, Finished::Applied(_))), "{finished:?}");
        dropped.reached(1).await;
        eventually("the run is over", || async { (tasks.health().running == 0).then_some(()) }).await;
        assert_eq!(notes.read(), ["outer begins"]);
        let task = support::record(&tasks, handle.id()).await;
        assert_eq!((task.status, task.error.as_deref()), (TaskStatus::Failed, Some("elsewhere")));
        // It is counted just after the run was asked to stop.
        eventually("it is counted", || async { (tasks.health().lost_leases == 1).then_some(()) }).await;
    }
}
