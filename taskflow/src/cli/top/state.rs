//! What `taskflow top` shows, the events that change it, and the requests that follow.

use std::collections::BTreeSet;
use std::time::SystemTime;

use ratatui::crossterm::event::KeyEvent;
use taskflow::admin::{AuditEntry, Failures, Verb};
use taskflow::{Counts, InstanceInfo, LogLine, QueueInfo, ScheduleInfo, TaskId, TaskRecord};

use crate::cli::verbs::attention::Attention;
use taskflow::web::Accent;

/// The pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tab {
    Overview,
    Tasks,
    Failures,
    Queues,
    Schedules,
    Workers,
    Audit,
}

impl Tab {
    pub(super) const ALL: [Self; 7] = [
        Self::Overview,
        Self::Tasks,
        Self::Failures,
        Self::Queues,
        Self::Schedules,
        Self::Workers,
        Self::Audit,
    ];

    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Overview => "Overview",
            Self::Tasks => "Tasks",
            Self::Failures => "Failures",
            Self::Queues => "Queues",
            Self::Schedules => "Schedules",
            Self::Workers => "Workers",
            Self::Audit => "Audit",
        }
    }

    pub(super) fn index(self) -> usize {
        Self::ALL.iter().position(|tab| *tab == self).unwrap_or(0)
    }
}

/// What has been read from the store. Fields that the open page does not show may come from an earlier read.
#[derive(Clone, Debug, Default)]
pub(super) struct Data {
    /// The page for which it was read.
    pub(super) tab: Option<Tab>,
    pub(super) counts: Counts,
    pub(super) queues: Vec<QueueInfo>,
    pub(super) instances: Vec<InstanceInfo>,
    pub(super) attention: Vec<Attention>,
    pub(super) tasks: Vec<TaskRecord>,
    /// Whether there are more tasks than those of this page.
    pub(super) has_more: bool,
    pub(super) failures: Failures,
    pub(super) schedules: Vec<ScheduleInfo>,
    pub(super) audit: Vec<AuditEntry>,
    /// Runs that ended in each of the last minutes, the oldest first.
    pub(super) throughput: Vec<u64>,
}

/// The one task that is open.
#[derive(Clone, Debug)]
pub(super) struct Open {
    pub(super) id: TaskId,
    /// `None` until it is read, and once its record is gone.
    pub(super) record: Option<TaskRecord>,
    pub(super) log: Vec<LogLine>,
    /// Lines above the end of the page; 0 follows the log.
    pub(super) scroll: usize,
}

/// An act on the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Act {
    Tasks(Verb, Vec<TaskId>),
    /// Every task that matches the filter of the page.
    Matching(Verb, String),
    PauseQueue(String),
    ResumeQueue(String),
    PauseSchedule(String),
    ResumeSchedule(String),
    RunSchedule(String),
}

/// What the keys mean now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Browse,
    /// The text of the filter is typed.
    Filter(String),
    /// A command line is typed.
    Command(String),
    /// A question waits for `y`.
    Confirm(String, Act),
    Help,
}

/// What can happen: a key, or the answer of the store.
#[derive(Debug)]
pub(super) enum Event {
    Key(KeyEvent),
    Data(Box<Data>),
    Task(TaskId, Option<Box<TaskRecord>>, Vec<LogLine>),
    /// How many tasks an act on all matching ones would reach.
    Counted(Verb, String, String),
    Done(String),
    Failed(String),
    /// The store did not answer.
    Away(String),
}

/// What is to be done after an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Request {
    Read,
    Count(Verb, String),
    Act(Act),
    /// A line for the command, without `taskflow`.
    Command(String),
    Quit,
}

/// Everything that is drawn.
#[derive(Clone, Debug)]
pub(super) struct State {
    pub(super) place: String,
    pub(super) context: Option<String>,
    pub(super) accent: Accent,
    pub(super) now: SystemTime,
    pub(super) tab: Tab,
    pub(super) data: Data,
    /// Whether anything has been read.
    pub(super) has_read: bool,
    /// The pages that have been read.
    pub(super) read: [bool; 7],
    pub(super) open: Option<Open>,
    /// The row under the cursor, of each page.
    pub(super) cursors: [usize; 7],
    pub(super) selected: BTreeSet<TaskId>,
    /// Whether the next verb acts on all tasks that match the filter.
    pub(super) all_matching: bool,
    pub(super) filter: String,
    pub(super) mode: Mode,
    /// The last answer, and whether it is an error.
    pub(super) message: Option<(String, bool)>,
    /// The error, while the store does not answer.
    pub(super) away: Option<String>,
    pub(super) is_paused: bool,
    /// How many pages of tasks are skipped.
    pub(super) page: usize,
}

impl State {
    pub(super) fn new(place: String, context: Option<String>, accent: Accent) -> Self {
        Self {
            place,
            context,
            accent,
            now: SystemTime::now(),
            tab: Tab::Overview,
            data: Data::default(),
            has_read: false,
            read: [false; 7],
            open: None,
            cursors: [0; 7],
            selected: BTreeSet::new(),
            all_matching: false,
            filter: String::new(),
            mode: Mode::Browse,
            message: None,
            away: None,
            is_paused: false,
            page: 0,
        }
    }

    /// How many rows the open page has.
    pub(super) fn rows(&self) -> usize {
        match self.tab {
            Tab::Overview => self.data.attention.len(),
            Tab::Tasks => self.data.tasks.len(),
            Tab::Failures => self.data.failures.groups.len(),
            Tab::Queues => self.data.queues.len(),
            Tab::Schedules => self.data.schedules.len(),
            Tab::Workers => self.data.instances.len(),
            Tab::Audit => self.data.audit.len(),
        }
    }

    pub(super) fn cursor(&self) -> usize {
        self.cursors[self.tab.index()].min(self.rows().saturating_sub(1))
    }

    pub(super) fn set_cursor(&mut self, row: usize) {
        self.cursors[self.tab.index()] = row.min(self.rows().saturating_sub(1));
    }

    /// The tasks that the next verb acts on: the open one, the selected ones, or the one under the cursor.
    pub(super) fn meant(&self) -> Vec<TaskId> {
        match &self.open {
            Some(open) => vec![open.id],
            None if self.tab != Tab::Tasks => Vec::new(),
            None if !self.selected.is_empty() => self.selected.iter().copied().collect(),
            None => self.data.tasks.get(self.cursor()).map(|task| task.id).into_iter().collect(),
        }
    }
}
