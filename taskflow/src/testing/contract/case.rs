//! One case: a promise of the contract, and the test that checks it.

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use super::fixture::Stores;
use super::lab::Lab;

/// How much of the contract a store keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Part {
    /// What tasks need to be added, run, retried, cancelled and recovered, in one process or in several. A store that keeps
    /// this part runs the tasks of a program. It must refuse what it does not support.
    Basic,
    /// The whole contract: [`Basic`](Self::Basic), and also keys, limits, prefetch, holds, expiry, schedules, documents,
    /// several handles, and random histories that are compared with a model.
    Full,
}

/// One case of the suite: a promise of the contract.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    pub(crate) room: &'static str,
    pub(crate) name: &'static str,
    pub(crate) part: Part,
    pub(crate) run: Run,
}

/// How a case runs.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Run {
    /// On one fresh store that two processes have joined.
    OnStore(fn(Lab) -> Pin<Box<dyn Future<Output = ()>>>),
    /// On stores that it opens itself, any number of them.
    OnStores(fn(&Stores)),
}

impl Case {
    /// The promise, as the name of a test: `a_task_is_read_back_as_it_was_added`. No two cases share a name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// What the promise is about: `insert`, `claim`, `finish` and so on.
    #[must_use]
    pub fn room(&self) -> &'static str {
        self.room
    }

    /// The smallest part of the contract that has this case.
    #[must_use]
    pub fn part(&self) -> Part {
        self.part
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}::{}", self.room, self.name)
    }
}
