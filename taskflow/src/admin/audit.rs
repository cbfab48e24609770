//! The audit log: what people did, kept in the store.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::Console;
use crate::model::{Cursor, Error, Page, TaskId, time};
use crate::store::{Document, DocumentQuery, DocumentWrite};

const KIND: &str = "audit";

/// How long entries are kept: 90 days.
const KEPT: Duration = Duration::from_secs(90 * 24 * 3600);

/// The longest text of an entry, in bytes.
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
    /// It was allowed and failed.
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
    /// A successful act, now.
    #[must_use]
    pub fn new(actor: impl Into<String>, via: Face, action: impl Into<String>) -> Self {
        Self {
            id: TaskId::new(),
            at: time::now(),
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

    /// The same, with every text at most 1,024 bytes long.
    fn bounded(mut self) -> Self {
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
    fn matches(&self, entry: &AuditEntry) -> bool {
        self.actor.as_ref().is_none_or(|actor| *actor == entry.actor)
            && self.action.as_ref().is_none_or(|action| *action == entry.action)
            && self.target.as_ref().is_none_or(|target| Some(target) == entry.target.as_ref())
    }
}

/// The most entries that are examined for one page.
const MAX_LOOKED_AT: usize = 20_000;

impl Console {
    /// A page of the audit log, newest first. Entries are kept for 90 days. A page examines at most 20,000 entries; it
    /// is the last one only if it has no `next`.
    ///
    /// # Errors
    /// When the store fails or keeps no documents.
    pub async fn audit(&self, filter: AuditFilter) -> Result<Page<AuditEntry>, Error> {
        let limit = filter.limit.unwrap_or(100).clamp(1, Document::MAX_BATCH);
        let mut query = DocumentQuery::all(KIND);
        query.descending = true;
        query.before = filter.after.map(|after| after.id().to_string());
        query.from = filter.since.map(first_id).unwrap_or_default();
        let mut page = Page::new(Vec::new(), None);
        let mut looked_at = 0;
        loop {
            let documents = self.tasks().documents(query.clone()).await?;
            let is_last = documents.len() < query.limit;
            looked_at += documents.len();
            let mut last = None;
            for document in documents {
                // An entry that this version cannot read is skipped, and the others are shown.
                let Ok(entry) = serde_json::from_slice::<AuditEntry>(&document.value) else { continue };
                last = Some(entry.id);
                if filter.matches(&entry) {
                    page.items.push(entry);
                    if page.items.len() == limit {
                        page.next = last.map(Cursor::after);
                        return Ok(page);
                    }
                }
            }
            match last {
                Some(last) if !is_last && looked_at < MAX_LOOKED_AT => query.before = Some(last.to_string()),
                Some(last) if !is_last => {
                    page.next = Some(Cursor::after(last));
                    return Ok(page);
                }
                _ => return Ok(page),
            }
        }
    }

    /// Adds an entry to the audit log. The log is written after an act, so a failure to write it undoes nothing: it is
    /// logged as an error.
    pub async fn record(&self, entry: AuditEntry) {
        let entry = entry.bounded();
        let value = serde_json::to_vec(&entry).expect("an entry has no map with keys that are not text");
        let write = DocumentWrite::put(KIND, entry.id.to_string(), value).expires_in(KEPT);
        if let Err(error) = self.tasks().write_documents(vec![write]).await {
            tracing::error!(
                actor = entry.actor, action = entry.action, target = entry.target, %error,
                "an act was not written to the audit log"
            );
        }
    }
}

/// The least text of an id that was made at that instant.
fn first_id(at: SystemTime) -> String {
    let millis = at.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
    let mut bytes = [0; 16];
    bytes[..6].copy_from_slice(&millis.to_be_bytes()[2..]);
    TaskId::from_bytes(bytes).to_string()
}
