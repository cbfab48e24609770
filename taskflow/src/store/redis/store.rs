//! The store: calls of the contract become calls of scripts.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use uuid::Uuid;

use super::answer::{Answer, List};
use super::error::unexpected;
use super::instance::{self, Known};
use super::link::Links;
use super::news::News;
use super::script::{self, Call, Script};
use super::state::{State, exact, status_of};
use super::{claim, finish, insert, list, numbers, persistence, record, recover, url};
use crate::model::{
    CancelOutcome, Counts, Error, InstanceId, InstanceInfo, LogLine, Page, QueueInfo, StoreError,
    StoreErrorKind, TaskFilter, TaskId, TaskRecord, time,
};
use crate::store::{
    Claim, Claims, Finish, Finished, Fire, Fired, HintStream, InsertBatch, InsertGroup, Inserted, Recovered,
    Refusal, Release, Renewal, Renewed, Report, Run, ScheduleState, Store, StoreFuture, Verdict,
};

/// The layout of the keys that this program reads and writes.
const SCHEMA: i64 = 1;

/// The store on a Redis server, version 7 or later, or Valkey.
///
/// A cheap handle: clones share connections, which are made when they are first needed and again when they broke. Any
/// number of processes on any machines may use it at once. All keys begin with `{taskflow:NAMESPACE}:`, so a cluster
/// keeps a namespace on one node; name that node.
///
/// # What an accepted task survives
///
/// What the server's settings say, and no more: Redis answers from memory.
///
/// | `redis.conf` | the server is killed | the machine loses power |
/// |---|---|---|
/// | `appendonly yes`, `appendfsync always` | nothing is lost | nothing is lost |
/// | `appendonly yes`, `appendfsync everysec` (the default with `appendonly`) | nothing is lost | up to two seconds are lost |
/// | `appendonly no` with `save` (what packages install) | all since the last snapshot is lost | the same |
/// | `appendonly no`, `save ""` | everything is lost | everything is lost |
///
/// A failover to a replica loses what had not been copied yet. `maxmemory-policy` must be `noeviction`, which is the
/// default. When a process joins a server that keeps too little it says so in the log.
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

/// What all handles share.
struct Shared {
    links: Arc<Links>,
    news: Arc<News>,
    /// What every key begins with.
    prefix: String,
    /// Processes that were named before: what they are called never changes.
    known: Mutex<Known>,
    tokens: claim::Tokens,
}

impl RedisStore {
    /// The store of a URL `redis://[user:password@]host[:port][/database][?namespace=NAME]`. Nothing is connected yet.
    ///
    /// # Errors
    /// [`Error::StoreUrl`] for a URL that cannot be used.
    pub fn open(url: impl AsRef<str>) -> Result<Self, Error> {
        let url = url.as_ref();
        let place = url::parse(url)
            .map_err(|message| Error::StoreUrl { url: crate::store::url::without_password(url), message })?;
        let prefix = format!("{{taskflow:{}}}:", place.namespace);
        let links = Arc::new(Links::new(place.client, place.location));
        let voice = *Uuid::now_v7().as_bytes();
        let news = Arc::new(News::new(Arc::clone(&links), format!("{prefix}news"), voice));
        let tokens = claim::Tokens::new(voice);
        Ok(Self { shared: Arc::new(Shared { links, news, prefix, known: Mutex::default(), tokens }) })
    }
}

impl Shared {
    /// A call that tells nobody.
    fn quiet(&self, script: &'static Script) -> Call {
        Call::new(script, &self.prefix, &[])
    }

    /// A call that others may want to know of.
    fn loud(&self, script: &'static Script) -> Call {
        Call::new(script, &self.prefix, self.news.stamp())
    }

