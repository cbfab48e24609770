//! An observer that writes a line for each event.

use std::fmt;
use std::io::{self, Write};
use std::mem;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::line::{self, COLLECT};
use super::{Interest, Observer};
use crate::model::{LogLevel, TaskEvent, TaskEventKind};

/// Writes each event as one line of JSON, or as a `tracing` event.
///
/// ```
/// use taskflow::{LogLevel, TaskManager};
/// use taskflow::observe::{Interest, LogObserver};
///
/// let builder = TaskManager::builder()
///     .observer(LogObserver::stderr().interest(Interest::ALL.min_level(LogLevel::Warn)));
/// # drop(builder);
/// ```
///
/// A line has `at`, `level`, `event`, `id`, `name`, `queue` and `attempt`, and as far as they apply `duration` and `delay` in
/// seconds, `error`, `message` and `tags`:
///
/// ```json
/// {"at":"2026-03-01T09:30:00.000125Z","level":"info","event":"succeeded","id":"0197c7a8-2f5e-7cc0-8a4f-4d1f0a6b2f10","name":"send_email","queue":"default","attempt":1,"duration":0.184}
/// ```
///
/// When a write fails, all lines of that write are dropped and counted ([`unwritten`](Self::unwritten)), even if some got out.
/// The first time, a warning goes to the log. Errors of the writer's flush are not counted.
pub struct LogObserver {
    to: To,
    interest: Interest,
    unwritten: AtomicU64,
}

enum To {
    Writer(Mutex<(Box<dyn Write + Send>, Vec<u8>)>),
    Tracing,
}

impl LogObserver {
    /// Writes lines to the standard error.
    #[must_use]
    pub fn stderr() -> Self {
        Self::new(io::stderr())
    }

    /// Writes lines to `writer`, and flushes it when no event waits.
    #[must_use]
    pub fn new(writer: impl Write + Send + 'static) -> Self {
        Self::to(To::Writer(Mutex::new((Box::new(writer), Vec::new()))))
    }

    /// Emits `tracing` events with the target `taskflow::events` and the level of the event.
    #[must_use]
    pub fn tracing() -> Self {
        Self::to(To::Tracing)
    }

    fn to(to: To) -> Self {
        Self { to, interest: Interest::ALL, unwritten: AtomicU64::new(0) }
    }

    /// How many lines were in writes that failed. Share the observer in an [`Arc`](std::sync::Arc) to
    /// read it.
    #[must_use]
    pub fn unwritten(&self) -> u64 {
        self.unwritten.load(Ordering::Relaxed)
    }

    /// Sets the events that it writes. Default: all.
    #[must_use]
    pub fn interest(mut self, interest: Interest) -> Self {
        self.interest = interest;
        self
    }
}

impl Observer for LogObserver {
    fn on_event(&self, event: &TaskEvent) {
        match &self.to {
            To::Writer(writer) => {
                let mut writer = writer.lock();
                line::append(&mut writer.1, event);
                if writer.1.len() >= COLLECT {
                    self.write(&mut writer);
                }
            }
            To::Tracing => trace(event),
        }
    }

    fn interest(&self) -> Interest {
        self.interest.clone()
    }

    fn flush(&self) {
        if let To::Writer(writer) = &self.to {
            let mut writer = writer.lock();
            self.write(&mut writer);
            let _ = writer.0.flush();
        }
    }
}

impl LogObserver {
    fn write(&self, (writer, lines): &mut (Box<dyn Write + Send>, Vec<u8>)) {
        if let Err(error) = writer.write_all(lines) {
            let dropped = lines.iter().filter(|byte| **byte == b'\n').count() as u64;
            if self.unwritten.fetch_add(dropped, Ordering::Relaxed) == 0 {
                tracing::warn!(%error, "events cannot be written by a log observer; they are dropped and counted");
            }
        }
        lines.clear();
        // Do not keep the memory of one large event.
        if lines.capacity() > 2 * COLLECT {
            mem::take(lines);
        }
    }
}

fn trace(event: &TaskEvent) {
    let kind = event.kind.kind().as_str();
    let text = match &event.kind {
        TaskEventKind::Log { message, .. } => Some(message.as_str()),
        _ => event.error(),
    };
    macro_rules! emit {
        ($level:ident) => {
            tracing::event!(
                target: "taskflow::events",
                tracing::Level::$level,
                event = kind,
                task = %event.id,
                name = %event.name,
                queue = %event.queue,
                attempt = event.attempt,
                duration = event.duration.map(|it| it.as_secs_f64()),
                "{}",
                text.unwrap_or(kind)
            )
        };
    }
    match event.level() {
        LogLevel::Debug => emit!(DEBUG),
        LogLevel::Info => emit!(INFO),
        LogLevel::Warn => emit!(WARN),
        LogLevel::Error => emit!(ERROR),
    }
}

impl fmt::Debug for LogObserver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogObserver").field("interest", &self.interest).finish_non_exhaustive()
    }
}
