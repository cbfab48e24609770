//! The scripts, and calls of them.

use std::collections::HashMap;
use std::sync::LazyLock;
use std::time::Duration;

use redis::{Arg, Cmd, ToRedisArgs};

use crate::store::hint_set::HintSet;

/// How long an answer may take. After that the connection counts as half open.
pub(super) const ANSWER: Duration = Duration::from_secs(5);

/// The maximum number of tasks for a script on `prelude_fast.lua`: Lua's stack holds some 8,000 values.
pub(super) const AT_ONCE: usize = 1000;

/// A Lua script: one call of the contract, one transaction.
#[derive(Debug)]
pub(super) struct Script {
    loaded: LazyLock<Loaded>,
    /// The variant for a call that is repeated after it met damage. The scripts for simple cases have none.
    careful: Option<LazyLock<Loaded>>,
    /// Whether it changes anything: if its answer is lost, it is unknown whether it did.
    pub(super) writes: bool,
}

/// A script as it is sent to the server.
#[derive(Debug)]
struct Loaded {
    source: String,
    sha: String,
}

impl Script {
    fn loaded(&self, careful: bool) -> &Loaded {
        self.careful.as_ref().filter(|_| careful).unwrap_or(&self.loaded)
    }
}

/// A script of these files, after `prelude.lua`, or after `prelude_fast.lua` where `fast` is given.
macro_rules! script {
    ($effect:ident: $($file:literal),+) => {
        Script {
            loaded: LazyLock::new(|| load(script!(@ source "call_direct", "prelude", $($file),+))),
            careful: Some(LazyLock::new(|| load(script!(@ source "call_checked", "prelude", $($file),+)))),
            writes: script!(@ $effect),
        }
    };
    ($effect:ident, fast: $($file:literal),+) => {
        Script {
            loaded: LazyLock::new(|| load(script!(@ source "prelude_fast", $($file),+))),
            careful: None,
            writes: script!(@ $effect),
        }
    };
    (@ source $($file:literal),+) => {
        concat!($(include_str!(concat!("lua/", $file, ".lua")), "\n"),+)
    };
    (@ writes) => { true };
    (@ reads) => { false };
}

/// Without a prelude, because it must report which rights are missing.
pub(super) static PROBE: Script = Script {
    loaded: LazyLock::new(|| load(include_str!("lua/probe_main.lua"))),
    careful: None,
    writes: true,
};
pub(super) static JOIN: Script = script!(writes: "join_main");
pub(super) static MIGRATE: Script = script!(writes: "migrate_main");
pub(super) static LEAVE: Script = script!(writes: "leave_main");
pub(super) static INSERT: Script =
    script!(writes: "promote", "concurrency_groups", "task_rows", "insert", "insert_main");
/// Stores arguments of an insert that is too large for one call.
pub(super) static STAGE: Script = script!(writes: "stage_main");
/// Inserts the staged arguments.
pub(super) static INSERT_STAGED: Script =
    script!(writes: "promote", "concurrency_groups", "task_rows", "staged", "insert", "insert_staged_main");
/// Inserts tasks that are all plain, each a group of its own, as in most batches.
pub(super) static INSERT_PLAIN: Script = Script {
    loaded: LazyLock::new(|| load(include_str!("lua/insert_plain_main.lua"))),
    careful: None,
    writes: true,
};
pub(super) static FIRE: Script =
    script!(writes: "promote", "concurrency_groups", "task_rows", "insert", "fire_main");
pub(super) static CLAIM: Script =
    script!(writes: "promote", "concurrency_groups", "window", "limits", "blocked", "claim", "claim_main");
pub(super) static CLAIM_PLAIN: Script =
    script!(writes, fast: "finish_none", "claim_plain", "write_claim", "write_rest", "claim_plain_main");
pub(super) static UNCLAIM: Script =
    script!(writes: "concurrency_groups", "task_rows", "transitions", "unclaim_main");
