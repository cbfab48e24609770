//! The store: turns calls of the contract into calls of scripts.

use std::fmt;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use uuid::Uuid;

use super::connection::Connections;
use super::damage::Repairs;
use super::executor::{FastScripts, Shared};
use super::notifications::Notifications;
use super::packed_row::exact;
use super::{claim, finish, instance, liveness, queue_stats, script, url};
use crate::model::{
    CancelOutcome, Counts, Error, InstanceId, InstanceInfo, LogLine, Page, QueueConfig, QueueInfo,
    TaskFilter, TaskId, TaskRecord, time,
};
use crate::store::hint_set::HintSet;
use crate::store::suspects::Suspects;
use crate::store::{
    Capabilities, Claim, Claims, Document, DocumentQuery, DocumentWrite, Finish, Finished, Fire, Fired,
    HintStream, InsertBatch, Inserted, LivenessStream, QueueState, Recovered, Refusal, Release, Renewal,
    Renewed, Reopen, ReplaceArgs, Report, Retention, RunRef, ScheduleChange, ScheduleChanges, ScheduleState,
    Store, StoreFuture, TaskEnd, document,
};

/// A store on a Redis server, version 7 or later, or Valkey.
///
/// It is a cheap handle: clones share connections, which are opened when they are first needed, and again after they
/// broke. Any number of processes on any number of machines may use it at once. All keys begin with
/// `{taskflow:NAMESPACE}:`, so a cluster keeps a namespace on one node; name that node in the URL.
///
/// # What an accepted task survives
///
/// As much as the server's settings guarantee, and no more: Redis answers from memory.
///
/// | `redis.conf` | the server is killed | the machine loses power |
/// |---|---|---|
/// | `appendonly yes`, `appendfsync always` | nothing is lost | nothing is lost |
/// | `appendonly yes`, `appendfsync everysec` (the default with `appendonly`) | nothing is lost | up to two seconds are lost |
/// | `appendonly no` with `save` (what packages install) | all since the last snapshot is lost | the same |
/// | `appendonly no`, `save ""` | everything is lost | everything is lost |
///
/// A failover to a replica loses what had not been copied yet. `maxmemory-policy` must be `noeviction`, which is the
/// default. A process that runs tasks refuses to join a server with another policy. If `CONFIG` is forbidden there, or
/// the process runs no tasks, it joins and logs a warning. A process that joins a server that keeps too little on disk logs
/// a warning as well.
///
/// # Damage
///
/// A task that other programs damaged becomes `failed` with the reason, and nothing else is affected. The first call
/// that meets damage repairs what it met and is repeated; everything else is then checked once, in portions.
///
/// # Time and limits
///
/// The clock is the server's: it decides when tasks come due and expire, when leases end, and which starts count for
/// a rate limit. Limits over all processes are exact, because each claim is one script. When the `key_concurrency` of a
/// queue changes, the tasks blocked by their concurrency key are looked at again, 500 of them in each claim. While two
/// processes ask for different limits (for example during a deployment), this goes on, and costs each claim a few
/// milliseconds of the server's time.
///
/// ```no_run
/// use taskflow::store::{RedisStore, Store};
///
/// let store = RedisStore::open("redis://127.0.0.1:6379/0?namespace=shop")?;
/// assert_eq!(store.location(), "redis://127.0.0.1:6379/0?namespace=shop");
/// # Ok::<(), taskflow::Error>(())
/// ```
#[derive(Clone)]
pub struct RedisStore {
    shared: Arc<Shared>,
}

impl RedisStore {
    /// Makes a store from a URL `redis://[user:password@]host[:port][/database][?namespace=NAME]`, without connecting
    /// yet.
    ///
    /// `rediss://` is the same over TLS (feature `redis-tls`). The server's certificate must be signed by an authority that
    /// this machine trusts; `SSL_CERT_FILE` names a file with authorities to trust instead.
    ///
    /// # Errors
    /// [`Error::StoreUrl`] for a URL that is not valid.
    pub fn open(url: impl AsRef<str>) -> Result<Self, Error> {
        let url = url.as_ref();
        let place = url::parse(url)
            .map_err(|message| Error::StoreUrl { url: crate::store::url::without_password(url), message })?;
        let prefix = format!("{{taskflow:{}}}:", place.namespace);
        let connections = Arc::new(Connections::new(place.client, place.location));
        let sender_id = *Uuid::now_v7().as_bytes();
        let notifications = Arc::new(Notifications::new(
            Arc::clone(&connections),
            format!("{prefix}notifications"),
            sender_id,
        ));
        let unconfirmed = claim::UnconfirmedClaims::new(sender_id);
        Ok(Self {
            shared: Arc::new_cyclic(|this| Shared {
                connections,
                notifications,
                prefix,
                known: Mutex::default(),
                unconfirmed,
                simple: FastScripts::default(),
                has_limits: AtomicBool::new(false),
                queues: Mutex::default(),
                ours: Mutex::default(),
                suspects: Suspects::default(),
                repairs: Repairs::default(),
                this: Weak::clone(this),
            }),
        })
    }
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore")
            .field("location", &self.shared.connections.location)
            .finish_non_exhaustive()
    }
}

