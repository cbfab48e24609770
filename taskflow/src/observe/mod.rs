//! Code around tasks: [`Middleware`], hooks on adds ([`OnAdd`]) and observers ([`Observer`]), with observers that write JSON
//! lines to a log ([`LogObserver`]) or a file ([`FileObserver`]) or keep events for a test ([`MemoryObserver`]).
//!
//! | to | write |
//! |---|---|
//! | do something around each attempt, change its outcome, hand values to the body | a [`Middleware`] |
//! | tag, route, change or refuse tasks before they are stored | an [`OnAdd`], or a closure |
//! | hear of what has happened, without being on the path of tasks | an [`Observer`] |
//!
//! The guide `docs/hooks.md` in the repository compares them, and the example `hooks` shows them all.

mod file;
mod interest;
mod line;
mod log;
mod memory;
mod meter;
mod observer;
mod on_add;

pub use self::file::FileObserver;
pub use self::interest::Interest;
pub use self::log::LogObserver;
pub use self::memory::MemoryObserver;
pub(crate) use self::meter::{CellId, Counter, InRow, Meter, Values};
pub use self::observer::Observer;
pub use self::on_add::OnAdd;
#[doc(inline)]
pub use crate::model::{BoxFuture, EventKind, Extensions, Middleware, Next, Run, RunOutcome, Tags};
