//! The command line: one declaration from which the help and the completions are made.

use clap::{Parser, Subcommand};
use clap_complete::Shell;

use super::bench;
use super::options::Global;
use super::top;
use super::verbs::{
    add, audit, catalogue, export, failures, keys, list, logs, many, migrate, queues, schedules, serve, show,
    stats, status,
};

/// The help text below the options of each verb that takes a filter.
const FILTERS: &str = "\
A task is selected if every word of the filter matches:
  status:failed,interrupted   phase:retrying   name:send_email   queue:mail
  tag.plan:pro   arg.user_id:42   error:'timed out'   key:KEY   source:schedule
  since:6h   created_after:2026-11-01   finished_before:-1h
A bare word matches the names that contain it.";

/// Background tasks: see what they do, and act on them.
#[derive(Debug, Parser)]
#[command(
    name = "taskflow",
    version,
    arg_required_else_help = true,
    after_help = "\
Examples:
  taskflow -s sqlite://tasks.db status
  taskflow failures --since 6h
  taskflow retry status:failed error:'connection refused' since:6h

Exit codes: 0 done, 1 failed, 2 wrong arguments or refused, 3 not found, 4 nothing matches or not possible now,
5 the store does not answer, 6 `status --check` found something."
)]
pub(super) struct Arguments {
    #[command(flatten)]
    pub(super) global: Global,
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// The state of everything, and what needs a person
    #[command(after_help = "\
Examples:
  taskflow status
  taskflow status --watch 5s
  taskflow status --check --max-wait 10m || page-somebody")]
    Status(status::Options),
    /// Everything live on this terminal, with keys that act
    #[command(after_help = "Example: taskflow --context prod top")]
    Top(top::Options),
    /// Tasks, newest first
    #[command(visible_alias = "ls", after_help = format!("Example: taskflow list status:failed queue:mail since:6h\n\n{FILTERS}"))]
    List(list::ListOptions),
    /// How many tasks match
    #[command(after_help = format!("Example: taskflow count status:failed since:1h\n\n{FILTERS}"))]
    Count(list::CountOptions),
    /// One task: its arguments, attempts and last log lines
    #[command(after_help = "\
Examples:
  taskflow show 0193a1b2-c3d4-7abc
  taskflow show 0193a1b2-c3d4-7abc --open TASKFLOW_KEY_2026 --reason INC-311")]
    Show(show::Options),
    /// The log of a task
    #[command(after_help = "Example: taskflow logs -f --level warn 0193a1b2-c3d4-7abc")]
    Logs(logs::LogsOptions),
    /// Wait until tasks have ended; exit with 1 if one did not succeed
    #[command(after_help = "Example: taskflow wait --timeout 5m 0193a1b2-c3d4-7abc")]
    Wait(logs::WaitOptions),
    /// Add a task by its name
    #[command(after_help = "\
Examples:
  taskflow add send_email --arg to=ada@example.com --arg copies=2
  taskflow add send_email --args '{\"to\":\"ada@example.com\"}' --in 5m --key welcome:42 --wait")]
    Add(add::Options),
    /// Run tasks again that failed, were interrupted, cancelled or rejected
    #[command(after_help = format!("\
Examples:
  taskflow retry 0193a1b2-c3d4-7abc
  taskflow retry status:failed error:'refused by' since:6h --reason INC-311
  taskflow retry status:failed queue:mail --dry-run
  taskflow retry status:failed queue:mail --spread 10m

{FILTERS}"))]
    Retry(many::Retry),
    /// Cancel tasks that wait or run
    #[command(after_help = format!("Example: taskflow cancel name:import tag.customer:42\n\n{FILTERS}"))]
    Cancel(many::Options),
    /// Delete the records of tasks that have ended
    #[command(after_help = format!("Example: taskflow delete status:success finished_before:-30d\n\n{FILTERS}"))]
    Delete(many::Options),
    /// What fails, grouped by task and error
    #[command(after_help = "Example: taskflow failures --since 6h --queue mail")]
    Failures(failures::Options),
    /// Queues: list them, pause them, set their limits
    #[command(after_help = "\
Examples:
  taskflow queues
  taskflow queues pause mail --reason 'the mail server is down'
  taskflow queues set mail concurrency=8 rate=100/1m")]
    Queues(queues::Options),
    /// Schedules: list them, run them now, pause, resume and remove them
    #[command(after_help = "\
Examples:
  taskflow schedules
  taskflow schedules nightly_report --next 10
  taskflow schedules run nightly_report")]
    Schedules(schedules::Options),
    /// The processes that use the store
    #[command(after_help = "Example: taskflow workers")]
    Workers,
    /// The tasks that the running programs know
    #[command(after_help = "Example: taskflow types send_email")]
    Types(catalogue::TypesOptions),
    /// What tasks did in some time, and how long it took
    #[command(after_help = "Example: taskflow stats --by queue --range 24h --step 1h")]
    Stats(stats::Options),
    /// What people did, through the dashboard, the API and this command
    #[command(after_help = "Example: taskflow audit --since 7d --actor ada")]
    Audit(audit::AuditOptions),
    /// Acts on many tasks: how far they are, stop them, go on with them
    #[command(after_help = "\
Examples:
  taskflow operations
  taskflow operations stop 0193a1b2-c3d4-7abc-8000-000000000001")]
    Operations(audit::OperationsOptions),
    /// Print many tasks as CSV or lines of JSON
    #[command(after_help = format!("Example: taskflow export status:failed since:7d --format csv > failed.csv\n\n{FILTERS}"))]
    Export(export::Options),
    /// Serve the dashboard and the API of a store
    #[command(after_help = "\
Examples:
  taskflow serve --loopback
  taskflow serve --listen 0.0.0.0:7411 --user-file people --token-file programs")]
    Serve(serve::Options),
    /// Print the hash of a password, for `serve --user` and `Access::users`
    #[command(after_help = "Example: taskflow password")]
    Password,
    /// Print a new bearer token and its hash, for `serve --token-file` and `Access::tokens`
    #[command(after_help = "Example: taskflow token")]
    Token,
    /// Print a new key, for `taskflow::crypt::Key` and encryption at rest
    #[command(after_help = "Example: taskflow keygen")]
    Keygen,
    /// The keys with which tasks are sealed
    #[command(after_help = "\
Examples:
  taskflow keys use
  taskflow keys use status:pending
  taskflow keys rewrap --key TASKFLOW_KEY_2026 --also TASKFLOW_KEY_2025

Log lines are not counted: each is sealed with the key that was current when its task logged it. Without a filter, a key that
is not listed may be dropped from the key ring, unless old log lines must still be opened with it.")]
    Keys(keys::Options),
    /// Make the store, or bring its tables up to date
    #[command(after_help = "\
No other verb makes a store or changes its tables. Programs that run tasks do the same when they start, so this is for a
deployment that migrates first. Any number of processes may do so at once.

Examples:
  taskflow --store sqlite://tasks.db migrate
  taskflow --store sqlite://tasks.db migrate --dry-run")]
    Migrate(migrate::Options),
    /// The stores that this machine knows by name
    #[command(after_help = "\
The file is ~/.config/taskflow/config.toml; TASKFLOW_CONFIG names another one.

  default = \"dev\"

  [contexts.dev]
  store = \"sqlite://tasks.db\"

  [contexts.prod]
  store = \"env:PROD_STORE\"
  production = true
  accent = \"red\"

Example: taskflow contexts")]
    Contexts,
    /// Print the completions of a shell
    #[command(after_help = "Example: taskflow completions bash > /etc/bash_completion.d/taskflow")]
    Completions { shell: Shell },
    /// Measure taskflow on a store, and the same work hand-written on the store's raw driver
    #[command(long_about = bench::ABOUT, after_help = "Example: taskflow bench --store sqlite://bench.db --runs 3")]
    Bench(bench::Options),
    /// Hold waiting tasks and print the memory they take; the bench runs this command in a separate process.
    #[command(hide = true)]
    BenchMemory(bench::Holding),
}
