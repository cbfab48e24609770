//! The entries of the audit log: what people did.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::model::{Cursor, TaskId, time};

/// A longer text of an entry is cut to this many bytes.
const MAX_TEXT: usize = 1024;

/// The face through which somebody acted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Face {
    /// The dashboard.
    Dashboard,
    /// The REST API.
    Api,
    /// The command line.
    Cli,
    /// A program.
    Program,
}

/// How an act ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum AuditOutcome {
    /// It was done.
    Ok,
    /// It was not allowed, or not possible.
    Refused,
    /// It failed, for example because the store did not answer or the password of a login was wrong.
    Failed,
}

/// An entry of the audit log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AuditEntry {
    /// Its id: newer entries have greater ones. A version 7 UUID.
    pub id: TaskId,
    /// When.
    #[serde(with = "time::rfc3339_serde")]
    pub at: SystemTime,
    /// The name of the actor. For a failed login, the name that was tried.
    pub actor: String,
    /// The face through which it acted.
    pub via: Face,
    /// The act: `cancel`, `retry`, `pause_queue`, `login`, …
    pub action: String,
    /// The name or id of the thing it was done to.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub target: Option<String>,
    /// For an act on many tasks, the filter, as the search box writes it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub filter: Option<String>,
    /// How it ended.
    pub outcome: AuditOutcome,
    /// On how many tasks it acted.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub count: Option<u64>,
    /// More: an error, or what was changed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub detail: Option<String>,
    /// The reason that the actor gave.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
    /// The address from which the request came.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub remote: Option<String>,
}

impl AuditEntry {
    /// A successful act at that instant.
    #[must_use]
    pub fn at(at: SystemTime, actor: impl Into<String>, via: Face, action: impl Into<String>) -> Self {
        Self {
            id: TaskId::new(),
            at: time::whole_micros(at),
            actor: actor.into(),
            via,
            action: action.into(),
            target: None,
            filter: None,
            outcome: AuditOutcome::Ok,
            count: None,
            detail: None,
            reason: None,
            remote: None,
        }
    }

    /// The same entry, with each text of more than 1,024 bytes cut to at most that and an `…` appended.
    pub(super) fn bounded(mut self) -> Self {
        let optional =
            [&mut self.target, &mut self.filter, &mut self.detail, &mut self.reason, &mut self.remote];
        for text in optional.into_iter().flatten().chain([&mut self.actor, &mut self.action]) {
            if text.len() > MAX_TEXT {
                text.truncate(text.floor_char_boundary(MAX_TEXT));
                text.push('…');
            }
        }
        self
    }
}

/// Selects entries of the audit log, newest first.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct AuditFilter {
    /// Only by this actor.
    pub actor: Option<String>,
    /// Only this act.
    pub action: Option<String>,
    /// Only on this thing.
    pub target: Option<String>,
    /// Only since this instant.
    pub since: Option<SystemTime>,
    /// Where the page begins; `None` for the first page.
    pub after: Option<Cursor>,
    /// The most entries of a page: 1 to 1,000; default 100.
    pub limit: Option<usize>,
}

impl AuditFilter {
    pub(super) fn matches(&self, entry: &AuditEntry) -> bool {
        self.actor.as_ref().is_none_or(|actor| *actor == entry.actor)
            && self.action.as_ref().is_none_or(|action| *action == entry.action)
            && self.target.as_ref().is_none_or(|target| Some(target) == entry.target.as_ref())
    }
}
