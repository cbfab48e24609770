//! Parses the options in the parentheses of the attribute.

mod cron;
mod entry;
mod length;
mod limits;
mod schedule;
mod suggest;
mod timezone;
mod values;

use std::time::Duration;

use proc_macro2::TokenStream;
use quote::ToTokens;
use syn::{Error, Expr, LitStr, Path, Result};

use self::entry::Entry;
pub(crate) use self::schedule::{Missed, Overlap, Schedule, Trigger};
use crate::errors::Errors;

/// The attribute that is expanded.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Attribute {
    Task,
    Schedule,
}

/// The options of the attribute; `None` means the default.
#[derive(Default)]
pub(crate) struct Options {
    pub(crate) name: Option<String>,
    pub(crate) aliases: Vec<LitStr>,
    pub(crate) retries: Option<u32>,
    pub(crate) delay: Option<Duration>,
    pub(crate) backoff: Option<f64>,
    pub(crate) max_delay: Option<Duration>,
    pub(crate) jitter: Option<f64>,
    pub(crate) retry_if: Option<Expr>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) priority: Option<i16>,
    pub(crate) queue: Option<String>,
    pub(crate) eager: Option<bool>,
    pub(crate) requeue_on_interrupt: Option<bool>,
    pub(crate) max_snoozes: Option<u32>,
    pub(crate) max_lost_runs: Option<u32>,
    pub(crate) middleware: Vec<Path>,
    pub(crate) encrypt: Option<bool>,
    pub(crate) krate: Option<Path>,
    pub(crate) schedule: Schedule,
}

const OPTIONS: &[&str] = &[
    "name",
    "aliases",
    "retries",
    "delay",
    "backoff",
    "max_delay",
    "jitter",
    "retry_if",
    "timeout",
    "priority",
    "queue",
    "eager",
    "requeue_on_interrupt",
    "max_snoozes",
    "max_lost_runs",
    "middleware",
    "encrypt",
    "crate",
];

/// The default of `max_delay`.
const DEFAULT_MAX_DELAY: Duration = Duration::from_secs(3600);

impl Options {
    /// Reads all options. Each invalid option adds an error and keeps its default.
    pub(crate) fn parse(attribute: Attribute, tokens: TokenStream, errors: &mut Errors) -> Self {
        let mut options = Self::default();
        let entries = entry::entries(tokens, errors);
        let mut seen: Vec<String> = Vec::new();
        for entry in &entries {
            let name = entry.name();
            if seen.contains(&name) {
                errors.at(&entry.key, format!("the option `{name}` is given twice"));
                continue;
            }
            let read = options.read(attribute, &name, entry);
            errors.keep(read);
            seen.push(name);
        }
        options.check(&entries, errors);
        if attribute == Attribute::Schedule {
            let has_trigger = seen.iter().any(|name| name == "every" || name == "cron");
            options.schedule.check(has_trigger, errors);
        }
        options
    }

    fn read(&mut self, attribute: Attribute, name: &str, entry: &Entry) -> Result<()> {
        match name {
            "name" => self.name = Some(entry.label("\"billing.send\"")?),
            "aliases" => self.aliases = entry.labels("[\"old_name\"]")?,
            "retries" => self.retries = Some(entry.whole(0, u32::MAX, "3")?),
            "delay" => self.delay = Some(entry.length(Duration::ZERO, "\"1s\"")?),
            "backoff" => self.backoff = Some(entry.number(limits::BACKOFF, "2.0")?),
            "max_delay" => self.max_delay = Some(entry.length(Duration::ZERO, "\"1h\"")?),
            "jitter" => self.jitter = Some(entry.number(limits::JITTER, "0.1")?),
            "retry_if" => self.retry_if = Some(entry.function("MailError::is_transient")?),
            "timeout" => self.timeout = Some(entry.length(limits::TIMEOUT_MIN, "\"1h 30m\"")?),
            "priority" => self.priority = Some(entry.whole(i16::MIN, i16::MAX, "5")?),
            "queue" => self.queue = Some(entry.label("\"email\"")?),
            "eager" => self.eager = Some(entry.flag()?),
            "requeue_on_interrupt" => self.requeue_on_interrupt = Some(entry.flag()?),
            "max_snoozes" => self.max_snoozes = Some(entry.whole(0, u32::MAX, "100")?),
            "max_lost_runs" => {
                self.max_lost_runs = Some(entry.whole(limits::LOST_RUNS_MIN, u32::MAX, "3")?)
            }
            "middleware" => self.middleware = entry.paths("[Audit]")?,
            "encrypt" => self.encrypt = Some(entry.flag()?),
            "crate" => self.krate = Some(entry.path("::facade::taskflow")?),
            _ if Schedule::OPTIONS.contains(&name) && attribute == Attribute::Schedule => {
                self.schedule.read(entry)?;
            }
            _ => return Err(unknown(attribute, name, entry)),
        }
        Ok(())
    }

    /// Checks rules that involve more than one option.
    fn check(&self, entries: &[Entry], errors: &mut Errors) {
        for (at, alias) in self.aliases.iter().enumerate() {
            let value = alias.value();
            if self.name.as_ref() == Some(&value) {
                errors.at(alias, format!("`{value}` is already the task's name"));
            } else if self.aliases[..at].iter().any(|other| other.value() == value) {
                errors.at(alias, format!("the alias `{value}` is given twice"));
            }
        }
        if let Some(delay) = self.delay.filter(|delay| *delay > self.max_delay.unwrap_or(DEFAULT_MAX_DELAY)) {
            let written = |name: &str| entries.iter().find(|entry| entry.name() == name);
            let (at, message) = match written("max_delay") {
                Some(max_delay) => {
                    (max_delay, format!("`max_delay` is shorter than `delay`, which is {delay:?}"))
                }
                None => {
                    let Some(delay) = written("delay") else { return };
                    let value = delay.value.to_token_stream();
                    let message = format!(
                        "`delay` is longer than `max_delay`, which is 1 hour by default\n\
                         help: add `max_delay = {value}`, or longer"
                    );
                    (delay, message)
                }
            };
            errors.at(&at.value, message);
        }
    }
}

fn unknown(attribute: Attribute, name: &str, entry: &Entry) -> Error {
    if Schedule::OPTIONS.contains(&name) {
        let message = format!(
            "`{name}` is an option of `#[taskflow::schedule]`\n\
             help: a schedule is a task too: use it instead of `#[taskflow::task]`"
        );
        return Error::new_spanned(&entry.key, message);
    }
    let valid: Vec<&str> = match attribute {
        Attribute::Task => OPTIONS.to_vec(),
        Attribute::Schedule => Schedule::OPTIONS.iter().chain(OPTIONS).copied().collect(),
    };
    let hint = suggest::did_you_mean(name, valid.iter().copied());
    let listed = valid.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    Error::new_spanned(&entry.key, format!("unknown option `{name}`{hint}\nvalid options are: {listed}"))
}
