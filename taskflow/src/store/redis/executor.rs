//! Executes scripts: the state that all handles of a store share, and how tasks are added, claimed and recovered.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use uuid::Uuid;

use super::answer::{Answer, List};
use super::apply;
use super::claim::{PackedQueues, Unconfirmed};
use super::connection::Connections;
use super::damage::{Damaged, Repairs};
use super::error::{self, unexpected};
use super::instance::{self, Known};
use super::notifications::Notifications;
use super::packed_row::PackedRow;
use super::recover::{self, Found};
use super::script::{self, Call, Script};
use super::{claim, finish, insert, server};
use crate::model::{InstanceId, InstanceInfo, StoreError, StoreErrorKind, time};
use crate::store::fingerprint;
use crate::store::hint_set::HintSet;
use crate::store::suspects::Suspects;
use crate::store::{Claim, Claims, Finish, InsertBatch, InsertGroup, Recovered};

/// The layout of the keys that this program reads and writes. Until the first release no layout is brought up to date.
const SCHEMA: i64 = 3;

/// The state that all handles of a store share.
pub(super) struct Shared {
    pub(super) connections: Arc<Connections>,
    pub(super) notifications: Arc<Notifications>,
    /// The beginning of every key.
    pub(super) prefix: String,
    /// Host and process id of instances that were looked up before. They never change.
    pub(super) known: Mutex<Known>,
    pub(super) unconfirmed: claim::UnconfirmedClaims,
    pub(super) simple: FastScripts,
    /// Whether a claim through this store value was from a queue with limits over all processes.
    pub(super) has_limits: AtomicBool,
    /// The queues of the last claim.
    pub(super) queues: Mutex<Option<Arc<PackedQueues>>>,
    /// This process's instances whose liveness is shown through this store.
    pub(super) ours: Mutex<HashSet<InstanceId>>,
    pub(super) suspects: Suspects<Vec<u8>>,
    pub(super) repairs: Repairs,
    /// A reference to itself, for tasks that a call spawns.
    pub(super) this: Weak<Shared>,
}

/// Whether the next calls should try the fast scripts (those built on `prelude_fast.lua`). After a call that was not
/// simple enough for them, the next 16 calls that could try them do not.
#[derive(Debug, Default)]
pub(super) struct FastScripts {
    doubts: AtomicU32,
}

impl FastScripts {
    fn may_be(&self) -> bool {
        let fewer = |doubts: u32| doubts.checked_sub(1);
        self.doubts.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fewer).is_err()
    }

    fn is_not(&self) {
        self.doubts.store(16, Ordering::Relaxed);
    }
}

impl Shared {
    /// A call that notifies nobody.
    pub(super) fn silent(&self, script: &'static Script) -> Call {
        Call::new(script, &self.prefix, &[])
    }

    /// A call that tells other processes what it changes.
    pub(super) fn notifying(&self, script: &'static Script, changes: HintSet) -> Call {
        let mut call = Call::new(script, &self.prefix, self.notifications.stamp(changes));
        call.changes = changes;
        call
    }

    /// What the end of runs changes. Where there are limits over all processes, other tasks may start then.
    fn changed_by_ends(&self) -> HintSet {
        if self.has_limits.load(Ordering::Relaxed) { HintSet::ALL } else { HintSet::ENDS }
    }

