//! Delays between retries.

use std::time::Duration;

use tokio::time::Instant;

/// Delays that double up to a limit. Each is shortened at random, so that processes do not retry in step.
#[derive(Debug)]
pub(crate) struct Backoff {
    next: Duration,
}

impl Backoff {
    const FIRST: Duration = Duration::from_millis(20);
    const LONGEST: Duration = Duration::from_secs(5);

    pub(crate) fn new() -> Self {
        Self { next: Self::FIRST }
    }

    /// The next delay: the first is at most 20 ms, and none is longer than 5 s.
    pub(crate) fn delay(&mut self) -> Duration {
        let delay = self.next;
        self.next = (delay * 2).min(Self::LONGEST);
        delay.mul_f64(0.5 + fastrand::f64() / 2.0)
    }
}

/// The instant `length` from now. A length beyond the range of the clock gives an instant 30 years from now.
pub(crate) fn in_time(length: Duration) -> Instant {
    const FAR: Duration = Duration::from_secs(30 * 365 * 24 * 3600);
    let now = Instant::now();
    now.checked_add(length).unwrap_or_else(|| now + FAR)
}

/// `length`, up to a tenth shorter or longer at random.
pub(crate) fn jittered(length: Duration) -> Duration {
    length.mul_f64(0.9 + fastrand::f64() / 5.0)
}