    async fn ask(&self, call: &Call) -> Result<Answer<'_>, StoreError> {
        Ok(Answer { value: self.links.call(call).await?, location: &self.links.location })
    }

    /// Asks, and then tells the listeners of this process.
    async fn tell(&self, call: &Call) -> Result<Answer<'_>, StoreError> {
        let answer = self.ask(call).await?;
        self.news.changed();
        Ok(answer)
    }

    fn unexpected(&self) -> StoreError {
        unexpected(&self.links.location)
    }

    async fn numbers(&self) -> Result<List<'_>, StoreError> {
        self.pairs("counts").await
    }

    /// A hash, as pairs.
    async fn pairs(&self, key: &str) -> Result<List<'_>, StoreError> {
        let mut command = redis::cmd("HGETALL");
        command.arg(format!("{}{key}", self.prefix));
        let value = self.links.ask(&command).await?;
        Answer { value, location: &self.links.location }.list()
    }

    async fn join(&self, info: &InstanceInfo) -> Result<(), StoreError> {
        let mut call = self.quiet(&script::JOIN);
        call.arg(info.id.as_bytes()).arg(instance::pack(info));
        call.arg(time::micros(instance::BELIEVED)).arg(SCHEMA);
        let schema = self.ask(&call).await?.number()?;
        if schema > 0 {
            let message = format!(
                "`{}` was written by a newer taskflow (schema {schema}, this one knows {SCHEMA}); update this program",
                self.links.location
            );
            return Err(StoreError::new(StoreErrorKind::NewerSchema, message));
        }
        persistence::warn_if_off(&self.links).await;
        Ok(())
    }

    async fn insert(&self, batch: &InsertBatch) -> Result<Vec<insert::Group>, StoreError> {
        let mut answers = Vec::with_capacity(batch.groups.len());
        for groups in insert::portions(&batch.groups) {
            if let Some(inserted) = self.insert_plain(batch, groups).await? {
                answers.extend(inserted);
                continue;
            }
            let mut call = self.loud(&script::INSERT);
            insert::pack(&mut call, batch.instance, batch, groups);
            let answer = self.tell(&call).await?.bytes()?;
            answers.extend(insert::unpack(&answer, groups).ok_or_else(|| self.unexpected())?);
        }
        Ok(answers)
    }

    /// Inserts groups that are all plain; `None`, and nothing done, if they are not or were inserted before.
    async fn insert_plain(
        &self,
        batch: &InsertBatch,
        groups: &[InsertGroup],
    ) -> Result<Option<Vec<insert::Group>>, StoreError> {
        if !insert::all_plain(groups) {
            return Ok(None);
        }
        let mut call = self.loud(&script::INSERT_PLAIN);
        insert::pack_plain(&mut call, batch, groups);
        let answer = self.tell(&call).await?;
        if answer.value == redis::Value::Nil {
            return Ok(None);
        }
        insert::unpack(&answer.bytes()?, groups).map(Some).ok_or_else(|| self.unexpected())
    }

    async fn fire(&self, fire: &Fire) -> Result<Fired, StoreError> {
        let mut call = self.loud(&script::FIRE);
        call.arg(&fire.schedule).arg(exact(time::to_micros(fire.tick)));
        let groups = fire.batch.as_ref().map_or(&[][..], |batch| &batch.groups);
        if let Some(batch) = &fire.batch {
            insert::pack(&mut call, batch.instance, batch, groups);
        }
        let answer = self.tell(&call).await?;
        if answer.value == redis::Value::Nil {
            return Ok(Fired::Before);
        }
        let mut answers = insert::unpack(&answer.bytes()?, groups).ok_or_else(|| self.unexpected())?;
        Ok(match answers.pop() {
            Some(Ok(mut inserted)) => inserted.pop().map_or(Fired::Passed, Fired::Inserted),
            Some(Err(refusal)) => Fired::Refused(refusal),
            None => Fired::Passed,
        })
    }

    /// Makes a claim with this call.
    async fn claim(&self, mut call: Call, claim: &Claim) -> Result<Answer<'_>, StoreError> {
        let mut lost = self.tokens.take_lost(claim.instance);
        while let Some(token) = lost.pop() {
            let mut unclaim = self.loud(&script::UNCLAIM);
            unclaim.arg(claim.instance.as_bytes()).arg(&token[..]);
            if let Err(error) = self.ask(&unclaim).await {
                lost.push(token);
                lost.into_iter().for_each(|token| self.tokens.lost(claim.instance, token));
                return Err(error);
            }
        }
        let token = self.tokens.next();
        claim::pack(&mut call, claim, token);
        let answer = self.ask(&call).await;
        if let Err(error) = &answer
            && error.kind() == StoreErrorKind::Unknown
        {
            self.tokens.lost(claim.instance, token);
        }
        answer
    }

    async fn recover(&self) -> Result<Vec<Recovered>, StoreError> {
        loop {
            let mut look = self.quiet(&script::EXPIRED);
            look.arg(recover::RECOVERED_AT_ONCE);
            let mut lost = self.ask(&look).await?.list()?;
            if lost.is_empty() {
                return Ok(Vec::new());
            }
            let (mut call, mut decided) = (self.loud(&script::LOSE), Vec::new());
            while !lost.is_empty() {
                let (id, state) = (lost.task_id()?, lost.bytes()?);
                let state = State::unpack(&state).ok_or_else(|| self.unexpected())?;
                decided.push(recover::decide(&mut call, id, &state));
            }
            let applied = self.tell(&call).await?.bytes()?;
            let mut applied = applied.iter().map(|answer| *answer == b'1');
            decided.retain(|_| applied.next().unwrap_or(false));
            // Where others were faster with all of them, there may be more.
            if !decided.is_empty() {
                return Ok(decided);
            }
        }
    }

    async fn records(&self, ids: &[TaskId]) -> Result<Vec<TaskRecord>, StoreError> {
        let mut call = self.quiet(&script::GET);
        for id in ids {
            call.arg(id.as_bytes());
        }
        let mut records = record::unpack(self.ask(&call).await?.list()?)?;
        let mut strangers = instance::named_in(&records);
        {
            let known = self.known.lock();
            strangers.retain(|id| !known.contains_key(id));
        }
        if !strangers.is_empty() {
            self.learn(&strangers).await?;
        }
        record::name_processes(&mut records, &self.known.lock());
        Ok(records)
    }

    async fn learn(&self, strangers: &[InstanceId]) -> Result<(), StoreError> {
        let mut command = redis::cmd("HMGET");
        command.arg(format!("{}instance", self.prefix));
        for id in strangers {
            command.arg(id.as_bytes());
        }
        let value = self.links.ask(&command).await?;
        let mut entries = Answer { value, location: &self.links.location }.list()?;
        let mut known = self.known.lock();
        if known.len() > instance::REMEMBERED {
            known.clear();
        }
        for id in strangers {
            known.extend(entries.option()?.and_then(|json| instance::name(&json)).map(|name| (*id, name)));
        }
        Ok(())
    }

    async fn list(&self, filter: &TaskFilter) -> Result<Page<TaskRecord>, StoreError> {
        let limit = filter.limit.clamp(1, TaskFilter::MAX_LIMIT);
        let counts = if filter.statuses.is_empty() {
            Counts::default()
        } else {
            numbers::counts(self.numbers().await?)?
        };
        let sources = list::sources(filter, &counts);
        let mut page = Page::new(Vec::new(), filter.after);
        loop {
            let before = page.next.map(|cursor| cursor.id());
            let wanted = limit - page.items.len();
            let mut call = self.quiet(&script::FIND);
            list::pack(&mut call, filter, &sources, before, wanted);
            let found = list::unpack(self.ask(&call).await?.list()?, before, wanted)?;
            page.next = found.next;
            if !found.ids.is_empty() {
                // A task may have moved on since it was found.
                let records = self.records(&found.ids).await?;
                page.items.extend(records.into_iter().filter(|record| filter.matches(record)));
            }
            if page.next.is_none() || page.items.len() >= limit {
                return Ok(page);
            }
        }
    }

    async fn cancel(&self, ids: &[TaskId], reason: &str) -> Result<Vec<CancelOutcome>, StoreError> {
        let mut call = self.loud(&script::CANCEL);
        call.arg(reason);
        for id in ids {
            call.arg(id.as_bytes());
        }
        let answers = self.tell(&call).await?.bytes()?;
        let outcome = |answer: &u8| match answer {
            b'c' => CancelOutcome::Cancelled,
            b'r' => CancelOutcome::Requested,
            b'e' => CancelOutcome::AlreadyFinished,
            _ => CancelOutcome::NotFound,
        };
        Ok(answers.iter().map(outcome).collect())
    }

    async fn retry(&self, ids: &[TaskId]) -> Result<Vec<Result<(), Error>>, StoreError> {
        let mut call = self.loud(&script::RETRY);
        for id in ids {
            call.arg(id.as_bytes());
        }
        let mut answers = self.tell(&call).await?.list()?;
        let mut outcomes = Vec::with_capacity(ids.len());
        for &id in ids {
            let answer = answers.bytes()?;
            outcomes.push(match answer.split_first() {
                Some((b'y', _)) => Ok(()),
                Some((b's', stage)) => {
                    let stage = stage.first().map_or(0, |digit| digit.saturating_sub(b'0'));
                    Err(Error::NotRetryable { id, status: status_of(stage) })
                }
                Some((b'k', holder)) => {
                    let holder = super::answer::id(holder).ok_or_else(|| self.unexpected())?;
                    Err(Error::KeyTaken { id, holder: TaskId::from_bytes(holder) })
                }
                _ => Err(Error::NotFound { id }),
            });
        }
        Ok(outcomes)
    }
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore").field("location", &self.shared.links.location).finish_non_exhaustive()
    }
}

