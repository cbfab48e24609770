//! The end of a request, which ends its hold.

use crate::manager::Hold;

/// Ends the hold of a request when it is dropped, even if the handler keeps a clone of the hold. A cancelled hold stays
/// cancelled.
#[derive(Debug)]
pub(super) struct EndGuard(pub(super) Hold);

impl Drop for EndGuard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.cancel("the handler that added it panicked");
        } else {
            // The response was sent, the client disconnected, or a timeout dropped the handler: the accepted tasks run.
            self.0.release();
        }
    }
}
