//! Draws the state. Tables are those of the other verbs.

mod ink;
mod overview;
mod page;
mod table;
mod task;

pub(super) use page::draw;
