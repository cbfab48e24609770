//! What a person should look at, with the command that shows more or mends it.

use std::time::Duration;

use taskflow::admin::words::Words;
use taskflow::admin::{Matter, Situation};

use crate::cli::failure::Result;
use crate::cli::session::Session;

/// Something that a person should look at.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub(in crate::cli) struct Attention {
    /// Whether `status --check` fails.
    pub(in crate::cli) unhealthy: bool,
    pub(in crate::cli) message: String,
    /// The command that shows more, or mends it.
    pub(in crate::cli) command: String,
}

/// Everything that needs attention. A task that has been due for longer than `max_wait` makes its queue unhealthy.
pub(in crate::cli) async fn attention(
    session: &Session,
    situation: &Situation,
    max_wait: Duration,
) -> Result<Vec<Attention>> {
    let found = session.console.attention(session.actor(), situation, max_wait).await?;
    let told = found.into_iter().map(|it| {
        let (subject, text) = it.matter.sentence(Words::TERMINAL, situation.now);
        let words: Vec<_> = command(&it.matter).iter().map(|word| shell(word)).collect();
        let command = format!("taskflow {}", words.join(" "));
        Attention { unhealthy: it.is_unhealthy, message: format!("{subject}{text}"), command }
    });
    Ok(told.collect())
}

fn command(matter: &Matter) -> Vec<String> {
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    match matter {
        Matter::Paused { queue, .. } => words(&["queues", "resume", queue]),
        Matter::Full { queue, .. } | Matter::Slow { queue, .. } => words(&["queues", queue]),
        Matter::Late { schedule, .. } => words(&["schedules", schedule]),
        Matter::Failing { group } => words(&["show", &group.sample.to_string()]),
        Matter::FailingToo { .. } => words(&["failures", "--since", "1h"]),
        Matter::Overrunning { id, .. } => words(&["show", &id.to_string()]),
        Matter::Differs { task, .. } => words(&["types", task]),
        _ => words(&["workers"]),
    }
}

/// Quotes a word for a shell, if necessary.
pub(in crate::cli) fn shell(word: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "-_./:,=@+%".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_can_be_copied_to_a_shell() {
        assert_eq!(shell("mail"), "mail");
        assert_eq!(shell("it's"), "'it'\\''s'");
        assert_eq!(shell("a b;c"), "'a b;c'");
        assert_eq!(shell(""), "''");
    }
}
