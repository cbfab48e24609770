//! The options of `#[schedule]`.

use std::time::Duration;

use proc_macro2::Span;
use syn::{Error, Result};

use super::entry::Entry;
use super::{cron, limits, timezone};
use crate::errors::Errors;

const DAY: u64 = 86_400;

/// The options of `#[schedule(..)]` besides those of a task.
#[derive(Default)]
pub(crate) struct Schedule {
    pub(crate) trigger: Option<Trigger>,
    pub(crate) timezone: Option<String>,
    pub(crate) run_on_startup: bool,
    pub(crate) missed: Missed,
    pub(crate) overlap: Overlap,
    timezone_at: Option<Span>,
}

pub(crate) enum Trigger {
    Every(Duration),
    Cron(String),
}

#[derive(Clone, Copy, Default)]
pub(crate) enum Missed {
    Skip,
    #[default]
    One,
    All,
}

#[derive(Clone, Copy, Default)]
pub(crate) enum Overlap {
    #[default]
    Allow,
    Skip,
}

impl Schedule {
    pub(super) const OPTIONS: &[&str] = &["every", "cron", "timezone", "run_on_startup", "missed", "overlap"];

    /// Reads one of these options.
    pub(super) fn read(&mut self, entry: &Entry) -> Result<()> {
        match entry.name().as_str() {
            "every" => {
                let length = entry.length(limits::INTERVAL_MIN, "\"15m\"")?;
                self.set(entry, Trigger::Every(length))?;
            }
            "cron" => {
                let text = entry.text("\"0 3 * * *\"")?;
                let valid = cron::check(&text.value()).map_err(|why| Error::new(text.span(), why));
                self.set(entry, Trigger::Cron(text.value()))?;
                valid?;
            }
            "timezone" => {
                let text = entry.text("\"Europe/Berlin\"")?;
                let zone = timezone::check(&text.value()).map_err(|why| Error::new(text.span(), why))?;
                (self.timezone, self.timezone_at) = (Some(zone), Some(text.span()));
            }
            "run_on_startup" => self.run_on_startup = entry.flag()?,
            "missed" => {
                self.missed =
                    entry.choice(&[("skip", Missed::Skip), ("one", Missed::One), ("all", Missed::All)])?;
            }
            _ => self.overlap = entry.choice(&[("allow", Overlap::Allow), ("skip", Overlap::Skip)])?,
        }
        Ok(())
    }

    fn set(&mut self, entry: &Entry, trigger: Trigger) -> Result<()> {
        match self.trigger.replace(trigger) {
            None => Ok(()),
            Some(_) => {
                Err(Error::new_spanned(&entry.key, "a schedule has either `every` or `cron`, not both"))
            }
        }
    }

    /// Checks rules that involve more than one option. `has_trigger` is true even if the given trigger is invalid.
    pub(super) fn check(&self, has_trigger: bool, errors: &mut Errors) {
        if !has_trigger {
            let message = "a schedule needs a trigger\nhelp: `every = \"15m\"`, or `cron = \"0 3 * * *\"`";
            errors.push(Error::new(Span::call_site(), message));
        }
        if let (Some(Trigger::Every(length)), Some(at)) = (&self.trigger, self.timezone_at)
            && !(length.as_secs().is_multiple_of(DAY) && length.subsec_nanos() == 0)
        {
            let message = "`every` with a `timezone` ticks at midnight, so it must be a number of whole days";
            errors.push(Error::new(at, message));
        }
    }
}
