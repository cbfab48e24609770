//! Repairs data that other programs damaged. Each call of `repair_main.lua` does a part of one step, so that it does
//! not stop other calls for long.
//!
//! For speed, scripts look at no more than they need, and fail when they meet data that taskflow did not write. Then
//! the data that scripts meet first is checked: a task that cannot be read becomes `failed`, references to missing
//! tasks are removed from the indexes, and the call is repeated with the careful variant of its script. Everything
//! else is then checked once in the background, in portions.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::answer::Answer;
use super::connection::CallError;
use super::damage::Damaged;
use super::executor::Shared;
use super::script::{self, Call};
use crate::model::{StoreError, TaskId};
use crate::store::hint_set::HintSet;

/// The number of entries that one script checks, which takes some 5 ms.
const PORTION: usize = 100;

/// The number of entries to check that claims and recoveries meet first.
const FIRST: usize = 1000;

/// The time between two checks that the counts agree with the data.
const CHECKED_EVERY: Duration = Duration::from_secs(2);

/// If a repair ended this recently, another one would find nothing more to do.
const REPAIRED_JUST_NOW: Duration = Duration::from_millis(200);

/// How fast a check of everything runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pace {
    /// A caller waits for it.
    Fast,
    /// Other calls get twice as much of the server's time.
    Slow,
}

