//! Calls of scripts: what all handles of a store share, and how tasks come in, are claimed and are recovered.

use std::sync::Arc;

use parking_lot::Mutex;

use super::answer::{Answer, List};
use super::error::unexpected;
use super::instance::{self, Known};
use super::link::Links;
use super::news::News;
use super::script::{self, Call, Script};
use super::state::State;
use super::{claim, finish, insert, persistence, recover};
use crate::model::{InstanceInfo, StoreError, StoreErrorKind, time};
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

    /// A call that begins with these ends: of the script for any, or of the one where all ended well.
    pub(super) fn finish(&self, finishes: &[Finish], any: &'static Script, well: &'static Script) -> Call {
        if finish::all_well(finishes) {
            let mut call = self.loud(well);
            finish::pack_well(&mut call, finishes);
            call
        } else {
            let mut call = self.loud(any);
            finish::pack(&mut call, finishes);
            call
        }
    }

    /// Makes a claim with this call.
    pub(super) async fn claim(&self, mut call: Call, claim: &Claim) -> Result<Answer<'_>, StoreError> {
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
