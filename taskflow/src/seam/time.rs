//! The clocks, and everything that waits for them.

use std::time::{Duration, SystemTime};

use tokio::time::error::Elapsed;
pub(crate) use tokio::time::{Instant, Sleep};

/// The surroundings of one manager or one store: its clocks and its tasks. A clone has the same ones.
///
/// It is the system and tokio, and costs nothing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seam {
    _system: (),
}

#[allow(clippy::unused_self, reason = "a caller does not know which time it lives in")]
impl Seam {
    /// The wall clock.
    #[inline]
    pub(crate) fn now(&self) -> SystemTime {
        SystemTime::now()
    }

    /// The clock that only goes forward. Lengths are measured with it.
    #[inline]
    pub(crate) fn instant(&self) -> Instant {
        Instant::now()
    }

    /// How long ago `instant` was.
    #[inline]
    pub(crate) fn since(&self, instant: Instant) -> Duration {
        self.instant().saturating_duration_since(instant)
    }

    /// The instant `length` from now. A length beyond the range of the clock gives an instant 30 years from now.
    pub(crate) fn in_time(&self, length: Duration) -> Instant {
        const FAR: Duration = Duration::from_secs(30 * 365 * 24 * 3600);
        let now = self.instant();
        now.checked_add(length).unwrap_or_else(|| now + FAR)
    }

    /// Waits for `length`.
    #[inline]
    pub(crate) fn sleep(&self, length: Duration) -> Sleep {
        tokio::time::sleep(length)
    }

    /// Waits until `instant`.
    #[inline]
    pub(crate) fn sleep_until(&self, instant: Instant) -> Sleep {
        tokio::time::sleep_until(instant)
    }

    /// Awaits `future`, for no longer than `length`.
    ///
    /// # Errors
    /// [`Elapsed`] when that time is over; the future is dropped.
    pub(crate) async fn timeout<F: Future>(&self, length: Duration, future: F) -> Result<F::Output, Elapsed> {
        tokio::time::timeout(length, future).await
    }

    /// Awaits `future`, but not beyond `instant`.
    ///
    /// # Errors
    /// [`Elapsed`] at that instant; the future is dropped.
    pub(crate) async fn timeout_at<F: Future>(
        &self,
        instant: Instant,
        future: F,
    ) -> Result<F::Output, Elapsed> {
        tokio::time::timeout_at(instant, future).await
    }
}
