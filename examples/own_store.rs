//! A store of your own: a map behind a lock, written against the public API only.
//! `cargo run -p examples --example own_store --features store-contract` runs the basic part of the store contract on it, and
//! then a task.
//!
//! `own_store/tables.rs` keeps a [`TaskRecord`] for each task. The rules of `store::transition` decide what each command does to a
//! task; the store applies the change. This file implements the trait `Store`: each call is one transaction on the tables. The
//! store refuses what it does not keep: limits, expiry, schedules and documents.
#![allow(clippy::print_stdout, reason = "it shows what happens")]

#[path = "own_store/tables.rs"]
mod tables;

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use tables::{Tables, now};
use taskflow::model::{InstanceId, StoreError, StoreErrorKind};
use taskflow::store::transition::{self, instant};
use taskflow::store::{
    Claim, Claims, Finish, Finished, Hint, HintStream, InsertBatch, Inserted, QueueState, Recovered, Refusal,
    Release, Renewal, Renewed, Reopen, Report, Retention, RunRef, StoreFuture,
};
use taskflow::testing::contract::{Fixture, Part, Suite};
use taskflow::{
    CancelOutcome, Counts, InstanceInfo, LogLine, Page, QueueInfo, Store, TaskFilter, TaskId, TaskManager,
    TaskRecord, TaskStatus,
};
use tokio::sync::watch;

/// A handle to the store; its clones share the tasks.
#[derive(Clone, Debug, Default)]
struct OwnStore {
    tables: Arc<Mutex<Tables>>,
    changed: Arc<watch::Sender<()>>,
}

impl OwnStore {
    /// One transaction.
    fn call<'a, T: 'a>(&'a self, call: impl FnOnce(&mut Tables) -> T + Send + 'a) -> StoreFuture<'a, T> {
        Box::pin(async move { Ok(call(&mut self.tables.lock().expect("no call panics"))) })
    }

    /// One transaction after which there may be work. It wakes the listeners.
    fn write<'a, T: Send + 'a>(
        &'a self,
        call: impl FnOnce(&mut Tables) -> T + Send + 'a,
    ) -> StoreFuture<'a, T> {
        Box::pin(async move {
            let answer = self.call(call).await?;
            self.changed.send_replace(());
            Ok(answer)
        })
    }
}

fn refused<T>(what: &str) -> Result<T, StoreError> {
    Err(StoreError::new(StoreErrorKind::Unsupported, format!("this store has no {what}")))
}

impl Store for OwnStore {
    fn location(&self) -> String {
        "own:".to_owned()
    }

    fn join<'a>(&'a self, instance: &'a InstanceInfo) -> StoreFuture<'a, ()> {
        self.call(|tables| {
            let mut info = instance.clone();
            (info.started_at, info.seen_at) = (instant(now()), instant(now()));
            match tables.instances.iter_mut().find(|known| known.id == info.id) {
                Some(known) => (info.started_at, *known) = (known.started_at, info.clone()),
                None => tables.instances.push(info),
            }
        })
    }

