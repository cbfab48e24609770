//! Reads the statistics of all processes.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use super::document::{HOUR, MINUTE, Row, first_key, number};
use crate::engine::core::Core;
use crate::model::{Error, RunStats, Stats, StatsBy, StatsFilter, StatsPoint, StatsSeries};
use crate::store::{Document, DocumentQuery};

/// The most points of all series together. They take 50 MB.
const MAX_POINTS: usize = 100_000;

/// How many bytes one read should bring.
const PAGE_BYTES: usize = 4 << 20;

/// Adds up the statistics that the filter asks for.
///
/// # Errors
/// When the filter is invalid or asks for too many points, and when the store fails.
pub(crate) async fn read(core: &Core, filter: &StatsFilter) -> Result<Stats, Error> {
    let steps = filter.steps(core.seam.now())?;
    let period = if steps.step % HOUR.seconds == 0 { HOUR } else { MINUTE };
    let mut query = DocumentQuery::all(period.kind);
    query.from = first_key(steps.from / period.seconds);
    query.before = Some(first_key(steps.to / period.seconds));
    let mut sums = Sums { filter, series: BTreeMap::new(), points: 0 };
    query.limit = 50;
    loop {
        let page = core.aside(core.store.documents(query.clone())).await?;
        let bytes: usize = page.iter().map(|document| document.value.len()).sum();
        for document in &page {
            let Some(at) = number(&document.key).map(|number| number * period.seconds) else { continue };
            let Some(rows) = Row::read(&document.value) else {
                tracing::debug!(key = document.key, "cannot read these statistics");
                continue;
            };
            sums.add(at / steps.step * steps.step, &rows)?;
        }
        match page.last() {
            Some(last) if page.len() >= query.limit => query.from = format!("{}\0", last.key),
            _ => break,
        }
        query.limit = (PAGE_BYTES / (bytes / page.len()).max(1)).clamp(4, Document::MAX_BATCH);
    }
    Ok(Stats {
        from: instant(steps.from),
        to: instant(steps.to),
        step: Duration::from_secs(steps.step),
        series: sums.series(),
    })
}

fn instant(seconds: u64) -> SystemTime {
    let at = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds));
    at.unwrap_or(SystemTime::UNIX_EPOCH)
}

/// The sums by series and step.
struct Sums<'a> {
    filter: &'a StatsFilter,
    series: BTreeMap<Option<String>, BTreeMap<u64, RunStats>>,
    points: usize,
}

impl Sums<'_> {
    fn add(&mut self, at: u64, rows: &[Row]) -> Result<(), Error> {
        let filter = self.filter;
        let is_asked = |row: &&Row| {
            filter.name.as_ref().is_none_or(|name| *name == row.name)
                && filter.queue.as_ref().is_none_or(|queue| *queue == row.queue)
        };
        for row in rows.iter().filter(is_asked) {
            let stats = row.stats();
            match filter.by {
                StatsBy::Name => self.add_to(Some(row.name.clone()), at, &stats),
                StatsBy::Queue => self.add_to(Some(row.queue.clone()), at, &stats),
                StatsBy::All => self.add_to(None, at, &stats),
                StatsBy::Outcome => {
                    for (outcome, counts) in stats.counts.by_outcome() {
                        let alone = RunStats { counts, ..RunStats::default() };
                        self.add_to(Some(outcome.to_owned()), at, &alone);
                    }
                }
            }
        }
        if self.points > MAX_POINTS {
            return Err(Error::Config {
                option: "step",
                value: format!("so short that all series have more than {MAX_POINTS} points"),
                message: "give a longer step, a shorter range, or one name or queue",
            });
        }
        Ok(())
    }

    fn add_to(&mut self, key: Option<String>, at: u64, stats: &RunStats) {
        let points = self.series.entry(key).or_default();
        let before = points.len();
        *points.entry(at).or_default() += stats;
        self.points += points.len() - before;
    }

    fn series(mut self) -> Vec<StatsSeries> {
        if self.filter.by == StatsBy::All {
            self.series.entry(None).or_default();
        }
        let point = |(at, stats)| StatsPoint { at: instant(at), stats };
        self.series
            .into_iter()
            .map(|(key, points)| StatsSeries { key, points: points.into_iter().map(point).collect() })
            .collect()
    }
}
