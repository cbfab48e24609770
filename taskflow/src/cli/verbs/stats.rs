//! `taskflow stats`: what tasks did in some time, and how long it took.

use std::time::Duration;

use clap::{Args, ValueEnum};
use taskflow::admin::views::StatsView;
use taskflow::model::{Histogram, Stats, StatsBy, StatsFilter, StatsSeries};

use super::parse;
use crate::cli::failure::Result;
use crate::cli::options::Global;
use crate::cli::output::words::length;
use crate::cli::output::{Cell, Color, Column, Format, Table, spark};
use crate::cli::session::Session;

/// The default number of steps of a range: this many bars fit beside the numbers.
const STEPS: u32 = 24;

/// The options of `taskflow stats`.
#[derive(Args, Clone, Debug)]
pub(in crate::cli) struct Options {
    /// A line for each task name, for each queue, or one for all
    #[arg(long, value_enum, default_value_t = By::Name)]
    by: By,
    /// How far to look back; statistics are kept for 24 hours
    #[arg(long, value_name = "LENGTH", default_value = "1h", value_parser = parse::length)]
    range: Duration,
    /// The length of a bar, in whole minutes [default: a 24th of the range, rounded up]
    #[arg(long, value_name = "LENGTH", value_parser = parse::length)]
    step: Option<Duration>,
    /// Only tasks of this name
    #[arg(long)]
    name: Option<String>,
    /// Only tasks of this queue
    #[arg(long, short = 'q')]
    queue: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum By {
    Name,
    Queue,
    All,
}

pub(in crate::cli) async fn run(global: &Global, options: &Options) -> Result<()> {
    let session = Session::look(global).await?;
    let minutes = (options.range / STEPS).as_secs().div_ceil(60).max(1);
    let step = options.step.unwrap_or(Duration::from_secs(minutes * 60));
    let mut filter = StatsFilter::last(options.range).step(step).by(match options.by {
        By::Name => StatsBy::Name,
        By::Queue => StatsBy::Queue,
        By::All => StatsBy::All,
    });
    if let Some(name) = &options.name {
        filter = filter.name(name);
    }
    if let Some(queue) = &options.queue {
        filter = filter.queue(queue);
    }
    let stats = session.tasks().stats(filter).await?;
    let out = session.out;
    match out.format {
        Format::Json => out.json(&StatsView::of(&stats))?,
        Format::Lines => {
            let view = serde_json::to_value(StatsView::of(&stats)).unwrap_or_default();
            view["series"].as_array().into_iter().flatten().try_for_each(|series| out.json(series))?;
        }
        _ if stats.series.is_empty() && out.is_for_people() => {
            eprintln!("no task has been added or run in this time")
        }
        _ => out.table(&table(&stats))?,
    }
    session.end().await;
    Ok(())
}

fn table(stats: &Stats) -> Table {
    let mut table = Table::new([
        Column::text("OF").least(10),
        Column::number("ADDED"),
        Column::number("OK"),
        Column::number("FAILED"),
        Column::number("RETRIED"),
        Column::number("WAIT P95").rank(2),
        Column::number("RUN P50").rank(3),
        Column::number("RUN P95").rank(1),
        Column::text("RUNS").rank(4),
    ]);
    let mut series: Vec<_> = stats.series.iter().map(|series| (series, series.total())).collect();
    series.sort_by_key(|(_, total)| std::cmp::Reverse(total.counts.ended() + total.counts.added));
    for (series, total) in series {
        let counts = total.counts;
        let took = |lengths: &Histogram, share| {
            let length = lengths.quantile(share);
            Cell::new(length.map(self::length).unwrap_or_default())
                .raw(length.map(|it| it.as_secs_f64().to_string()).unwrap_or_default())
        };
        let bad = Cell::some(counts.failed + counts.interrupted + counts.lost);
        table.push([
            Cell::new(series.key.as_deref().unwrap_or("all")),
            Cell::some(counts.added),
            Cell::some(counts.succeeded),
            if counts.failed > 0 { bad.color(Color::Red) } else { bad },
            Cell::some(counts.retried),
            took(&total.wait, 0.95),
            took(&total.run, 0.5),
            took(&total.run, 0.95),
            Cell::new(spark(&bars(stats, series)))
                .raw(bars(stats, series).iter().map(ToString::to_string).collect::<Vec<_>>().join(",")),
        ]);
    }
    table
}

/// How many runs ended in each step.
pub(in crate::cli) fn bars(stats: &Stats, series: &StatsSeries) -> Vec<u64> {
    let ended =
        |at| series.points.iter().find(|point| point.at == at).map_or(0, |point| point.stats.counts.ended());
    stats.instants().map(ended).collect()
}
