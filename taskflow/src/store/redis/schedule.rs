//! Ticks of schedules, and stored schedules.

use std::time::Duration;

use super::answer::List;
use super::executor::Shared;
use super::packed_row::exact;
use super::script;
use super::{answer, insert};
use crate::model::{StoreError, TaskId, TickOutcome, time};
use crate::store::hint_set::HintSet;
use crate::store::{Declaration, Fire, FireAfter, Fired, ScheduleChange, ScheduleChanges, ScheduleState};

impl Shared {
    pub(super) async fn fire(&self, fire: &Fire) -> Result<Fired, StoreError> {
        let mut call = self.notifying(&script::FIRE, HintSet::ALL);
        call.arg(&fire.schedule).arg(exact(time::to_micros(fire.tick)));
        match fire.after {
            FireAfter::Earlier => call.arg("").arg(""),
            FireAfter::Start(None) => call.arg(1).arg(""),
            FireAfter::Start(Some(before)) => call.arg(1).arg(exact(time::to_micros(before))),
        };
        call.arg(fire.definition.as_deref().unwrap_or_default()).arg(exact(time::micros(fire.ahead)));
        call.arg(fire.declared.as_deref().unwrap_or_default()).arg(fire.skipped);
        let groups = fire.batch.as_ref().map_or(&[][..], |batch| &batch.groups);
        if let Some(batch) = &fire.batch
            && let Some(task) = groups.first().and_then(|group| group.tasks.first())
        {
            call.arg(task.task.id.as_bytes());
            insert::pack(&mut call, batch.instance, batch, groups);
        }
        let answer = self.call_and_notify(&call).await?;
        if answer.value == redis::Value::Nil {
            return Ok(Fired::Before);
        }
        let answer = answer.bytes()?;
        match &answer[..] {
            b"" => return Ok(Fired::Passed),
            b"P" => return Ok(Fired::Paused),
            b"S" => return Ok(Fired::Superseded),
            [b'!', by @ ..] => {
                let by = std::str::from_utf8(by).ok().and_then(|by| by.parse().ok());
                return Ok(Fired::Early { by: Duration::from_micros(by.ok_or_else(|| self.unexpected())?) });
            }
            _ => {}
        }
        let mut answers = insert::unpack(&answer, groups).ok_or_else(|| self.unexpected())?;
        Ok(match answers.pop() {
            Some(Ok(mut inserted)) => inserted.pop().map_or(Fired::Passed, Fired::Inserted),
            Some(Err(refusal)) => Fired::Refused(refusal),
            None => Fired::Passed,
        })
    }

    pub(super) async fn set_schedule(
        &self,
        schedule: &str,
        change: &ScheduleChange,
    ) -> Result<bool, StoreError> {
        let mut call = self.notifying(&script::SET_SCHEDULE, HintSet::ALL);
        call.arg(schedule);
        match change {
            ScheduleChange::Paused(true) => call.arg("pause"),
            ScheduleChange::Paused(false) => call.arg("resume"),
            ScheduleChange::Defined { definition, from } => {
                call.arg("define").arg(definition).arg(exact(time::to_micros(*from)))
            }
            ScheduleChange::Removed => call.arg("remove").arg(ScheduleChanges::MAX_REMOVED),
            ScheduleChange::Declared { declaration, instead_of } => {
                let instead_of = instead_of.map(|since| exact(time::to_micros(since))).unwrap_or_default();
                let since = exact(time::to_micros(declaration.since));
                call.arg("declare").arg(&declaration.timing).arg(since).arg(instead_of)
            }
            ScheduleChange::Undeclared { since } => call.arg("undeclare").arg(exact(time::to_micros(*since))),
        };
        Ok(self.call_and_notify(&call).await?.number()? != 0)
    }

    pub(super) async fn schedules(&self) -> Result<Vec<ScheduleState>, StoreError> {
        let mut schedules: Vec<ScheduleState> = Vec::new();
        loop {
            // In portions, so that the server has time for other calls.
            let mut call = self.silent(&script::SCHEDULES);
            let last = schedules.last().map_or("", |last| &*last.name);
            call.arg(last).arg(ScheduleChanges::MAX);
            let portion = unpack(self.ask(&call).await?.list()?)?;
            let is_last = portion.len() < ScheduleChanges::MAX;
            schedules.extend(portion);
            if is_last {
                return Ok(schedules);
            }
        }
    }

    pub(super) async fn schedule(&self, name: &str) -> Result<Option<ScheduleState>, StoreError> {
        let mut call = self.silent(&script::SCHEDULE);
        call.arg(name);
        Ok(unpack(self.ask(&call).await?.list()?)?.pop())
    }

    pub(super) async fn schedule_changes(&self, since: u64) -> Result<ScheduleChanges, StoreError> {
        let mut call = self.silent(&script::SCHEDULE_CHANGES);
        call.arg(since).arg(ScheduleChanges::MAX);
        let mut answer = self.ask(&call).await?.list()?;
        let (version, more) = (answer.number()?, answer.number()? != 0);
        Ok(ScheduleChanges::new(u64::try_from(version).unwrap_or(0), unpack(answer)?, more))
    }
}

/// The answer of `schedule_states.lua`. A value that other programs damaged counts as missing: it must not hide other
/// schedules.
fn unpack(mut answer: List<'_>) -> Result<Vec<ScheduleState>, StoreError> {
    let mut schedules = Vec::with_capacity(answer.len() / 11);
    while !answer.is_empty() {
        let name = String::from_utf8_lossy(&answer.bytes()?).into_owned();
        let mut fields = [const { None }; 10];
        for field in &mut fields {
            *field = answer.option()?;
        }
        let [tick, outcome, start, task, paused, definition, declared, since, skipped, last_skipped] = fields;
        let number = |text: Option<Vec<u8>>| std::str::from_utf8(&text?).ok()?.parse::<i64>().ok();
        let instant = |micros| number(micros).map(time::from_micros);
        let text = |text: Option<Vec<u8>>| String::from_utf8(text?).ok();
        schedules.push(ScheduleState {
            name,
            last_tick: instant(tick),
            last_outcome: text(outcome).and_then(|word| TickOutcome::from_word(&word)),
            last_start: instant(start),
            last_task: task.and_then(|id| answer::id(&id)).map(TaskId::from_bytes),
            paused: paused.is_some(),
            definition: text(definition),
            declared: text(declared)
                .zip(instant(since))
                .map(|(timing, since)| Declaration::new(timing, since)),
            skipped: number(skipped).map_or(0, |skipped| u64::try_from(skipped).unwrap_or(0)),
            last_skipped: instant(last_skipped),
        });
    }
    Ok(schedules)
}
