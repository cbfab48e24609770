//! The scripts, and calls of them.

use std::sync::LazyLock;

use redis::{Cmd, ToRedisArgs};

/// A Lua script: one call of the contract, one transaction.
#[derive(Debug)]
pub(super) struct Script {
    pub(super) source: &'static str,
    sha: LazyLock<String>,
    /// Whether it changes anything: then an answer that is lost leaves open whether it did.
    pub(super) writes: bool,
}

/// A script of these files. All begin with `task.lua`, which says what a task is.
macro_rules! script {
    ($effect:ident: $($file:literal),+) => {{
        const SOURCE: &str = concat!(include_str!("lua/task.lua"), $("\n", include_str!(concat!("lua/", $file, ".lua"))),+);
        Script {
            source: SOURCE,
            sha: LazyLock::new(|| redis::Script::new(SOURCE).get_hash().to_owned()),
            writes: script!(@ $effect),
        }
    }};
    (@ writes) => { true };
    (@ reads) => { false };
}

pub(super) static JOIN: Script = script!(writes: "join_main");
pub(super) static LEAVE: Script = script!(writes: "leave_main");
pub(super) static INSERT: Script = script!(writes: "insert", "insert_main");
pub(super) static FIRE: Script = script!(writes: "insert", "fire_main");
pub(super) static CLAIM: Script = script!(writes: "claim", "claim_main");
pub(super) static FINISH: Script = script!(writes: "life", "finish", "finish_main");
pub(super) static TURN: Script = script!(writes: "life", "finish", "claim", "turn_main");
pub(super) static RELEASE: Script = script!(writes: "life", "release_main");
pub(super) static REPORT: Script = script!(writes: "life", "finish", "report_main");
pub(super) static RENEW: Script = script!(writes: "renew_main");
pub(super) static STOPPING: Script = script!(reads: "stopping_main");
pub(super) static EXPIRED: Script = script!(reads: "expired_main");
pub(super) static LOSE: Script = script!(writes: "life", "lose_main");
pub(super) static WAKEUP: Script = script!(reads: "claim", "wakeup_main");
pub(super) static GET: Script = script!(reads: "get_main");
pub(super) static LOGS: Script = script!(reads: "logs_main");
pub(super) static FIND: Script = script!(reads: "find_main");
pub(super) static INSTANCES: Script = script!(reads: "instances_main");
pub(super) static CANCEL: Script = script!(writes: "life", "cancel_main");
pub(super) static CANCEL_SCHEDULED: Script = script!(writes: "life", "cancel_scheduled_main");
pub(super) static RETRY: Script = script!(writes: "life", "retry_main");
pub(super) static DELETE: Script = script!(writes: "delete_main");
pub(super) static PAUSE: Script = script!(writes: "pause_main");
pub(super) static PRUNE: Script = script!(writes: "prune_main");

/// A script with its arguments.
pub(super) struct Call {
    pub(super) script: &'static Script,
    pub(super) command: Cmd,
}

impl Call {
    /// A call over the keys of that prefix; `news` is what it publishes, if that is not empty.
    pub(super) fn new(script: &'static Script, prefix: &str, news: &[u8]) -> Self {
        let mut command = redis::cmd("EVALSHA");
        command.arg(script.sha.as_str()).arg(1).arg(prefix).arg(news);
        Self { script, command }
    }

    /// One more argument.
    pub(super) fn arg(&mut self, argument: impl ToRedisArgs) -> &mut Self {
        self.command.arg(argument);
        self
    }

    /// How many follow, then they.
    pub(super) fn list<A: ToRedisArgs>(&mut self, arguments: impl ExactSizeIterator<Item = A>) -> &mut Self {
        self.arg(arguments.len());
        for argument in arguments {
            self.arg(argument);
        }
        self
    }
}
