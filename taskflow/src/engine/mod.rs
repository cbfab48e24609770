//! What moves tasks: it takes adds to the store, claims what is due, runs it, writes how it ended, keeps the leases,
//! and ends in order. A task passes through these rooms in this order:
//!
//! [`adder`] → [`dispatcher`] → [`execution`] (or [`blocking`]) → [`dispatcher`] again, which writes the end in the same
//! round trip that claims the next. [`run`] is what these hand on, and the [`worker`] takes it from each to the next. A run
//! holds a permit of the [`slots`], which say how much may be under way; [`prefetch`] says how much more is claimed
//! meanwhile.
//!
//! Beside them: [`lease`] keeps runs alive from a thread of its own and shows others that the process lives, [`recovery`]
//! moves on what other processes lost, [`reporter`] stores what running tasks say, [`prune`] deletes what is past its
//! retention, [`queue_watch`] takes the [`queue_limits`] from the store, [`end_reader`] reads the ends that callers wait
//! for, [`schedule`] fires what is due by the clock, [`unknown_tasks`] tells of tasks nobody here knows, [`shutdown`] ends it all.
//!
//! [`joining`] makes the process known to the store, and [`presence`] knows where it is between that and having left;
//! [`supervision`] starts a part again that panicked, and [`guarded`] turns the panics of a program's own store into
//! errors.

pub(crate) mod adder;
pub(crate) mod backoff;
pub(crate) mod blocking;
pub(crate) mod completion;
pub(crate) mod core;
pub(crate) mod dispatcher;
pub(crate) mod end_reader;
pub(crate) mod events;
pub(crate) mod execution;
mod guarded;
pub(crate) mod health;
pub(crate) mod holds;
pub(crate) mod joining;
pub(crate) mod lease;
pub(crate) mod listener;
pub(crate) mod panics;
mod prefetch;
pub(crate) mod presence;
pub(crate) mod prune;
pub(crate) mod queue_limits;
pub(crate) mod queue_watch;
pub(crate) mod recovery;
pub(crate) mod release;
pub(crate) mod reporter;
pub(crate) mod retry;
pub(crate) mod run;
pub(crate) mod runs;
pub(crate) mod schedule;
pub(crate) mod shutdown;
pub(crate) mod slots;
pub(crate) mod supervision;
pub(crate) mod tally;
pub(crate) mod unknown_tasks;
pub(crate) mod viewer;
pub(crate) mod waiters;
pub(crate) mod worker;
mod written;