impl Shared {
    pub(super) async fn ask(&self, call: &Call) -> Result<Answer<'_>, StoreError> {
        let location = &self.connections.location;
        let error = match self.connections.call(call).await {
            Ok(value) => return Ok(Answer { value, location }),
            Err(CallError::Other(error)) => return Err(error),
            Err(CallError::Damage(error)) => error,
        };
        self.repair_first(&error.to_string()).await?;
        // A fast script has no careful variant: nil makes the caller use the general script.
        let Some(careful) = call.careful() else { return Ok(Answer { value: redis::Value::Nil, location }) };
        match self.connections.call(&careful).await {
            Ok(value) => return Ok(Answer { value, location }),
            Err(CallError::Other(error)) => return Err(error),
            Err(CallError::Damage(_)) => {}
        }
        self.repair_all(Pace::Fast).await?;
        match self.connections.call(&careful).await {
            Ok(value) => Ok(Answer { value, location }),
            Err(CallError::Other(error) | CallError::Damage(error)) => Err(error),
        }
    }

    /// Checks now and then whether the counts agree with the data, and repairs if they do not.
    pub(super) async fn check(&self) -> Result<(), StoreError> {
        {
            let mut checked = self.repairs.checked.lock();
            if checked.is_some_and(|at| at.elapsed() < CHECKED_EVERY) {
                return Ok(());
            }
            *checked = Some(Instant::now());
        }
        if self.ask(&self.silent(&script::CHECK)).await?.bytes()? == b"0" {
            self.repair_first(
                "the stored counts do not agree with the tasks; did another program change these keys, or does the \
                 server evict keys (`maxmemory-policy` must be `noeviction`)?",
            )
            .await?;
        }
        Ok(())
    }

    /// Checks the data that claims and recoveries meet first, which takes milliseconds, and starts a check of the
    /// rest in the background.
    async fn repair_first(&self, why: &str) -> Result<(), StoreError> {
        let asked = Instant::now();
        let mut last = self.repairs.first.lock().await;
        if last.is_some_and(|at| at > asked || at.elapsed() < REPAIRED_JUST_NOW) {
            return Ok(());
        }
        let location = &self.connections.location;
        tracing::error!("the data in `{location}` is damaged; repairing it: {why}");
        self.step("keys", b"", Pace::Fast).await?;
        for ready_list in self.step("ready_lists", b"", Pace::Fast).await? {
            match ready_list.split_first() {
                Some((b'd', ready_list)) => drop(self.step("first_due", ready_list, Pace::Fast).await?),
                Some((b'l', ready_list)) => drop(self.step("first_later", ready_list, Pace::Fast).await?),
                _ => {}
            }
        }
        self.step("first_leases", b"", Pace::Fast).await?;
        *last = Some(Instant::now());
        drop(last);
        if let Some(shared) = self.this.upgrade()
            && !self.repairs.is_behind.swap(true, Ordering::AcqRel)
        {
            tokio::spawn(async move {
                if let Err(error) = shared.repair_all(Pace::Slow).await {
                    // The next check finds what is left.
                    tracing::warn!(%error, "a repair was interrupted");
                }
                shared.repairs.is_behind.store(false, Ordering::Release);
            });
        }
        Ok(())
    }

    /// Checks everything once.
    async fn repair_all(&self, pace: Pace) -> Result<(), StoreError> {
        let asked = Instant::now();
        let mut last = self.repairs.all.lock().await;
        if last.is_some_and(|at| at > asked || at.elapsed() < REPAIRED_JUST_NOW) {
            return Ok(());
        }
        for ready_list in self.step("ready_lists", b"", pace).await? {
            match ready_list.split_first() {
                Some((b'd', ready_list)) => drop(self.step("due", ready_list, pace).await?),
                Some((b'l', ready_list)) => drop(self.step("later", ready_list, pace).await?),
                Some((b'a', queue)) => {
                    self.step("blocked", queue, pace).await?;
                    self.step("since", queue, pace).await?;
                }
                _ => {}
            }
        }
        for step in ["leases", "expiring", "stopping"] {
            self.step(step, b"", pace).await?;
        }
        for stage in ["7", "8", "9", "10"] {
            self.step("ended", stage.as_bytes(), pace).await?;
        }
        for step in ["holders", "ids", "task", "state"] {
            self.step(step, b"", pace).await?;
        }
        self.count_anew(pace).await?;
        for ready_list in self.step("ready_lists", b"", pace).await? {
            if let Some((b'a', queue)) = ready_list.split_first() {
                self.step("concurrency_groups", queue, pace).await?;
            }
        }
        *last = Some(Instant::now());
        tracing::warn!("`{}` was repaired in {:?}", self.connections.location, asked.elapsed());
        Ok(())
    }

    /// Counts tasks anew: in one script if there are few. If there are many, ended ones are counted in portions while
    /// other calls go on.
    async fn count_anew(&self, pace: Pace) -> Result<(), StoreError> {
        if self.step("size", b"", pace).await?.is_empty() {
            return self.step("counts", b"", pace).await.map(drop);
        }
        let mut numbers: HashMap<Vec<u8>, u64> = HashMap::new();
        for counted in self.step("tally", b"", pace).await? {
            if let Some((number, field)) = counted.get(1..).and_then(|rest| rest.split_first_chunk::<4>()) {
                *numbers.entry(field.to_vec()).or_default() += u64::from(u32::from_le_bytes(*number));
            }
        }
        let mut call = self.notifying(&script::REPAIR, HintSet::ALL);
        call.arg("take_tally").arg("").arg("0").arg(PORTION);
        for (field, number) in numbers {
            call.arg(field).arg(number);
        }
        let call = call.careful().unwrap_or(call);
        match self.connections.call(&call).await {
            Ok(_) => Ok(()),
            Err(CallError::Other(error) | CallError::Damage(error)) => Err(error),
        }
    }

    /// Runs one step, in portions. Answers with what to check next, or what was counted.
    async fn step(&self, step: &str, of: &[u8], pace: Pace) -> Result<Vec<Vec<u8>>, StoreError> {
        let (mut cursor, mut next) = (b"0".to_vec(), Vec::new());
        loop {
            let mut call = self.notifying(&script::REPAIR, HintSet::ALL);
            let most = if step.starts_with("first") { FIRST } else { PORTION };
            call.arg(step).arg(of).arg(&cursor[..]).arg(most);
            let call = call.careful().unwrap_or(call);
            let begun = Instant::now();
            let value = match self.connections.call(&call).await {
                Ok(value) => value,
                Err(CallError::Other(error) | CallError::Damage(error)) => return Err(error),
            };
            let mut answer = Answer { value, location: &self.connections.location }.list()?;
            cursor = answer.bytes()?;
            while !answer.is_empty() {
                let found = answer.bytes()?;
                match found.split_first() {
                    Some((b't', task)) => self.say_failed(task),
                    Some((b'!', what)) => {
                        tracing::error!("`{}`: {}", self.connections.location, String::from_utf8_lossy(what));
                    }
                    _ => next.push(found),
                }
            }
            if cursor == b"0" {
                return Ok(next);
            }
            if pace == Pace::Slow {
                sleep(begun.elapsed() * 2).await;
            }
        }
    }

    fn say_failed(&self, task: &[u8]) {
        let Some((id, why)) = task.split_first_chunk::<16>() else { return };
        let (id, why) = (TaskId::from_bytes(*id), String::from_utf8_lossy(why));
        tracing::error!(task = %id, "a task is damaged in `{}` and was marked as failed: {why}", self.connections.location);
    }

    /// Fails tasks that this process cannot read.
    pub(super) async fn fail_damaged(&self, damaged: &[Damaged]) -> Result<(), StoreError> {
        if damaged.is_empty() {
            return Ok(());
        }
        let mut call = self.notifying(&script::FAIL_DAMAGED, HintSet::ALL);
        for Damaged { id, fence, why, ready_list, body } in damaged {
            tracing::error!(task = %id, "a task is damaged in `{}` and was marked as failed: {why}", self.connections.location);
            call.arg(id.as_bytes()).arg(fence.map(|fence| fence.to_string()).unwrap_or_default());
            call.arg(*why).arg(u8::from(*ready_list)).arg(&body[..]);
        }
        if self.call_and_notify(&call).await?.bytes()? == b"0" {
            self.repair_first("a task could not be read").await?;
        }
        Ok(())
    }
}
