//! A filter for the events that an observer wants.

use std::collections::BTreeSet;

use crate::model::{EventKind, LogLevel, TaskEvent};

/// Which events an [`Observer`](super::Observer) wants: by kind, severity and task name.
///
/// ```
/// use taskflow::LogLevel;
/// use taskflow::observe::{EventKind, Interest};
///
/// let all = Interest::ALL;
/// let troubles = Interest::ALL.min_level(LogLevel::Warn);
/// let ends_of_charge = Interest::only([EventKind::Succeeded, EventKind::Failed]).tasks(["charge"]);
/// # drop((all, troubles, ends_of_charge));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interest {
    kinds: u32,
    min_level: LogLevel,
    names: Option<BTreeSet<String>>,
}

impl Interest {
    /// All events.
    pub const ALL: Self = Self { kinds: u32::MAX, min_level: LogLevel::Debug, names: None };

    /// Only events of these kinds.
    #[must_use]
    pub fn only(kinds: impl IntoIterator<Item = EventKind>) -> Self {
        Self { kinds: kinds.into_iter().fold(0, |bits, kind| bits | kind.bit()), ..Self::ALL }
    }

    /// Leaves out events of this kind.
    #[must_use]
    pub fn without(mut self, kind: EventKind) -> Self {
        self.kinds &= !kind.bit();
        self
    }

    /// Only events of this [severity](TaskEvent::level) or a higher one.
    #[must_use]
    pub fn min_level(mut self, level: LogLevel) -> Self {
        self.min_level = level;
        self
    }

    /// Only events of tasks with these names. A task that was added under a former name (an alias) has that name in its events.
    #[must_use]
    pub fn tasks<N: Into<String>>(mut self, names: impl IntoIterator<Item = N>) -> Self {
        self.names = Some(names.into_iter().map(Into::into).collect());
        self
    }

    /// Whether the observer wants this event.
    #[must_use]
    pub fn wants(&self, event: &TaskEvent) -> bool {
        self.kinds & event.kind.kind().bit() != 0
            && event.level() >= self.min_level
            && self.names.as_ref().is_none_or(|names| names.contains(&*event.name))
    }

    /// The bits of all kinds of events that the observer may want.
    pub(crate) fn bits(&self) -> u32 {
        let may = |kind: &EventKind| {
            self.kinds & kind.bit() != 0 && (*kind == EventKind::Log || kind.level() >= self.min_level)
        };
        EventKind::ALL.into_iter().filter(may).fold(0, |bits, kind| bits | kind.bit())
    }
}

impl Default for Interest {
    fn default() -> Self {
        Self::ALL
    }
}
