//! Writes the statistics of this process.

use std::sync::Arc;
use std::time::Duration;

use super::recorder::seconds;
use crate::engine::core::Core;
use crate::model::{StoreErrorKind, time};
use crate::seam::random;
use crate::store::{Document, DocumentWrite};

/// How often the statistics are written, if anything has changed. Writes come at multiples of it, so that one comes as
/// each minute ends.
const EVERY: Duration = Duration::from_secs(10);

/// How long after the end of a period a process writes, at most.
const MOST_LATE: Duration = Duration::from_millis(500);

/// The most bytes of one write, unless a single document is longer.
const MAX_BYTES: usize = 4 << 20;

/// Writes the statistics of this process every 10 s, until the process ends. A failure says nothing about tasks, so the
/// health does not show it; what was not written is written later.
pub(crate) async fn keep(core: Arc<Core>) {
    // So that not all processes write at the same moment.
    let late = MOST_LATE.mul_f64(random());
    loop {
        let wait = until_next(time::to_micros(core.seam.now())) + late;
        tokio::select! {
            biased;
            () = core.over.cancelled() => return,
            () = core.seam.pause(wait) => {}
        }
        core.meter.set_clock(&core.seam);
        if !flush(&core).await {
            return;
        }
    }
}

/// The time from `now`, in microseconds since the epoch, to the next multiple of [`EVERY`].
fn until_next(now: i64) -> Duration {
    let every = time::micros(EVERY);
    Duration::from_micros((every - now.rem_euclid(every)).unsigned_abs())
}

/// Writes what has changed since the last time. Returns `false` if this process or its store keeps no statistics.
pub(crate) async fn flush(core: &Core) -> bool {
    if !core.settings.stats {
        return false;
    }
    let mut state = core.recorder.state.lock().await;
    state.take(&core.meter, core.instance.id, seconds(core.seam.now()));
    while !state.waiting.is_empty() {
        let batch = batch(state.waiting.values());
        let keys: Vec<_> = batch.iter().map(|write| (write.kind, write.key.clone())).collect();
        match core.aside(core.store.write_documents(batch)).await {
            Ok(_) => keys.iter().for_each(|key| drop(state.waiting.remove(key))),
            Err(error) if error.kind() == StoreErrorKind::Unsupported => {
                tracing::debug!(%error, "there are no statistics");
                state.waiting.clear();
                return false;
            }
            Err(error) => {
                tracing::debug!(%error, "the statistics could not be written; they are written later");
                return true;
            }
        }
    }
    true
}

/// The first of these writes: as many as one call may take, by number and by bytes.
fn batch<'a>(writes: impl Iterator<Item = &'a DocumentWrite>) -> Vec<DocumentWrite> {
    let mut bytes = 0;
    let fits = |write: &&DocumentWrite| {
        let is_first = bytes == 0;
        bytes += write.value.as_ref().map_or(0, Vec::len) + write.key.len();
        is_first || bytes <= MAX_BYTES
    };
    writes.take_while(fits).take(Document::MAX_BATCH).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_comes_as_each_minute_ends() {
        assert_eq!(until_next(60_000_000), EVERY);
        assert_eq!(until_next(59_999_999), Duration::from_micros(1));
        assert_eq!(until_next(-1), Duration::from_micros(1));
    }

    #[test]
    fn a_long_backlog_is_written_in_bounded_batches() {
        let writes: Vec<_> =
            (0..20).map(|key| DocumentWrite::put("stats", key.to_string(), vec![0; 1 << 20])).collect();
        assert_eq!(batch(writes.iter()).len(), 3);
        assert_eq!(batch(writes.iter().take(1)).len(), 1);
    }
}
