//! The standard output.

use std::io::{self, IsTerminal, Write};

use serde::Serialize;

use super::{Style, Table};
use crate::cli::failure::{Failure, Result};

/// The width of a table if neither a terminal nor `COLUMNS` gives one.
const WIDTH: usize = 120;

/// How things are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) enum Format {
    /// Aligned, in words, cut to the terminal.
    Table,
    /// Tab-separated, with whole values.
    Tabs,
    /// One document.
    Json,
    /// A document in each line.
    Lines,
}

/// The standard output, and how to write to it.
#[derive(Clone, Copy, Debug)]
pub(in crate::cli) struct Out {
    pub(in crate::cli) format: Format,
    pub(in crate::cli) style: Style,
    pub(in crate::cli) width: usize,
}

impl Out {
    pub(in crate::cli) fn new(format: Format, style: Style) -> Self {
        let told = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
        let width = match io::stdout().is_terminal() {
            true => {
                ratatui::crossterm::terminal::size().ok().map(|(columns, _)| usize::from(columns)).or(told)
            }
            false => told,
        };
        Self { format, style, width: width.filter(|width| *width > 0).unwrap_or(WIDTH) }
    }

    /// Whether people read it.
    pub(in crate::cli) fn is_for_people(self) -> bool {
        self.format == Format::Table
    }

    /// Whether it is JSON.
    pub(in crate::cli) fn is_json(self) -> bool {
        matches!(self.format, Format::Json | Format::Lines)
    }

    /// Writes a text as it is.
    pub(in crate::cli) fn text(self, text: &str) -> Result<()> {
        self.bytes(text.as_bytes())
    }

    /// Writes bytes as they are.
    pub(in crate::cli) fn bytes(self, bytes: &[u8]) -> Result<()> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(bytes).and_then(|()| stdout.flush()).map_err(|error| Failure::output(&error))
    }

    /// Writes a text and a line break.
    pub(in crate::cli) fn line(self, text: &str) -> Result<()> {
        self.text(&format!("{text}\n"))
    }

    /// Writes a document.
    pub(in crate::cli) fn json(self, value: &impl Serialize) -> Result<()> {
        let text = match self.format {
            Format::Lines => serde_json::to_string(value),
            _ => serde_json::to_string_pretty(value),
        };
        self.line(&text.map_err(|error| Failure::failed(error.to_string()))?)
    }

    /// Writes a table for people, or tab-separated lines for programs.
    pub(in crate::cli) fn table(self, table: &Table) -> Result<()> {
        match self.format {
            Format::Table => self.text(&table.shown(self.width, self.style)),
            _ => self.text(&table.tabs()),
        }
    }

    /// Writes a list: a table, or the document of the whole list, or a line for each item.
    pub(in crate::cli) fn list<T: Serialize>(
        self,
        table: impl FnOnce() -> Table,
        whole: &impl Serialize,
        items: &[T],
    ) -> Result<()> {
        match self.format {
            Format::Json => self.json(whole),
            Format::Lines => items.iter().try_for_each(|item| self.json(item)),
            Format::Table | Format::Tabs => self.table(&table()),
        }
    }
}