impl Store for RedisStore {
    fn location(&self) -> String {
        self.shared.links.location.clone()
    }

    fn join<'a>(&'a self, instance: &'a InstanceInfo) -> StoreFuture<'a, ()> {
        Box::pin(self.shared.join(instance))
    }

    fn leave(&self, instance: InstanceId) -> StoreFuture<'_, ()> {
        Box::pin(async move {
            let mut call = self.shared.loud(&script::LEAVE);
            call.arg(instance.as_bytes());
            self.shared.tell(&call).await.map(drop)
        })
    }

    fn insert(&self, batch: Arc<InsertBatch>) -> StoreFuture<'_, Vec<Result<Vec<Inserted>, Refusal>>> {
        Box::pin(async move { self.shared.insert(&batch).await })
    }

    fn claim(&self, claim: Claim) -> StoreFuture<'_, Claims> {
        Box::pin(async move {
            let call = self.shared.quiet(&script::CLAIM);
            claim::unpack(self.shared.claim(call, &claim).await?.list()?, &claim)
        })
    }

    fn finish(&self, finishes: Arc<Vec<Finish>>) -> StoreFuture<'_, Vec<Finished>> {
        Box::pin(async move {
            if finishes.is_empty() {
                return Ok(Vec::new());
            }
            let well = finish::all_well(&finishes);
            let mut call = self.shared.loud(if well { &script::FINISH_WELL } else { &script::FINISH });
            finish::pack(&mut call, &finishes);
            let answer = self.shared.tell(&call).await?.bytes()?;
            finish::unpack(&answer, finishes.len()).ok_or_else(|| self.shared.unexpected())
        })
    }

    fn turn(&self, finishes: Arc<Vec<Finish>>, claim: Claim) -> StoreFuture<'_, (Vec<Finished>, Claims)> {
        Box::pin(async move {
            let well = finish::all_well(&finishes);
            let mut call = self.shared.loud(if well { &script::TURN_WELL } else { &script::TURN });
            finish::pack(&mut call, &finishes);
            let mut answer = self.shared.claim(call, &claim).await?.list()?;
            self.shared.news.changed();
            let finished = finish::unpack(&answer.bytes()?, finishes.len());
            Ok((finished.ok_or_else(|| self.shared.unexpected())?, claim::unpack(answer, &claim)?))
        })
    }

    fn release(&self, releases: Arc<Vec<Release>>) -> StoreFuture<'_, Vec<bool>> {
        Box::pin(async move {
            let mut call = self.shared.loud(&script::RELEASE);
            for release in releases.iter() {
                let (cancel, reason) = match &release.verdict {
                    Verdict::Run => (0, ""),
                    Verdict::Cancel { reason } => (1, reason.as_str()),
                };
                call.arg(release.hold.id.as_bytes()).arg(release.hold.fence).arg(cancel).arg(reason);
            }
            let answer = self.shared.tell(&call).await?.bytes()?;
            Ok(answer.iter().map(|answer| *answer == b'1').collect())
        })
    }

    fn report(&self, reports: Arc<Vec<Report>>) -> StoreFuture<'_, Vec<bool>> {
        Box::pin(async move {
            let mut call = self.shared.quiet(&script::REPORT);
            for report in reports.iter() {
                finish::pack_report(&mut call, report);
            }
            let answer = self.shared.ask(&call).await?.bytes()?;
            Ok(answer.iter().map(|answer| *answer == b'1').collect())
        })
    }

    fn renew(&self, renewal: Renewal) -> StoreFuture<'_, Renewed> {
        Box::pin(async move {
            let mut call = self.shared.quiet(&script::RENEW);
            call.arg(renewal.instance.as_bytes()).arg(exact(time::micros(renewal.lease)));
            call.arg(exact(time::micros(instance::BELIEVED.max(renewal.lease * 2))));
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

    fn asked_to_stop(&self, instance: InstanceId) -> StoreFuture<'_, Vec<Run>> {
        Box::pin(async move {
            let mut call = self.shared.quiet(&script::STOPPING);
            call.arg(instance.as_bytes());
            let mut answer = self.shared.ask(&call).await?.list()?;
            let mut runs = Vec::with_capacity(answer.len() / 2);
            while !answer.is_empty() {
                runs.push(Run::new(answer.task_id()?, u64::try_from(answer.number()?).unwrap_or(0)));
            }
            Ok(runs)
        })
    }

    fn recover(&self, _by: InstanceId) -> StoreFuture<'_, Vec<Recovered>> {
        Box::pin(self.shared.recover())
    }

    fn next_wakeup(
        &self,
        names: Arc<[Arc<str>]>,
        queues: Vec<Arc<str>>,
    ) -> StoreFuture<'_, Option<Duration>> {
        Box::pin(async move {
            let mut call = self.shared.quiet(&script::WAKEUP);
            call.list(names.iter().map(|name| &**name));
            call.list(queues.iter().map(|queue| &**queue));
            Ok(claim::due_in(self.shared.ask(&call).await?.number()?))
        })
    }

    fn listen(&self) -> HintStream {
        self.shared.news.listen()
    }

    fn get(&self, id: TaskId) -> StoreFuture<'_, Option<TaskRecord>> {
        Box::pin(async move { Ok(self.shared.records(&[id]).await?.pop()) })
    }

    fn logs(&self, id: TaskId) -> StoreFuture<'_, Option<Vec<LogLine>>> {
        Box::pin(async move {
            let mut call = self.shared.quiet(&script::LOGS);
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
        Box::pin(async move { self.shared.list(&filter).await })
    }

    fn counts(&self) -> StoreFuture<'_, Counts> {
        Box::pin(async move { numbers::counts(self.shared.numbers().await?) })
    }

    fn queues(&self) -> StoreFuture<'_, Vec<QueueInfo>> {
        Box::pin(async move { numbers::queues(self.shared.numbers().await?) })
    }

    fn instances(&self) -> StoreFuture<'_, Vec<InstanceInfo>> {
        Box::pin(async move {
            let call = self.shared.quiet(&script::INSTANCES);
            instance::unpack(self.shared.ask(&call).await?.list()?)
        })
    }

    fn cancel(&self, ids: Vec<TaskId>, reason: String) -> StoreFuture<'_, Vec<CancelOutcome>> {
        Box::pin(async move { self.shared.cancel(&ids, &reason).await })
    }

    fn cancel_scheduled(&self, run_key: String) -> StoreFuture<'_, Vec<TaskId>> {
        Box::pin(async move {
            let mut call = self.shared.loud(&script::CANCEL_SCHEDULED);
            call.arg(run_key);
            let mut answer = self.shared.tell(&call).await?.list()?;
            (0..answer.len()).map(|_| answer.task_id()).collect()
        })
    }

    fn retry(&self, ids: Vec<TaskId>) -> StoreFuture<'_, Vec<Result<(), Error>>> {
        Box::pin(async move { self.shared.retry(&ids).await })
    }

    fn delete(&self, ids: Vec<TaskId>) -> StoreFuture<'_, usize> {
        Box::pin(async move {
            let mut call = self.shared.quiet(&script::DELETE);
            for id in &ids {
                call.arg(id.as_bytes());
            }
            let deleted = self.shared.ask(&call).await?.number()?;
            Ok(usize::try_from(deleted).unwrap_or(0))
        })
    }

    fn set_paused(&self, queue: String, paused: bool) -> StoreFuture<'_, ()> {
        Box::pin(async move {
            let mut call = self.shared.loud(&script::PAUSE);
            call.arg(queue).arg(u8::from(paused));
            self.shared.tell(&call).await.map(drop)
        })
    }

    fn fire(&self, fire: Fire) -> StoreFuture<'_, Fired> {
        Box::pin(async move { self.shared.fire(&fire).await })
    }

    fn schedules(&self) -> StoreFuture<'_, Vec<ScheduleState>> {
        Box::pin(async move {
            let mut answer = self.shared.pairs("ticks").await?;
            let mut schedules = Vec::with_capacity(answer.len() / 2);
            while !answer.is_empty() {
                schedules.push(ScheduleState {
                    name: answer.text()?,
                    last_tick: Some(time::from_micros(answer.number()?)),
                    ..ScheduleState::default()
                });
            }
            schedules.sort_unstable_by(|a, b| a.name.cmp(&b.name));
            Ok(schedules)
        })
    }

    fn queue_states(&self) -> StoreFuture<'_, Vec<crate::store::QueueState>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn set_queue(&self, _queue: String, _config: Option<crate::model::QueueConfig>) -> StoreFuture<'_, ()> {
        Box::pin(async { Ok(()) })
    }

    fn set_schedule(
        &self,
        _schedule: String,
        _change: crate::store::ScheduleChange,
    ) -> StoreFuture<'_, bool> {
        Box::pin(async { Ok(false) })
    }

    fn prune(&self, retention: Duration, limit: usize) -> StoreFuture<'_, usize> {
        Box::pin(async move {
            let mut pruned = 0;
            // In portions, since a script stops everybody else while it runs.
            while pruned < limit {
                let portion = (limit - pruned).min(PRUNED_AT_ONCE);
                let mut call = self.shared.quiet(&script::PRUNE);
                call.arg(exact(time::micros(retention))).arg(portion);
                let now = usize::try_from(self.shared.ask(&call).await?.number()?).unwrap_or(0);
                pruned += now;
                if now < portion {
                    break;
                }
            }
            Ok(pruned)
        })
    }
}

/// The most records that one script deletes.
const PRUNED_AT_ONCE: usize = 500;
