//! Opens (decrypts) sealed values: the arguments of a run before it starts, and results and records for their readers. Also
//! seals the end of a run before it is stored.

use std::collections::HashSet;
use std::sync::Arc;
#[cfg(feature = "encryption")]
use std::time::Duration;

use super::core::Core;
#[cfg(feature = "encryption")]
use super::panics;
#[cfg(feature = "encryption")]
use crate::crypt::{Bound, Envelope, Field, Keys, OpenError, Owner, Place, seal};
use crate::model::{AttemptOutcome, LogLine, TaskId, TaskStatus, sealed};
#[cfg(feature = "encryption")]
use crate::model::{TaskRecord, TaskSource};
use crate::store::{Claimed, FinishKind};
use crate::task::{Registry, UnsentReport};

/// The delay before a task is claimed again after its record could not be read.
#[cfg(feature = "encryption")]
const AGAIN: Duration = Duration::from_secs(1);

/// The failure of a run whose arguments could not be opened, or are not sealed in a strict process, or whose end could not be
/// sealed. No further attempt would succeed here.
fn refusal(error: String) -> FinishKind {
    FinishKind::End { status: TaskStatus::Failed, outcome: AttemptOutcome::Failed, error }
}

/// Changes a text that a task produced and that begins like a sealed one. A space after the first character makes it a plain
/// text; JSON keeps its meaning.
fn mark_as_plain(text: &str) -> String {
    format!("{{ {}", &text[1..])
}

/// Makes sure that no result or error of a task is taken for a sealed one.
fn not_sealed(kind: &mut FinishKind) {
    match kind {
        FinishKind::Success { result } if sealed::is_sealed(result) => *result = mark_as_plain(result).into(),
        FinishKind::Retry { error, .. } | FinishKind::End { error, .. } if sealed::is_sealed(error) => {
            *error = mark_as_plain(error);
        }
        _ => {}
    }
}

/// Makes sure that no log line of a task is taken for a sealed one.
pub(super) fn lines_not_sealed(lines: &mut [LogLine]) {
    for line in lines.iter_mut().filter(|line| sealed::is_sealed(&line.message)) {
        line.message = mark_as_plain(&line.message);
    }
}

impl Core {
    /// Whether the arguments of this run must go through [`opened`](Self::opened): they are sealed, or this process may refuse
    /// arguments that are not.
    pub(super) fn must_open(&self, task: &Claimed) -> bool {
        self.sealing.is_some() || sealed::is_sealed(&task.args)
    }

    /// The arguments of a run, opened. An error is the end of the run. The task fails, since no further attempt would succeed
    /// here; if its record could not be read, it goes back to the queue. The stored arguments stay as they are, for a process
    /// with the right keys.
    pub(super) async fn opened(&self, task: &Claimed) -> Result<Arc<str>, FinishKind> {
        if !sealed::is_sealed(&task.args) {
            return self.unsealed(task);
        }
        let refuse = |why: String| refusal(format!("its arguments are sealed: {why}"));
        #[cfg(not(feature = "encryption"))]
        return Err(refuse(self.no_key(&task.args)));
        #[cfg(feature = "encryption")]
        {
            let opened = match Envelope::read(&task.args) {
                Ok(envelope) if envelope.bound().is_some() => {
                    // These are bound to a run key or a schedule, which a claim does not carry.
                    let Ok(record) = self.read("a read", self.store.get(task.run.id)).await else {
                        return Err(FinishKind::GiveBack { delay: AGAIN, outcome: None });
                    };
                    let open = || {
                        record.map_or_else(
                            || Err(envelope.refused()),
                            |record| self.open_args(&envelope, &record),
                        )
                    };
                    panics::catch(open).map_err(|panic| refuse(format!("the key ring {panic}")))?
                }
                Ok(envelope) => {
                    let place =
                        Place { owner: Owner::Task(task.run.id), name: &task.name, field: Field::Args };
                    let opened = panics::catch(|| envelope.open(self.keys(), &place));
                    opened.map_err(|panic| refuse(format!("the key ring {panic}")))?
                }
                Err(error) => Err(error),
            };
            opened.map(Arc::from).map_err(|error| {
                self.note_missing(&error);
                refuse(error.to_string())
            })
        }
    }

