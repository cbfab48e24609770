//! Converts a task's error, of any type, to a text and a steering.
//!
//! An error needs only to implement `Display`. A `std::error::Error` with sources, a box of one or a `TaskError` carries more
//! information. The code that `#[task]` generates selects the best conversion by method resolution on the concrete type: the
//! candidate with the most references wins (dtolnay's "autoref specialization").

use std::error::Error as StdError;
use std::fmt;
use std::ops::Deref;

use super::task_error::SteeringError;
use super::{Steering, TaskError};

/// The stored text of an error, and its steering.
#[doc(hidden)]
#[derive(Debug)]
pub struct ErrorReport {
    pub(super) text: String,
    pub(super) steering: Steering,
}

/// A wrapper that selects the conversion of an error: `(&&&&&Probe(&error)).report()`.
#[doc(hidden)]
#[derive(Debug)]
pub struct Probe<'a, E>(pub &'a E);

#[doc(hidden)]
pub trait ViaTaskError {
    fn report(&self) -> ErrorReport;
}

impl ViaTaskError for &&&&Probe<'_, TaskError> {
    fn report(&self) -> ErrorReport {
        let error = self.0;
        let below = chain(error.inner());
        match error.steering() {
            Steering::Policy => below,
            steering => ErrorReport { steering, ..below },
        }
    }
}

#[doc(hidden)]
pub trait ViaBoxedError {
    fn report(&self) -> ErrorReport;
}

/// `Box<dyn Error + Send + Sync>`, and the boxes of `anyhow` and `eyre`.
impl<E: Deref<Target = dyn StdError + Send + Sync + 'static>> ViaBoxedError for &&&Probe<'_, E> {
    fn report(&self) -> ErrorReport {
        let error: &(dyn StdError + Send + Sync) = self.0.deref();
        chain(error)
    }
}

#[doc(hidden)]
pub trait ViaError {
    fn report(&self) -> ErrorReport;
}

impl<E: StdError + 'static> ViaError for &&Probe<'_, E> {
    fn report(&self) -> ErrorReport {
        let mut report = chain(self.0);
        name_if_empty::<E>(&mut report.text);
        report
    }
}

#[doc(hidden)]
pub trait ViaDisplay {
    fn report(&self) -> ErrorReport;
}

impl<E: fmt::Display> ViaDisplay for &Probe<'_, E> {
    fn report(&self) -> ErrorReport {
        let mut text = self.0.to_string();
        name_if_empty::<E>(&mut text);
        ErrorReport { text, steering: Steering::Policy }
    }
}

/// Never runs. An error type without `Display` is refused by [`TaskOutput`](super::TaskOutput), with a single clear message.
#[doc(hidden)]
pub trait ViaNothing {
    fn report(&self) -> ErrorReport;
}

impl<E> ViaNothing for Probe<'_, E> {
    fn report(&self) -> ErrorReport {
        ErrorReport { text: String::new(), steering: Steering::Policy }
    }
}

fn name_if_empty<E>(text: &mut String) {
    if text.trim().is_empty() {
        *text = std::any::type_name::<E>().to_owned();
    }
}

/// The texts of an error and its sources, joined by `: `, and the first steering found among them.
fn chain(error: &(dyn StdError + 'static)) -> ErrorReport {
    let mut text = String::new();
    let mut steering = Steering::Policy;
    let mut next = Some(error);
    while let Some(error) = next {
        if let (Steering::Policy, Some(SteeringError(found))) = (steering, error.downcast_ref()) {
            steering = found.steering();
        }
        let link = error.to_string();
        // Many errors already end with the text of their source.
        if text.is_empty() {
            text = link;
        } else if !link.is_empty() && !text.ends_with(&link) {
            text.push_str(": ");
            text.push_str(&link);
        }
        next = error.source();
    }
    ErrorReport { text, steering }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot send")]
    struct Outer(#[source] Box<dyn StdError + Send + Sync>);

    struct Shown(&'static str);

    impl fmt::Display for Shown {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
    }

    macro_rules! report {
        ($error:expr) => {
            (&&&&&Probe(&$error)).report()
        };
    }

    #[test]
    fn the_text_is_the_whole_chain() {
        assert_eq!(report!(Outer("refused".into())).text, "cannot send: refused");
        let boxed: Box<dyn StdError + Send + Sync> = Box::new(Outer("refused".into()));
        assert_eq!(report!(boxed).text, "cannot send: refused");
        assert_eq!(report!(TaskError::from(Outer("refused".into()))).text, "cannot send: refused");
        assert_eq!(report!(Shown("plain")).text, "plain");
    }

    #[test]
    fn an_empty_text_is_replaced_by_the_type() {
        assert!(report!(Shown(" ")).text.ends_with("Shown"));
    }

    #[test]
    fn steering_is_found_at_any_place_in_the_chain() {
        assert_eq!(report!(TaskError::abort("no")).steering, Steering::Abort);
        let wrapped = Outer(TaskError::retry_in(Duration::from_secs(9), "later").into());
        let report = report!(wrapped);
        assert_eq!(report.steering, Steering::RetryIn(Duration::from_secs(9)));
        assert_eq!(report.text, "cannot send: later");
        let boxed: Box<dyn StdError + Send + Sync> = TaskError::snooze(Duration::ZERO).into();
        assert_eq!(report!(boxed).steering, Steering::Snooze(Duration::ZERO));
    }
}
