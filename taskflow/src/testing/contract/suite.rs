//! A suite: the stores of one kind, and the cases that run on them.

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};

use tokio::runtime::{Builder, Runtime};

use super::case::{Case, Part, Run};
use super::fixture::{Fixture, Stores};
use super::lab::Lab;
use super::list::CASES;

/// The cases of a part of the contract, in the order in which [`Suite::run_all`] runs them.
pub fn cases(part: Part) -> impl Iterator<Item = &'static Case> {
    CASES.iter().filter(move |case| part == Part::Full || case.part == part)
}

/// Opens stores of one kind, and runs cases on them. See the [module](super) for an example.
#[derive(Clone)]
pub struct Suite {
    stores: Stores,
}

impl Suite {
    /// The default number of random [histories](Self::histories).
    pub const DEFAULT_HISTORIES: u32 = 50;

    /// A suite of the stores that `open` returns. Each call returns a store without tasks. It may return `None` if no
    /// such store is available, for example because its server is not installed: then the case does nothing.
    #[must_use]
    pub fn new<O, F>(open: O) -> Self
    where
        O: Fn() -> F + Send + Sync + 'static,
        F: Future<Output: Into<Option<Fixture>>> + Send + 'static,
    {
        Self { stores: Stores::new(open, Self::DEFAULT_HISTORIES) }
    }

    /// Sets how many random histories each case with histories compares with its model. The environment variable
    /// `PROPTEST_CASES` takes precedence.
    #[must_use]
    pub fn histories(self, histories: u32) -> Self {
        Self { stores: self.stores.with_histories(histories) }
    }

    /// Runs the case of that name, on a runtime of its own.
    ///
    /// # Panics
    ///
    /// If the store breaks the promise, with what it did; if no case has this name; if it is called from inside an async
    /// function.
    pub fn run(&self, name: &str) {
        let case = CASES.iter().find(|case| case.name == name);
        let Some(case) = case else { panic!("the store contract has no case `{name}`") };
        self.perform(case);
    }

    /// Runs every case of `part` that `chosen` accepts, one after the other, and reports which of them passed. A case
    /// that fails also prints its panic. Inside an async function every case fails, because each needs a runtime of its own.
    #[must_use]
    pub fn run_all(&self, part: Part, chosen: impl Fn(&Case) -> bool) -> Report {
        let mut report = Report::default();
        for case in cases(part).filter(|case| chosen(case)) {
            match catch_unwind(AssertUnwindSafe(|| self.perform(case))) {
                Ok(()) => report.passed.push(*case),
                Err(panic) => report.failed.push((*case, message(&*panic))),
            }
        }
        report
    }

    fn perform(&self, case: &Case) {
        match case.run {
            Run::OnStore(run) => runtime().block_on(async {
                let Some(fixture) = self.stores.open().await else { return };
                run(Lab::new(fixture).await).await;
            }),
            Run::OnStores(run) => run(&self.stores),
        }
    }
}

impl fmt::Debug for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Suite").field("histories", &self.stores.histories).finish_non_exhaustive()
    }
}

/// A runtime with two threads, so that concurrent calls really happen at the same time.
fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("threads for a runtime")
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "panicked".to_owned())
}

/// Which cases a store passed and which not. `Display` writes a line for each case, and the number of both.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Report {
    /// The promises that the store keeps, and those whose cases did nothing because no store was available.
    pub passed: Vec<Case>,
    /// The promises that it breaks, each with the message of the panic.
    pub failed: Vec<(Case, String)>,
}

impl Report {
    /// Whether there were cases, and none failed.
    #[must_use]
    pub fn is_success(&self) -> bool {
        self.failed.is_empty() && !self.passed.is_empty()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for case in &self.passed {
            writeln!(f, "passed  {case}")?;
        }
        for (case, what) in &self.failed {
            writeln!(f, "FAILED  {case}: {what}")?;
        }
        write!(f, "{} passed, {} failed", self.passed.len(), self.failed.len())
    }
}
