//! `taskflow export`: many tasks as CSV or as lines of JSON.

use clap::{Args, ValueEnum};
use taskflow::admin::views::{WholeTask, csv};

use crate::cli::failure::{Failure, Result};
use crate::cli::options::Global;
use crate::cli::select;
use crate::cli::session::Session;

/// How many records are in memory at once.
const PAGE: usize = 100;

/// The options of `taskflow export`.
#[derive(Args, Clone, Debug)]
pub(in crate::cli) struct Options {
    /// Words that all must match: `status:failed queue:mail since:6h`; without any, every task
    #[arg(value_name = "FILTER")]
    words: Vec<String>,
    /// The format
    #[arg(long, short = 'f', value_enum, default_value_t = As::Csv)]
    format: As,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum As {
    /// For spreadsheets: cells that a spreadsheet would execute are made harmless
    Csv,
    /// A JSON document in each line
    Ndjson,
}

pub(in crate::cli) async fn run(global: &Global, options: &Options) -> Result<()> {
    let session = Session::look(global).await?;
    let mut filter = select::filter(&session, &options.words).await?.limit(PAGE);
    let is_csv = options.format == As::Csv && !global.json && !global.ndjson;
    if is_csv {
        session.out.bytes(&csv::header())?;
    }
    loop {
        let page = session.tasks().list(filter.clone()).await?;
        let mut bytes = Vec::new();
        for record in page.items {
            if is_csv {
                bytes.extend(csv::row(&record, session.console.now()));
            } else {
                serde_json::to_writer(
                    &mut bytes,
                    &WholeTask::of(session.actor(), record, session.console.now()),
                )
                .map_err(|error| Failure::failed(error.to_string()))?;
                bytes.push(b'\n');
            }
        }
        session.out.bytes(&bytes)?;
        let Some(next) = page.next else { break };
        filter = filter.after(next);
    }
    session.end().await;
    Ok(())
}
