//! A cache for values that are expensive to read and that several pages show: statistics, and groups of failures.

use std::any::Any;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;

use crate::seam::{Instant, Seam};
use crate::web::live::rest;

/// How many values are kept, at most.
const MAX_SLOTS: usize = 64;

/// A shared value.
#[derive(Debug)]
struct Slot {
    value: Arc<dyn Any + Send + Sync>,
    read_at: Instant,
    cost: Duration,
}

type Slots = HashMap<String, Arc<Mutex<Option<Slot>>>>;

/// The shared values of one router.
#[derive(Debug, Default)]
pub(crate) struct Cache(parking_lot::Mutex<Slots>);

impl Cache {
    /// The value of this key: of the last read if it is fresh, else of a new read. Like a beat of the pulse, it is fresh for 20
    /// times as long as its read took, at least 1 s and at most 30 s. Simultaneous callers share one read.
    ///
    /// # Errors
    /// Those of the read.
    pub(crate) async fn shared<T: Send + Sync + 'static, E>(
        &self,
        key: String,
        seam: &Seam,
        read: impl Future<Output = Result<T, E>>,
    ) -> Result<Arc<T>, E> {
        let slot = {
            let mut slots = self.0.lock();
            if slots.len() >= MAX_SLOTS && !slots.contains_key(&key) {
                // The keys come from URLs, so clients can make any number of them.
                slots.clear();
            }
            Arc::clone(slots.entry(key).or_default())
        };
        let mut slot = slot.lock().await;
        if let Some(value) = slot.as_ref().filter(|slot| seam.since(slot.read_at) < rest(slot.cost))
            && let Ok(value) = Arc::clone(&value.value).downcast()
        {
            return Ok(value);
        }
        let began = seam.instant();
        let value = Arc::new(read.await?);
        *slot =
            Some(Slot { value: Arc::clone(&value) as _, read_at: seam.instant(), cost: seam.since(began) });
        Ok(value)
    }
}
