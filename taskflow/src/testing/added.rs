//! Assertions about added tasks.

use std::fmt::{self, Write};
use std::marker::PhantomData;
use std::time::Duration;

use super::Length;
use crate::manager::{TaskHandle, TaskManager};
use crate::model::{TaskRecord, time};
use crate::seam::Seam;
use crate::store::MemoryStore;
use crate::task::{Payload, Task};

/// By how much the time in `run_in` may differ.
const TOLERANCE: Duration = Duration::from_secs(1);

/// The pause between two checks of `within`.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Checks a record: `None` if it fits the wish, otherwise what the record has instead.
type Check = Box<dyn Fn(&TaskRecord) -> Option<String> + Send + Sync>;

struct Wish {
    field: String,
    check: Check,
}

/// An assertion about the added tasks of one type. It is checked by [`once`](Self::once), [`times`](Self::times),
/// [`any`](Self::any), or after a wait by [`within`](Self::within). A miss prints what was added instead, field by field.
#[must_use = "an assertion is checked by `once`, `times`, `any` or `within`"]
pub struct AssertAdded<'t, T> {
    memory: &'t MemoryStore,
    manager: &'t TaskManager,
    wishes: Vec<Wish>,
    task: PhantomData<fn() -> T>,
}

impl<'t, T: Task> AssertAdded<'t, T> {
    pub(super) fn new(memory: &'t MemoryStore, manager: &'t TaskManager) -> Self {
        Self { memory, manager, wishes: Vec::new(), task: PhantomData }
    }

    fn wish(
        mut self,
        field: impl Into<String>,
        check: impl Fn(&TaskRecord) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        self.wishes.push(Wish { field: field.into(), check: Box::new(check) });
        self
    }

    /// With arguments that pass this check.
    pub fn with(self, is: impl Fn(&T::Args) -> bool + Send + Sync + 'static) -> Self {
        self.wish("arguments as the test wants them", move |record| {
            (!is(&decoded::<T>(record))).then(|| format!("they are {}", record.args.get()))
        })
    }

    /// In this queue.
    pub fn on_queue(self, queue: impl Into<String>) -> Self {
        let queue = queue.into();
        self.wish(format!("queue `{queue}`"), move |record| {
            (record.queue != queue).then(|| format!("it is in queue `{}`", record.queue))
        })
    }

    /// With this priority.
    pub fn priority(self, priority: i16) -> Self {
        self.wish(format!("priority {priority}"), move |record| {
            (record.priority != priority).then(|| format!("its priority is {}", record.priority))
        })
    }

    /// With this tag.
    pub fn tagged(self, key: impl Into<String>, value: impl Into<String>) -> Self {
        let (key, value) = (key.into(), value.into());
        self.wish(format!("tag `{key}` = `{value}`"), move |record| match record.tags.get(&key) {
            Some(found) if *found == value => None,
            Some(found) => Some(format!("its tag `{key}` is `{found}`")),
            None => Some(format!("it has no tag `{key}`, only {:?}", record.tags)),
        })
    }

    /// Due this long after its add, to a second.
    pub fn run_in(self, length: impl Length) -> Self {
        let length = length.length();
        self.wish(format!("due {length:?} after its add"), move |record| {
            let found = record.run_at.duration_since(record.created_at).unwrap_or_default();
            (found.abs_diff(length) > TOLERANCE).then(|| format!("it is due {found:?} after its add"))
        })
    }

    /// With this idempotency key.
    pub fn key(self, key: impl Into<String>) -> Self {
        let key = key.into();
        self.wish(format!("idempotency key `{key}`"), move |record| match &record.idempotency_key {
            Some(found) if *found == key => None,
            Some(found) => Some(format!("its key is `{found}`")),
            None => Some("it has no idempotency key".to_owned()),
        })
    }

    fn found(&self) -> Vec<TaskHandle<T::Value>> {
        let records = records_of::<T>(self.memory, self.manager).into_iter();
        let fits = |record: &TaskRecord| self.wishes.iter().all(|wish| (wish.check)(record).is_none());
        records.filter(fits).map(|record| self.manager.handle_of(record.id)).collect()
    }

