//! A delayed task starts at its time: not before, and not much later.

#![allow(clippy::unwrap_used, reason = "a test that finds an error fails")]

mod support;

use std::time::{Duration, SystemTime};

use support::{Gate, Place, eventually, record, soon};
use taskflow::{State, TaskContext, TaskManager, TaskStatus, model::TaskPhase};

const HOUR: Duration = Duration::from_secs(3600);

#[taskflow::task]
async fn when(context: TaskContext) -> Result<(Duration, bool), String> {
    let now = SystemTime::now();
    let meant = context.scheduled_for().ok_or("it was meant for no instant")?;
    let late = now.duration_since(meant);
    let was_late = late.is_ok();
    Ok((late.unwrap_or_else(|early| early.duration()), was_late))
}

#[taskflow::task]
async fn ping(State(ran): State<Gate>) {
    ran.note();
}

#[taskflow::task(retries = 1, delay = "1h")]
async fn fail() -> Result<(), String> {
    Err("no".to_owned())
}

async fn start(place: &Place) -> (TaskManager, Gate) {
    let ran = Gate::default();
    (place.builder().state(ran.clone()).start().await.unwrap(), ran)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delayed_task_on_an_idle_worker_starts_within_100_ms_of_its_time() {
    for place in Place::each() {
        let (tasks, _) = start(&place).await;
        let mut offs = Vec::new();
        for sample in 0..20_u64 {
            let at = SystemTime::now() + Duration::from_millis(20 + sample * 3);
            let handle = tasks.add_task(when, ()).run_at(at).await.unwrap();
            let (off, late) = soon(handle.wait()).await.unwrap();
            assert!(late || off < Duration::from_millis(1), "sample {sample}: {off:?} early");
            offs.push(off);
        }
        offs.sort();
        // The machine may be busy for a moment.
        assert!(offs[17] < Duration::from_millis(100), "{offs:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_delayed_tasks_each_start_at_their_time_whatever_their_order() {
    for place in Place::each() {
        let (tasks, _) = start(&place).await;
        let now = SystemTime::now();
        let mut handles = Vec::new();
        for n in [9_u64, 2, 7, 4, 0, 8, 1, 6, 3, 5] {
            let at = now + Duration::from_millis(100 + n * 20);
            handles.push(tasks.add_task(when, ()).run_at(at).await.unwrap());
        }
        for handle in handles {
            let (off, late) = soon(handle.wait()).await.unwrap();
            assert!(late && off < Duration::from_millis(100), "{off:?}, late: {late}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_process_delayed_starts_in_time_too() {
    for place in Place::each() {
        let (running, _) = start(&place).await;
        let adding = place.builder().connect().await.unwrap();
        let at = SystemTime::now() + Duration::from_millis(1500);
        let handle = adding.add_task(when, ()).run_at(at).await.unwrap();
        let (off, late) = soon(handle.wait()).await.unwrap();
        assert!(late && off < Duration::from_millis(100), "{off:?}, late: {late}");
        drop(running);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn run_in_counts_from_when_it_was_stored() {
    for place in Place::each() {
        let (tasks, _) = start(&place).await;
        let handle = tasks.add_task(when, ()).run_in(Duration::from_millis(80)).await.unwrap();
        let added = record(&tasks, handle.id()).await;
        assert_eq!((added.status, added.phase()), (TaskStatus::Pending, TaskPhase::Scheduled));
        let (off, late) = soon(handle.wait()).await.unwrap();
        assert!(late && off < Duration::from_millis(100), "{off:?}, late: {late}");
        let task = record(&tasks, handle.id()).await;
        let waited = task.started_at.unwrap().duration_since(task.created_at).unwrap();
        assert!(waited >= Duration::from_millis(80), "{waited:?}");
        assert_eq!(task.phase(), TaskPhase::Ended);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instant_in_the_past_is_now() {
    for place in Place::each() {
        let (tasks, ran) = start(&place).await;
        for at in [SystemTime::now() - HOUR, SystemTime::UNIX_EPOCH] {
            let handle = tasks.add_task(ping, ()).run_at(at).await.unwrap();
            soon(handle.wait()).await.unwrap();
        }
        assert_eq!(ran.count(), 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_time_that_is_accepted_is_only_very_late() {
    for place in Place::each() {
        let (tasks, ran) = start(&place).await;
        let century = HOUR * 24 * 36_525;
        let last = SystemTime::UNIX_EPOCH + Duration::from_secs(7_258_118_400);
        let adds = [tasks.add_task(ping, ()).run_in(century), tasks.add_task(ping, ()).run_at(last)];
        for add in adds {
            let handle = add.await.unwrap();
            let task = record(&tasks, handle.id()).await;
            assert_eq!(task.phase(), TaskPhase::Scheduled, "{:?}", task.run_at);
            serde_json::to_string(&task).unwrap();
        }
        soon(tasks.add_task(ping, ()).await.unwrap().wait()).await.unwrap();
        assert_eq!(ran.count(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_phase_tells_a_first_attempt_from_a_retry() {
    for place in Place::each() {
        let (tasks, _) = start(&place).await;
        let scheduled = tasks.add_task(ping, ()).run_in(HOUR).await.unwrap();
        assert_eq!(record(&tasks, scheduled.id()).await.phase(), TaskPhase::Scheduled);
        let retrying = tasks.add_task(fail, ()).await.unwrap();
        eventually("it waits for its retry", || async {
            (record(&tasks, retrying.id()).await.phase() == TaskPhase::Retrying).then_some(())
        })
        .await;
        tasks.pause_queue("default").await.unwrap();
        let waiting = tasks.add_task(ping, ()).await.unwrap();
        assert_eq!(record(&tasks, waiting.id()).await.phase(), TaskPhase::Waiting);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_of_future_tasks_does_not_delay_what_is_due() {
    for place in Place::each() {
        let (tasks, ran) = start(&place).await;
        tasks.add_all((0..2000).map(|_| tasks.add_task(ping, ()).run_in(HOUR).priority(100))).await.unwrap();
        let began = std::time::Instant::now();
        soon(tasks.add_task(ping, ()).await.unwrap().wait()).await.unwrap();
        assert!(began.elapsed() < Duration::from_millis(500), "{:?}", began.elapsed());
        assert_eq!(ran.count(), 1);
    }
}