impl Store for RedisStore {
    fn location(&self) -> String {
        self.shared.connections.location.clone()
    }

    fn capabilities(&self) -> Capabilities {
        // While one batch is on its way, the server works on the other.
        Capabilities { inserts_at_once: 2, ..Capabilities::default() }
    }

    fn join<'a>(&'a self, instance: &'a InstanceInfo) -> StoreFuture<'a, ()> {
        Box::pin(self.shared.join(instance))
    }

    fn migrate(&self) -> StoreFuture<'_, ()> {
        Box::pin(self.shared.migrate())
    }

    fn check(&self) -> StoreFuture<'_, ()> {
        Box::pin(self.shared.require())
    }

    fn leave(&self, instance: InstanceId) -> StoreFuture<'_, ()> {
        Box::pin(async move {
            // The leases of this instance end now, and tasks it never began must not count as lost.
            self.shared.take_back_lost(instance).await?;
            let mut call = self.shared.notifying(&script::LEAVE, HintSet::ALL);
            call.arg(instance.as_bytes());
            self.shared.call_and_notify(&call).await.map(drop)
        })
    }

    fn insert(&self, batch: Arc<InsertBatch>) -> StoreFuture<'_, Vec<Result<Vec<Inserted>, Refusal>>> {
        Box::pin(async move { self.shared.insert(&batch).await })
    }

    fn claim(&self, claim: Claim) -> StoreFuture<'_, Claims> {
        Box::pin(async move {
            let (answer, unconfirmed) = self.shared.turn(&[], &claim).await?;
            self.shared.claimed(answer, unconfirmed, &claim).await
        })
    }

    fn finish(&self, finishes: Arc<Vec<Finish>>) -> StoreFuture<'_, Vec<Finished>> {
        Box::pin(async move {
            if finishes.is_empty() {
                return Ok(Vec::new());
            }
            let answer = self.shared.finish(&finishes).await?;
            finish::unpack(&answer, finishes.len()).ok_or_else(|| self.shared.unexpected())
        })
    }

    fn turn(&self, finishes: Arc<Vec<Finish>>, claim: Claim) -> StoreFuture<'_, (Vec<Finished>, Claims)> {
        Box::pin(async move {
            if finishes.is_empty() {
                return Ok((Vec::new(), self.claim(claim).await?));
            }
            let (mut answer, unconfirmed) = self.shared.turn(&finishes, &claim).await?;
            let finished = finish::unpack(&answer.bytes()?, finishes.len());
            if answer.is_empty() {
                // The claim met damage and is repeated. The runs have ended, whatever its result is.
                drop(unconfirmed);
                let finished = finished.ok_or_else(|| self.shared.unexpected())?;
                return Ok((finished, self.claim(claim).await.unwrap_or_default()));
            }
            let claims = self.shared.claimed(answer, unconfirmed, &claim).await?;
            Ok((finished.ok_or_else(|| self.shared.unexpected())?, claims))
        })
    }

    fn release(&self, releases: Arc<Vec<Release>>) -> StoreFuture<'_, Vec<bool>> {
        Box::pin(async move { self.shared.release(&releases).await })
    }

    fn report(&self, reports: Arc<Vec<Report>>) -> StoreFuture<'_, Vec<bool>> {
        Box::pin(async move {
            let mut call = self.shared.silent(&script::REPORT);
            for report in reports.iter() {
                finish::pack_report(&mut call, report);
            }
            let answer = self.shared.ask(&call).await?.bytes()?;
            Ok(answer.iter().map(|answer| *answer == b'1').collect())
        })
    }

    fn renew(&self, renewal: Renewal) -> StoreFuture<'_, Renewed> {
        Box::pin(async move {
            let mut call = self.shared.silent(&script::RENEW);
            call.arg(renewal.instance.as_bytes()).arg(exact(time::micros(renewal.lease)));
            call.arg(exact(time::micros(instance::ALIVE_AFTER_SEEN.max(renewal.lease * 2))));
            call.list(renewal.runs.iter().map(|run| run.id.as_bytes()));
            for run in &renewal.runs {
                call.arg(run.fence);
            }
            let answer = self.shared.ask(&call).await?.bytes()?;
            let mut renewed = Renewed::default();
            for (run, answer) in renewal.runs.iter().zip(answer) {
                match answer {
                    b'0' => {}
                    b'1' => renewed.cancel.push(*run),
                    _ => renewed.lost.push(*run),
                }
            }
            Ok(renewed)
        })
    }

    fn asked_to_stop(&self, instance: InstanceId) -> StoreFuture<'_, Vec<RunRef>> {
        Box::pin(async move {
            let mut call = self.shared.silent(&script::ASKED_TO_STOP);
            call.arg(instance.as_bytes());
            let mut answer = self.shared.ask(&call).await?.list()?;
            let mut runs = Vec::with_capacity(answer.len() / 2);
            while !answer.is_empty() {
                runs.push(RunRef::new(answer.task_id()?, u64::try_from(answer.number()?).unwrap_or(0)));
            }
            Ok(runs)
        })
    }

    fn recover(&self, _by: InstanceId) -> StoreFuture<'_, Vec<Recovered>> {
        Box::pin(self.shared.recover())
    }

    fn show_life(&self, instance: InstanceId) -> LivenessStream {
        liveness::show_life(&self.shared, instance)
    }

    fn look_again_in(&self) -> Option<Duration> {
        self.shared.suspects.look_again_in(Instant::now())
    }

    fn listen(&self) -> HintStream {
        self.shared.notifications.listen()
    }

    fn get(&self, id: TaskId) -> StoreFuture<'_, Option<TaskRecord>> {
        Box::pin(async move { Ok(self.shared.records(&[id]).await?.pop()) })
    }

    fn ends(&self, ids: Vec<TaskId>) -> StoreFuture<'_, Vec<TaskEnd>> {
        Box::pin(async move { self.shared.ends(&ids).await })
    }

    fn logs(&self, id: TaskId) -> StoreFuture<'_, Option<Vec<LogLine>>> {
        Box::pin(async move {
            let mut call = self.shared.silent(&script::LOGS);
            call.arg(id.as_bytes());
            let answer = self.shared.ask(&call).await?;
            if answer.value == redis::Value::Nil {
                return Ok(None);
            }
            let mut answer = answer.list()?;
            let mut lines = Vec::with_capacity(answer.len());
            while !answer.is_empty() {
                lines.extend(finish::line(&answer.bytes()?));
            }
            Ok(Some(lines))
        })
    }

    fn list(&self, filter: TaskFilter) -> StoreFuture<'_, Page<TaskRecord>> {
        Box::pin(async move { self.shared.list(&filter, &script::GET).await })
    }

    fn list_outlines(&self, filter: TaskFilter) -> StoreFuture<'_, Page<TaskRecord>> {
        Box::pin(async move { self.shared.list(&filter, &script::OUTLINES).await })
    }

    fn counts(&self) -> StoreFuture<'_, Counts> {
        Box::pin(async move { queue_stats::counts(self.shared.numbers().await?) })
    }

    fn queues(&self) -> StoreFuture<'_, Vec<QueueInfo>> {
        Box::pin(async move {
            let call = self.shared.silent(&script::QUEUES);
            queue_stats::queues(self.shared.ask(&call).await?.list()?)
        })
    }

    fn queue_states(&self) -> StoreFuture<'_, Vec<QueueState>> {
        Box::pin(async move {
            let call = self.shared.silent(&script::QUEUE_STATES);
            queue_stats::queue_states(self.shared.ask(&call).await?.list()?)
        })
    }

    fn set_queue(&self, queue: String, config: Option<QueueConfig>) -> StoreFuture<'_, ()> {
        Box::pin(async move {
            let mut call = self.shared.notifying(&script::SET_QUEUE, HintSet::ALL);
            call.arg(queue).arg(queue_stats::pack_config(config.as_ref()));
            self.shared.call_and_notify(&call).await.map(drop)
        })
    }

    fn replace_queue(
        &self,
        queue: String,
        from: Option<QueueConfig>,
        to: Option<QueueConfig>,
    ) -> StoreFuture<'_, bool> {
        Box::pin(async move {
            let mut read = self.shared.silent(&script::QUEUE_CONFIG);
            let stored = self.shared.ask(read.arg(&*queue)).await?.bytes()?;
            if queue_stats::unpack_config(&stored) != from {
                return Ok(false);
            }
            let mut call = self.shared.notifying(&script::SET_QUEUE, HintSet::ALL);
            call.arg(queue).arg(queue_stats::pack_config(to.as_ref())).arg(stored);
            Ok(self.shared.call_and_notify(&call).await?.number()? == 1)
        })
    }

    fn instances(&self) -> StoreFuture<'_, Vec<InstanceInfo>> {
        Box::pin(async move {
            let call = self.shared.silent(&script::INSTANCES);
            instance::unpack(self.shared.ask(&call).await?.list()?)
        })
    }

    fn cancel(&self, ids: Vec<TaskId>, reason: String) -> StoreFuture<'_, Vec<CancelOutcome>> {
        Box::pin(async move { self.shared.cancel(&ids, &reason).await })
    }

    fn cancel_by_run_key(&self, run_key: String) -> StoreFuture<'_, Vec<TaskId>> {
        Box::pin(async move { self.shared.cancel_by_run_key(&run_key).await })
    }

    fn retry(&self, tasks: Vec<Reopen>) -> StoreFuture<'_, Vec<Result<(), Error>>> {
        Box::pin(async move { self.shared.retry(&tasks).await })
    }

    fn delete(&self, ids: Vec<TaskId>) -> StoreFuture<'_, usize> {
        Box::pin(async move {
            let mut call = self.shared.silent(&script::DELETE);
            for id in &ids {
                call.arg(id.as_bytes());
            }
            let deleted = self.shared.ask(&call).await?.number()?;
            Ok(usize::try_from(deleted).unwrap_or(0))
        })
    }

    fn replace_args(&self, replacements: Arc<Vec<ReplaceArgs>>) -> StoreFuture<'_, Vec<bool>> {
        Box::pin(async move {
            let mut call = self.shared.silent(&script::REPLACE_ARGS);
            for ReplaceArgs { id, from, to } in &*replacements {
                call.arg(id.as_bytes()).arg(&**from).arg(&**to);
            }
            let replaced = self.shared.ask(&call).await?.bytes()?;
            Ok(replaced.iter().map(|byte| *byte == b'1').collect())
        })
    }

    fn set_paused(&self, queue: String, paused: bool) -> StoreFuture<'_, ()> {
        Box::pin(async move {
            let mut call = self.shared.notifying(&script::PAUSE, HintSet::ALL);
            call.arg(queue).arg(u8::from(paused));
            self.shared.call_and_notify(&call).await.map(drop)
        })
    }

    fn fire(&self, fire: Fire) -> StoreFuture<'_, Fired> {
        Box::pin(async move { self.shared.fire(&fire).await })
    }

    fn schedules(&self) -> StoreFuture<'_, Vec<ScheduleState>> {
        Box::pin(self.shared.schedules())
    }

    fn schedule(&self, name: String) -> StoreFuture<'_, Option<ScheduleState>> {
        Box::pin(async move { self.shared.schedule(&name).await })
    }

    fn schedule_changes(&self, since: u64) -> StoreFuture<'_, ScheduleChanges> {
        Box::pin(self.shared.schedule_changes(since))
    }

    fn set_schedule(&self, schedule: String, change: ScheduleChange) -> StoreFuture<'_, bool> {
        Box::pin(async move { self.shared.set_schedule(&schedule, &change).await })
    }

    fn prune(&self, retention: Retention, limit: usize) -> StoreFuture<'_, usize> {
        Box::pin(async move {
            let mut pruned = 0;
            // In portions, because a script stops all other calls while it runs.
            while pruned < limit {
                let portion = (limit - pruned).min(PRUNED_AT_ONCE);
                let mut call = self.shared.silent(&script::PRUNE);
                call.arg(portion);
                for status in Retention::STATUSES {
                    call.arg(exact(time::micros(retention.of(status))));
                }
                let mut answer = self.shared.ask(&call).await?.list()?;
                pruned += usize::try_from(answer.number()?).unwrap_or(0);
                if answer.number()? == 0 {
                    break;
                }
            }
            Ok(pruned.max(self.shared.prune_documents(limit).await?))
        })
    }

    fn write_documents(&self, writes: Vec<DocumentWrite>) -> StoreFuture<'_, Vec<Option<u64>>> {
        Box::pin(async move {
            document::check_writes(&writes)?;
            self.shared.write_documents(&writes).await
        })
    }

    fn documents(&self, query: DocumentQuery) -> StoreFuture<'_, Vec<Document>> {
        Box::pin(async move {
            document::check_kind(query.kind)?;
            self.shared.documents(&query).await
        })
    }
}

/// The maximum number of records that one script deletes.
pub(super) const PRUNED_AT_ONCE: usize = 500;
