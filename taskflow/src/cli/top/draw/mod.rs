//! Draws the state. The tables are those that the other verbs print.

mod ink;
mod overview;
mod page;
mod table;
mod task;

pub(super) use page::draw;
