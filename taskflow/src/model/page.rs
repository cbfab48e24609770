//! Pages of lists, and their order.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use super::TaskId;

/// An opaque position between two pages. It stays valid as long as the records are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Cursor(TaskId);

impl Cursor {
    /// The position after this task.
    #[must_use]
    pub fn after(id: TaskId) -> Self {
        Self(id)
    }

    /// The last task before this position.
    #[must_use]
    pub fn id(self) -> TaskId {
        self.0
    }
}

/// The order of a list: by task id. An id begins with the time at which it was made, so this is the order of the adds, as far as
/// the clocks of the adding processes agree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// The newest task first.
    #[default]
    Newest,
    /// The oldest task first.
    Oldest,
}

impl Order {
    /// The word for it: `newest` or `oldest`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Newest => "newest",
            Self::Oldest => "oldest",
        }
    }

    /// Compares two tasks in this order: `Less` if `a` comes first.
    #[must_use]
    pub fn compare(self, a: TaskId, b: TaskId) -> Ordering {
        match self {
            Self::Newest => b.cmp(&a),
            Self::Oldest => a.cmp(&b),
        }
    }
}

/// One page of a longer list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Page<T> {
    /// The items of this page.
    pub items: Vec<T>,
    /// Pass this to [`TaskFilter::after`](super::TaskFilter::after) to read the next page; `None` on the last page.
    pub next: Option<Cursor>,
}

impl<T> Page<T> {
    /// A page with these items.
    #[must_use]
    pub fn new(items: Vec<T>, next: Option<Cursor>) -> Self {
        Self { items, next }
    }
}
