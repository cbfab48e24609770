//! Contexts: the stores that this machine knows by name, in a file.
//!
//! ```toml
//! default = "dev"
//!
//! [contexts.dev]
//! store = "sqlite://tasks.db"
//!
//! [contexts.prod]
//! store = "env:PROD_STORE"   # from the environment, so that no password stands in the file
//! production = true          # verbs that change something ask first
//! accent = "red"
//! ```

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;
use taskflow::store::IntoStore;
use taskflow::web::Accent;

use super::failure::{Failure, Result};

/// The file with the contexts.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    default: Option<String>,
    #[serde(default)]
    contexts: BTreeMap<String, Context>,
}

/// One context.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Context {
    /// A URL, or `env:NAME`.
    store: String,
    /// Whether verbs that change something ask first.
    #[serde(default)]
    pub(super) production: bool,
    /// The colour of its name.
    #[serde(default)]
    pub(super) accent: Accent,
}

/// All contexts.
#[derive(Clone, Debug)]
pub(super) struct Contexts {
    path: Option<PathBuf>,
    file: File,
}

/// The store that a command is about.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) url: String,
    /// The name of its context; `None` if the store was named by its URL.
    pub(super) context: Option<String>,
    pub(super) is_production: bool,
    pub(super) accent: Accent,
    /// Whether the user named it. `false` for the default context.
    pub(super) is_named: bool,
    /// How many contexts there are.
    pub(super) others: usize,
}

impl Contexts {
    /// Reads the file. It may be missing, unless `TASKFLOW_CONFIG` names it.
    pub(super) fn read() -> Result<Self> {
        let told = std::env::var_os("TASKFLOW_CONFIG").filter(|path| !path.is_empty()).map(PathBuf::from);
        let Some(path) = told.clone().or_else(usual_path) else {
            return Ok(Self { path: None, file: File::default() });
        };
        let shown = path.display();
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && told.is_none() => String::new(),
            Err(error) => return Err(Failure::usage(format!("cannot read {shown}: {error}"))),
        };
        let file: File = toml::from_str(&text).map_err(|error| {
            // The whole error quotes the line, in which a password may stand.
            let line = error.span().map_or(1, |span| text[..span.start].matches('\n').count() + 1);
            Failure::usage(format!("{shown}, line {line}: {}", error.message()))
        })?;
        if let Some(default) = file.default.as_ref().filter(|name| !file.contexts.contains_key(*name)) {
            return Err(Failure::usage(format!(
                "{shown}: `default` names the context `{default}`, which it does not have"
            )));
        }
        Ok(Self { path: Some(path), file })
    }

    /// The contexts by name.
    pub(super) fn all(&self) -> &BTreeMap<String, Context> {
        &self.file.contexts
    }

    pub(super) fn is_default(&self, name: &str) -> bool {
        self.default().is_some_and(|default| default == name)
    }

    /// Where the file is, or would be.
    pub(super) fn path(&self) -> Option<&PathBuf> {
        self.path.as_ref()
    }

    fn default(&self) -> Option<&str> {
        let only = || self.file.contexts.keys().next().filter(|_| self.file.contexts.len() == 1);
        self.file.default.as_ref().or_else(only).map(String::as_str)
    }

    /// The store that these options mean: a URL, else a context (also from `TASKFLOW_CONTEXT`), else `TASKFLOW_STORE`, else the
    /// default context.
    pub(super) fn target(&self, store: Option<&str>, context: Option<&str>) -> Result<Target> {
        let variable = |name| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
        if let Some(url) = store {
            return self.by_url(url);
        }
        if let Some(name) = context.map(str::to_owned).or_else(|| variable("TASKFLOW_CONTEXT")) {
            return self.by_name(&name, true);
        }
        if let Some(url) = variable("TASKFLOW_STORE") {
            return self.by_url(&url);
        }
        if let Some(name) = self.default() {
            return self.by_name(name, false);
        }
        let path = self
            .path
            .as_ref()
            .map_or_else(|| "a file of contexts".to_owned(), |path| path.display().to_string());
        Err(Failure::usage("no store is named").hint(format!(
            "name one with `--store sqlite://tasks.db`, the variable TASKFLOW_STORE, or a context in {path}"
        )))
    }

    fn by_url(&self, url: &str) -> Result<Target> {
        let url = usable(url)?;
        // A store that a context marks as production stays so, whatever way it is named.
        let mut same =
            self.file.contexts.iter().filter(|(_, context)| context.url("").is_ok_and(|it| it == url));
        let same = same.clone().find(|(_, context)| context.production).or_else(|| same.next());
        Ok(Target {
            is_production: same.is_some_and(|(_, context)| context.production),
            accent: same.map_or(Accent::Gray, |(_, context)| context.accent),
            context: same.map(|(name, _)| name.clone()),
            is_named: true,
            others: self.file.contexts.len(),
            url,
        })
    }

    fn by_name(&self, name: &str, is_named: bool) -> Result<Target> {
        let Some(context) = self.file.contexts.get(name) else {
            let known =
                self.file.contexts.keys().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
            let path = self.path.as_ref().map(|path| path.display().to_string()).unwrap_or_default();
            let hint =
                if known.is_empty() { format!("{path} has none") } else { format!("there are {known}") };
            return Err(Failure::usage(format!("there is no context `{name}`; {hint}")));
        };
        Ok(Target {
            url: usable(&context.url(name)?)?,
            context: Some(name.to_owned()),
            is_production: context.production,
            accent: context.accent,
            is_named,
            others: self.file.contexts.len(),
        })
    }
}

impl Context {
    fn url(&self, name: &str) -> Result<String> {
        let Some(variable) = self.store.strip_prefix("env:") else { return Ok(self.store.clone()) };
        std::env::var(variable).ok().filter(|value| !value.trim().is_empty()).ok_or_else(|| {
            Failure::usage(format!(
                "the context `{name}` takes its store from the variable {variable}, which is not set"
            ))
        })
    }

    /// Its store without a password.
    pub(super) fn shown(&self) -> String {
        if self.store.starts_with("env:") {
            self.store.clone()
        } else {
            (&self.store).into_source().to_string()
        }
    }
}

/// The colour of a context on a terminal.
pub(super) fn color(accent: Accent) -> super::output::Color {
    use super::output::Color;
    match accent {
        Accent::Green => Color::Green,
        Accent::Blue => Color::Blue,
        Accent::Orange => Color::Yellow,
        Accent::Red => Color::Red,
        _ => Color::Bold,
    }
}

impl Target {
    /// The store without a password.
    pub(super) fn shown(&self) -> String {
        (&self.url).into_source().to_string()
    }
}

fn usable(url: &str) -> Result<String> {
    match url.trim() {
        "memory:" => Err(Failure::usage(
            "`memory:` is the memory of the process that runs the tasks, and this is another process",
        )
        .hint("look into it through its dashboard or API: `taskflow::web::Admin`")),
        trimmed => Ok(trimmed.to_owned()),
    }
}

fn usual_path() -> Option<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = set("XDG_CONFIG_HOME")
        .or_else(|| set("HOME").map(|home| home.join(".config")))
        .or_else(|| set("APPDATA"));
    base.map(|base| base.join("taskflow").join("config.toml"))
}
