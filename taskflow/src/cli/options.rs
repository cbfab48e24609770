//! The options that all verbs share.

use std::io::IsTerminal;

use clap::{Args, ValueEnum};

use super::output::{Format, Out, Style};

/// The options of every verb.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Options of every verb")]
pub(super) struct Global {
    /// The store: `sqlite://FILE`, `postgres://..` or `redis://..` [env: TASKFLOW_STORE]
    #[arg(long, short = 's', global = true, value_name = "URL")]
    pub(super) store: Option<String>,
    /// The store of this name in ~/.config/taskflow/config.toml [env: TASKFLOW_CONTEXT]
    #[arg(long, short = 'c', global = true, value_name = "NAME", conflicts_with = "store")]
    pub(super) context: Option<String>,
    /// Print one JSON document
    #[arg(long, global = true, conflicts_with_all = ["ndjson", "table"])]
    pub(super) json: bool,
    /// Print a JSON document for each item, one a line
    #[arg(long, global = true, conflicts_with = "table")]
    pub(super) ndjson: bool,
    /// Print tables also where no terminal is; without this, a pipe gets tab-separated lines
    #[arg(long, global = true)]
    pub(super) table: bool,
    /// When to print colours
    #[arg(
        long,
        global = true,
        value_enum,
        value_name = "WHEN",
        default_value_t,
        hide_possible_values = false
    )]
    pub(super) color: When,
}

/// When to print colours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum When {
    #[default]
    Auto,
    Always,
    Never,
}

/// The options of verbs that change something.
#[derive(Args, Clone, Debug, Default)]
pub(super) struct Acting {
    /// Do not ask
    #[arg(long, short = 'y')]
    pub(super) yes: bool,
    /// Why; the audit log keeps it
    #[arg(long, value_name = "TEXT")]
    pub(super) reason: Option<String>,
    /// Your name in the audit log [default: USER@HOST, with the user from $USER, $LOGNAME or $USERNAME]
    #[arg(long, value_name = "NAME")]
    pub(super) actor: Option<String>,
}

impl Global {
    pub(super) fn out(&self) -> Out {
        let is_terminal = std::io::stdout().is_terminal();
        let format = match self {
            _ if self.json => Format::Json,
            _ if self.ndjson => Format::Lines,
            _ if self.table || is_terminal => Format::Table,
            _ => Format::Tabs,
        };
        Out::new(format, style(self.color, is_terminal))
    }
}

/// Whether the output is coloured.
pub(super) fn style(color: When, is_terminal: bool) -> Style {
    let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let is_colored = match color {
        When::Always => true,
        When::Never => false,
        When::Auto => {
            is_terminal && !set("NO_COLOR") && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
        }
    };
    Style { is_colored }
}
