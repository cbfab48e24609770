//! Ticks of schedules, and schedules that are kept.

use std::time::Duration;

use super::answer::List;
use super::calls::Shared;
use super::script;
use super::state::exact;
use super::{answer, insert};
use crate::model::{StoreError, TaskId, TickOutcome, time};
use crate::store::{Fire, FireAfter, Fired, ScheduleChange, ScheduleState};

impl Shared {
    pub(super) async fn fire(&self, fire: &Fire) -> Result<Fired, StoreError> {
        let mut call = self.loud(&script::FIRE);
        call.arg(&fire.schedule).arg(exact(time::to_micros(fire.tick)));
        match fire.after {
            FireAfter::Earlier => call.arg("").arg(""),
            FireAfter::Start(None) => call.arg(1).arg(""),
            FireAfter::Start(Some(before)) => call.arg(1).arg(exact(time::to_micros(before))),
        };
        call.arg(fire.definition.as_deref().unwrap_or_default()).arg(exact(time::micros(fire.ahead)));
        let groups = fire.batch.as_ref().map_or(&[][..], |batch| &batch.groups);
        if let Some(batch) = &fire.batch
            && let Some(task) = groups.first().and_then(|group| group.tasks.first())
        {
            call.arg(task.task.id.as_bytes());
            insert::pack(&mut call, batch.instance, batch, groups);
        }
        let answer = self.tell(&call).await?;
        if answer.value == redis::Value::Nil {
            return Ok(Fired::Before);
        }
        let answer = answer.bytes()?;
        match &answer[..] {
            b"" => return Ok(Fired::Passed),
            b"P" => return Ok(Fired::Paused),
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
        let mut call = self.loud(&script::SET_SCHEDULE);
        call.arg(schedule);
        match change {
            ScheduleChange::Paused(true) => call.arg("pause"),
            ScheduleChange::Paused(false) => call.arg("resume"),
            ScheduleChange::Defined { definition, from } => {
                call.arg("define").arg(definition).arg(exact(time::to_micros(*from)))
            }
            ScheduleChange::Removed => call.arg("remove"),
        };
        Ok(self.tell(&call).await?.number()? != 0)
    }

    pub(super) async fn schedules(&self) -> Result<Vec<ScheduleState>, StoreError> {
        unpack(self.ask(&self.quiet(&script::SCHEDULES)).await?.list()?)
    }
}

fn unpack(mut answer: List<'_>) -> Result<Vec<ScheduleState>, StoreError> {
    let mut schedules = Vec::with_capacity(answer.len() / 7);
    while !answer.is_empty() {
        let name = answer.text()?;
        let (tick, outcome, start) = (answer.option()?, answer.option()?, answer.option()?);
        let (task, paused, definition) = (answer.option()?, answer.option()?, answer.option()?);
        let instant = |micros: Option<Vec<u8>>| {
            Some(time::from_micros(std::str::from_utf8(&micros?).ok()?.parse().ok()?))
        };
        schedules.push(ScheduleState {
            name,
            last_tick: instant(tick),
            last_outcome: outcome.and_then(|word| TickOutcome::from_word(std::str::from_utf8(&word).ok()?)),
            last_start: instant(start),
            last_task: task.and_then(|id| answer::id(&id)).map(TaskId::from_bytes),
            paused: paused.is_some(),
            definition: definition.and_then(|text| String::from_utf8(text).ok()),
        });
    }
    schedules.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    Ok(schedules)
}
