//! The system refuses new threads: synchronous tasks wait until it allows them. This test is alone in its process, because the
//! limit applies to the whole process.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test that finds an error fails")]

mod support;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use support::{Gate, Place, eventually, record, soon};
use taskflow::{State, TaskStatus};

#[taskflow::task]
fn compute(n: u64) -> Result<u64, String> {
    Ok(n * 2)
}

#[taskflow::task]
async fn ping(State(ran): State<Gate>) {
    ran.note();
}

#[test]
fn a_synchronous_task_that_no_thread_can_be_started_for_goes_back_and_runs_later() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let ran = Gate::default();
        let tasks = Place::memory().builder().state(ran.clone()).start().await.unwrap();
        // Root has no limit, so this thread becomes another user.
        if rustix::process::geteuid().is_root() {
            rustix::thread::set_thread_uid(rustix::process::Uid::from_raw(65534)).unwrap();
        }
        let before = getrlimit(Resource::Nproc);
        setrlimit(Resource::Nproc, Rlimit { current: Some(0), maximum: before.maximum }).unwrap();
        assert!(std::thread::Builder::new().spawn(|| {}).is_err(), "threads can still be started");

        let handle = tasks.add_task(compute, (21,)).await.unwrap();
        let task = eventually("it has gone back", || async {
            let task = record(&tasks, handle.id()).await;
            (task.status == TaskStatus::Pending).then_some(task)
        })
        .await;
        // It never began: no attempt is counted or kept.
        assert_eq!((task.attempt, task.attempts.len(), task.error), (0, 0, None));
        // Others go on.
        soon(soon(tasks.add_task(ping, ())).await.unwrap().wait()).await.unwrap();

        setrlimit(Resource::Nproc, before).unwrap();
        assert_eq!(soon(handle.wait()).await.unwrap(), 42);
        assert_eq!(record(&tasks, handle.id()).await.attempts.len(), 1);
    });
}
