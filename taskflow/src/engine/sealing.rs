//! Seals (encrypts) what a manager with keys stores. A manager without keys and without marked tasks has no [`Sealing`].

use std::collections::HashMap;
#[cfg(feature = "encryption")]
use std::sync::Arc;

#[cfg(feature = "encryption")]
use crate::crypt::{Encrypt, Field, Owner, Place, seal};
use crate::model::{AddError, NewTask};
#[cfg(feature = "encryption")]
use crate::model::{AttemptOutcome, LogLine, TaskId, sealed};
#[cfg(feature = "encryption")]
use crate::store::{Claimed, FinishKind};
use crate::task::{Registry, TaskConfig};

/// Which tasks are sealed, and with which keys.
#[derive(Debug)]
pub(crate) struct Sealing {
    /// The tasks that are marked with `encrypt` or `encrypt = false`, by name and alias.
    marks: HashMap<&'static str, bool>,
    #[cfg(feature = "encryption")]
    encrypt: Option<Encrypt>,
}

impl Sealing {
    /// `None` if nothing is ever sealed or refused.
    pub(crate) fn new(#[cfg(feature = "encryption")] encrypt: Option<Encrypt>) -> Option<Self> {
        // This fails if two tasks have one name, which the start of the manager reports.
        let registry = Registry::collect().ok();
        let all = registry.iter().flat_map(Registry::all).map(|task| task.config());
        let marked = all.filter_map(|config| Some((config, config.encrypt?)));
        let names =
            |config: &'static TaskConfig| std::iter::once(config.name).chain(config.aliases.iter().copied());
        let marks: HashMap<_, _> =
            marked.flat_map(|(config, mark)| names(config).map(move |name| (name, mark))).collect();
        #[cfg(feature = "encryption")]
        let has_keys = encrypt.is_some();
        #[cfg(not(feature = "encryption"))]
        let has_keys = false;
        (has_keys || marks.values().any(|mark| *mark)).then_some(Self {
            marks,
            #[cfg(feature = "encryption")]
            encrypt,
        })
    }

    fn mark(&self, name: &str) -> Option<bool> {
        self.marks.get(name).copied()
    }

    /// Refuses a marked task, for a manager without keys.
    fn refuse_marked(&self, name: &str) -> Result<(), AddError> {
        if self.mark(name) != Some(true) {
            return Ok(());
        }
        let message = format!(
            "task `{name}` is marked with it, and this manager has no keys: build taskflow with the feature `encryption`, \
             and call `.encrypt(..)` on the manager's builder"
        );
        Err(AddError::Option { option: "encrypt", message })
    }
}

#[cfg(not(feature = "encryption"))]
impl Sealing {
    /// Refuses a task that is marked to be sealed: this build has no encryption.
    pub(crate) fn seal_new(&self, task: &mut NewTask) -> Result<(), AddError> {
        self.refuse_marked(&task.name)
    }

    /// Refuses a schedule whose task is marked to be sealed.
    pub(crate) fn seal_scheduled(&self, task: &mut NewTask) -> Result<(), AddError> {
        self.refuse_marked(&task.name)
    }
}

#[cfg(feature = "encryption")]
impl Sealing {
    /// The keys, if this task is sealed.
    pub(super) fn of(&self, name: &str) -> Option<&Encrypt> {
        self.encrypt.as_ref().filter(|encrypt| encrypt.applies(self.mark(name)))
    }

    /// The keys.
    pub(crate) fn encrypt(&self) -> Option<&Encrypt> {
        self.encrypt.as_ref()
    }

    /// Seals the arguments of a task that is about to be stored.
    pub(crate) fn seal_new(&self, task: &mut NewTask) -> Result<(), AddError> {
        self.seal_args(task, |task| match &task.run_key {
            // The add may replace a stored task and then keeps that task's id, which is not known yet.
            Some(key) => Owner::RunKey(key),
            None => Owner::Task(task.id),
        })
    }

    /// Seals the arguments of a schedule that is about to be stored. Each tick copies the sealed arguments to its task.
    pub(crate) fn seal_scheduled(&self, task: &mut NewTask) -> Result<(), AddError> {
        self.seal_args(task, |_| Owner::Schedule)
    }

    fn seal_args(
        &self,
        task: &mut NewTask,
        owner: impl FnOnce(&NewTask) -> Owner<'_>,
    ) -> Result<(), AddError> {
        let Some(encrypt) = &self.encrypt else { return self.refuse_marked(&task.name) };
        if !encrypt.parts().args || !encrypt.applies(self.mark(&task.name)) {
            return Ok(());
        }
        match &task.args {
            // The task of a tick: its arguments come sealed from the stored schedule.
            Ok(args) if sealed::is_sealed(args) => {}
            Ok(args) => {
                let place = Place { owner: owner(task), name: &task.name, field: Field::Args };
                let sealed: Arc<str> = seal(&encrypt.keys().current(), &place, args).into();
                (task.args, task.written) = (Ok(sealed.clone()), Some(sealed));
            }
            Err(_) => {}
        }
        Ok(())
    }

    /// Seals the result or the error of a run, if its task is sealed.
    pub(super) fn seal_end(&self, task: &Claimed, mut kind: FinishKind) -> FinishKind {
        let Some(encrypt) = self.of(&task.name) else { return kind };
        let parts = encrypt.parts();
        let place = |field| Place { owner: Owner::Task(task.run.id), name: &task.name, field };
        match &mut kind {
            FinishKind::Success { result } if parts.results => {
                *result = seal(&encrypt.keys().current(), &place(Field::Result), result).into();
            }
            // The other outcomes have errors of taskflow itself.
            FinishKind::Retry { outcome, error, .. } | FinishKind::End { outcome, error, .. }
                if parts.errors && matches!(outcome, AttemptOutcome::Failed | AttemptOutcome::Panicked) =>
            {
                let field = Field::Error { attempt: task.attempt };
                *error = seal(&encrypt.keys().current(), &place(field), error);
            }
            _ => {}
        }
        kind
    }

    /// Seals log lines.
    pub(crate) fn seal_lines(&self, id: TaskId, name: &str, lines: &mut [LogLine]) {
        let Some(encrypt) = self.of(name).filter(|encrypt| encrypt.parts().logs) else { return };
        for line in lines {
            let field = Field::Log { attempt: line.attempt };
            let place = Place { owner: Owner::Task(id), name, field };
            line.message = seal(&encrypt.keys().current(), &place, &line.message);
        }
    }
}
