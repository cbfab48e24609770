//! Methods for schedules: list, pause and resume them, run them by hand, add and remove them at run time.

use std::collections::BTreeMap;
use std::future::IntoFuture;
use std::pin::Pin;
use std::time::SystemTime;

use super::{TaskHandle, TaskManager};
use crate::engine::catalogue::{self, DeclaredSchedule};
use crate::engine::schedule::{Definition, Plan};
use crate::model::{Error, NewTask, ScheduleInfo, TaskSource, When, limits, spelling::closest};
use crate::store::{Fire, ScheduleChange, ScheduleState};
use crate::task::{Descriptor, IntoNewTask, Missed, Overlap, Registry, Ticks, Timing};

impl TaskManager {
    /// All schedules by name: those of this program and of all live processes, those added at run time, and those that
    /// the store knows from earlier. A schedule that no program declares any more is omitted once its last tick is older than the
    /// longest [retention](crate::TaskManagerBuilder::retention_of) of any status, unless it is paused.
    ///
    /// # Errors
    /// When the store fails, and when two tasks of this program have one name.
    pub async fn schedules(&self) -> Result<Vec<ScheduleInfo>, Error> {
        Ok(self.schedules_due().await?.into_iter().map(|(info, _)| info).collect())
    }

    /// The same, each with the next tick after the last handled one. That tick lies in the past if no process ticks the schedule.
    pub(super) async fn schedules_due(&self) -> Result<Vec<(ScheduleInfo, Option<SystemTime>)>, Error> {
        let core = &self.0.core;
        let now = core.seam.now();
        let mut schedules: BTreeMap<String, ScheduleInfo> = BTreeMap::new();
        let mut due = BTreeMap::new();
        for task in declared()? {
            let Some(spec) = task.schedule() else { continue };
            let mut info = ScheduleInfo::new(task.config().name.to_owned());
            info.task = Some(info.name.clone());
            info.queue = Some(task.config().queue.to_owned());
            show_timing(&mut info, Timing::from(spec), now);
            schedules.insert(info.name.clone(), info);
        }
        let live = catalogue::live(core).await?;
        let there = &live.instances;
        // What this program declares comes first, then what the program that started last declares.
        for catalogue in live.catalogues.iter().rev() {
            for declared in &catalogue.schedules {
                let task = catalogue.tasks.iter().find(|task| task.name == declared.task);
                let queue = task.map(|task| task.queue.clone());
                let shown = || ScheduleInfo { queue, ..shown(declared, now) };
                schedules.entry(declared.name.clone()).or_insert_with(shown);
            }
        }
        let has_gone = |state: &ScheduleState| {
            let is_kept = state.paused || state.definition.is_some();
            let last = state.last_tick.max(state.last_start);
            let was_lately = last.is_some_and(|at| {
                now.duration_since(at).map_or(true, |since| since <= core.settings.retention.longest())
            });
            !is_kept && !was_lately && !there.iter().any(|it| it.schedules.contains(&state.name))
        };
        for state in core.read("a read", core.store.schedules()).await? {
            let name = state.name.clone();
            if !schedules.contains_key(&name) && has_gone(&state) {
                continue;
            }
            let info = schedules.entry(name.clone()).or_insert_with(|| ScheduleInfo::new(name));
            let next = show(info, &state, now);
            let is_declared =
                info.task.is_some() || there.iter().any(|it| it.schedules.contains(&state.name));
            if !is_declared {
                // No running program ticks this schedule.
                info.next_run = None;
            } else if let Some(next) = next {
                due.insert(state.name, next);
            }
        }
        let with_due = |info: ScheduleInfo| {
            let due = due.get(&info.name).copied();
            (info, due)
        };
        Ok(schedules.into_values().map(with_due).collect())
    }