    /// Returns the end of a run, its progress and its log lines in the form in which they are stored: the end and the lines of
    /// a sealed task are sealed. `is_ours` marks an end that is an error of taskflow itself. It is not sealed, since an
    /// operator must be able to read it.
    pub(super) fn sealed(
        &self,
        task: &Claimed,
        kind: Option<FinishKind>,
        said: UnsentReport,
        is_ours: bool,
    ) -> (Option<FinishKind>, UnsentReport) {
        let (mut kind, mut said) = (kind, said);
        if let Some(kind) = &mut kind {
            not_sealed(kind);
        }
        lines_not_sealed(&mut said.lines);
        #[cfg(feature = "encryption")]
        if let Some(sealing) = &self.sealing {
            let lines_before = said.lines_before;
            let is_lost = kind.is_none();
            let sealed = panics::catch(|| {
                let kind = if is_ours { kind } else { kind.map(|kind| sealing.seal_end(task, kind)) };
                sealing.seal_lines(task.run.id, &task.name, &mut said.lines);
                (kind, said)
            });
            return sealed.unwrap_or_else(|panic| {
                let end = refusal(format!("what it returned could not be sealed: the key ring {panic}"));
                let nothing = UnsentReport { progress: None, lines: Vec::new(), lines_before };
                ((!is_lost).then_some(end), nothing)
            });
        }
        let _ = (task, is_ours);
        (kind, said)
    }

    /// The text of a panic of a task, for the log of this process. If the errors of the task are sealed, a fixed text takes its
    /// place.
    pub(super) fn for_log<'a>(&self, name: &str, text: &'a str) -> &'a str {
        #[cfg(feature = "encryption")]
        if self
            .sealing
            .as_ref()
            .and_then(|sealing| sealing.of(name))
            .is_some_and(|encrypt| encrypt.parts().errors)
        {
            return "it panicked, and its errors are sealed";
        }
        let _ = name;
        text
    }

    /// The names and aliases of the tasks of this program with sealed log lines.
    pub(super) fn with_sealed_logs(&self, registry: &Registry) -> HashSet<&'static str> {
        #[cfg(feature = "encryption")]
        if let Some(sealing) = &self.sealing {
            let names = registry.all().iter().map(|task| task.config());
            let names =
                names.flat_map(|config| std::iter::once(config.name).chain(config.aliases.iter().copied()));
            let is_sealed = |name: &&str| sealing.of(name).is_some_and(|encrypt| encrypt.parts().logs);
            return names.filter(is_sealed).collect();
        }
        let _ = registry;
        HashSet::new()
    }

    /// Returns arguments that are not sealed. A strict process refuses them if it seals the arguments of this task.
    fn unsealed(&self, task: &Claimed) -> Result<Arc<str>, FinishKind> {
        #[cfg(feature = "encryption")]
        {
            let encrypt = self.sealing.as_ref().and_then(|sealing| sealing.of(&task.name));
            if encrypt.is_some_and(|encrypt| encrypt.is_strict() && encrypt.parts().args) {
                let why = "its arguments are not sealed, and this process is strict: add the task through a manager with keys";
                return Err(refusal(why.to_owned()));
            }
        }
        Ok(task.args.clone())
    }

    /// The result of a task as JSON, or its error, for a caller that waits. `name` is that of the task, if it is known.
    ///
    /// # Errors
    /// Why it cannot be opened.
    pub(crate) async fn open_end(
        &self,
        id: TaskId,
        name: Option<&str>,
        text: &str,
    ) -> Result<String, String> {
        #[cfg(not(feature = "encryption"))]
        {
            let _ = (id, name);
            Err(self.no_key(text))
        }
        #[cfg(feature = "encryption")]
        {
            let read;
            let name = match name {
                Some(name) => name,
                None => {
                    let record = self.read("a read", self.store.get(id)).await;
                    read = record.map_err(|error| error.to_string())?.ok_or("its record is gone")?;
                    &read.name
                }
            };
            let opened = Envelope::read(text).and_then(|envelope| {
                let field = match envelope.attempt() {
                    None => Field::Result,
                    Some(attempt) => Field::Error { attempt },
                };
                envelope.open(self.keys(), &Place { owner: Owner::Task(id), name, field })
            });
            opened.map_err(|error| {
                self.note_missing(&error);
                error.to_string()
            })
        }
    }

    #[cfg(not(feature = "encryption"))]
    fn no_key(&self, text: &str) -> String {
        let key = sealed::key_of(text).unwrap_or_default();
        self.health.missing_key(key);
        format!(
            "key `{key}` is not in this process's key ring: this program was built without the feature `encryption`"
        )
    }
}

#[cfg(feature = "encryption")]
impl Core {
    fn keys(&self) -> Option<&dyn Keys> {
        Some(self.sealing.as_ref()?.encrypt()?.keys())
    }

    /// Whether this process has keys.
    pub(crate) fn has_keys(&self) -> bool {
        self.keys().is_some()
    }

