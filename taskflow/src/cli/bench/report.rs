//! The report of a bench: a table for people, JSON for programs.

use std::fmt::{self, Write};

use serde::Serialize;

use super::backend::Facts;
use super::figure::{Figure, Spread};
use super::machine::Machine;
use super::options::{Demand, Load, Options};

/// All figures of one store, with the facts needed to interpret them.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) taskflow: &'static str,
    pub(super) store: String,
    /// Versions, and what an accepted task survives.
    pub(super) facts: Facts,
    pub(super) machine: Machine,
    pub(super) settings: Settings,
    pub(super) figures: Vec<Figure>,
}

/// The amount of work that was measured.
#[derive(Debug, Serialize)]
pub(super) struct Settings {
    pub(super) runs: u16,
    #[serde(flatten)]
    pub(super) load: Load,
}

impl Settings {
    pub(super) fn of(options: &Options) -> Self {
        Self { runs: options.runs, load: options.load }
    }
}

impl Report {
    /// One line for each demand that these figures do not meet.
    pub(super) fn shortfalls(&self, demands: &[Demand]) -> Vec<String> {
        let check = |demand: &Demand| {
            let Some(figure) = self.figures.iter().find(|it| it.figure == demand.figure) else {
                let known: Vec<_> = self.figures.iter().map(|it| it.figure).collect();
                return Some(format!("`{}` was not measured; there are {}", demand.figure, known.join(", ")));
            };
            let reached = figure.reached();
            // Compare this way round, so that NaN does not meet the demand.
            let is_met = reached >= demand.ratio;
            (!is_met).then(|| {
                format!(
                    "{} reached {reached:.2} of its {}; {demand} is demanded",
                    figure.figure, figure.baseline.what
                )
            })
        };
        demands.iter().filter_map(check).collect()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Settings { runs, load: Load { tasks, callers, slots, .. } } = self.settings;
        writeln!(f, "taskflow {} on {}", self.taskflow, self.store)?;
        for (name, fact) in &self.facts {
            writeln!(f, "  {name}: {fact}")?;
        }
        let Machine { date, cores, processor, system, load_before, load_after, release_build } =
            &self.machine;
        writeln!(
            f,
            "  {date}, {system}, {cores} cores ({processor}), load {load_before} before, {load_after} after"
        )?;
        writeln!(
            f,
            "  {tasks} tasks, {callers} callers, {slots} slots; median (least .. greatest) of {runs}"
        )?;
        if !release_build {
            writeln!(f, "  built without optimizations: figures of a debug build mean nothing")?;
        }
        if self.figures.iter().any(|figure| figure.pairs.is_some()) {
            writeln!(
                f,
                "  behind a ratio: where its median lies with at least 95 % confidence, from pairs of runs"
            )?;
        }
        writeln!(f)?;
        let row = |figure: &Figure| {
            [
                figure.figure.to_owned(),
                figure.unit.to_owned(),
                text(&figure.ours),
                text(&figure.baseline.spread),
                figure.baseline.what.to_owned(),
                match &figure.pairs {
                    Some(pairs) => format!("{:.2} ({:.3} .. {:.3})", figure.ratio, pairs.low, pairs.high),
                    None => format!("{:.2}", figure.ratio),
                },
                if figure.better == "lower" { "lower is better".to_owned() } else { String::new() },
            ]
        };
        let heads = ["figure", "unit", "taskflow", "baseline", "which is", "ratio", ""].map(str::to_owned);
        let rows: Vec<_> = std::iter::once(heads).chain(self.figures.iter().map(row)).collect();
        let widths: [usize; 7] =
            std::array::from_fn(|column| rows.iter().map(|row| row[column].len()).max().unwrap_or(0));
        for row in rows {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(widths) {
                write!(line, "{cell:width$}  ")?;
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

fn text(spread: &Spread) -> String {
    let Spread { median, min, max } = spread;
    format!("{} ({} .. {})", number(*median), number(*min), number(*max))
}

/// Two decimals below 100; above that an integer with thousands separators.
fn number(value: f64) -> String {
    if value < 100.0 {
        return format!("{value:.2}");
    }
    let digits = format!("{value:.0}");
    let mut grouped = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}
