//! `taskflow migrate`: the only verb that changes a schema.

use std::io::IsTerminal;

use clap::Args;
use taskflow::TaskManager;

use crate::cli::failure::Result;
use crate::cli::options::{Acting, Global};
use crate::cli::session;

/// The options of `taskflow migrate`.
#[derive(Args, Clone, Debug)]
pub(in crate::cli) struct Options {
    #[command(flatten)]
    acting: Acting,
}

pub(in crate::cli) async fn run(global: &Global, options: &Options) -> Result<()> {
    let target = session::target(global)?;
    session::check_named(&target)?;
    if let Some(context) = target.context.as_ref().filter(|_| target.is_production) {
        session::confirm(options.acting.yes, &format!("`{context}` is production. Migrate it?"))?;
    }
    TaskManager::builder().store(&target.url).migrate().await?;
    if std::io::stderr().is_terminal() {
        eprintln!("{} is up to date", target.shown());
    }
    Ok(())
}
