//! The end of a request, which ends its hold.

use crate::manager::Hold;

/// Ends the hold of a request, whatever becomes of the response: also where the handler keeps a clone of the hold. A hold
/// that has been cancelled stays so.
#[derive(Debug)]
pub(super) struct EndGuard(pub(super) Hold);

impl Drop for EndGuard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.cancel("the handler that added it panicked");
        } else {
            // The response was sent, the client went away, or a timeout cut in: what was accepted runs.
            self.0.release();
        }
    }
}
