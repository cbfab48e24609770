//! The progress and log lines of a run, until they are stored.

use std::mem;

use crate::model::{LogLevel, LogLine, Progress};

/// The progress and log lines of a run that have not been stored yet.
#[derive(Debug, Default)]
pub(super) struct PendingReport {
    pub(super) progress: Option<Progress>,
    lines: Vec<LogLine>,
    /// How many lines of this run are stored.
    stored: u32,
    /// How many lines and bytes of messages this run has logged.
    used: (u32, u32),
    truncated: bool,
    announced: bool,
    reporting: bool,
    ended: bool,
}

/// Progress and log lines to store, during a run or together with its outcome.
#[derive(Clone, Debug)]
pub(crate) struct UnsentReport {
    pub(crate) progress: Option<Progress>,
    pub(crate) lines: Vec<LogLine>,
    /// How many lines the task had before these.
    pub(crate) lines_before: u32,
}

impl PendingReport {
    /// Adds a line, unless the run has already logged `most_lines` lines or `most_bytes` bytes of messages. At that limit, one
    /// more line says that further lines are dropped.
    pub(super) fn log(&mut self, mut line: LogLine, (most_lines, most_bytes): (u32, u32)) {
        if self.truncated {
            return;
        }
        let (lines, bytes) = self.used;
        let room = (most_bytes - bytes) as usize;
        let (at, attempt) = (line.at, line.attempt);
        let fits = line.message.len() <= room && lines < most_lines;
        if !fits {
            // Keep the part that fits. So a later attempt sees from the stored totals that the limit is reached.
            line.message.truncate(line.message.floor_char_boundary(room));
        }
        if lines < most_lines && (fits || !line.message.is_empty()) {
            self.used = (lines + 1, bytes + line.message.len() as u32);
            self.lines.push(line);
        }
        if !fits {
            self.truncated = true;
            let note = "truncated: this task has reached its log limit".to_owned();
            self.lines.push(LogLine::new(at, LogLevel::Warn, note, attempt));
        }
    }

    /// Marks that there is something to report. Returns `false` if that was already marked.
    pub(super) fn announce(&mut self) -> bool {
        !mem::replace(&mut self.announced, true)
    }

    /// Takes everything that has not been reported; `None` if there is nothing, or after [`take_last`](Self::take_last). The task
    /// had `before` lines before this run.
    pub(super) fn begin(&mut self, before: u32) -> Option<UnsentReport> {
        self.announced = false;
        if self.ended || (self.progress.is_none() && self.lines.is_empty()) {
            return None;
        }
        self.reporting = true;
        Some(self.take(before))
    }

    /// Takes everything for the last time; `None` while a report is in flight.
    pub(super) fn take_last(&mut self, before: u32) -> Option<UnsentReport> {
        if self.reporting {
            return None;
        }
        self.ended = true;
        Some(self.take(before))
    }

    fn take(&mut self, before: u32) -> UnsentReport {
        let lines_before = before.saturating_add(self.stored);
        UnsentReport { progress: self.progress.take(), lines: mem::take(&mut self.lines), lines_before }
    }

    /// Counts the stored lines.
    pub(super) fn count_stored(&mut self, said: &UnsentReport) {
        self.stored = self.stored.saturating_add(u32::try_from(said.lines.len()).unwrap_or(u32::MAX));
    }

    /// Puts back a report that may not have been stored: its lines before those logged since, and its progress unless there is a
    /// newer one.
    pub(super) fn put_back(&mut self, said: UnsentReport) {
        let UnsentReport { progress, mut lines, .. } = said;
        lines.append(&mut self.lines);
        self.lines = lines;
        self.progress = self.progress.take().or(progress);
    }

    /// Marks that the report is no longer in flight.
    pub(super) fn end(&mut self) {
        self.reporting = false;
    }
}
