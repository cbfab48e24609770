//! What a panic said, and where.

use std::any::Any;
use std::cell::RefCell;
use std::mem;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

use futures_util::FutureExt;

thread_local! {
    static LAST_PLACE: RefCell<Option<String>> = const { RefCell::new(None) };
}

static HOOK: Once = Once::new();

/// Installs, once for the program, a panic hook that remembers the place for this thread and then calls the former one.
pub(crate) fn remember_places() {
    HOOK.call_once(|| {
        let former = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let place = info.location().map(ToString::to_string);
            // A panic while the thread's locals are being torn down has no place.
            let _ = LAST_PLACE.try_with(|last| last.replace(place));
            former(info);
        }));
    });
}

/// The text of a caught panic: its message, and its place if the hook saw it.
pub(crate) fn describe(payload: &(dyn Any + Send)) -> String {
    let message = payload
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a value that is not text".to_owned());
    match LAST_PLACE.try_with(RefCell::take).ok().flatten() {
        Some(place) => format!("panicked at {place}: {message}"),
        None => format!("panicked: {message}"),
    }
}

/// Runs `body`; a panic is its text.
pub(crate) fn catch<T>(body: impl FnOnce() -> T) -> Result<T, String> {
    panic::catch_unwind(AssertUnwindSafe(body)).map_err(text)
}

/// What `future` gives; a panic is its text.
pub(crate) async fn caught<T>(future: impl Future<Output = T>) -> Result<T, String> {
    AssertUnwindSafe(future).catch_unwind().await.map_err(text)
}

/// The text of a caught panic, of which nothing else is left.
pub(crate) fn text(payload: Box<dyn Any + Send>) -> String {
    let text = describe(&*payload);
    // A payload may itself panic when dropped, and so may what it panics with, without end: that is not dropped.
    let _ = panic::catch_unwind(AssertUnwindSafe(|| drop(payload))).map_err(mem::forget);
    text
}