    /// Calls the script, and then tells the listeners of this process what it changed.
    pub(super) async fn call_and_notify(&self, call: &Call) -> Result<Answer<'_>, StoreError> {
        let answer = self.ask(call).await?;
        self.notifications.changed(call.changes);
        Ok(answer)
    }

    pub(super) fn unexpected(&self) -> StoreError {
        unexpected(&self.connections.location)
    }

    pub(super) async fn numbers(&self) -> Result<List<'_>, StoreError> {
        self.ask(&self.silent(&script::COUNTS)).await?.list()
    }

    pub(super) async fn join(&self, info: &InstanceInfo) -> Result<(), StoreError> {
        self.try_rights().await?;
        server::check_eviction(&self.connections, info.runs).await?;
        let mut call = self.silent(&script::JOIN);
        call.arg(info.id.as_bytes()).arg(instance::pack(info));
        call.arg(time::micros(instance::ALIVE_AFTER_SEEN)).arg(SCHEMA).arg(u8::from(info.runs));
        self.check_schema(self.ask(&call).await?.number()?)?;
        server::warn_if_it_forgets(&self.connections).await;
        Ok(())
    }

    /// Notes the layout of the keys in an empty namespace. There is nothing else to make.
    pub(super) async fn migrate(&self) -> Result<(), StoreError> {
        self.try_rights().await?;
        let mut call = self.silent(&script::MIGRATE);
        let schema = self.ask(call.arg(SCHEMA)).await?.number()?;
        self.check_schema(schema)
    }

    /// Refuses an empty namespace, and keys of another layout. Writes nothing.
    pub(super) async fn require(&self) -> Result<(), StoreError> {
        let mut call = self.silent(&script::SCHEMA);
        let schema = self.ask(call.arg(SCHEMA)).await?.number()?;
        self.check_schema(schema)
    }

    /// Reads the answer of a script that looks at the layout: 0 if it is ours, -1 if there is none, else the number of
    /// the stored layout.
    fn check_schema(&self, schema: i64) -> Result<(), StoreError> {
        if schema < 0 {
            return Err(fingerprint::missing(&format!("`{}`", self.connections.location)));
        }
        if (1..SCHEMA).contains(&schema) {
            return Err(fingerprint::refused(&format!("`{}`", self.connections.location)));
        }
        if schema > 0 {
            let message = format!(
                "`{}` was written by a newer taskflow (schema {schema}, this one knows {SCHEMA}); update this program",
                self.connections.location
            );
            return Err(StoreError::new(StoreErrorKind::NewerSchema, message));
        }
        Ok(())
    }

    /// Does what the scripts do, once, so that a missing right of the user is reported now and not by the first add.
    async fn try_rights(&self) -> Result<(), StoreError> {
        let call = Call::new(&script::PROBE, &self.prefix, self.notifications.message(HintSet::NONE));
        let answer = self.ask(&call).await?;
        if answer.value == redis::Value::Nil {
            return Ok(());
        }
        let refusal = answer.bytes()?;
        Err(error::refused(&String::from_utf8_lossy(&refusal), &self.connections.location))
    }

    pub(super) async fn insert(&self, batch: &InsertBatch) -> Result<Vec<insert::Group>, StoreError> {
        if let Some(field) = insert::inexact(&batch.groups) {
            let message =
                format!("`{field}` is beyond the year 2255: Redis cannot store later instants exactly");
            return Err(StoreError::new(StoreErrorKind::Other, message));
        }
        let mut answers = Vec::with_capacity(batch.groups.len());
        for groups in insert::portions(&batch.groups) {
            match self.insert_portion(batch, groups).await {
                Ok(inserted) => answers.extend(inserted),
                // The groups of the earlier portions are stored, so this must not be reported as a failure of all.
                Err(error) if !answers.is_empty() => {
                    return Err(StoreError::with_source(StoreErrorKind::Unknown, error.to_string(), error));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(answers)
    }

    async fn insert_portion(
        &self,
        batch: &InsertBatch,
        groups: &[InsertGroup],
    ) -> Result<Vec<insert::Group>, StoreError> {
        if let Some(inserted) = self.insert_plain(batch, groups).await? {
            return Ok(inserted);
        }
        let mut call = self.notifying(&script::INSERT, HintSet::ALL);
        insert::pack(&mut call, batch.instance, batch, groups);
        let answer = if insert::is_large(groups) {
            self.insert_staged(&call).await
        } else {
            self.call_and_notify(&call).await
        };
        insert::unpack(&answer?.bytes()?, groups).ok_or_else(|| self.unexpected())
    }

    /// Sends the arguments of an insert in portions, and has them inserted by one script: all of them or none.
    async fn insert_staged(&self, insert: &Call) -> Result<Answer<'_>, StoreError> {
        let stage = Uuid::now_v7().into_bytes();
        let arguments = insert.arguments();
        let mut staged = 0;
        for some in insert::stages(&arguments) {
            let mut call = self.silent(&script::STAGE);
            call.arg(&stage[..]).arg(staged);
            for argument in some {
                call.arg(*argument);
            }
            let answer = self.ask(&call).await.map_err(not_stored)?;
            if answer.bytes()? != b"1" {
                return Err(self.stage_is_gone());
            }
            staged += some.len();
        }
        let mut call = self.notifying(&script::INSERT_STAGED, HintSet::ALL);
        // It inserts everything in one script.
        call.patience = Duration::from_secs(60);
        call.arg(&stage[..]).arg(staged);
        let answer = self.call_and_notify(&call).await?;
        if answer.value == redis::Value::Nil { Err(self.stage_is_gone()) } else { Ok(answer) }
    }

    fn stage_is_gone(&self) -> StoreError {
        let location = &self.connections.location;
        let message = format!("`{location}` lost a part of a large insert; nothing was stored, try again");
        StoreError::new(StoreErrorKind::Unavailable, message)
    }

    /// Inserts groups by the script for simple cases. Answers `None`, and has done nothing, if a group is not plain
    /// ([`insert::all_plain`]), if an id exists already or comes twice, or if a task is to start while others must
    /// first come due.
    async fn insert_plain(
        &self,
        batch: &InsertBatch,
        groups: &[InsertGroup],
    ) -> Result<Option<Vec<insert::Group>>, StoreError> {
        if !insert::all_plain(groups) {
            return Ok(None);
        }
        let mut call = self.notifying(&script::INSERT_PLAIN, insert::changes(groups));
        insert::pack_plain(&mut call, batch, groups);
        let answer = self.call_and_notify(&call).await?;
        if answer.value == redis::Value::Nil {
            return Ok(None);
        }
        insert::unpack(&answer.bytes()?, groups).map(Some).ok_or_else(|| self.unexpected())
    }

    /// Ends runs. The answer has the form that `finish.lua` describes.
    pub(super) async fn finish(&self, finishes: &[Finish]) -> Result<Vec<u8>, StoreError> {
        if finish::are_all_successes(finishes) && self.simple.may_be() {
            let mut call = self.notifying(&script::FINISH_SUCCESS, self.changed_by_ends());
            finish::pack_successes(&mut call, finishes);
            let answer = self.call_and_notify(&call).await?;
            if answer.value != redis::Value::Nil {
                return answer.bytes();
            }
            self.simple.is_not();
        }
        let mut call = self.notifying(&script::FINISH, HintSet::ALL);
        finish::pack(&mut call, finishes);
        self.call_and_notify(&call).await?.bytes()
    }

    /// Ends runs, if there are any, and makes a claim. The answer is that of a turn script, or of a claim script if
    /// there are no runs to end.
    pub(super) async fn turn(
        &self,
        finishes: &[Finish],
        claim: &Claim,
    ) -> Result<(List<'_>, Unconfirmed<'_>), StoreError> {
        let well = finishes.is_empty() || finish::are_all_successes(finishes);
        let queues = self.packed_queues(claim);
        if queues.are_limited() {
            self.has_limits.store(true, Ordering::Relaxed);
        }
        if well && queues.are_plain(claim) && self.simple.may_be() {
            let call = if finishes.is_empty() {
                self.silent(&script::CLAIM_PLAIN)
            } else {
                let mut call = self.notifying(&script::TURN_SUCCESS, self.changed_by_ends());
                finish::pack_successes(&mut call, finishes);
                call
            };
            let changes = call.changes;
            let (answer, unconfirmed) = self.claim(call, claim, &queues).await?;
            if answer.value != redis::Value::Nil {
                self.notifications.changed(changes);
                return Ok((answer.list()?, unconfirmed));
            }
            unconfirmed.confirm();
            self.simple.is_not();
        }
        let call = if finishes.is_empty() {
            self.silent(&script::CLAIM)
        } else {
            let mut call = self.notifying(&script::TURN, HintSet::ALL);
            finish::pack(&mut call, finishes);
            call
        };
        let changes = call.changes;
        let (answer, unconfirmed) = self.claim(call, claim, &queues).await?;
        self.notifications.changed(changes);
        Ok((answer.list()?, unconfirmed))
    }

    /// The queues of a claim as the scripts read them.
    fn packed_queues(&self, claim: &Claim) -> Arc<PackedQueues> {
        let mut last = self.queues.lock();
        match &*last {
            Some(packed) if packed.are_those_of(claim) => Arc::clone(packed),
            _ => Arc::clone(last.insert(Arc::new(PackedQueues::of(&claim.queues)))),
        }
    }

    /// Makes a claim with this call.
    async fn claim(
        &self,
        mut call: Call,
        claim: &Claim,
        queues: &PackedQueues,
    ) -> Result<(Answer<'_>, Unconfirmed<'_>), StoreError> {
        self.take_back_lost(claim.instance).await?;
        let unconfirmed = Unconfirmed::begin(&self.unconfirmed, claim.instance);
        claim::pack(&mut call, claim, unconfirmed.token, queues);
        match self.ask(&call).await {
            Ok(answer) => Ok((answer, unconfirmed)),
            Err(error) => {
                // Any other error means that nothing was taken.
                if !matches!(error.kind(), StoreErrorKind::Unknown | StoreErrorKind::Other) {
                    unconfirmed.confirm();
                }
                Err(error)
            }
        }
    }

    /// Gives back the tasks of claims of that instance whose answers were lost. None of them has begun.
    pub(super) async fn take_back_lost(&self, instance: InstanceId) -> Result<(), StoreError> {
        while let Some(unconfirmed) = Unconfirmed::lost_before(&self.unconfirmed, instance) {
            let mut unclaim = self.notifying(&script::UNCLAIM, HintSet::ALL);
            unclaim.arg(instance.as_bytes()).arg(&unconfirmed.token[..]);
            self.ask(&unclaim).await?;
            unconfirmed.confirm();
        }
        Ok(())
    }

    /// Reads the answer of a claim, and ends the tasks in it that cannot be read.
    pub(super) async fn claimed(
        &self,
        answer: List<'_>,
        unconfirmed: Unconfirmed<'_>,
        claim: &Claim,
    ) -> Result<Claims, StoreError> {
        let (claims, damaged) = claim::unpack(answer, claim)?;
        if let Err(error) = self.fail_damaged(&damaged).await {
            tracing::warn!(%error, "damaged tasks will be ended when their leases end");
        }
        unconfirmed.confirm();
        Ok(claims)
    }

    pub(super) async fn recover(&self) -> Result<Vec<Recovered>, StoreError> {
        self.check().await?;
        if let Err(error) = self.end_leases_of_the_dead().await {
            if error.is_transient() {
                return Err(error);
            }
            // The leases of dead processes still end by themselves.
            tracing::debug!(%error, "cannot see whether other processes live");
        }
        loop {
            let mut look = self.silent(&script::EXPIRED);
            look.arg(recover::RECOVERED_AT_ONCE);
            let mut lost = self.ask(&look).await?.list()?;
            let now = lost.number()?;
            let (mut call, mut decided, mut damaged) =
                (self.notifying(&script::APPLY, HintSet::ALL), Vec::new(), Vec::new());
            while !lost.is_empty() {
                let (id, bytes) = (lost.task_id()?, lost.bytes()?);
                let state = PackedRow::unpack(&bytes);
                match state
                    .as_ref()
                    .map_or(Found::Damaged, |state| recover::decide(&mut call, id, state, now))
                {
                    Found::Moves(recovered) => decided.push(recovered),
                    // The script answered only the policy of the body, so there is no body to salvage.
                    Found::Damaged => {
                        damaged.push(Damaged { body: Vec::new(), ..Damaged::of(id, state.as_ref()) });
                    }
                    Found::Stays => {}
                }
            }
            if !damaged.is_empty() {
                self.fail_damaged(&damaged).await?;
                if decided.is_empty() {
                    continue;
                }
            }
            if decided.is_empty() {
                return Ok(Vec::new());
            }
            let rows = apply::unpack(self.call_and_notify(&call).await?.list()?)?;
            let mut applied = rows.iter().map(|row| row.is_applied);
            decided.retain(|_| applied.next().unwrap_or(false));
            // If other processes recovered all of these first, look again: more may be left.
            if !decided.is_empty() {
                return Ok(decided);
            }
        }
    }
}

/// Staged arguments are not stored tasks yet, so a lost answer leaves no doubt.
fn not_stored(error: StoreError) -> StoreError {
    match error.kind() {
        StoreErrorKind::Unknown => StoreError::with_source(
            StoreErrorKind::Unavailable,
            "the connection broke while tasks were sent to the store; nothing was stored",
            error,
        ),
        _ => error,
    }
}