    fn note_missing(&self, error: &OpenError) {
        if let Some(key) = error.missing_key() {
            self.health.missing_key(key);
        }
    }

    /// Whether this process has the key with which a text is sealed.
    pub(super) fn has_key_of(&self, text: &str) -> bool {
        sealed::key_of(text).is_none_or(|id| self.keys().is_some_and(|keys| keys.by_id(id).is_some()))
    }

    fn open_args(&self, envelope: &Envelope<'_>, record: &TaskRecord) -> Result<String, OpenError> {
        envelope.open(self.keys(), &place_of_args(envelope, record)?)
    }

    /// The arguments of a task, re-sealed with the current key. `None` if they already are sealed with it, if they are not
    /// sealed at all, if this process has no keys, or if the task has succeeded and so never runs again.
    pub(crate) fn resealed(&self, record: &TaskRecord) -> Result<Option<String>, OpenError> {
        let args = record.args.get();
        if record.status == TaskStatus::Success || !sealed::is_sealed(args) {
            return Ok(None);
        }
        let envelope = Envelope::read(args)?;
        self.reseal(&envelope, &place_of_args(&envelope, record)?)
    }

    /// The same for the arguments of a schedule.
    pub(crate) fn resealed_schedule(&self, task: &str, args: &str) -> Result<Option<String>, OpenError> {
        if !sealed::is_sealed(args) {
            return Ok(None);
        }
        let place = Place { owner: Owner::Schedule, name: task, field: Field::Args };
        self.reseal(&Envelope::read(args)?, &place)
    }

    fn reseal(&self, envelope: &Envelope<'_>, place: &Place<'_>) -> Result<Option<String>, OpenError> {
        let keys = self.keys();
        match keys.map(Keys::current) {
            Some(current) if current.id() != envelope.key() => {
                Ok(Some(seal(&current, place, &envelope.open(keys, place)?)))
            }
            _ => Ok(None),
        }
    }
}

/// What the arguments of a task are bound to.
#[cfg(feature = "encryption")]
fn place_of_args<'a>(envelope: &Envelope<'_>, record: &'a TaskRecord) -> Result<Place<'a>, OpenError> {
    let owner = match envelope.bound() {
        None => Some(Owner::Task(record.id)),
        Some(Bound::RunKey) => record.run_key.as_deref().map(Owner::RunKey),
        Some(Bound::Schedule) => (record.source == TaskSource::Schedule).then_some(Owner::Schedule),
    };
    let owner = owner.ok_or_else(|| envelope.refused())?;
    Ok(Place { owner, name: &record.name, field: Field::Args })
}

#[cfg(feature = "encryption")]
impl Core {
    /// The record with its sealed parts opened.
    pub(crate) fn open_record(&self, record: &TaskRecord) -> Result<TaskRecord, OpenError> {
        let mut opened = record.clone();
        let json =
            |text: String| serde_json::value::RawValue::from_string(text).map_err(|_| OpenError::Damaged);
        let place = |field| Place { owner: Owner::Task(record.id), name: &record.name, field };
        if sealed::is_sealed(record.args.get()) {
            opened.args = json(self.open_args(&Envelope::read(record.args.get())?, record)?)?;
        }
        if let Some(result) = record.result.as_ref().filter(|result| sealed::is_sealed(result.get())) {
            let envelope = Envelope::read(result.get())?;
            opened.result = Some(json(envelope.open(self.keys(), &place(Field::Result))?)?);
        }
        if let Some(error) = opened.error.as_mut().filter(|error| sealed::is_sealed(error)) {
            let envelope = Envelope::read(error)?;
            let attempt = envelope.attempt().ok_or_else(|| envelope.refused())?;
            *error = envelope.open(self.keys(), &place(Field::Error { attempt }))?;
        }
        for attempt in &mut opened.attempts {
            if let Some(error) = attempt.error.as_mut().filter(|error| sealed::is_sealed(error)) {
                let field = Field::Error { attempt: attempt.number };
                *error = Envelope::read(error)?.open(self.keys(), &place(field))?;
            }
        }
        Ok(opened)
    }

    /// Log lines of this task, opened.
    pub(crate) fn open_lines(
        &self,
        record: &TaskRecord,
        mut lines: Vec<LogLine>,
    ) -> Result<Vec<LogLine>, OpenError> {
        for line in lines.iter_mut().filter(|line| sealed::is_sealed(&line.message)) {
            let field = Field::Log { attempt: line.attempt };
            let place = Place { owner: Owner::Task(record.id), name: &record.name, field };
            line.message = Envelope::read(&line.message)?.open(self.keys(), &place)?;
        }
        Ok(lines)
    }
}
