//! The contract between the engine and a database, and the stores that implement it.
//!
//! [`Store`] is all that the engine knows of a database. A `&dyn Store` is enough to run everything. Its documentation
//! is the specification, [`transition`] has the rules of a task's states, and one test suite runs against every
//! implementation: `taskflow::testing::contract`, of the feature `store-contract`.

mod claim;
mod claim_queues;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod codec;
mod contract;
mod document;
mod end;
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "redis"))]
mod fingerprint;
mod finish;
#[cfg(any(feature = "postgres", feature = "redis"))]
mod hint_set;
mod insert;
mod layer;
pub(crate) mod liveness;
mod memory;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(any(feature = "sqlite", feature = "redis"))]
mod prefetch;
#[cfg(feature = "redis")]
mod redis;
mod retention;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod row_state;
mod schedule;
mod source;
#[cfg(feature = "sqlite")]
mod sqlite;
#[cfg(any(feature = "postgres", feature = "redis"))]
mod suspects;
pub mod transition;
mod url;
mod window;

pub use crate::model::recovery_policy::{AfterLoss, LostRun};
pub use claim::{Claim, Claimed, Claims, Recovered, RecoveredFrom, Renewal, Renewed, RunRef};
pub use claim_queues::{ClaimQueue, ClaimQueues, SharedLimits};
pub use contract::{
    Capabilities, Hint, HintStream, Immediate, QueueState, ReleasedTurn, ReplaceArgs, Store, StoreFuture,
};
pub use document::{Document, DocumentQuery, DocumentWrite};
pub use end::TaskEnd;
pub use finish::{Finish, FinishKind, Finished, HoldOutcome, Release, Reopen, Report};
pub use insert::{InsertBatch, InsertGroup, InsertTask, Inserted, InsertedAs, Refusal, Start};
pub use layer::{StoreCall, StoreLayer};
pub use liveness::{Liveness, LivenessStream};
pub use memory::MemoryStore;
#[cfg(feature = "postgres")]
pub use postgres::{PostgresOptions, PostgresStore};
#[cfg(feature = "redis")]
pub use redis::RedisStore;
pub use retention::Retention;
pub use schedule::{Declaration, Fire, FireAfter, Fired, ScheduleChange, ScheduleChanges, ScheduleState};
pub use source::{IntoStore, StoreSource};
#[cfg(feature = "sqlite")]
pub use sqlite::{SqliteStore, Synchronous};
pub use window::StartWindow;