pub(super) static FINISH: Script = script!(
    writes: "concurrency_groups", "task_rows", "transitions", "report", "finish_general", "finish", "finish_main"
);
pub(super) static TURN: Script = script!(
    writes: "promote", "concurrency_groups", "task_rows", "transitions", "report", "finish_general", "finish", "window",
    "limits", "blocked", "claim", "turn_main"
);
/// A turn in the simple case: all runs succeeded, as in most batches.
pub(super) static TURN_SUCCESS: Script = script!(
    writes, fast: "finish_success_fast", "claim_plain", "write_finished", "write_claim", "write_rest", "turn_success_main"
);
pub(super) static FINISH_SUCCESS: Script =
    script!(writes, fast: "finish_success_fast", "write_finished", "write_rest", "finish_success_main");
pub(super) static REPORT: Script =
    script!(writes: "concurrency_groups", "task_rows", "report", "report_main");
pub(super) static RENEW: Script = script!(writes: "renew_main");
pub(super) static ASKED_TO_STOP: Script = script!(reads: "asked_to_stop_main");
pub(super) static APPLY: Script =
    script!(writes: "concurrency_groups", "task_rows", "transitions", "apply_main");
pub(super) static ROWS: Script = script!(reads: "rows_main");
pub(super) static EXPIRED: Script = script!(reads: "expired_main");
pub(super) static SHOW_LIFE: Script = script!(writes: "run_id", "show_life_main");
pub(super) static LIVENESS: Script = script!(reads: "run_id", "liveness_main");
pub(super) static END_LEASES: Script =
    script!(writes: "concurrency_groups", "task_rows", "run_id", "end_leases_main");
pub(super) static GET: Script = script!(reads: "get_main");
pub(super) static OUTLINES: Script = script!(reads: "outlines_main");
pub(super) static ENDS: Script = script!(reads: "ends_main");
pub(super) static LOGS: Script = script!(reads: "logs_main");
pub(super) static FIND: Script = script!(reads: "find_main");
pub(super) static INSTANCES: Script = script!(reads: "instances_main");
pub(super) static DELETE: Script = script!(writes: "concurrency_groups", "task_rows", "delete_main");
pub(super) static REPLACE_ARGS: Script =
    script!(writes: "concurrency_groups", "task_rows", "replace_args_main");
pub(super) static PAUSE: Script = script!(writes: "pause_main");
pub(super) static SET_QUEUE: Script = script!(writes: "set_queue_main");
pub(super) static QUEUE_CONFIG: Script = script!(reads: "queue_config_main");
pub(super) static QUEUE_STATES: Script = script!(reads: "queue_states_main");
pub(super) static QUEUES: Script = script!(reads: "queues_main");
pub(super) static SET_SCHEDULE: Script = script!(writes: "set_schedule_main");
pub(super) static SCHEDULES: Script = script!(reads: "schedule_states", "schedules_main");
pub(super) static SCHEDULE: Script = script!(reads: "schedule_states", "schedule_main");
pub(super) static SCHEDULE_CHANGES: Script = script!(reads: "schedule_states", "schedule_changes_main");
pub(super) static REPAIR: Script =
    script!(writes: "concurrency_groups", "task_rows", "repair", "repair_main");
pub(super) static FAIL_DAMAGED: Script =
    script!(writes: "concurrency_groups", "task_rows", "transitions", "repair", "fail_damaged_main");
/// The schema of the store.
pub(super) static SCHEMA: Script = script!(reads: "schema_main");
pub(super) static COUNTS: Script = script!(reads: "counts_main");
pub(super) static CHECK: Script = script!(reads: "check_main");
pub(super) static PRUNE: Script = script!(writes: "concurrency_groups", "task_rows", "prune_main");
pub(super) static WRITE_DOCUMENTS: Script = script!(writes: "write_documents_main");
pub(super) static DOCUMENTS: Script = script!(reads: "documents_main");
pub(super) static PRUNE_DOCUMENTS: Script = script!(writes: "prune_documents_main");

/// Replaces the constants of `constants.lua` by their values, and removes whole-line comments. A Lua local costs time in each
/// closure that names it, each time a script runs; a literal costs nothing.
fn load(source: &str) -> Loaded {
    let source = source.lines().filter(|line| !line.trim_start().starts_with("--"));
    let source = put_in(&constants(), &source.collect::<Vec<_>>().join("\n"));
    let sha = redis::Script::new(&source).get_hash().to_owned();
    Loaded { source, sha }
}

