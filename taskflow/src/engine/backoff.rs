//! Waiting between two tries.

use std::time::Duration;

use tokio::time::Instant;

/// Delays that double up to a limit, each somewhat shorter or longer at random so that processes do not march in step.
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

    /// The next delay: never longer than 5 s.
    pub(crate) fn delay(&mut self) -> Duration {
        let delay = self.next;
        self.next = (delay * 2).min(Self::LONGEST);
        delay.mul_f64(0.5 + fastrand::f64() / 2.0)
    }
}

/// The instant that long after now; of a length beyond every clock, one that is far enough.
pub(crate) fn in_time(length: Duration) -> Instant {
    const FAR: Duration = Duration::from_secs(30 * 365 * 24 * 3600);
    let now = Instant::now();
    now.checked_add(length).unwrap_or_else(|| now + FAR)
}

/// `length`, a tenth shorter or longer at random.
pub(crate) fn jittered(length: Duration) -> Duration {
    length.mul_f64(0.9 + fastrand::f64() / 5.0)
}
