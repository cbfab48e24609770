//! The store of a test: a memory store from which workers claim tasks only when the test lets them.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

use super::process::Processes;
use super::ran::Drained;
use crate::model::{TaskId, TaskStatus};
use crate::store::{
    Capabilities, Claim, Claims, Finish, FinishKind, Finished, HoldOutcome, InsertBatch, Inserted,
    InsertedAs, MemoryStore, Refusal, Release, Start, Store, StoreFuture, StoreLayer,
};

/// When tasks run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Mode {
    /// When the test says so.
    #[default]
    Manual,
    /// Before their add returns.
    Inline,
    /// As soon as they are due and a slot is free.
    Live,
}

/// A memory store from which workers claim tasks only when the test lets them. A clone is the same store.
#[derive(Clone)]
pub(super) struct GatedStore {
    pub(super) memory: MemoryStore,
    mode: Mode,
    gate: Arc<Mutex<Gate>>,
    /// Counts the ends of runs.
    ended: Arc<watch::Sender<u64>>,
    workers: Arc<Processes>,
}

#[derive(Default)]
struct Gate {
    /// How many more tasks may be claimed.
    left: usize,
    /// Tasks that are to run next, whatever their time and queue.
    wanted: VecDeque<TaskId>,
    drained: Drained,
}

impl GatedStore {
    pub(super) fn new(memory: MemoryStore, mode: Mode, workers: Arc<Processes>) -> Self {
        let gate = Gate { left: if mode == Mode::Live { usize::MAX } else { 0 }, ..Gate::default() };
        let ended = Arc::new(watch::Sender::new(0));
        Self { memory, mode, gate: Arc::new(Mutex::new(gate)), ended, workers }
    }

    /// Whether tasks run as soon as they are due.
    pub(super) fn is_live(&self) -> bool {
        self.mode == Mode::Live
    }

    /// Lets this many tasks be claimed.
    pub(super) fn open(&self, tasks: usize) {
        self.gate.lock().left = tasks;
    }

    /// Undoes [`open`](Self::open), and answers what happened since the gate was closed last.
    pub(super) fn close(&self) -> Drained {
        let mut gate = self.gate.lock();
        gate.left = if self.mode == Mode::Live { usize::MAX } else { 0 };
        std::mem::take(&mut gate.drained)
    }

    /// What happened since the gate was closed last.
    pub(super) fn drained(&self) -> Drained {
        self.gate.lock().drained
    }

    /// Lets this task run next, whatever its time and queue.
    pub(super) fn want(&self, id: TaskId) {
        self.gate.lock().wanted.push_back(id);
    }

    /// Takes back [`want`](Self::want). Answers whether the task had not been claimed yet.
    pub(super) fn unwant(&self, id: TaskId) -> bool {
        let mut gate = self.gate.lock();
        let before = gate.wanted.len();
        gate.wanted.retain(|wanted| *wanted != id);
        gate.wanted.len() < before
    }

    pub(super) fn ends(&self) -> watch::Receiver<u64> {
        self.ended.subscribe()
    }

    async fn claim_gated(&self, mut claim: Claim) -> Result<Claims, crate::model::StoreError> {
        let mut claims = Claims::default();
        let slots = claim.queues.iter().map(|queue| queue.limit).max().unwrap_or(0).min(claim.limit);
        let left = {
            let mut gate = self.gate.lock();
            let mut kept = VecDeque::new();
            while let Some(id) = gate.wanted.pop_front() {
                match (claims.tasks.len() < slots).then(|| self.memory.claim_one(id, &claim)).flatten() {
                    Some(task) => claims.tasks.push(task),
                    None => kept.push_back(id),
                }
            }
            gate.wanted = kept;
            gate.left
        };
        let taken = claims.tasks.len();
        let room = claim.limit.saturating_sub(taken).min(left);
        if room > 0 {
            claim.limit = room;
            claim.prefetch = claim.prefetch.min(room);
            let more = self.memory.claim(claim).await?;
            (claims.next_due, claims.needs_slot) = (more.next_due, more.needs_slot);
            let mut gate = self.gate.lock();
            gate.left = gate.left.saturating_sub(if self.mode == Mode::Live { 0 } else { more.tasks.len() });
            claims.tasks.extend(more.tasks);
        }
        self.gate.lock().drained.started += claims.tasks.len();
        Ok(claims)
    }

