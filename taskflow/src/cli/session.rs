//! The store of a command, and who acts on it.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use taskflow::admin::{Actor, By, Console, Face, Role};
use taskflow::model::InstanceInfo;
use taskflow::{TaskManager, TaskManagerBuilder};

use super::context::{Contexts, Target};
use super::failure::{Code, Failure, Result};
use super::options::{Acting, Global, style};
use super::output::{Color, Out, clean};

/// How long the process may take to leave the store.
const LEAVE: Duration = Duration::from_millis(500);

/// The longest reason and name, in characters.
const MAX_TEXT: usize = 500;

/// The store of a command, and who acts on it.
#[derive(Clone, Debug)]
pub(super) struct Session {
    pub(super) console: Console,
    pub(super) by: By,
    pub(super) out: Out,
    pub(super) target: Target,
    is_sure: bool,
}

impl Session {
    /// Opens the store to read it. Nothing in it is changed.
    pub(super) async fn look(global: &Global) -> Result<Self> {
        let target = target(global)?;
        let tasks = builder(&target).view().await?;
        Self::of(global, target, &tasks, &Acting::default())
    }

    /// Opens the store to change something. Asks first if the store is marked as production.
    pub(super) async fn act(global: &Global, acting: &Acting) -> Result<Self> {
        Self::act_with(global, acting, |builder| builder).await
    }

    /// Like [`act`](Self::act), with more options of the manager's builder.
    pub(super) async fn act_with(
        global: &Global,
        acting: &Acting,
        with: impl FnOnce(TaskManagerBuilder) -> TaskManagerBuilder,
    ) -> Result<Self> {
        let session = Self::begin_with(global, acting, with).await?;
        session.ask_if_production()?;
        Ok(session)
    }

    /// Like [`act`](Self::act), but asks nothing: the caller asks its own question, or serves the dashboard.
    pub(super) async fn begin(global: &Global, acting: &Acting) -> Result<Self> {
        Self::begin_with(global, acting, |builder| builder).await
    }

    async fn begin_with(
        global: &Global,
        acting: &Acting,
        with: impl FnOnce(TaskManagerBuilder) -> TaskManagerBuilder,
    ) -> Result<Self> {
        let target = self::target(global)?;
        check_named(&target)?;
        let tasks = with(builder(&target)).view().await?;
        Self::of(global, target, &tasks, acting)
    }

    fn of(global: &Global, target: Target, tasks: &TaskManager, acting: &Acting) -> Result<Self> {
        let name = acting.actor.clone().unwrap_or_else(whoami);
        for (option, text) in [("--actor", Some(&name)), ("--reason", acting.reason.as_ref())] {
            if text.is_some_and(|text| text.chars().count() > MAX_TEXT || text.contains('\0')) {
                return Err(Failure::usage(format!("`{option}` has at most {MAX_TEXT} characters")));
            }
        }
        let actor = Actor::new(name, Role::Admin);
        let by = By::new(actor, Face::Cli).reason(acting.reason.clone());
        Ok(Self { console: Console::new(tasks), by, out: global.out(), target, is_sure: acting.yes })
    }

    pub(super) fn tasks(&self) -> &TaskManager {
        self.console.tasks()
    }

    pub(super) fn actor(&self) -> &Actor {
        &self.by.actor
    }

    /// Leaves the store.
    pub(super) async fn end(&self) {
        // If the store does not answer in time, the process ends without leaving it.
        let _ = tokio::time::timeout(LEAVE, self.tasks().shutdown(Duration::ZERO)).await;
    }

    fn ask_if_production(&self) -> Result<()> {
        match &self.target.context {
            Some(context) if self.target.is_production => {
                self.confirm(&format!("`{context}` is production. Go on?"))
            }
            _ => Ok(()),
        }
    }

    /// Asks, unless `--yes` was given.
    pub(super) fn confirm(&self, question: &str) -> Result<()> {
        confirm(self.is_sure, question)
    }
}

/// Asks, unless `is_sure`.
pub(super) fn confirm(is_sure: bool, question: &str) -> Result<()> {
    if is_sure {
        return Ok(());
    }
    if !(std::io::stdin().is_terminal() && std::io::stderr().is_terminal()) {
        return Err(Failure::usage(format!("nobody can be asked here: {question}"))
            .hint("`--yes` goes on without asking"));
    }
    let question = style(super::options::When::Auto, true).paint(Color::Bold, &clean(question));
    eprint!("{question} [y/N] ");
    let _ = std::io::stderr().flush();
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    match answer.trim().to_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(Failure::new(Code::Usage, "nothing was changed")),
    }
}

pub(super) fn target(global: &Global) -> Result<Target> {
    Contexts::read()?.target(global.store.as_deref(), global.context.as_deref())
}

fn builder(target: &Target) -> TaskManagerBuilder {
    TaskManager::builder().store(&target.url)
}

/// Checks that the user named the store if there are several contexts: a change to the default one may be a mistake.
pub(super) fn check_named(target: &Target) -> Result<()> {
    if target.is_named || target.others < 2 {
        return Ok(());
    }
    let name = target.context.as_deref().unwrap_or_default();
    Err(Failure::usage("there are several contexts: name the one to change")
        .hint(format!("`--context {name}` is the default")))
}

/// The user at this machine.
fn whoami() -> String {
    let set = |name| std::env::var(name).ok().filter(|value: &String| !value.trim().is_empty());
    let user = set("USER")
        .or_else(|| set("LOGNAME"))
        .or_else(|| set("USERNAME"))
        .unwrap_or_else(|| "somebody".to_owned());
    clean(&format!("{user}@{}", InstanceInfo::of_this_process(false).host))
}
