//! The attribute macros, documented where they are re-exported, because users look for them there.

/// Makes a function a task: it registers itself, and the whole program can add it.
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
///     State(smtp): State<Smtp>,    // provided: the value given to `.state(..)`
///     to: String,                  // stored as `to`
///     subject: String,             // stored as `subject`
/// ) -> Result<(), MailError> {
///     smtp.send(&to, &subject).await
/// }
/// # let _ = send_email;
/// ```
///
/// # What the attribute makes of the function
///
/// The function keeps its name, parameters and documentation, but returns a [`Call`](crate::Call), a lazy value. Awaiting
/// the call runs the body in place. [`TaskManager::add`](crate::TaskManager::add) stores the call for a worker;
/// [`TaskManager::add_task`](crate::TaskManager::add_task) does so from the task's name and its stored arguments.
///
/// An `async fn` runs on the runtime. A plain `fn` runs on a thread of the blocking pool; to call it directly, use
/// [`Call::run`](crate::Call::run) or await it.
///
/// A task in a library crate registers itself only if that crate is linked, and Rust links no crate that the program never
/// names. If nothing else names it, write `use my_tasks as _;` in the program. Without it, no error says that the task is
/// missing; but if such a task waits in the store, a warning in the log names it.
///
/// Inside its own body a task's name refers to the task, so it can call itself or add itself again. A task in an `impl`
/// block has no `self`, and `Self` in its body is not the type of the block.
///
/// # Parameters
///
/// At most 12, all owned, of concrete types.
///
/// - **Arguments** are stored as a JSON object keyed by the parameters' names, so renaming a parameter renames a stored
///   key. When a stored task is read, an unknown key is ignored and a missing `Option` is `None`; with `#[arg(default)]`
///   before the parameter, a missing value is the `Default` of its type. This lets you change the parameters of a task while
///   tasks with the old parameters still wait.
/// - **Provided values** are [`TaskContext`](crate::TaskContext), [`State<T>`](crate::State) and
///   [`TaskManager`](crate::TaskManager), recognized by the last segment of the type's path, and any other
///   [`FromContext`](crate::FromContext) type marked `#[inject]`. They may be patterns. (If you have a type of your own
///   called `State`, `#[arg]` makes it an argument.)
///
/// # What it returns
///
/// `()`, or `Result<T, E>`. `T` must be readable and writable by serde; it is stored as the result. `E` must be `Display`;
/// it is stored as the error. See [`TaskError`](crate::TaskError) for errors that decide the next step.
///
/// # Options
///
/// Their values are checked at compile time. A duration is a text such as `"1h 30m"`, `"250ms"` or `"1.5 days"` (units
/// `ms`, `s`, `m`, `h`, `d`, `w`), or a number of seconds, and at most a century.
///
/// | option | meaning | default |
/// |---|---|---|
/// | `name = "mail.send"` | the name it is stored under | the function's, without its module |
/// | `aliases = ["old"]` | earlier names; tasks stored under them run as this task | none |
/// | `retries = 3` | attempts after the first | 0 |
/// | `delay = "1s"` | delay before the second attempt | 1 second |
/// | `backoff = 2.0` | factor from each delay to the next; 1 to 1000, 1 keeps it constant | 2 |
/// | `max_delay = "1h"` | longest delay, before jitter; must not be shorter than `delay` | 1 hour |
/// | `jitter = 0.1` | each delay is up to this share longer or shorter, at random; 0 to 1 | 0.1 |
/// | `retry_if = path` | a `fn(&E) -> bool`: whether to retry after this error | always |
/// | `timeout = "30s"` | how long one attempt may take, from a millisecond to a century | no limit |
/// | `priority = 5` | higher runs first; an `i16` | 0 |
/// | `queue = "mail"` | the queue it waits in | `"default"` |
/// | `eager` | starts at once, before any waiting task, if the process that adds it has a free slot | `false` |
/// | `requeue_on_interrupt` | a run that a crash, a shutdown or a lost lease interrupts is repeated, and does not count as an attempt | `false` |
/// | `max_snoozes = 100` | how often it may ask to run later ([`TaskError::snooze`](crate::TaskError::snooze)); one more is a failed attempt | 100 |
/// | `max_lost_runs = 3` | after this many lost runs in a row it fails as poison: it probably kills its processes; at least 1 | 3 |
/// | `middleware = [Audit]` | the [middleware](crate::observe::Middleware) around its attempts, inside the global ones, the first outermost; unit structs and `static`s | none |
/// | `encrypt` | whether it is [encrypted](crate::TaskManagerBuilder#method.encrypt); a marked task is never stored unencrypted | the manager's choice |
/// | `crate = path` | path of the `taskflow` crate, for crates that re-export it | `::taskflow` |
///
/// Other attributes keep working. Documentation, `#[deprecated]`, `#[must_use]`, lints and `#[cfg]` apply to the function; all
/// others, such as `#[tracing::instrument]`, apply to its body.
pub use taskflow_macros::task;

/// Makes a function a schedule: a [task](macro@crate::task) that the clock adds.
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
/// A scheduled function has no arguments, because a tick has none to pass; the worker provides all its parameters.
/// You can also add it by hand: `tasks.add_task(refresh_rates, ())`.
///
/// # Options
///
/// Either `every` or `cron`, and all the options of a [task](macro@crate::task).
///
/// | option | meaning | default |
/// |---|---|---|
/// | `every = "15m"` | a tick at each multiple of this duration since 1970, the same for all processes; from 100 ms to a century | |
/// | `cron = "0 3 * * *"` | minute, hour, day, month, weekday; or six fields with the second first; or `@hourly`, `@daily`, `@weekly`, `@monthly`, `@yearly` | |
/// | `timezone = "Europe/Berlin"` | the time zone of `cron`; with an `every` of whole days, ticks fall on this zone's midnights | UTC |
/// | `run_on_startup` | one more tick when a process starts | `false` |
/// | `missed = ".."` | which of the ticks that came while no process ran are made up for: `"skip"` none, `"one"` the last, `"all"` each, at most the last 100 | `"one"` |
/// | `overlap = ".."` | while an earlier run has not ended, `"allow"` runs beside it, `"skip"` skips the tick | `"allow"` |
///
/// A day may be `L` (the last) or `15W` (the weekday nearest to the 15th), a weekday `MON#1` (the first Monday) or `FRI#L`
/// (the last Friday). If both day and weekday are given, a date that matches either one ticks; with a `+` before the
/// weekday it must match both. An expression that never ticks, such as the 30th of February, and an unknown zone are
/// compile errors.
pub use taskflow_macros::schedule;
