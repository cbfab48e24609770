//! A check of a program's tasks for its continuous integration: would a deployment strand stored work?

mod compare;
mod inventory;
mod program;

pub use compare::Difference;
pub use inventory::{Inventory, ScheduleEntry};
pub use program::check;