    fn leave(&self, instance: InstanceId) -> StoreFuture<'_, ()> {
        self.write(move |tables| {
            tables.instances.retain(|known| known.id != instance);
            let leases = tables.rows.values_mut().filter_map(|row| row.lease.as_mut());
            leases.filter(|(holder, _)| *holder == instance).for_each(|(_, until)| *until = i64::MIN);
        })
    }

    fn insert(&self, batch: Arc<InsertBatch>) -> StoreFuture<'_, Vec<Result<Vec<Inserted>, Refusal>>> {
        Box::pin(async move {
            let mut tasks = batch.groups.iter().flat_map(|group| &group.tasks);
            if tasks.any(|it| it.max_size.is_some() || it.task.expires_at.is_some()) {
                return refused("limits and no expiry");
            }
            let insert = |tables: &mut Tables| {
                let groups = batch.groups.iter();
                groups
                    .map(|group| Ok(group.tasks.iter().map(|it| tables.insert(it, &batch)).collect()))
                    .collect()
            };
            self.write(insert).await
        })
    }

    fn claim(&self, claim: Claim) -> StoreFuture<'_, Claims> {
        Box::pin(async move {
            match claim.queues.iter().any(|queue| queue.shared.any()) {
                true => refused("limits"),
                false => self.call(|tables| tables.claim(&claim)).await,
            }
        })
    }

    fn finish(&self, finishes: Arc<Vec<Finish>>) -> StoreFuture<'_, Vec<Finished>> {
        self.write(move |tables| finishes.iter().map(|finish| tables.finish(finish)).collect())
    }

    fn release(&self, releases: Arc<Vec<Release>>) -> StoreFuture<'_, Vec<bool>> {
        let one = |tables: &mut Tables, Release { hold, outcome, .. }: &Release| {
            tables.decide(hold.id, |task, _| transition::release(task, hold.fence, outcome))
        };
        self.write(move |tables| releases.iter().map(|release| one(tables, release)).collect())
    }

    fn report(&self, reports: Arc<Vec<Report>>) -> StoreFuture<'_, Vec<bool>> {
        self.call(move |tables| reports.iter().map(|report| tables.report(report.clone())).collect())
    }

    fn renew(&self, renewal: Renewal) -> StoreFuture<'_, Renewed> {
        self.call(move |tables| tables.renew(&renewal))
    }

    fn asked_to_stop(&self, instance: InstanceId) -> StoreFuture<'_, Vec<RunRef>> {
        self.call(move |tables| {
            let runs = tables.rows.values().filter(|row| row.record.cancel_requested);
            let own = runs.filter(|row| row.lease.is_some_and(|(holder, _)| holder == instance));
            own.map(|row| RunRef::new(row.record.id, row.fence)).collect()
        })
    }

    fn recover(&self, _by: InstanceId) -> StoreFuture<'_, Vec<Recovered>> {
        Box::pin(async move {
            let recovered = self.call(Tables::recover).await?;
            if !recovered.is_empty() {
                self.changed.send_replace(());
            }
            Ok(recovered)
        })
    }

    fn listen(&self) -> HintStream {
        let changes = self.changed.subscribe();
        Box::pin(futures_util::stream::unfold(changes, |mut changes| async move {
            if changes.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
            Some((Hint::Changed, changes))
        }))
    }

    fn get(&self, id: TaskId) -> StoreFuture<'_, Option<TaskRecord>> {
        self.call(move |tables| tables.rows.get(&id).map(|row| row.record.clone()))
    }

    fn logs(&self, id: TaskId) -> StoreFuture<'_, Option<Vec<LogLine>>> {
        self.call(move |tables| tables.rows.get(&id).map(|row| row.lines.clone()))
    }

    fn list(&self, filter: TaskFilter) -> StoreFuture<'_, Page<TaskRecord>> {
        self.call(move |tables| tables.list(&filter))
    }

    fn counts(&self) -> StoreFuture<'_, Counts> {
        self.call(|tables| {
            let mut counts = Counts::default();
            tables.rows.values().for_each(|row| *counts.get_mut(row.record.status) += 1);
            counts
        })
    }

    fn queues(&self) -> StoreFuture<'_, Vec<QueueInfo>> {
        self.call(|tables| tables.queues())
    }

    fn queue_states(&self) -> StoreFuture<'_, Vec<QueueState>> {
        self.call(|tables| {
            tables.paused.iter().map(|queue| QueueState::new(queue.clone(), true, None)).collect()
        })
    }

    fn instances(&self) -> StoreFuture<'_, Vec<InstanceInfo>> {
        self.call(|tables| {
            let mut instances = tables.instances.clone();
            for info in &mut instances {
                let runs = tables.rows.values().filter(|row| row.record.status == TaskStatus::Running);
                let own = runs.filter(|row| row.lease.is_some_and(|(holder, _)| holder == info.id));
                info.running = own.count() as u64;
            }
            instances
        })
    }

    fn cancel(&self, ids: Vec<TaskId>, reason: String) -> StoreFuture<'_, Vec<CancelOutcome>> {
        self.write(move |tables| {
            let cancel = |id| tables.decide(id, |task, _| transition::cancel(task, &reason));
            ids.into_iter().map(cancel).collect()
        })
    }

    fn cancel_by_run_key(&self, run_key: String) -> StoreFuture<'_, Vec<TaskId>> {
        self.write(move |tables| {
            let with_key = tables.rows.values().filter(|row| row.record.run_key.as_ref() == Some(&run_key));
            let mut ids: Vec<_> = with_key.map(|row| row.record.id).collect();
            ids.retain(|id| tables.decide(*id, |task, _| transition::cancel_by_run_key(task)));
            ids
        })
    }

    fn retry(&self, tasks: Vec<Reopen>) -> StoreFuture<'_, Vec<Result<(), taskflow::Error>>> {
        self.write(move |tables| {
            let retry = |Reopen { id, delay, .. }| {
                let row = tables.rows.get(&id);
                let attempts = row.map_or(0, |row| row.policy.max_attempts());
                let key = row.and_then(|row| {
                    tables.holder_of(&row.record.name, row.record.idempotency_key.as_deref(), id)
                });
                tables.decide(id, |task, now| transition::retry(id, task, attempts, key, delay, now))
            };
            tasks.into_iter().map(retry).collect()
        })
    }

    fn delete(&self, ids: Vec<TaskId>) -> StoreFuture<'_, usize> {
        self.call(move |tables| tables.delete(usize::MAX, |task| ids.contains(&task.id)))
    }

    fn set_paused(&self, queue: String, paused: bool) -> StoreFuture<'_, ()> {
        self.write(move |tables| {
            match paused {
                true => tables.paused.insert(queue),
                false => tables.paused.remove(&queue),
            };
        })
    }

    fn prune(&self, retention: Retention, limit: usize) -> StoreFuture<'_, usize> {
        let is_old = move |task: &TaskRecord| {
            let age = task.finished_at.and_then(|at| SystemTime::now().duration_since(at).ok());
            age.is_some_and(|age| age >= retention.of(task.status))
        };
        self.call(move |tables| tables.delete(limit, is_old))
    }
}

#[taskflow::task]
async fn greet(name: String) -> Result<String, std::convert::Infallible> {
    Ok(format!("hello, {name}"))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // On a separate thread, because each case starts a runtime.
    let suite = Suite::new(|| async { Fixture::new(OwnStore::default()) });
    let report = std::thread::spawn(move || suite.run_all(Part::Basic, |_| true)).join().expect("it reports");
    println!("{report}");
    if !report.is_success() {
        return Err("the store breaks the contract".into());
    }

    let tasks = TaskManager::builder().store(OwnStore::default()).start().await?;
    println!("{}", tasks.add_task(greet, ("store".to_owned(),)).await?.wait().await?);
    tasks.shutdown(Duration::from_secs(5)).await?;
    Ok(())
}
