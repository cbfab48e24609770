//! Actors: the people and programs that look at tasks and act on them.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::model::{TaskFilter, TaskRecord};

macro_rules! permissions {
    ($($(#[$doc:meta])* $name:ident = $word:literal),* $(,)?) => {
        /// The right to one kind of act.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        #[non_exhaustive]
        pub enum Permission {
            $($(#[$doc])* $name,)*
        }

        impl Permission {
            /// All permissions.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The word for it in the API.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $word,)*
                }
            }
        }
    };
}

permissions! {
    /// See tasks, queues, schedules and workers, without arguments, results and log lines.
    View = "view",
    /// See arguments and results, except those that [`Args`](super::Args) hides and those that are sealed (encrypted).
    ViewArgs = "view_args",
    /// See log lines.
    ViewLogs = "view_logs",
    /// Retry tasks.
    Retry = "retry",
    /// Cancel tasks.
    Cancel = "cancel",
    /// Pause and resume queues.
    Pause = "pause",
    /// Run, pause and resume schedules.
    RunSchedule = "run_schedule",
    /// Delete one ended task at a time.
    DeleteOne = "delete_one",
    /// Add tasks, and remove schedules that a program has added at run time.
    Add = "add",
    /// Delete many ended tasks at once.
    DeleteMany = "delete_many",
    /// Change the limits of queues.
    SetLimits = "set_limits",
    /// Read the audit log.
    Audit = "audit",
    /// See the arguments and results that [`Args`](super::Args) hides; in a process that has keys, open sealed (encrypted) parts
    /// of tasks and seal arguments anew.
    ViewSecrets = "view_secrets",
    /// Read the metrics.
    Metrics = "metrics",
}

impl Permission {
    const fn bit(self) -> u32 {
        1 << self as u32
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A common set of permissions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Role {
    /// Sees everything except the audit log, the metrics, and hidden, redacted and sealed values. Changes nothing.
    Viewer,
    /// A viewer that may also retry and cancel tasks, delete single ended tasks, pause and resume queues, and run, pause and
    /// resume schedules.
    Operator,
    /// Everything.
    Admin,
    /// Only the metrics.
    Metrics,
}

impl Role {
    /// All roles.
    pub const ALL: [Self; 4] = [Self::Viewer, Self::Operator, Self::Admin, Self::Metrics];

    /// The permissions of this role.
    #[must_use]
    pub fn permissions(self) -> &'static [Permission] {
        use Permission::{Cancel, DeleteOne, Metrics, Pause, Retry, RunSchedule, View, ViewArgs, ViewLogs};
        match self {
            Self::Viewer => &[View, ViewArgs, ViewLogs],
            Self::Operator => &[View, ViewArgs, ViewLogs, Retry, Cancel, Pause, RunSchedule, DeleteOne],
            Self::Admin => Permission::ALL,
            Self::Metrics => &[Metrics],
        }
    }

    /// The word for it: `viewer`, `operator`, `admin` or `metrics`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
            Self::Metrics => "metrics",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A person or program that looks at tasks and acts on them, with its permissions. The audit log keeps its name.
///
/// ```
/// use taskflow::admin::{Actor, Permission, Role};
///
/// let ada = Actor::new("ada", Role::Operator).only_queues(["mail"]);
/// assert!(ada.may(Permission::Retry));
/// assert!(!ada.may(Permission::SetLimits));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor {
    name: Arc<str>,
    role: Option<Role>,
    permissions: u32,
    queues: Option<Arc<[String]>>,
}

impl Actor {
    /// An actor with the permissions of a role.
    pub fn new(name: impl Into<Arc<str>>, role: Role) -> Self {
        Self { role: Some(role), ..Self::with(name, role.permissions().iter().copied()) }
    }

    /// An actor with exactly these permissions.
    pub fn with(name: impl Into<Arc<str>>, permissions: impl IntoIterator<Item = Permission>) -> Self {
        let permissions = permissions.into_iter().fold(0, |all, one| all | one.bit());
        Self { name: name.into(), role: None, permissions, queues: None }
    }

    /// Narrows the actor to the tasks of these queues: it sees and changes no others.
    #[must_use]
    pub fn only_queues<S: Into<String>>(mut self, queues: impl IntoIterator<Item = S>) -> Self {
        self.queues = Some(queues.into_iter().map(Into::into).collect());
        self
    }

    /// The name, as the audit log shows it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The role that it was made with; `None` if it was made with single permissions.
    #[must_use]
    pub fn role(&self) -> Option<Role> {
        self.role
    }

    /// Whether it has this permission.
    #[must_use]
    pub fn may(&self, permission: Permission) -> bool {
        self.permissions & permission.bit() != 0
    }

    /// Its permissions.
    pub fn permissions(&self) -> impl Iterator<Item = Permission> + '_ {
        Permission::ALL.iter().copied().filter(|one| self.may(*one))
    }

    /// Whether it may see the tasks of this queue.
    #[must_use]
    pub fn sees_queue(&self, queue: &str) -> bool {
        self.queues.as_ref().is_none_or(|queues| queues.iter().any(|one| one == queue))
    }

    /// Whether it sees all queues.
    #[must_use]
    pub fn sees_all_queues(&self) -> bool {
        self.queues.is_none()
    }

    /// Whether it may see this task.
    #[must_use]
    pub fn sees(&self, task: &TaskRecord) -> bool {
        self.sees_queue(&task.queue)
    }

    /// Narrows the filter to tasks that this actor may see.
    #[must_use]
    pub fn narrow(&self, mut filter: TaskFilter) -> TaskFilter {
        if let Some(queues) = &self.queues {
            match filter.queues.is_empty() {
                true => filter.queues = queues.to_vec(),
                false => filter.queues.retain(|queue| self.sees_queue(queue)),
            }
            if filter.queues.is_empty() {
                // No queue has an empty name, so this matches nothing.
                filter.queues.push(String::new());
            }
        }
        filter
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_actor_of_some_queues_never_asks_for_others() {
        let actor = Actor::new("ada", Role::Viewer).only_queues(["mail", "sms"]);
        assert_eq!(actor.narrow(TaskFilter::new()).queues, ["mail", "sms"]);
        assert_eq!(actor.narrow(TaskFilter::new().queue("mail").queue("pay")).queues, ["mail"]);
        assert_eq!(actor.narrow(TaskFilter::new().queue("pay")).queues, [""]);
        let nobody = Actor::new("ada", Role::Viewer).only_queues(Vec::<String>::new());
        assert_eq!(nobody.narrow(TaskFilter::all()).queues, [""]);
    }

    #[test]
    fn each_permission_has_a_bit_and_a_word_of_its_own() {
        let bits = Permission::ALL.iter().fold(0, |all, one| all | one.bit());
        assert_eq!(bits.count_ones() as usize, Permission::ALL.len());
        for permission in Permission::ALL {
            let json = serde_json::to_string(permission).expect("a word");
            assert_eq!(json, format!("\"{permission}\""));
        }
    }
}
