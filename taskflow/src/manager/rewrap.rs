//! Re-encrypts ("seals") stored arguments with the current key, so that an old key can be removed.

use std::sync::Arc;

use super::TaskManager;
use crate::crypt::Rewrapped;
use crate::engine::schedule::Definition;
use crate::model::{Error, ScheduleInfo, TaskFilter, TaskRecord};
use crate::store::{ReplaceArgs, ScheduleChange};

/// How many records are in memory at once, and after how many bytes of new arguments a call to the store is made.
const PAGE: usize = 100;
const MAX_BYTES: usize = 4 << 20;

impl TaskManager {
    /// Re-encrypts (seals anew) the arguments of all matching tasks with the current key of this manager. Use it when you want
    /// to remove a key, and tasks wait for longer than you want to keep that key.
    ///
    /// It reads a hundred tasks at a time. It replaces arguments that are sealed with another key, but only if nobody has changed
    /// them since they were read. So it can run while tasks run, in several processes at once, and repeatedly. It does not touch
    /// results, errors and log lines, which no run needs, or tasks that have succeeded.
    ///
    /// ```no_run
    /// use taskflow::crypt::{Encrypt, Key, Keyring};
    /// use taskflow::{TaskFilter, TaskManager};
    ///
    /// # async fn demo() -> Result<(), Box<dyn std::error::Error>> {
    /// let keys = Keyring::new(Key::from_env("TASKFLOW_KEY_2026")?).also(Key::from_env("TASKFLOW_KEY_2025")?);
    /// let tasks = TaskManager::builder().store("sqlite://tasks.db").encrypt(Encrypt::new(keys)).view().await?;
    /// let done = tasks.rewrap(TaskFilter::all()).await?;
    /// println!("{} tasks sealed anew, {} could not be opened: {:?}", done.sealed, done.refused, done.errors);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Config`] when this manager has no keys. [`Error::Store`] when the store fails; arguments that were sealed anew
    /// before that stay so.
    pub async fn rewrap(&self, filter: TaskFilter) -> Result<Rewrapped, Error> {
        self.check_keys()?;
        let mut filter = filter.limit(PAGE);
        let mut done = Rewrapped::default();
        loop {
            let page = self.list(filter.clone()).await?;
            self.rewrap_page(&page.items, &mut done).await?;
            match page.next {
                Some(next) => filter.after = Some(next),
                None => return Ok(done),
            }
        }
    }

    /// Re-encrypts the arguments of all schedules that were added at run time with the current key of this manager. A program
    /// that adds its schedules at each start does not need this: each add seals with the current key. The next ticks do not
    /// change. Do not change schedules while this runs.
    ///
    /// # Errors
    /// As for [`rewrap`](Self::rewrap).
    pub async fn rewrap_schedules(&self) -> Result<Rewrapped, Error> {
        self.check_keys()?;
        let mut done = Rewrapped::default();
        for schedule in self.schedules().await?.into_iter().filter(|schedule| schedule.stored) {
            self.rewrap_schedule(&schedule, &mut done).await?;
        }
        Ok(done)
    }

    fn check_keys(&self) -> Result<(), Error> {
        match self.has_keys() {
            true => Ok(()),
            false => Err(Error::Config {
                option: "encrypt",
                value: "left out".to_owned(),
                message: "call it on the builder of the manager that is to seal arguments anew",
            }),
        }
    }

    async fn rewrap_page(&self, records: &[TaskRecord], done: &mut Rewrapped) -> Result<(), Error> {
        let (mut replacements, mut bytes) = (Vec::new(), 0);
        for record in records {
            match self.0.core.resealed(record) {
                Ok(None) => done.unchanged += 1,
                Ok(Some(args)) => {
                    bytes += args.len();
                    replacements.push(ReplaceArgs::new(record.id, record.args.get(), args));
                    if bytes >= MAX_BYTES {
                        self.replace(std::mem::take(&mut replacements), done).await?;
                        bytes = 0;
                    }
                }
                Err(error) => done.refuse(&error.to_string()),
            }
        }
        self.replace(replacements, done).await
    }

    async fn replace(&self, replacements: Vec<ReplaceArgs>, done: &mut Rewrapped) -> Result<(), Error> {
        if replacements.is_empty() {
            return Ok(());
        }
        let core = &self.0.core;
        let replace = core.store.replace_args(Arc::new(replacements));
        for is_replaced in core.call("a change of arguments", replace).await? {
            *if is_replaced { &mut done.sealed } else { &mut done.missed } += 1;
        }
        Ok(())
    }

    async fn rewrap_schedule(&self, schedule: &ScheduleInfo, done: &mut Rewrapped) -> Result<(), Error> {
        let core = &self.0.core;
        let state = core.read("a read", core.store.schedule(schedule.name.clone())).await?;
        let Some((definition, last_tick)) =
            state.and_then(|state| Some((state.definition?, state.last_tick?)))
        else {
            done.missed += 1;
            return Ok(());
        };
        let resealed = Definition::read(&definition).and_then(|definition| {
            let args = core.resealed_schedule(&definition.task, definition.args());
            Ok(args.map_err(|error| error.to_string())?.map(|args| definition.with_args(args).text()))
        });
        match resealed {
            Ok(None) => done.unchanged += 1,
            // The schedule continues from its last tick, as if its definition had not changed.
            Ok(Some(definition)) => {
                let change = ScheduleChange::Defined { definition, from: last_tick };
                self.change_schedule(&schedule.name, change).await?;
                done.sealed += 1;
            }
            Err(error) => done.refuse(&error),
        }
        Ok(())
    }
}
