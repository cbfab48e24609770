//! Keeps the catalogue of this process in the store.

use std::sync::Arc;
use std::time::Duration;

use super::content::{CONTENT, Catalogue, OWNER, hash};
use crate::engine::core::Core;
use crate::engine::store_backoff::{Backoff, jittered};
use crate::model::StoreErrorKind;
use crate::store::{Document, DocumentWrite};

/// How often the entry of this process is written, and how long it outlives the last write.
const OWNER_EVERY: Duration = Duration::from_secs(5 * 60);
const OWNER_KEPT: Duration = Duration::from_secs(20 * 60);

/// The same for the text, which is longer and which many processes share.
const CONTENT_EVERY: Duration = Duration::from_secs(3600);
const CONTENT_KEPT: Duration = Duration::from_secs(4 * 3600);

// An entry outlives two failed writes.
const _: () = assert!(OWNER_KEPT.as_secs() > 3 * OWNER_EVERY.as_secs());
const _: () = assert!(CONTENT_KEPT.as_secs() > 3 * CONTENT_EVERY.as_secs());

/// The most parts of a text. Together they have room for about 50,000 tasks.
const MAX_PARTS: usize = 64;

/// Stores the catalogue of this process, and keeps it stored as long as the process lives. Its failures say nothing about
/// tasks, so the health does not show them.
pub(crate) async fn keep(core: Arc<Core>) {
    let Some(own) = core.catalogues.own().cloned() else { return };
    let Some(writes) = Writes::of(&own) else {
        let most = MAX_PARTS * Document::MAX_VALUE;
        tracing::warn!(
            "the list of the tasks, queues and schedules of this process is longer than {most} bytes; other processes cannot show it"
        );
        return;
    };
    let mut content_due = core.seam.instant();
    loop {
        let with_content = content_due <= core.seam.instant();
        if !store(&core, &writes, with_content).await {
            return;
        }
        if with_content {
            content_due = core.seam.instant() + CONTENT_EVERY;
        }
        tokio::select! {
            biased;
            () = core.over.cancelled() => return,
            () = core.seam.pause(jittered(OWNER_EVERY)) => {}
        }
    }
}

/// Writes, and retries until the store accepts it. Returns whether to go on.
async fn store(core: &Core, writes: &Writes, with_content: bool) -> bool {
    let mut backoff = Backoff::new();
    let mut has_warned = false;
    loop {
        let owner = writes.owner(core.instance.id.to_string());
        let content = with_content.then_some(&writes.content).into_iter().flatten().cloned();
        let answer = core.aside(core.store.write_documents(content.chain([owner]).collect())).await;
        let Err(error) = answer else { return true };
        if error.kind() == StoreErrorKind::Unsupported {
            tracing::debug!(%error, "other processes cannot show the tasks of this one");
            return false;
        }
        if !std::mem::replace(&mut has_warned, true) {
            tracing::warn!(%error, "could not store which tasks this process has; trying again");
        }
        tokio::select! {
            biased;
            () = core.over.cancelled() => return false,
            () = core.seam.sleep(backoff.delay()) => {}
        }
    }
}

/// The documents of a catalogue.
struct Writes {
    hash: String,
    content: Vec<DocumentWrite>,
}

impl Writes {
    fn of(catalogue: &Catalogue) -> Option<Self> {
        let text = catalogue.text();
        let hash = hash(&text);
        let parts = text.as_bytes().chunks(Document::MAX_VALUE).enumerate();
        let part = |(number, part): (usize, &[u8])| {
            DocumentWrite::put(CONTENT, format!("{hash}/{number:02}"), part.to_vec()).expires_in(CONTENT_KEPT)
        };
        let content: Vec<_> = parts.map(part).collect();
        (content.len() <= MAX_PARTS).then_some(Self { hash, content })
    }

    fn owner(&self, instance: String) -> DocumentWrite {
        DocumentWrite::put(OWNER, instance, self.hash.clone().into_bytes()).expires_in(OWNER_KEPT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::TaskInfo;

    #[test]
    fn a_long_catalogue_is_stored_in_parts_that_fit() {
        let task = |number: usize| {
            let mut task = TaskInfo::new(format!("task-{number}"));
            task.summary = Some("x".repeat(300));
            task
        };
        let mut catalogue = Catalogue { tasks: (0..5000).map(task).collect(), ..Catalogue::default() };
        let writes = Writes::of(&catalogue).unwrap();
        assert!(writes.content.len() > 2);
        let parts: Vec<&[u8]> = writes.content.iter().filter_map(|write| write.value.as_deref()).collect();
        assert!(parts.iter().all(|part| part.len() <= Document::MAX_VALUE));
        assert_eq!(serde_json::from_slice::<Catalogue>(&parts.concat()).unwrap(), catalogue);
        assert!(writes.content.is_sorted_by_key(|write| write.key.clone()));
        catalogue.tasks[0].summary = Some("x".repeat(MAX_PARTS * Document::MAX_VALUE));
        assert!(Writes::of(&catalogue).is_none());
    }
}
