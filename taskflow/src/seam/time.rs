//! The clocks, and everything that waits for them.

use std::time::{Duration, SystemTime};

pub(crate) use tokio::time::Instant;

#[cfg(feature = "testing")]
use super::world::World;
#[cfg(feature = "testing")]
use std::sync::Arc;

/// The clocks of one manager or one store, and the way in which it spawns tasks. Clones share them.
///
/// These are the system's clocks and tokio. Only the test kit replaces them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seam {
    #[cfg(feature = "testing")]
    world: Option<Arc<World>>,
    #[cfg(not(feature = "testing"))]
    _system: (),
}

/// A wait until an instant.
#[cfg(not(feature = "testing"))]
pub(crate) type Sleep = tokio::time::Sleep;
#[cfg(feature = "testing")]
pub(crate) use super::clock::Sleep;
#[cfg(feature = "testing")]
use super::clock::Wait;

/// The error of a future that did not end in its time.
#[derive(Debug)]
pub(crate) struct Elapsed;

#[cfg(feature = "testing")]
impl Seam {
    /// The seam of a process in a test.
    pub(crate) fn of(world: Arc<World>) -> Self {
        Self { world: Some(world) }
    }

    fn test_sleep(&self, waits: [(Option<Instant>, Wait); 2]) -> Sleep {
        Sleep::of(self.world.as_deref().map(|world| &world.clock), waits)
    }

    pub(super) fn world(&self) -> Option<&Arc<World>> {
        self.world.as_ref()
    }
}

#[allow(clippy::unused_self, reason = "without the feature `testing` there is only the system's clock")]
impl Seam {
    /// The time of the wall clock.
    #[inline]
    pub(crate) fn now(&self) -> SystemTime {
        #[cfg(feature = "testing")]
        if let Some(world) = &self.world {
            return world.clock.now();
        }
        SystemTime::now()
    }

    /// The time of the monotonic clock. Durations are measured with it.
    #[inline]
    pub(crate) fn instant(&self) -> Instant {
        #[cfg(feature = "testing")]
        if let Some(world) = &self.world {
            return world.clock.instant();
        }
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

    /// How much time a test has skipped while nothing ran. (Real processes would have continued meanwhile.)
    #[inline]
    pub(crate) fn skipped(&self) -> Duration {
        #[cfg(feature = "testing")]
        if let Some(world) = &self.world {
            return world.clock.skipped();
        }
        Duration::ZERO
    }

    /// Waits for `length`.
    #[inline]
    pub(crate) fn sleep(&self, length: Duration) -> Sleep {
        #[cfg(feature = "testing")]
        return self.test_sleep([(Some(self.in_time(length)), Wait::Exact), (None, Wait::Pause)]);
        #[cfg(not(feature = "testing"))]
        tokio::time::sleep(length)
    }

    /// Waits until `instant`.
    #[inline]
    pub(crate) fn sleep_until(&self, instant: Instant) -> Sleep {
        #[cfg(feature = "testing")]
        return self.test_sleep([(Some(instant), Wait::Exact), (None, Wait::Pause)]);
        #[cfg(not(feature = "testing"))]
        tokio::time::sleep_until(instant)
    }

    /// Waits between two checks of the same thing. A test that skips time makes one check after it, not one for each pause.
    #[inline]
    pub(crate) fn pause(&self, length: Duration) -> Sleep {
        #[cfg(feature = "testing")]
        return self.test_sleep([(Some(self.in_time(length)), Wait::Pause), (None, Wait::Pause)]);
        #[cfg(not(feature = "testing"))]
        tokio::time::sleep(length)
    }

    /// Like [`pause`](Self::pause), before the next renewal of leases.
    pub(crate) fn pause_renewals(&self, length: Duration) -> Sleep {
        #[cfg(feature = "testing")]
        return self.test_sleep([(Some(self.in_time(length)), Wait::Renewal), (None, Wait::Pause)]);
        #[cfg(not(feature = "testing"))]
        tokio::time::sleep(length)
    }

    /// Like [`pause`](Self::pause), until `instant`.
    #[inline]
    pub(crate) fn pause_until(&self, instant: Instant) -> Sleep {
        #[cfg(feature = "testing")]
        return self.test_sleep([(Some(instant), Wait::Pause), (None, Wait::Pause)]);
        #[cfg(not(feature = "testing"))]
        tokio::time::sleep_until(instant)
    }

    /// Waits until `exact`, but at most until `pause`, where a [pause](Self::pause) ends.
    #[inline]
    pub(crate) fn sleep_or_pause(&self, exact: Option<Instant>, pause: Instant) -> Sleep {
        #[cfg(feature = "testing")]
        return self.test_sleep([(exact, Wait::Exact), (Some(pause), Wait::Pause)]);
        #[cfg(not(feature = "testing"))]
        tokio::time::sleep_until(exact.map_or(pause, |exact| exact.min(pause)))
    }

    /// Yields once to other tasks.
    pub(crate) async fn yield_now(&self) {
        #[cfg(feature = "testing")]
        if self.world.is_some() {
            // Tokio would wake the task some time after its poll, and meanwhile the test would see no busy task.
            let mut has_yielded = false;
            return std::future::poll_fn(|cx| {
                if std::mem::replace(&mut has_yielded, true) {
                    return std::task::Poll::Ready(());
                }
                cx.waker().wake_by_ref();
                std::task::Poll::Pending
            })
            .await;
        }
        tokio::task::yield_now().await;
    }

    /// Waits for `length`, so that the caller can handle everything that comes meanwhile together. In a test it only yields.
    pub(crate) async fn collect(&self, length: Duration) {
        #[cfg(feature = "testing")]
        if self.world.is_some() {
            return self.yield_now().await;
        }
        tokio::time::sleep(length).await;
    }

    /// Awaits `future`, for no longer than `length`.
    ///
    /// # Errors
    /// [`Elapsed`] when that time is over; the future is dropped.
    pub(crate) async fn timeout<F: Future>(&self, length: Duration, future: F) -> Result<F::Output, Elapsed> {
        self.timeout_at(self.in_time(length), future).await
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
        tokio::select! {
            biased;
            answer = future => Ok(answer),
            () = self.sleep_until(instant) => Err(Elapsed),
        }
    }
}