fn constants() -> HashMap<&'static str, &'static str> {
    let lines = include_str!("lua/constants.lua").lines();
    lines.filter_map(|line| line.strip_prefix("local ")?.split_once(" = ")).collect()
}

fn put_in(constants: &HashMap<&str, &str>, source: &str) -> String {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find(is_word) {
        let (before, from) = rest.split_at(start);
        let (word, after) = from.split_at(from.find(|c| !is_word(c)).unwrap_or(from.len()));
        out.push_str(before);
        out.push_str(constants.get(word).unwrap_or(&word));
        rest = after;
    }
    out.push_str(rest);
    out
}

/// A script with its arguments.
pub(super) struct Call {
    pub(super) script: &'static Script,
    pub(super) command: Cmd,
    /// How long its answer may take.
    pub(super) patience: Duration,
    /// What it changes.
    pub(super) changes: HintSet,
    careful: bool,
}

impl Call {
    /// A call on the keys with that prefix. `message` is what it publishes; empty for nothing.
    pub(super) fn new(script: &'static Script, prefix: &str, message: &[u8]) -> Self {
        let mut command = redis::cmd("EVALSHA");
        command.arg(script.loaded.sha.as_str()).arg(1).arg(prefix).arg(message);
        Self { script, command, patience: ANSWER, changes: HintSet::NONE, careful: false }
    }

    /// The same call, to repeat it after it met damage; `None` for a script for simple cases, because the general
    /// script repeats the call.
    pub(super) fn careful(&self) -> Option<Self> {
        let loaded = self.script.careful.as_deref()?;
        Some(Self {
            script: self.script,
            command: self.as_command("EVALSHA", &loaded.sha),
            patience: self.patience,
            changes: self.changes,
            careful: true,
        })
    }

    /// The call with the source of the script, for a server that does not know it.
    pub(super) fn with_source(&self) -> Cmd {
        self.as_command("EVAL", &self.script.loaded(self.careful).source)
    }

    fn as_command(&self, name: &str, script: &str) -> Cmd {
        let mut command = redis::cmd(name);
        command.arg(script);
        for argument in self.command.args_iter().skip(2) {
            match argument {
                Arg::Simple(bytes) => command.arg(bytes),
                // No script has a cursor among its arguments.
                _ => command.arg(""),
            };
        }
        command
    }

    /// The arguments after the message that the call publishes.
    pub(super) fn arguments(&self) -> Vec<&[u8]> {
        let simple = |argument| match argument {
            Arg::Simple(bytes) => Some(bytes),
            _ => None,
        };
        // Skips `EVALSHA`, the script, the number of keys, the prefix and the message.
        self.command.args_iter().skip(5).filter_map(simple).collect()
    }

    /// Adds one argument.
    pub(super) fn arg(&mut self, argument: impl ToRedisArgs) -> &mut Self {
        self.command.arg(argument);
        self
    }