    /// Exactly one such task was added. Answers its handle.
    ///
    /// # Panics
    /// If none or several were.
    #[track_caller]
    #[expect(clippy::must_use_candidate, reason = "an assertion is made for its panic")]
    pub fn once(self) -> TaskHandle<T::Value> {
        self.times(1).remove(0)
    }

    /// Exactly `times` such tasks were added. Answers their handles, in the order of their adds.
    ///
    /// # Panics
    /// If fewer or more were.
    #[track_caller]
    #[expect(clippy::must_use_candidate, reason = "an assertion is made for its panic")]
    pub fn times(self, times: usize) -> Vec<TaskHandle<T::Value>> {
        let found = self.found();
        if found.len() != times {
            panic!("{}", self.miss(&format!("{times}"), found.len()));
        }
        found
    }

    /// At least one such task was added. Answers the handles of all, in the order of their adds.
    ///
    /// # Panics
    /// If none was.
    #[track_caller]
    #[expect(clippy::must_use_candidate, reason = "an assertion is made for its panic")]
    pub fn any(self) -> Vec<TaskHandle<T::Value>> {
        let found = self.found();
        if found.is_empty() {
            panic!("{}", self.miss("at least one", 0));
        }
        found
    }

    /// Waits, in real time, until at least one such task has been added. Answers the handles of all.
    ///
    /// # Panics
    /// If none was added in time.
    pub async fn within(self, length: impl Length) -> Vec<TaskHandle<T::Value>> {
        let (seam, length) = (Seam::default(), length.length());
        let began = seam.instant();
        loop {
            let found = self.found();
            if !found.is_empty() {
                return found;
            }
            if seam.since(began) >= length {
                panic!("{}", self.miss(&format!("at least one within {length:?}"), 0));
            }
            seam.sleep(LOOK_EVERY).await;
        }
    }

    fn miss(&self, wanted: &str, found: usize) -> String {
        let name = T::DESCRIPTOR.config().name;
        let mut text = format!("`{name}`: {wanted} wanted, {found} added");
        if !self.wishes.is_empty() {
            let wishes: Vec<_> = self.wishes.iter().map(|wish| wish.field.as_str()).collect();
            let _ = write!(text, ", with {}", wishes.join(", "));
        }
        let all = self.memory.records();
        let (of_type, others): (Vec<_>, Vec<_>) = all.iter().partition(|record| record.name == name);
        for (number, record) in of_type.iter().enumerate() {
            let _ = write!(text, "\n  {}. {} in queue `{}`", number + 1, record.args.get(), record.queue);
            let _ = write!(text, ", {}, added {}", record.status, time::rfc3339(record.created_at));
            for wish in &self.wishes {
                match (wish.check)(record) {
                    None => {
                        let _ = write!(text, "\n       fits: {}", wish.field);
                    }
                    Some(instead) => {
                        let _ = write!(text, "\n     misses: {}: {instead}", wish.field);
                    }
                }
            }
        }
        if of_type.is_empty() {
            let _ = write!(text, "\n  no `{name}` was added at all");
        }
        let mut names: Vec<_> = others.iter().map(|record| record.name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        if !names.is_empty() {
            let _ = write!(text, "\n  other tasks that were added: {}", names.join(", "));
        }
        text
    }
}

impl<T: Task> fmt::Debug for AssertAdded<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AssertAdded").field("task", &T::DESCRIPTOR.config().name).finish_non_exhaustive()
    }
}

/// The stored arguments of a task.
#[track_caller]
pub(super) fn decoded<T: Task>(record: &TaskRecord) -> T::Args {
    let decoded = Payload::parse(record.args.get()).and_then(|payload| T::decode(&payload));
    match decoded {
        Ok(args) => args,
        Err(error) => {
            panic!("the arguments of `{}` do not decode: {error}: {}", record.name, record.args.get())
        }
    }
}

/// The records of the tasks of this type, decrypted, in the order of their adds.
pub(super) fn records_of<T: Task>(memory: &MemoryStore, manager: &TaskManager) -> Vec<TaskRecord> {
    let name = T::DESCRIPTOR.config().name;
    let records = memory.records().into_iter().filter(|record| record.name == name);
    records.map(|record| manager.opened(record)).collect()
}