    fn count(&self, finishes: &[Finish], answers: &[Finished]) {
        let mut gate = self.gate.lock();
        for (finish, answer) in finishes.iter().zip(answers) {
            let drained = &mut gate.drained;
            match (answer, &finish.kind) {
                (Finished::Applied(TaskStatus::Success), _) => drained.succeeded += 1,
                (Finished::Applied(TaskStatus::Failed), _) => drained.failed += 1,
                (Finished::Applied(TaskStatus::Cancelled), _) => drained.cancelled += 1,
                (Finished::Applied(TaskStatus::Interrupted), _) => drained.interrupted += 1,
                (Finished::Applied(TaskStatus::Pending), FinishKind::Retry { .. }) => drained.retrying += 1,
                (Finished::Applied(TaskStatus::Pending), _) => drained.handed_back += 1,
                (Finished::Stale, _) => drained.stale += 1,
                _ => {}
            }
        }
        drop(gate);
        self.ended.send_modify(|ended| *ended += finishes.len() as u64);
    }

    /// In inline mode, runs these tasks if they are due, and waits until each has ended an attempt.
    async fn run_inline(&self, ids: Vec<TaskId>) {
        if self.mode != Mode::Inline {
            return;
        }
        let mut ends = self.ends();
        let is_due = |id: &TaskId| self.memory.is_due(*id);
        let due = ids.into_iter().filter(is_due);
        let due: Vec<_> = due.map(|id| (id, self.memory.open_attempts(id))).collect();
        due.iter().for_each(|(id, _)| self.want(*id));
        let wake = || self.workers.wake();
        for (id, attempts) in due {
            while attempts.is_some() && self.memory.open_attempts(id) == attempts {
                wake();
                if ends.changed().await.is_err() {
                    return;
                }
            }
            self.unwant(id);
        }
    }
}

impl fmt::Debug for GatedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GatedStore").field("mode", &self.mode).finish_non_exhaustive()
    }
}

impl StoreLayer for GatedStore {
    fn inner(&self) -> &dyn Store {
        &self.memory
    }

    fn capabilities(&self) -> Capabilities {
        let mut capabilities = self.memory.capabilities();
        // A release waits for its task to run, so it must not be part of the turn that starts the task.
        capabilities.releases_in_turns = false;
        if self.mode == Mode::Inline {
            // An add waits for its task, and that task may add others: no two adds may share a write.
            capabilities.inserts_at_once = usize::MAX;
            capabilities.max_batch = 1;
        }
        capabilities
    }

    fn insert(&self, batch: Arc<InsertBatch>) -> StoreFuture<'_, Vec<Result<Vec<Inserted>, Refusal>>> {
        Box::pin(async move {
            let batch = match self.mode {
                Mode::Live => batch,
                Mode::Manual | Mode::Inline => {
                    let mut waiting = (*batch).clone();
                    let tasks = waiting.groups.iter_mut().flat_map(|group| &mut group.tasks);
                    tasks.filter(|task| task.start != Start::Hold).for_each(|task| task.start = Start::Wait);
                    Arc::new(waiting)
                }
            };
            let answers = self.memory.insert(batch).await?;
            let new = answers.iter().flatten().flatten();
            let pending = new.filter(|it| matches!(it.kind, InsertedAs::Pending | InsertedAs::Replaced));
            self.run_inline(pending.map(|it| it.id).collect()).await;
            Ok(answers)
        })
    }

    fn release(&self, releases: Arc<Vec<Release>>) -> StoreFuture<'_, Vec<bool>> {
        Box::pin(async move {
            let answer = self.memory.release(releases.clone()).await?;
            let run = releases.iter().filter(|release| release.outcome == HoldOutcome::Run);
            self.run_inline(run.map(|release| release.hold.id).collect()).await;
            Ok(answer)
        })
    }

    fn claim(&self, claim: Claim) -> StoreFuture<'_, Claims> {
        Box::pin(self.claim_gated(claim))
    }

    fn finish(&self, finishes: Arc<Vec<Finish>>) -> StoreFuture<'_, Vec<Finished>> {
        Box::pin(async move {
            let answers = self.memory.finish(finishes.clone()).await?;
            self.count(&finishes, &answers);
            Ok(answers)
        })
    }

    fn turn(&self, finishes: Arc<Vec<Finish>>, claim: Claim) -> StoreFuture<'_, (Vec<Finished>, Claims)> {
        Box::pin(async move {
            let finished = StoreLayer::finish(self, finishes).await?;
            Ok((finished, self.claim_gated(claim).await?))
        })
    }
}
