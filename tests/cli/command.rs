//! Running the command.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// The command, without the settings of this machine.
pub(crate) fn taskflow(store: &str) -> Command {
    let program = env!("CARGO_BIN_EXE_taskflow");
    // A shell that runs the tests in the background makes them, and their children, ignore Ctrl-C.
    let mut command = match cfg!(target_os = "linux") {
        true => {
            let mut command = Command::new("env");
            command.args(["--default-signal=INT", program]);
            command
        }
        false => Command::new(program),
    };
    for variable in ["TASKFLOW_CONTEXT", "XDG_CONFIG_HOME", "APPDATA", "NO_COLOR", "TERM"] {
        command.env_remove(variable);
    }
    command.env("HOME", "/nonexistent").env("USER", "ada").env("COLUMNS", "200").env("TASKFLOW_STORE", store);
    command.stdin(Stdio::null());
    command
}

/// What a command did.
#[derive(Debug)]
pub(crate) struct Ran {
    #[expect(dead_code, reason = "shown when a test fails")]
    what: String,
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    pub(crate) fn of(arguments: &[&str], output: Output) -> Self {
        Self {
            what: arguments.join(" "),
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self:#?}");
        self
    }

    #[track_caller]
    pub(crate) fn says(self, text: &str) -> Self {
        assert!(self.err.contains(text), "{text:?} is not in {self:#?}");
        assert!(!self.err.contains("panicked"), "{self:#?}");
        self
    }

    #[track_caller]
    pub(crate) fn prints(self, text: &str) -> Self {
        assert!(self.out.contains(text), "{text:?} is not in {self:#?}");
        self
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:#?}"))
    }

    /// The output without the parts that differ from run to run: ids, times, the machine and the spaces that align columns.
    pub(crate) fn settled(&self) -> String {
        settled(&self.out)
    }
}

pub(crate) fn run(store: &str, arguments: &[&str]) -> Ran {
    Ran::of(arguments, taskflow(store).args(arguments).output().unwrap())
}

/// The output for people, in tables.
pub(crate) fn table(store: &str, arguments: &[&str]) -> Ran {
    run(store, &[arguments, &["--table"]].concat())
}

/// With a file of contexts.
pub(crate) fn run_with(config: &Path, arguments: &[&str]) -> Ran {
    let mut command = taskflow("");
    Ran::of(arguments, command.env("TASKFLOW_CONFIG", config).args(arguments).output().unwrap())
}

pub(crate) fn settled(text: &str) -> String {
    let lines = text.lines().map(|line| {
        let indent = line.len() - line.trim_start().len();
        let words: Vec<_> = line.split_whitespace().map(settled_word).collect();
        let line = words.join(" ").replace("LENGTH ago", "LENGTH");
        format!("{}{line}", " ".repeat(indent.min(2)))
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn settled_word(word: &str) -> String {
    // How much of a text fits depends on the columns beside it.
    if word.contains('…') {
        return "…".to_owned();
    }
    let bare = word.trim_matches(|c: char| "(),:`'".contains(c));
    let is_hex = |c: char| c.is_ascii_hexdigit() || c == '-';
    let is_id = bare.len() >= 18 && bare.chars().all(is_hex);
    let is_instant = bare.len() >= 8
        && bare.chars().all(|c| c.is_ascii_digit() || "-:.TZ".contains(c))
        && bare.contains([':', 'T']);
    let is_date = bare.len() == 10 && bare.starts_with("20") && bare.matches('-').count() == 2;
    let has_unit = bare.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let is_length = has_unit.len() < bare.len()
        && !has_unit.is_empty()
        && bare.starts_with(|c: char| c.is_ascii_digit())
        && bare.chars().all(|c| c.is_ascii_digit() || ".smhd".contains(c));
    let is_process = bare.rsplit_once(':').is_some_and(|(host, pid)| {
        !host.is_empty() && host == gethostname() && pid.chars().all(|c| c.is_ascii_digit())
    });
    let is_now = bare == "now";
    let shown = match () {
        () if is_id => "ID",
        () if is_instant || is_date => "INSTANT",
        () if is_length || is_now => "LENGTH",
        () if is_process => "PROCESS",
        () => return word.replace(&format!("@{}", gethostname()), "@HOST"),
    };
    word.replace(bare, shown)
}

fn gethostname() -> String {
    taskflow::InstanceInfo::of_this_process(false).host
}

/// Runs `act` on a separate thread: it blocks, and the tasks of the test must go on.
pub(crate) async fn aside<T: Send + 'static>(act: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(act).await.unwrap()
}
