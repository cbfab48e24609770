//! What the command prints: tables for people, tab-separated lines, JSON and lines of JSON for programs.

mod clean;
mod out;
mod spark;
mod style;
mod table;
pub(super) mod words;

pub(super) use clean::{clean, clean_lines};
pub(super) use out::{Format, Out};
pub(super) use spark::spark;
pub(super) use style::{Color, Style};
pub(super) use table::{Cell, Column, Table};