    /// Adds a schedule at run time, or replaces the one that was added under the same name. Each tick adds the given task.
    /// Await the [`AddSchedule`] to store it. From about a second later the schedule ticks in every process that runs tasks and
    /// lets [schedules](crate::TaskManagerBuilder::schedules) tick, even across restarts, until it is
    /// [removed](Self::remove_schedule).
    ///
    /// The task is a call, or an add with its options that has not been awaited:
    ///
    /// ```
    /// use taskflow::{Cron, task::Overlap};
    ///
    /// # #[taskflow::task] async fn clean_up(folder: String) { let _ = folder; }
    /// # async fn demo(tasks: taskflow::TaskManager) -> Result<(), taskflow::Error> {
    /// let clean = tasks.add_task(clean_up, ("/tmp/uploads".to_owned(),)).priority(-5);
    /// tasks.schedule(clean, Cron::parse("30 3 * * *")?).named("clean-uploads").overlap(Overlap::Skip).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn schedule(&self, task: impl IntoNewTask, timing: impl Into<Timing>) -> AddSchedule {
        let task = task.into_new_task();
        AddSchedule {
            manager: self.clone(),
            name: None,
            timing: timing.into(),
            missed: Missed::default(),
            overlap: Overlap::default(),
            task,
        }
    }

    /// Removes a schedule that was added at run time, and returns whether there was one. Tasks that its ticks have added are
    /// not removed.
    ///
    /// # Errors
    /// [`Error::ScheduleDeclared`] for a schedule that this program declares, unless one of the same name was also added at run
    /// time; and when the store fails.
    pub async fn remove_schedule(&self, name: &str) -> Result<bool, Error> {
        let was_stored = self.change_schedule(name, ScheduleChange::Removed).await?;
        if !was_stored {
            refuse_declared(name)?;
        }
        Ok(was_stored)
    }

    /// Pauses a schedule in all processes until it is [resumed](Self::resume_schedule), even across restarts. Ticks during
    /// the pause are not made up for.
    ///
    /// # Errors
    /// [`Error::UnknownSchedule`] for a schedule that neither this program declares nor the store knows, and when the store
    /// fails.
    pub async fn pause_schedule(&self, name: &str) -> Result<(), Error> {
        self.find_schedule(name).await?;
        self.change_schedule(name, ScheduleChange::Paused(true)).await.map(drop)
    }

    /// Resumes a paused schedule: its next tick adds a task again.
    ///
    /// # Errors
    /// As for [`pause_schedule`](Self::pause_schedule).
    pub async fn resume_schedule(&self, name: &str) -> Result<(), Error> {
        if self.find_schedule(name).await?.is_some_and(|state| state.paused) {
            // Mark all ticks up to now as passed, including those that came while no process ran.
            let core = &self.0.core;
            core.call("a tick", core.store.fire(Fire::new(name.to_owned(), core.seam.now(), None))).await?;
        }
        self.change_schedule(name, ScheduleChange::Paused(false)).await.map(drop)
    }

    /// Adds the task of a schedule now, in addition to its ticks, even while the schedule is paused.
    ///
    /// # Errors
    /// [`Error::UnknownSchedule`] for a schedule that no live process declares and that was not added at run time, even if
    /// [`schedules`](Self::schedules) still lists it; [`Error::Timing`] when this program cannot read its rule; [`Error::Add`]
    /// when the task cannot be added; and when the store fails.
    pub async fn run_now(&self, name: &str) -> Result<TaskHandle<serde_json::Value>, Error> {
        let declared = declared()?.into_iter().find(|task| task.config().name == name);
        let plan = match declared.and_then(|task| Some((task, task.schedule()?))) {
            Some((task, spec)) => {
                let unusable = |message| Error::Timing { text: Timing::from(spec).text(), message };
                Plan::of(task, spec).map_err(unusable)?
            }
            None => {
                let core = &self.0.core;
                let state = core.read("a read", core.store.schedule(name.to_owned())).await?;
                let Some(definition) = state.and_then(|state| state.definition) else {
                    return self.run_of_another(name).await;
                };
                let unusable = |message| Error::Timing { text: definition.clone(), message };
                Plan::stored(name.to_owned(), &definition).map_err(unusable)?
            }
        };
        let added = self.add_new(vec![plan.task(When::Now)], None).await?;
        Ok(added.into_iter().next().expect("the adder accepts no answer that lacks a task"))
    }

    /// Adds the task of a schedule that only other live processes declare, as the process that started last describes it.
    async fn run_of_another(&self, name: &str) -> Result<TaskHandle<serde_json::Value>, Error> {
        let live = catalogue::live(&self.0.core).await?;
        let mut catalogues = live.catalogues.iter().rev();
        let task = catalogues.find_map(|catalogue| {
            let declared = catalogue.schedules.iter().find(|it| it.name == name)?;
            catalogue.tasks.iter().find(|it| it.name == declared.task)
        });
        let Some(task) = task else { return Err(self.unknown_schedule(name).await?) };
        // The worker provides all parameters of a task with a schedule.
        let mut task = task.new_task("{}".to_owned());
        task.source = TaskSource::Schedule;
        let added = self.add_new(vec![task], None).await?;
        Ok(added.into_iter().next().expect("the adder accepts no answer that lacks a task"))
    }

    pub(super) async fn change_schedule(&self, name: &str, change: ScheduleChange) -> Result<bool, Error> {
        let core = &self.0.core;
        Ok(core.call("a change of a schedule", core.store.set_schedule(name.to_owned(), change)).await?)
    }

    /// The stored state of a schedule, if any. A schedule that neither the store nor this program knows is an error.
    async fn find_schedule(&self, name: &str) -> Result<Option<ScheduleState>, Error> {
        let core = &self.0.core;
        let state = core.read("a read", core.store.schedule(name.to_owned())).await?;
        if state.is_none() && !is_declared(name)? {
            return Err(self.unknown_schedule(name).await?);
        }
        Ok(state)
    }

    async fn unknown_schedule(&self, name: &str) -> Result<Error, Error> {
        let known = self.schedules().await?;
        let suggestion = closest(name, known.iter().map(|schedule| &*schedule.name).filter(|it| *it != name));
        Ok(Error::UnknownSchedule { name: name.to_owned(), suggestion })
    }
}

