//! How the store is, as this process sees it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use parking_lot::Mutex;

use crate::model::{Health, StoreError};

/// Counts what went wrong, and knows since when the store is away.
#[derive(Debug, Default)]
pub(crate) struct HealthMeter {
    degraded: Mutex<Option<(SystemTime, String)>>,
    /// Whether `degraded` is set: read on every call, where taking the lock would cost.
    is_degraded: std::sync::atomic::AtomicBool,
    pub(crate) stale_writes: AtomicU64,
    pub(crate) lost_leases: AtomicU64,
    store_errors: AtomicU64,
}

impl HealthMeter {
    /// Takes note of how a write went, and passes it on.
    pub(crate) fn note<T>(&self, what: &'static str, answer: Result<T, StoreError>) -> Result<T, StoreError> {
        if answer.is_ok()
            && self.is_degraded.swap(false, Ordering::Relaxed)
            && self.degraded.lock().take().is_some()
        {
            tracing::info!("the store answers again");
        }
        self.note_read(what, answer)
    }

    /// The same for a read, whose success does not say that a store which refuses writes is well again.
    pub(crate) fn note_read<T>(
        &self,
        what: &'static str,
        answer: Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        match &answer {
            Ok(_) => {}
            Err(error) => {
                self.store_errors.fetch_add(1, Ordering::Relaxed);
                let mut degraded = self.degraded.lock();
                let since = degraded.as_ref().map_or_else(SystemTime::now, |(since, _)| *since);
                if degraded.is_none() {
                    tracing::warn!(%error, "{what} failed; the store is degraded, trying on");
                } else {
                    tracing::debug!(%error, "{what} failed");
                }
                *degraded = Some((since, error.to_string()));
                self.is_degraded.store(true, Ordering::Relaxed);
            }
        }
        answer
    }

    pub(crate) fn stale_write(&self) {
        self.stale_writes.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn lost_lease(&self) {
        self.lost_leases.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn show(&self, claimed: usize, running: usize) -> Health {
        let degraded = self.degraded.lock().clone();
        let mut health = Health::default();
        (health.degraded_since, health.reason) = degraded.unzip();
        health.stale_writes = self.stale_writes.load(Ordering::Relaxed);
        health.lost_leases = self.lost_leases.load(Ordering::Relaxed);
        health.store_errors = self.store_errors.load(Ordering::Relaxed);
        health.claimed = claimed as u64;
        health.running = running as u64;
        health
    }
}
