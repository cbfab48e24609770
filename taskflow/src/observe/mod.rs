//! What a process counts of its work. The [`meter`] is always on, and costs a task a few additions to numbers in memory.

mod meter;

pub(crate) use meter::{CellId, Counter, InRow, Meter, Values};
