//! The message and the place of a panic.

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

/// Installs, once per program, a panic hook that remembers the place of a panic for its thread and then calls the
/// previous hook.
pub(crate) fn remember_places() {
    HOOK.call_once(|| {
        let former = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let place = info.location().map(ToString::to_string);
            // A panic while the thread's locals are being destroyed has no place.
            let _ = LAST_PLACE.try_with(|last| last.replace(place));
            former(info);
        }));
    });
}

/// The text of a caught panic: its message, and its place if the hook has seen it.
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

/// Runs `body`. A panic becomes an error with its text.
pub(crate) fn catch<T>(body: impl FnOnce() -> T) -> Result<T, String> {
    panic::catch_unwind(AssertUnwindSafe(body)).map_err(text)
}

/// Awaits `future`. A panic becomes an error with its text.
pub(crate) async fn caught<T>(future: impl Future<Output = T>) -> Result<T, String> {
    AssertUnwindSafe(future).catch_unwind().await.map_err(text)
}

/// Returns the text of a caught panic, and drops its payload.
pub(crate) fn text(payload: Box<dyn Any + Send>) -> String {
    let text = describe(&*payload);
    // A payload may panic when it is dropped, and so may the payload of that panic, without end. So the second one is
    // leaked.
    let _ = panic::catch_unwind(AssertUnwindSafe(|| drop(payload))).map_err(mem::forget);
    text
}
