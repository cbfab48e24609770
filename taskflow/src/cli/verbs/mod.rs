//! The verbs: each file reads its options, calls the library, and prints.

pub(super) mod add;
pub(super) mod attention;
pub(super) mod audit;
pub(super) mod catalogue;
pub(super) mod contexts;
pub(super) mod export;
pub(super) mod failures;
pub(super) mod keys;
pub(super) mod list;
pub(super) mod logs;
pub(super) mod many;
pub(super) mod migrate;
pub(super) mod parse;
pub(super) mod queues;
pub(super) mod schedules;
pub(super) mod secrets;
pub(super) mod serve;
pub(super) mod show;
pub(super) mod stats;
pub(super) mod status;