/// The tasks of this program that have a schedule.
fn declared() -> Result<Vec<&'static Descriptor>, Error> {
    let tasks = Registry::collect()?.tasks();
    Ok(tasks.into_iter().filter(|task| task.schedule().is_some()).collect())
}

fn is_declared(name: &str) -> Result<bool, Error> {
    Ok(declared()?.iter().any(|task| task.config().name == name))
}

fn refuse_declared(name: &str) -> Result<(), Error> {
    if is_declared(name)? { Err(Error::ScheduleDeclared { name: name.to_owned() }) } else { Ok(()) }
}

/// A schedule that another program declares. That program may be newer, and this version may not know the rule.
fn shown(declared: &DeclaredSchedule, now: SystemTime) -> ScheduleInfo {
    let mut info = ScheduleInfo::new(declared.name.clone());
    info.task = Some(declared.task.clone());
    info.trigger = Some(declared.trigger.clone());
    info.timezone.clone_from(&declared.timezone);
    if let Some(timing) = Timing::read(&declared.timing) {
        show_timing(&mut info, timing, now);
    }
    info
}

/// Fills in the expression, the zone and the next tick.
fn show_timing(info: &mut ScheduleInfo, timing: Timing, now: SystemTime) {
    info.trigger = Some(timing.to_string());
    info.next_run = Ticks::at(&timing).ok().and_then(|ticks| ticks.after(now));
    info.timezone = timing.timezone;
}

/// Fills in the stored state of a schedule. Returns the tick after its last handled one, unless it is paused.
fn show(info: &mut ScheduleInfo, state: &ScheduleState, now: SystemTime) -> Option<SystemTime> {
    let last = state.last_tick.filter(|_| !state.paused);
    let after_last = |timing: &Timing| Ticks::at(timing).ok()?.after(last?);
    let mut next = None;
    if let Some(Ok(definition)) = state.definition.as_deref().map(Definition::read) {
        info.sealed_with = definition.sealed_with().map(str::to_owned);
        // If the schedule is also declared, the declared one may add to another queue.
        let has_one_queue = info.task.is_none() || info.queue.as_ref() == Some(&definition.queue);
        info.queue = has_one_queue.then_some(definition.queue);
        info.task = Some(definition.task);
        next = after_last(&definition.timing);
        show_timing(info, definition.timing, now);
    }
    // During a rolling deploy another process may have declared a different timing. The stored declaration is in force.
    if let Some(timing) = state.declared.as_ref().and_then(|declared| Timing::read(&declared.timing)) {
        next = after_last(&timing);
        show_timing(info, timing, now);
    }
    info.skipped = state.skipped;
    info.last_skipped = state.last_skipped;
    info.stored = state.definition.is_some();
    info.paused = state.paused;
    info.last_run = state.last_tick.filter(|_| state.last_outcome.is_some());
    info.last_outcome = state.last_outcome;
    info.last_task = state.last_task;
    if state.paused {
        info.next_run = None;
    }
    next
}

/// A schedule about to be added. Set its options, then await it: that stores the schedule and returns whether it replaced
/// one.
///
/// # Errors
/// [`Error::Add`] when the name is invalid, or the task could not be added or has an option that a schedule does not allow (a
/// time, an expiry, an idempotency key or a run key); [`Error::ScheduleDeclared`] for the name of a schedule that this program
/// declares; and when the store fails.
#[must_use = "a schedule does nothing until it is awaited"]
#[derive(Debug)]
pub struct AddSchedule {
    manager: TaskManager,
    name: Option<String>,
    timing: Timing,
    missed: Missed,
    overlap: Overlap,
    task: NewTask,
}

impl AddSchedule {
    /// Sets the name by which the schedule is replaced, paused and removed. Default: the task's name. At most 1,024 bytes.
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Sets how to make up for ticks that were missed while no process ran. Default: only the last one runs late.
    pub fn missed(mut self, missed: Missed) -> Self {
        self.missed = missed;
        self
    }

    /// Sets what a tick does while the run of an earlier tick has not ended. Default: both run at the same time.
    pub fn overlap(mut self, overlap: Overlap) -> Self {
        self.overlap = overlap;
        self
    }

    async fn store(self) -> Result<bool, Error> {
        let name = self.name.unwrap_or_else(|| self.task.name.clone().into_owned());
        limits::name(&name).map_err(|refused| refused.in_add("schedule name", &name))?;
        refuse_declared(&name)?;
        self.manager.0.core.queues.admission(&self.task.queue)?;
        let core = &self.manager.0.core;
        let mut task = self.task;
        // Check before sealing: the limit applies to the plain arguments.
        task.check()?;
        core.sealing.as_ref().map_or(Ok(()), |sealing| sealing.seal_scheduled(&mut task))?;
        let definition = Definition::new(self.timing, self.missed, self.overlap, task)?.text();
        let from = core.seam.now();
        self.manager.change_schedule(&name, ScheduleChange::Defined { definition, from }).await
    }
}

impl IntoFuture for AddSchedule {
    type Output = Result<bool, Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.store())
    }
}
