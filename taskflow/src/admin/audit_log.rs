//! The audit log in the store.

use std::time::Duration;

use super::{Actor, AuditEntry, AuditFilter, Console};
use crate::model::{Cursor, Error, Page};
use crate::store::{Document, DocumentQuery, DocumentWrite};

const KIND: &str = "audit";

/// How long entries are kept: 90 days.
const KEPT: Duration = Duration::from_secs(90 * 24 * 3600);

/// The most entries that are examined for one page.
const MAX_LOOKED_AT: usize = 20_000;

impl Console {
    /// A page of the audit log for this actor: one that is narrowed to some queues sees only its own entries, since an entry
    /// does not say which queue its task was in.
    ///
    /// # Errors
    /// Those of [`audit`](Self::audit).
    pub(crate) async fn audit_seen_by(
        &self,
        actor: &Actor,
        mut filter: AuditFilter,
    ) -> Result<Page<AuditEntry>, Error> {
        if !actor.sees_all_queues() {
            let own = actor.name();
            if filter.actor.as_deref().is_some_and(|asked| asked != own) {
                return Ok(Page::new(Vec::new(), None));
            }
            filter.actor = Some(own.to_owned());
        }
        self.audit(filter).await
    }

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
        let mut page = Page::new(Vec::new(), None);
        let mut looked_at = 0;
        loop {
            let documents = self.tasks().documents(query.clone()).await?;
            let is_last = documents.len() < query.limit;
            looked_at += documents.len();
            let last = documents.last().map(|document| document.key.clone());
            for document in documents {
                // An entry that this version cannot read is skipped, and the others are shown.
                let Ok(entry) = serde_json::from_slice::<AuditEntry>(&document.value) else { continue };
                // Entries are in the order of their instants, unless a clock was set back meanwhile.
                if filter.since.is_some_and(|since| entry.at < since) {
                    return Ok(page);
                }
                if filter.matches(&entry) {
                    let id = entry.id;
                    page.items.push(entry);
                    if page.items.len() == limit {
                        page.next = Some(Cursor::after(id));
                        return Ok(page);
                    }
                }
            }
            match last {
                Some(last) if !is_last && looked_at < MAX_LOOKED_AT => query.before = Some(last),
                Some(last) if !is_last => {
                    // The keys of entries are their ids.
                    page.next = last.parse().ok().map(Cursor::after);
                    return Ok(page);
                }
                _ => return Ok(page),
            }
        }
    }

    /// Adds an entry to the audit log. A failure to write it is only logged as an error: it neither stops nor undoes
    /// the act.
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
