//! The attributes, documented where users meet them.

/// Makes a function a task: it registers itself, and can be added from anywhere.
///
/// ```
/// use taskflow::{State, TaskContext};
///
/// # #[derive(Debug)] struct MailError;
/// # impl std::fmt::Display for MailError {
/// #     fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { f.write_str("mail") }
/// # }
/// # #[derive(Clone)] struct Smtp;
/// # impl Smtp { async fn send(&self, _: &str, _: &str) -> Result<(), MailError> { Ok(()) } }
/// /// Sends one email.
/// #[taskflow::task(retries = 3, delay = "1s", backoff = 2.0, timeout = "30s")]
/// async fn send_email(
///     context: TaskContext,        // provided by the worker
///     State(smtp): State<Smtp>,    // provided: what `.state(..)` gave
///     to: String,                  // stored as `to`
///     subject: String,             // stored as `subject`
/// ) -> Result<(), MailError> {
///     smtp.send(&to, &subject).await
/// }
/// # let _ = send_email;
/// ```
///
/// # What becomes of the function
///
/// It stays a function of the same name, parameters and documentation, but it returns a [`Call`](crate::Call): a lazy
/// value. Awaiting it runs the body here; [`TaskManager::add`](crate::TaskManager::add) stores it for a worker, and
/// [`TaskManager::add_task`](crate::TaskManager::add_task) does so from the name and the stored arguments alone.
///
/// An `async fn` runs on the runtime. A plain `fn` runs on a thread of the blocking pool; called directly it is run with
/// [`Call::run`](crate::Call::run) or awaited.
///
/// In its own body a task's name means the task, so it can call itself or add itself again. In an `impl` block a task has
/// no `self`, and `Self` in its body is not the type around it.
///
/// # Parameters
///
/// At most 12, all owned, of concrete types.
///
/// - **Arguments** are stored as a JSON object keyed by the parameter's name, so a name is part of what is stored: renaming
///   a parameter is renaming a key. An unknown key is ignored and a missing `Option` is `None`; with `#[arg(default)]`
///   before the parameter, a missing value is its type's `Default`. That is how the arguments of a task that has work
///   waiting evolve.
/// - **Provided values** are [`TaskContext`](crate::TaskContext), [`State<T>`](crate::State) and
///   [`TaskManager`](crate::TaskManager), known by the last segment of the type's path, and anything else that is
///   [`FromContext`](crate::FromContext), marked `#[inject]`. They may be patterns. (`#[arg]` makes a type of yours that is
///   called `State` an argument.)
///
/// # What it returns
///
/// `()`, or `Result<T, E>`: a `T` that serde can write and read back is kept as the result, an `E` that is `Display` as the
/// error. See [`TaskError`](crate::TaskError) for errors that steer what comes next.
///
/// # Options
///
/// All are checked while the program compiles. A length is a text such as `"1h 30m"`, `"250ms"` or `"1.5 days"` (units
/// `ms`, `s`, `m`, `h`, `d`, `w`), or a number of seconds, and at most a century.
///
/// | option | what it says | default |
/// |---|---|---|
/// | `name = "mail.send"` | the name it is stored under | the function's, without its module |
/// | `aliases = ["old"]` | names it had before; what was stored under them runs as this task | none |
/// | `retries = 3` | attempts after the first | 0 |
/// | `delay = "1s"` | before the second attempt | 1 second |
/// | `backoff = 2.0` | each further delay is this many times the one before; 1 to 1000, 1 keeps it constant | 2 |
/// | `max_delay = "1h"` | no delay is longer; never shorter than `delay` | 1 hour |
/// | `jitter = 0.1` | each delay is up to this share longer or shorter, at random; 0 to 1 | 0.1 |
/// | `retry_if = path` | a `fn(&E) -> bool`: whether this error is worth a retry | always |
/// | `timeout = "30s"` | how long one attempt may take, from a millisecond to a century | no limit |
/// | `priority = 5` | higher runs first; an `i16` | 0 |
/// | `queue = "mail"` | the queue it waits in | `"default"` |
/// | `eager` | takes a free slot at once | `false` |
/// | `requeue_on_interrupt` | a run that a crash or a shutdown cut short is repeated, and does not count | `false` |
/// | `max_snoozes = 100` | so often it may ask to be run later ([`TaskError::snooze`](crate::TaskError::snooze)); once more is a failed attempt | 100 |
/// | `max_lost_runs = 3` | so many runs in a row lost with their process, and it has failed; at least 1 | 3 |
/// | `crate = path` | where `taskflow` is, for crates that re-export it | `::taskflow` |
///
/// Other attributes stay in force: documentation, `#[deprecated]`, lints and `#[cfg]` on the function, others, such as
/// `#[tracing::instrument]`, on its body.
pub use taskflow_macros::task;

/// Makes a function a schedule: a [task](macro@crate::task) that is added by the clock.
///
/// ```
/// use taskflow::State;
///
/// #[taskflow::schedule(every = "15m", run_on_startup)]
/// async fn refresh_rates() {}
///
/// #[taskflow::schedule(cron = "0 3 * * MON-FRI", timezone = "Europe/Berlin", retries = 2)]
/// async fn nightly_report(State(folder): State<String>) -> Result<(), std::io::Error> {
///     std::fs::write(folder + "/report", "all is well")
/// }
/// # let _ = (refresh_rates, nightly_report);
/// ```
///
/// It has no arguments, for a tick has none to give; the worker provides the rest. It can also be added by hand:
/// `tasks.add_task(refresh_rates, ())`.
///
/// # Options
///
/// One of `every` and `cron`, and all the options of a [task](macro@crate::task).
///
/// | option | what it says | default |
/// |---|---|---|
/// | `every = "15m"` | a tick at each multiple of this length since 1970, the same for all processes; from 100 ms to a century | |
/// | `cron = "0 3 * * *"` | minute, hour, day, month, weekday; or six fields with the second first; or `@hourly`, `@daily`, `@weekly`, `@monthly`, `@yearly` | |
/// | `timezone = "Europe/Berlin"` | the zone whose clock `cron` reads; with `every`, a length of whole days, the zone whose midnights it counts | UTC |
/// | `run_on_startup` | one more tick when a process starts | `false` |
/// | `missed = ".."` | of the ticks while no process ran, `"skip"` makes up for none, `"one"` for the last, `"all"` for each | `"one"` |
/// | `overlap = ".."` | while an earlier run has not ended, `"allow"` runs beside it, `"skip"` leaves the tick out | `"allow"` |
///
/// Days may be `L` (the last) and `15W` (the nearest weekday), weekdays `MON#1` (the first Monday) and `FRI#L`. Where both
/// day and weekday are given either will do, and with a `+` before the weekday only both. An expression that never fires,
/// such as the 30th of February, and a zone that does not exist are errors while the program compiles.
pub use taskflow_macros::schedule;
