//! The contract of [`Store`](crate::store::Store) as a suite of tests, for everybody who writes a store.
//!
//! Each case is one promise of the contract, named as a sentence. It opens a store without tasks, lets two processes join it,
//! and shows that the store keeps the promise. [`Part::Basic`] is what a store needs to run tasks; [`Part::Full`] is the whole
//! contract, with random histories that run on the store and on a model: both must give the same answers.
//!
//! [`tests!`] makes a test of each case, so that a test runner shows, filters and repeats them one by one. Only the
//! development dependencies of the store's crate need the feature `store-contract`:
//!
//! ```
//! # struct OfDoc;
//! mod my_store {
//!     use taskflow::store::MemoryStore; // or a store of yours
//!     use taskflow::testing::contract::{Fixture, Suite, tests};
//!
//!     fn suite() -> Suite {
//!         Suite::new(|| async {
//!             let store = MemoryStore::new();
//!             let same = store.clone();
//!             Fixture::new(store).another_handle(move || std::future::ready(same.clone()))
//!         })
//!     }
//!
//!     tests!(full: suite());
//! }
//! ```
//!
//! Where there is no test harness, [`Suite::run_all`] runs the cases and reports on them:
//!
//! ```
//! use taskflow::store::MemoryStore;
//! use taskflow::testing::contract::{Fixture, Part, Suite};
//!
//! let suite = Suite::new(|| async { Fixture::new(MemoryStore::new()) });
//! let report = suite.run_all(Part::Basic, |case| case.room() == "reads");
//! assert!(report.is_success(), "{report}");
//! ```
//!
//! The list of cases is not covered by semantic versioning: a later version may add cases, and so find more mistakes.

#![allow(clippy::disallowed_methods, reason = "the cases call real stores, in real time")]
#![expect(clippy::unwrap_used, reason = "a case that finds an error fails")]

mod case;
mod claim;
mod compare;
mod controls;
mod documents;
mod drain;
mod each_test;
mod expiry;
mod finish;
mod fixture;
mod handles;
mod history;
mod insert;
mod key_limits;
mod keys;
mod lab;
mod leases;
mod limits;
mod list;
mod model;
mod model_limits;
mod model_schedules;
mod prefetch;
mod queue_infos;
mod random;
mod reads;
mod schedules;
mod suite;

/// Makes a test of each case of the contract: `tests!(basic: suite)` of the basic part, `tests!(full: suite)` of the whole
/// contract. `suite` is an expression for a [`Suite`], which each test evaluates. Write it into a module that bears the
/// name of the store.
pub use crate::__store_contract_tests as tests;
pub use case::{Case, Part};
pub use fixture::Fixture;
pub use suite::{Report, Suite, cases};
