//! Calls of scripts: what all handles of a store share, and how tasks come in, are claimed and are recovered.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use parking_lot::Mutex;

use super::answer::{Answer, List};
use super::error::unexpected;
use super::instance::{self, Known};
use super::link::Links;
use super::news::News;
use super::script::{self, Call, Script};
use super::state::State;
use super::{claim, finish, insert, persistence, recover};
use crate::model::{InstanceId, InstanceInfo, StoreError, StoreErrorKind, time};
use crate::store::suspects::Suspects;
use crate::store::{Claim, Finish, InsertBatch, InsertGroup, Recovered};

/// The layout of the keys that this program reads and writes.
const SCHEMA: i64 = 1;

/// What all handles share.
pub(super) struct Shared {
    pub(super) links: Arc<Links>,
    pub(super) news: Arc<News>,
    /// What every key begins with.
    pub(super) prefix: String,
    /// Processes that were named before: what they are called never changes.
    pub(super) known: Mutex<Known>,
    pub(super) tokens: claim::Tokens,
    pub(super) simple: Simple,
    /// The instances that show signs of life by this store.
    pub(super) ours: Mutex<HashSet<InstanceId>>,
    pub(super) suspects: Suspects<Vec<u8>>,
}

/// Whether what is asked for may be simple enough for the scripts on `lean.lua`: where it was not, the next calls do not try.
#[derive(Debug, Default)]
pub(super) struct Simple {
    doubts: AtomicU32,
}

impl Simple {
    fn may_be(&self) -> bool {
        let fewer = |doubts: u32| doubts.checked_sub(1);
        self.doubts.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fewer).is_err()
    }

    fn is_not(&self) {
        self.doubts.store(16, Ordering::Relaxed);
    }
}

impl Shared {
    /// A call that tells nobody.
    pub(super) fn quiet(&self, script: &'static Script) -> Call {
        Call::new(script, &self.prefix, &[])
    }

    /// A call that others may want to know of.
    pub(super) fn loud(&self, script: &'static Script) -> Call {
        Call::new(script, &self.prefix, self.news.stamp())
    }

    pub(super) async fn ask(&self, call: &Call) -> Result<Answer<'_>, StoreError> {
        Ok(Answer { value: self.links.call(call).await?, location: &self.links.location })
    }

    /// Asks, and then tells the listeners of this process.
    pub(super) async fn tell(&self, call: &Call) -> Result<Answer<'_>, StoreError> {
        let answer = self.ask(call).await?;
        self.news.changed();
        Ok(answer)
    }

    pub(super) fn unexpected(&self) -> StoreError {
        unexpected(&self.links.location)
    }

    pub(super) async fn numbers(&self) -> Result<List<'_>, StoreError> {
        self.pairs("counts").await
    }

    /// A hash, as pairs.
    pub(super) async fn pairs(&self, key: &str) -> Result<List<'_>, StoreError> {
        let mut command = redis::cmd("HGETALL");
        command.arg(format!("{}{key}", self.prefix));
        let value = self.links.ask(&command).await?;
        Answer { value, location: &self.links.location }.list()
    }

    pub(super) async fn join(&self, info: &InstanceInfo) -> Result<(), StoreError> {
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

    pub(super) async fn insert(&self, batch: &InsertBatch) -> Result<Vec<insert::Group>, StoreError> {
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

    /// Ends runs. Answers with what `finish.lua` does.
    pub(super) async fn finish(&self, finishes: &[Finish]) -> Result<Vec<u8>, StoreError> {
        if finish::all_well(finishes) && self.simple.may_be() {
            let mut call = self.loud(&script::FINISH_WELL);
            finish::pack_well(&mut call, finishes);
            let answer = self.tell(&call).await?;
            if answer.value != redis::Value::Nil {
                return answer.bytes();
            }
            self.simple.is_not();
        }
        let mut call = self.loud(&script::FINISH);
        finish::pack(&mut call, finishes);
        self.tell(&call).await?.bytes()
    }

    /// Ends runs, if there are any, and makes a claim. Answers with what the scripts of turns or claims do.
    pub(super) async fn turn(&self, finishes: &[Finish], claim: &Claim) -> Result<List<'_>, StoreError> {
        let well = finishes.is_empty() || finish::all_well(finishes);
        if well && claim::is_plain(claim) && self.simple.may_be() {
            let call = if finishes.is_empty() {
                self.quiet(&script::CLAIM_PLAIN)
            } else {
                let mut call = self.loud(&script::TURN_WELL);
                finish::pack_well(&mut call, finishes);
                call
            };
            let answer = self.claim(call, claim).await?;
            if answer.value != redis::Value::Nil {
                self.tell_of(finishes);
                return answer.list();
            }
            self.simple.is_not();
        }
        let call = if finishes.is_empty() {
            self.quiet(&script::CLAIM)
        } else {
            let mut call = self.loud(&script::TURN);
            finish::pack(&mut call, finishes);
            call
        };
        let answer = self.claim(call, claim).await?;
        self.tell_of(finishes);
        answer.list()
    }

    fn tell_of(&self, finishes: &[Finish]) {
        if !finishes.is_empty() {
            self.news.changed();
        }
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

    pub(super) async fn recover(&self) -> Result<Vec<Recovered>, StoreError> {
        if let Err(error) = self.end_leases_of_the_dead().await {
            if error.is_transient() {
                return Err(error);
            }
            // Leases still tell.
            tracing::debug!(%error, "whether other processes live cannot be seen");
        }
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
}
