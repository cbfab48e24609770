//! Delays between repeated store calls, and before restarts of the engine. For the retries of tasks see `model/policy.rs`.

use std::time::Duration;

use crate::seam::random;

/// Delays that double up to a limit. Each is shortened at random by up to half, so that processes do not retry in step.
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
        delay.mul_f64(0.5 + random() / 2.0)
    }
}

/// `length`, up to a tenth shorter or longer at random.
pub(crate) fn jittered(length: Duration) -> Duration {
    length.mul_f64(0.9 + random() / 5.0)
}