    /// Adds the number of arguments, then the arguments.
    pub(super) fn list<A: ToRedisArgs>(&mut self, arguments: impl ExactSizeIterator<Item = A>) -> &mut Self {
        self.arg(arguments.len());
        for argument in arguments {
            self.arg(argument);
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::iter;

    use super::*;

    #[test]
    fn constants_are_put_in_where_they_are_named() {
        let constants = constants();
        assert_eq!(constants["RUNNING"], "5");
        assert_eq!(
            put_in(&constants, "t[STAGE] == RUNNING and RUNNING_ == 'x'"),
            "t[1] == 5 and RUNNING_ == 'x'"
        );
        let source = &CLAIM.loaded.source;
        assert!(source.contains("pack('<BBBBI4i8I8I4c16i8', 5, 0, 0,"), "{source}");
    }

    /// The words of a script that name something: neither in a text or a comment, nor a field, nor a number.
    fn words(source: &str) -> Vec<(&str, &str)> {
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let (mut words, mut rest) = (Vec::new(), source);
        while let Some(start) = rest.find(|c| is_word(c) || c == '\'' || c == '"' || c == '-') {
            let (before, from) = rest.split_at(start);
            let first = from.chars().next().expect("a character was found");
            if from.starts_with("--") {
                rest = from.split_once('\n').map_or("", |(_, after)| after);
            } else if is_word(first) {
                let (word, after) = from.split_at(from.find(|c| !is_word(c)).unwrap_or(from.len()));
                let is_field = before.ends_with(['.', ':']) && !before.ends_with("..");
                if !is_field && !first.is_ascii_digit() {
                    words.push((word, after));
                }
                rest = after;
            } else if first == '-' {
                rest = &from[1..];
            } else {
                let text = &from[1..];
                let end = text.match_indices(first).find(|(at, _)| !text[..*at].ends_with('\\'));
                rest = end.map_or("", |(at, _)| &text[at + 1..]);
            }
        }
        words
    }

    /// Words of the language, and what the server gives to every script.
    const GIVEN: &str = "and break do else elseif end false for function if in local nil not or repeat return then true until \
        while KEYS ARGV redis string table math struct bit tonumber tostring ipairs pairs unpack type pcall error select setmetatable";

    #[test]
    fn scripts_use_only_names_that_they_declare() {
        let statics: Vec<_> = include_str!("script.rs").split("pub(super) static ").skip(1).collect();
        let all = [
            &PROBE,
            &JOIN,
            &MIGRATE,
            &LEAVE,
            &INSERT,
            &STAGE,
            &INSERT_STAGED,
            &INSERT_PLAIN,
            &FIRE,
            &CLAIM,
            &CLAIM_PLAIN,
            &UNCLAIM,
            &FINISH,
            &TURN,
            &TURN_SUCCESS,
            &FINISH_SUCCESS,
            &REPORT,
            &RENEW,
            &ASKED_TO_STOP,
            &APPLY,
            &ROWS,
            &EXPIRED,
            &SHOW_LIFE,
            &LIVENESS,
            &END_LEASES,
            &GET,
            &OUTLINES,
            &ENDS,
            &LOGS,
            &FIND,
            &INSTANCES,
            &DELETE,
            &REPLACE_ARGS,
            &PAUSE,
            &SET_QUEUE,
            &QUEUE_CONFIG,
            &QUEUE_STATES,
            &QUEUES,
            &SET_SCHEDULE,
            &SCHEDULES,
            &SCHEDULE,
            &SCHEDULE_CHANGES,
            &REPAIR,
            &FAIL_DAMAGED,
            &SCHEMA,
            &COUNTS,
            &CHECK,
            &PRUNE,
            &WRITE_DOCUMENTS,
            &DOCUMENTS,
            &PRUNE_DOCUMENTS,
        ];
        // The first piece that this test itself holds is no static.
        assert_eq!(all.len(), statics.len() - 1, "a script is missing in this test");
        for script in all {
            for loaded in iter::once(&script.loaded).chain(&script.careful) {
                let words = words(&loaded.source);
                let mut declared: HashSet<&str> = GIVEN.split_whitespace().collect();
                for (at, (word, after)) in words.iter().enumerate() {
                    // The names of `local a, b`, of `for a, b in`, and of a function with its parameters.
                    let ends: &[char] = match *word {
                        "local" => &['=', '\n'],
                        "for" => &['=', ';'],
                        "function" => &[')'],
                        _ => continue,
                    };
                    let until = after.find(ends).unwrap_or(after.len());
                    let names =
                        words[at + 1..].iter().take_while(|(_, rest)| after.len() - rest.len() <= until);
                    declared.extend(names.take_while(|(name, _)| *name != "in").map(|(name, _)| *name));
                }
                // The key of a field in a table stands before a `=`.
                let is_key = |after: &str| after.starts_with(" = ");
                let unknown = words.iter().filter(|(word, after)| !declared.contains(word) && !is_key(after));
                let unknown: HashSet<_> = unknown.map(|(word, _)| *word).collect();
                assert!(unknown.is_empty(), "{unknown:?} in\n{}", loaded.source);
            }
        }
    }
}
