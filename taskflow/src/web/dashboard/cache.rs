//! What costs more than a glance and several pages show: statistics, and groups of failures.

use std::any::Any;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;

use crate::seam::{Instant, Seam};
use crate::web::live::rest;

/// The most shared values.
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
    /// The value of that key: that of the last read, if it is as fresh as a beat of the pulse must be, else that of a new one. Readers of one key at the same time share it.
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
                // The keys come from addresses, so their number is not bounded by itself.
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
