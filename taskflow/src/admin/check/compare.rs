use serde::Serialize;

use super::Inventory;
use crate::model::{ParameterInfo, TaskInfo};

/// One effect that a deployment would have on what the old program has stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Difference {
    /// The task, or the schedule.
    pub name: String,
    /// Whether stored tasks would wait for ever or fail. Otherwise it is only a warning.
    pub strands: bool,
    /// What has changed, and the remedy.
    pub message: String,
}

impl Inventory {
    /// What would happen to the stored tasks and the schedules of the `old` program if this program replaced it.
    #[must_use]
    pub fn against(&self, old: &Self) -> Vec<Difference> {
        let mut found = Vec::new();
        for before in &old.tasks {
            let names = std::iter::once(&before.name).chain(&before.aliases);
            let lost: Vec<_> = names.filter(|name| self.task(name).is_none()).collect();
            let renamed = before.aliases.iter().find_map(|alias| self.task(alias));
            let now = self.task(&before.name).or(renamed);
            let mut push = |strands: bool, message: String| {
                found.push(Difference { name: before.name.clone(), strands, message });
            };
            match (now, &lost[..]) {
                (None, _) => push(
                    true,
                    "it is gone: its waiting tasks would wait for ever; keep it until none is left, or name it as an alias of its \
                     successor: `#[task(aliases = [\"..\"])]`"
                        .to_owned(),
                ),
                (Some(_), []) => {}
                (Some(now), lost) => {
                    let names = lost.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
                    push(true, format!("tasks stored under the name {names} would wait for ever; keep it as an alias of `{}`", now.name));
                }
            }
            now.into_iter()
                .flat_map(|now| parameters(before, now))
                .for_each(|(strands, message)| push(strands, message));
        }
        for before in &old.schedules {
            if self.schedules.iter().all(|it| it.name != before.name) {
                let message = "the schedule is gone: it ticks no more".to_owned();
                found.push(Difference { name: before.name.clone(), strands: false, message });
            }
        }
        found
    }

    /// The task that runs stored tasks of this name.
    fn task(&self, name: &str) -> Option<&TaskInfo> {
        let has_alias = |it: &&TaskInfo| it.aliases.iter().any(|alias| alias == name);
        self.tasks.iter().find(|it| it.name == name).or_else(|| self.tasks.iter().find(has_alias))
    }
}

/// What has changed in the parameters, and whether each change strands stored tasks.
fn parameters(before: &TaskInfo, now: &TaskInfo) -> Vec<(bool, String)> {
    let find = |task: &TaskInfo, name: &str| -> Option<ParameterInfo> {
        task.parameters.iter().find(|it| it.name == name).cloned()
    };
    let mut found = Vec::new();
    for it in &now.parameters {
        let remedy =
            format!("make it an `Option<{}>`, or give it a default with `#[arg(default)]`", it.type_name);
        match find(before, &it.name) {
            None if !it.is_optional => {
                found.push((
                    true,
                    format!("stored tasks lack the new argument `{}` and would fail; {remedy}", it.name),
                ));
            }
            Some(old) if old.is_optional && !it.is_optional => {
                found.push((
                    true,
                    format!("stored tasks may lack the argument `{}` and would then fail; {remedy}", it.name),
                ));
            }
            Some(old) if old.type_name != it.type_name => found.push((
                false,
                format!(
                    "the type of `{}` was `{}` and is `{}`: can it read what is stored?",
                    it.name, old.type_name, it.type_name
                ),
            )),
            _ => {}
        }
    }
    for it in before.parameters.iter().filter(|it| find(now, &it.name).is_none()) {
        found.push((false, format!("the argument `{}` of stored tasks would be ignored", it.name)));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(name: &str, aliases: &[&str], parameters: &[(&str, &str, bool)]) -> TaskInfo {
        let mut task = TaskInfo::new(name.to_owned());
        task.aliases = aliases.iter().map(|&alias| alias.to_owned()).collect();
        task.parameters = parameters
            .iter()
            .map(|&(name, kind, is_optional)| {
                ParameterInfo::new(name.to_owned(), kind.to_owned(), is_optional)
            })
            .collect();
        task
    }

    fn program(tasks: &[TaskInfo]) -> Inventory {
        Inventory { taskflow: "0.1.0".to_owned(), tasks: tasks.to_vec(), schedules: Vec::new() }
    }

    #[track_caller]
    fn differs(before: &TaskInfo, now: &[TaskInfo], expected: &[(bool, &str)]) {
        let found = program(now).against(&program(std::slice::from_ref(before)));
        let told: Vec<_> = found.iter().map(|it| (it.strands, it.message.as_str())).collect();
        assert_eq!(told.len(), expected.len(), "{told:?}");
        for ((strands, message), (should_strand, text)) in told.iter().zip(expected) {
            assert!(strands == should_strand && message.contains(text), "{told:?}");
        }
    }

    #[test]
    fn what_strands_stored_tasks_is_told_with_its_remedy() {
        let mail = task("send_email", &["mail"], &[("to", "String", false), ("copies", "Option<u8>", true)]);
        differs(&mail, std::slice::from_ref(&mail), &[]);
        differs(&mail, &[], &[(true, "it is gone")]);
        // Renamed, with the old names as aliases; and without one of them.
        let renamed = TaskInfo { name: "deliver".to_owned(), ..task("", &["send_email", "mail"], &[]) };
        let renamed = TaskInfo { parameters: mail.parameters.clone(), ..renamed };
        differs(&mail, std::slice::from_ref(&renamed), &[]);
        let forgotten = TaskInfo { aliases: vec!["send_email".to_owned()], ..renamed };
        differs(&mail, &[forgotten], &[(true, "the name `mail` would wait for ever")]);
        // A renamed parameter is a new one and a removed one.
        let other =
            task("send_email", &["mail"], &[("recipient", "String", false), ("copies", "Option<u8>", true)]);
        differs(
            &mail,
            &[other],
            &[(true, "the new argument `recipient`"), (false, "the argument `to` of stored tasks")],
        );
        let required = task("send_email", &["mail"], &[("to", "String", false), ("copies", "u8", false)]);
        differs(&mail, &[required], &[(true, "may lack the argument `copies`")]);
        let optional = task(
            "send_email",
            &["mail"],
            &[("to", "Address", false), ("copies", "Option<u8>", true), ("bcc", "Option<String>", true)],
        );
        differs(&mail, &[optional], &[(false, "the type of `to` was `String` and is `Address`")]);
    }

    #[test]
    fn a_schedule_that_is_gone_is_told_and_strands_nothing() {
        let mut old = program(&[]);
        let entry = r#"{"name":"report","trigger":"0 8 * * *","timezone":null}"#;
        old.schedules.push(serde_json::from_str(entry).expect("a schedule"));
        let found = program(&[]).against(&old);
        assert!(matches!(&found[..], [it] if !it.strands && it.name == "report"), "{found:?}");
        assert_eq!(old.against(&old), []);
    }
}
