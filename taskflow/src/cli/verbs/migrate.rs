//! `taskflow migrate`: the only verb that changes a schema.

use clap::Args;
use serde::Serialize;
use taskflow::TaskManager;

use crate::cli::failure::Result;
use crate::cli::options::{Acting, Global};
use crate::cli::session;

/// The options of `taskflow migrate`.
#[derive(Args, Clone, Debug)]
pub(in crate::cli) struct Options {
    /// Only say what would be done
    #[arg(long, short = 'n')]
    dry_run: bool,
    #[command(flatten)]
    acting: Acting,
}

#[derive(Serialize)]
struct Migrated {
    /// Without its password.
    store: String,
    /// Whether something was to be done.
    changed: bool,
    dry_run: bool,
}

pub(in crate::cli) async fn run(global: &Global, options: &Options) -> Result<()> {
    let target = session::target(global)?;
    session::check_named(&target)?;
    let builder = || TaskManager::builder().store(&target.url);
    let changed = builder().would_migrate().await?;
    if !options.dry_run {
        if let Some(context) = target.context.as_ref().filter(|_| target.is_production) {
            session::confirm(options.acting.yes, &format!("`{context}` is production. Migrate it?"))?;
        }
        builder().migrate().await?;
    }
    let (out, store) = (global.out(), target.shown());
    if out.is_json() {
        return out.json(&Migrated { store, changed, dry_run: options.dry_run });
    }
    let done = match (changed, options.dry_run) {
        (false, _) => "is up to date",
        (true, false) => "has its tables now",
        (true, true) => "has no tables yet, or older ones; `migrate` would make or change them",
    };
    out.line(&if out.is_for_people() { format!("{store} {done}") } else { format!("{store}\t{done}") })
}
