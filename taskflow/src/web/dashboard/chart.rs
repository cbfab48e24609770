//! Computes the SVG attributes of charts. The templates draw them, and the style sheet colours them.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use super::words::{self, between, length, number};
use crate::model::{AttemptOutcome, TaskRecord, TaskStatus};

/// What happened in one minute.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Minute {
    pub(crate) succeeded: u64,
    pub(crate) retried: u64,
    pub(crate) failed: u64,
    /// The wait that 95 % of the started tasks did not exceed; `None` if none started.
    pub(crate) wait: Option<Duration>,
}

impl Minute {
    fn ended(&self) -> u64 {
        self.succeeded + self.retried + self.failed
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Rect {
    pub(crate) class: &'static str,
    pub(crate) x: String,
    pub(crate) y: String,
    pub(crate) width: String,
    pub(crate) height: String,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Label {
    pub(crate) x: String,
    pub(crate) y: String,
    pub(crate) text: String,
}

/// A column of the throughput chart: its bars, and a strip over its whole height with its numbers as the title.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Column {
    pub(crate) bars: Vec<Rect>,
    pub(crate) x: String,
    pub(crate) title: String,
}

/// Ended attempts per minute as stacked bars, and the p95 wait as a line.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Throughput {
    pub(crate) columns: Vec<Column>,
    /// Horizontal lines with their labels at the left.
    pub(crate) grid: Vec<Label>,
    pub(crate) ticks: Vec<Label>,
    /// The points of each part of the wait line, which breaks off at minutes in which no task started.
    pub(crate) waits: Vec<String>,
    /// The wait at the top of the chart; empty if no task waited.
    pub(crate) wait_top: String,
    pub(crate) step: String,
    pub(crate) is_empty: bool,
    pub(crate) summary: String,
}

const TOP: f64 = 12.0;
const BOTTOM: f64 = 188.0;
const LEFT: f64 = 44.0;
const RIGHT: f64 = 690.0;

/// Draws the minutes, oldest first; the last is the one that began at or before `now`.
pub(crate) fn throughput(minutes: &[Minute], now: SystemTime) -> Throughput {
    let most = minutes.iter().map(Minute::ended).max().unwrap_or(0);
    let longest = minutes.iter().filter_map(|minute| minute.wait).max().unwrap_or_default();
    let (top, lines) = scale(most);
    let y = |n: f64, top: f64| BOTTOM - (BOTTOM - TOP) * n / top;
    let step = (RIGHT - LEFT) / minutes.len().max(1) as f64;
    let wait_top = nice_length(longest);
    let (mut points, mut waits) = (String::new(), Vec::new());
    let mut columns = Vec::with_capacity(minutes.len());
    for (at, minute) in minutes.iter().enumerate() {
        let x = LEFT + step * at as f64;
        let mut base = BOTTOM;
        let mut bars = Vec::new();
        for (class, n) in [("a-ok", minute.succeeded), ("a-retry", minute.retried), ("a-bad", minute.failed)]
        {
            if n > 0 {
                // A single failure among thousands is still seen.
                let height =
                    ((BOTTOM - TOP) * n as f64 / top as f64).max(if class == "a-ok" { 0.5 } else { 1.5 });
                base -= height;
                bars.push(rect(class, x, base.max(TOP - 4.0), (step - 1.8).max(1.0), height));
            }
        }
        if let Some(wait) = minute.wait {
            let _ =
                write!(points, "{:.1},{:.1} ", x + step / 2.0, y(wait.as_secs_f64(), wait_top.as_secs_f64()));
        } else {
            waits.extend(part(&mut points));
        }
        let began = now.checked_sub(Duration::from_secs(60) * (minutes.len() - 1 - at) as u32).unwrap_or(now);
        columns.push(Column { bars, x: format!("{x:.1}"), title: title(minute, began) });
    }
    waits.extend(part(&mut points));
    let grid = (0..=lines).map(|line| {
        let n = top * line / lines;
        Label { x: "0".into(), y: format!("{:.1}", y(n as f64, top as f64)), text: short(n) }
    });
    let ticks = (0..6).map(|tick| {
        let minutes_ago = minutes.len() * (6 - tick) / 6;
        let x = LEFT + step * (minutes.len() - minutes_ago) as f64;
        let unit = if tick == 0 { " min" } else { "" };
        Label { x: format!("{x:.0}"), y: String::new(), text: format!("−{minutes_ago}{unit}") }
    });
    let sum = |of: fn(&Minute) -> u64| number(minutes.iter().map(of).sum());
    Throughput {
        grid: grid.collect(),
        ticks: ticks.collect(),
        wait_top: if longest.is_zero() { String::new() } else { length(wait_top) },
        waits,
        step: format!("{step:.1}"),
        is_empty: most == 0,
        summary: format!(
            "Last hour: {} succeeded, {} retried, {} failed",
            sum(|m| m.succeeded),
            sum(|m| m.retried),
            sum(|m| m.failed)
        ),
        columns,
    }
}

/// Ends a part of a line. A single point is drawn as a short stroke.
fn part(points: &mut String) -> Option<String> {
    let part = std::mem::take(points);
    let (x, y) = part.split_whitespace().next()?.split_once(',')?;
    if part.split_whitespace().count() > 1 {
        return Some(part.trim_end().to_owned());
    }
    let x: f64 = x.parse().ok()?;
    Some(format!("{:.1},{y} {:.1},{y}", x - 3.0, x + 3.0))
}

fn title(minute: &Minute, at: SystemTime) -> String {
    let clock = words::clock(at);
    let mut text = format!(
        "{} UTC\n{} succeeded\n{} retried\n{} failed",
        clock.get(..5).unwrap_or(&clock),
        number(minute.succeeded),
        number(minute.retried),
        number(minute.failed)
    );
    if let Some(wait) = minute.wait {
        let _ = write!(text, "\np95 wait {}", length(wait));
    }
    text
}

fn rect(class: &'static str, x: f64, y: f64, width: f64, height: f64) -> Rect {
    let [x, y, width, height] = [x, y, width, height].map(|n| format!("{n:.1}"));
    Rect { class, x, y, width, height }
}

/// The top of a scale that has room for `most`, and the number of parts into which it is divided.
fn scale(most: u64) -> (u64, u64) {
    let mut unit = 1;
    loop {
        for (top, parts) in [(2, 2), (3, 3), (4, 4), (5, 5), (6, 3), (8, 4), (10, 5)] {
            if most <= top * unit {
                return (top * unit, parts);
            }
        }
        match unit.checked_mul(10) {
            Some(next) if next <= u64::MAX / 20 => unit = next,
            _ => return (most.max(1), 1),
        }
    }
}

fn nice_length(longest: Duration) -> Duration {
    let steps = [
        0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0,
        600.0, 1_800.0, 3_600.0, 7_200.0, 21_600.0, 86_400.0,
    ];
    let seconds = longest.as_secs_f64();
    let top = steps.into_iter().find(|step| *step >= seconds);
    top.map_or(longest, Duration::from_secs_f64)
}

/// A number for an axis: `950`, `1.5k`, `20k`, `3M`.
pub(crate) fn short(n: u64) -> String {
    let cut = |n: u64, unit: u64, suffix: &str| {
        if n.is_multiple_of(unit) {
            format!("{}{suffix}", n / unit)
        } else {
            format!("{:.1}{suffix}", n as f64 / unit as f64)
        }
    };
    match n {
        0..1_000 => n.to_string(),
        1_000..1_000_000 => cut(n, 1_000, "k"),
        _ => cut(n, 1_000_000, "M"),
    }
}

/// The points of a line of 90 × 22 over these values; empty for fewer than two values, and if all are zero.
pub(crate) fn sparkline(values: &[u64]) -> String {
    if values.len() < 2 || values.iter().all(|n| *n == 0) {
        return String::new();
    }
    let most = values.iter().copied().max().unwrap_or(1).max(1) as f64;
    let step = 88.0 / (values.len() - 1) as f64;
    let mut points = String::new();
    for (at, n) in values.iter().enumerate() {
        let _ = write!(points, "{:.1},{:.1} ", 1.0 + step * at as f64, 20.0 - 18.0 * *n as f64 / most);
    }
    points.trim_end().to_owned()
}

/// The life of a task as a line: a dashed part for each wait, a bar for each attempt.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Life {
    pub(crate) bars: Vec<Bar>,
    pub(crate) gaps: Vec<Gap>,
    /// The label below the first point.
    pub(crate) added: String,
    pub(crate) end: Option<Label>,
    pub(crate) end_class: &'static str,
    pub(crate) summary: String,
    /// Attempts that are not drawn, because only the newest are.
    pub(crate) earlier: usize,
    pub(crate) is_to_scale: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Bar {
    pub(crate) rect: Rect,
    pub(crate) middle: String,
    pub(crate) label: String,
    pub(crate) title: String,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Gap {
    pub(crate) from: String,
    pub(crate) to: String,
    pub(crate) middle: String,
    /// Empty for a wait that is not worth a label.
    pub(crate) label: String,
}

/// The most attempts that are drawn.
const DRAWN: usize = 10;
const LINE: f64 = 1_000.0;
const BAR_MIN: f64 = 26.0;
const GAP_MIN: f64 = 34.0;

/// Draws the life of a task up to now.
pub(crate) fn life(record: &TaskRecord, now: SystemTime) -> Life {
    let earlier = record.attempts.len().saturating_sub(DRAWN);
    let drawn = &record.attempts[earlier..];
    let mut lengths = Vec::with_capacity(drawn.len() * 2);
    // The lengths alternate: a wait, a run, a wait, … If earlier attempts are not drawn, the first wait has no length.
    let mut last = if earlier == 0 { due(record) } else { drawn[0].started_at };
    let (mut waited, mut ran, mut backed_off) = (Duration::ZERO, Duration::ZERO, Duration::ZERO);
    for (at, attempt) in record.attempts.iter().enumerate() {
        let run = between(attempt.started_at, attempt.finished_at.unwrap_or(now));
        ran += run;
        let before = at.checked_sub(1).and_then(|at| record.attempts[at].finished_at);
        match before {
            Some(before) => backed_off += between(before, attempt.started_at),
            None => waited += between(due(record), attempt.started_at),
        }
        if at >= earlier {
            lengths.push(between(last, attempt.started_at));
            lengths.push(run);
            last = attempt.finished_at.unwrap_or(now);
        }
    }
    let is_waiting = record.status == TaskStatus::Pending;
    if is_waiting {
        lengths.push(between(last, record.run_at.max(now)));
    }
    let (widths, is_to_scale) = widths(&lengths);
    let mut life = Life {
        earlier,
        is_to_scale,
        added: format!("added {}", words::clock(record.created_at).get(..8).unwrap_or_default()),
        ..Life::default()
    };
    let mut x = 14.0;
    for (at, width) in widths.iter().enumerate() {
        let middle = format!("{:.1}", x + width / 2.0);
        match drawn.get(at / 2).filter(|_| at % 2 == 1) {
            None => {
                let label = if lengths[at] >= Duration::from_millis(100) {
                    length(lengths[at])
                } else {
                    String::new()
                };
                life.gaps.push(Gap {
                    from: format!("{x:.1}"),
                    to: format!("{:.1}", x + width),
                    middle,
                    label,
                });
            }
            Some(attempt) => {
                let class = match attempt.outcome {
                    AttemptOutcome::Running => "att-now",
                    AttemptOutcome::Success => "att-ok",
                    AttemptOutcome::Snoozed | AttemptOutcome::HandedBack | AttemptOutcome::Cancelled => {
                        "att-off"
                    }
                    _ => "att-bad",
                };
                let run = length(lengths[at]);
                let title = format!(
                    "attempt {}: {} after {run}",
                    attempt.number,
                    words::outcome(attempt.outcome).word
                );
                let label = format!("{} · {run}", attempt.number);
                life.bars.push(Bar { rect: rect(class, x, 34.0, *width, 20.0), middle, label, title });
            }
        }
        x += width;
    }
    let state = words::state(record, now);
    let text = match record.finished_at {
        Some(at) => {
            format!("{} {}", state.word.to_lowercase(), words::clock(at).get(..8).unwrap_or_default())
        }
        None if is_waiting && record.run_at > now => format!("due {}", words::ago(record.run_at, now)),
        None => state.word.to_lowercase(),
    };
    life.end = Some(Label { x: format!("{:.1}", x + 10.0), y: "48".into(), text });
    life.end_class = state.class;
    let mut summary = Vec::new();
    if !record.attempts.is_empty() {
        summary.push(format!("waited {}", length(waited)));
        summary.push(format!("ran {}", length(ran)));
    }
    if record.attempts.len() > 1 {
        summary.push(format!("between attempts {}", length(backed_off)));
    }
    life.summary = summary.join(" · ");
    life
}

/// When a task could have begun: its add, or the time it was scheduled for, whichever is later.
pub(crate) fn due(record: &TaskRecord) -> SystemTime {
    record.scheduled_for.map_or(record.created_at, |at| at.max(record.created_at))
}

/// Widths for parts of these lengths, gaps and bars in turn, and whether they are to scale. Each part has a least width, and a
/// share of the free width in proportion to its length. If a run is shorter than a 60th of the longest part, the shares are
/// those of the lengths to the power 0.3: then they are not to scale.
fn widths(lengths: &[Duration]) -> (Vec<f64>, bool) {
    let least = |at: usize| {
        if at % 2 == 1 {
            BAR_MIN
        } else if at == 0 {
            12.0
        } else {
            GAP_MIN
        }
    };
    let spread = |power: f64| {
        let weights: Vec<_> = lengths.iter().map(|it| it.as_secs_f64().powf(power)).collect();
        let sum: f64 = weights.iter().sum::<f64>().max(1e-9);
        let fixed: f64 = (0..lengths.len()).map(least).sum();
        let free = (LINE - fixed).max(0.0);
        weights.iter().enumerate().map(|(at, weight)| least(at) + free * weight / sum).collect::<Vec<_>>()
    };
    let most = lengths.iter().max().copied().unwrap_or_default().as_secs_f64();
    let seen = lengths.iter().skip(1).step_by(2).all(|it| it.as_secs_f64() >= most / 60.0);
    if seen { (spread(1.0), true) } else { (spread(0.3), false) }
}

/// A histogram of run times with the bucket of one run marked.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Histogram {
    pub(crate) bars: Vec<Bar>,
    pub(crate) first: String,
    pub(crate) last: String,
}

/// Draws buckets of (upper bound, count), from one before the first that is used to one after the last. `run` is the run to mark;
/// its bucket counts as used.
pub(crate) fn histogram(buckets: &[(Duration, u64)], run: Option<Duration>) -> Histogram {
    let is_used = |(_, n): &(Duration, u64)| *n > 0;
    let (Some(first), Some(last)) = (buckets.iter().position(is_used), buckets.iter().rposition(is_used))
    else {
        return Histogram::default();
    };
    let marked = run.and_then(|run| buckets.iter().position(|(up_to, _)| run <= *up_to));
    let first = first.min(marked.unwrap_or(first)).saturating_sub(1);
    let last = last.max(marked.unwrap_or(last)).saturating_add(1).min(buckets.len() - 1);
    let used = &buckets[first..=last];
    let most = used.iter().map(|(_, n)| *n).max().unwrap_or(1).max(1) as f64;
    let step = 340.0 / used.len() as f64;
    let mut bars = Vec::with_capacity(used.len());
    for (at, (up_to, n)) in used.iter().enumerate() {
        let height = if *n == 0 { 0.0 } else { (78.0 * *n as f64 / most).max(1.5) };
        let x = step * at as f64;
        let class = if marked == Some(first + at) { "h-this" } else { "h-bar" };
        let title = format!("up to {}: {}", length(*up_to), words::counted(*n, "run"));
        let middle = format!("{:.1}", x + step / 2.0);
        bars.push(Bar {
            rect: rect(class, x, 84.0 - height, (step - 2.0).max(1.0), height),
            middle,
            label: String::new(),
            title,
        });
    }
    let from = first.checked_sub(1).map_or(Duration::ZERO, |at| buckets[at].0);
    Histogram { bars, first: length(from), last: length(buckets[last].0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn minute(succeeded: u64, failed: u64, wait: u64) -> Minute {
        Minute { succeeded, failed, wait: Some(Duration::from_millis(wait)), ..Minute::default() }
    }

    #[test]
    fn a_chart_of_nothing_says_so() {
        let empty = throughput(&[Minute::default(); 60], SystemTime::now());
        assert!(empty.is_empty && empty.waits.is_empty());
        assert_eq!(empty.columns.len(), 60);
        assert!(throughput(&[], SystemTime::now()).columns.is_empty());
    }

    #[test]
    fn the_line_of_waits_breaks_off_where_no_task_started() {
        let (busy, idle) = (minute(1, 0, 500), Minute::default());
        let chart = throughput(&[busy, busy, idle, busy, idle, idle, busy, busy, busy], SystemTime::now());
        let points: Vec<_> = chart.waits.iter().map(|part| part.split(' ').count()).collect();
        assert_eq!(points, [2, 2, 3], "a single minute is a short stroke: {:?}", chart.waits);
    }

    #[test]
    fn bars_stack_and_stay_inside() {
        let chart = throughput(&[minute(90, 10, 800), minute(0, 1, 20)], SystemTime::now());
        let bars = &chart.columns[0].bars;
        assert_eq!(bars.iter().map(|bar| bar.class).collect::<Vec<_>>(), ["a-ok", "a-bad"]);
        let number = |text: &str| text.parse::<f64>().unwrap();
        assert!((number(&bars[1].y) + number(&bars[1].height) - number(&bars[0].y)).abs() < 0.2);
        assert!(number(&bars[1].y) >= TOP - 4.0);
        assert_eq!(chart.grid.last().unwrap().text, "100");
        assert_eq!(chart.waits.len(), 1);
        assert_eq!(chart.waits[0].split(' ').count(), 2);
        assert!(chart.summary.contains("90 succeeded") && chart.summary.contains("11 failed"));
    }

    #[test]
    fn every_number_has_a_scale() {
        for n in [0, 1, 7, 99, 1_000_001, u64::MAX] {
            let (top, parts) = scale(n);
            assert!(top >= n && parts > 0, "{n}");
        }
        assert_eq!([0, 950, 1_500, 20_000, 3_000_000].map(short), ["0", "950", "1.5k", "20k", "3M"]);
    }

    #[test]
    fn a_sparkline_needs_two_values() {
        assert_eq!(sparkline(&[]), "");
        assert_eq!(sparkline(&[3]), "");
        assert_eq!(sparkline(&[0, 0]), "");
        assert_eq!(sparkline(&[0, 5]), "1.0,20.0 89.0,2.0");
    }

    #[test]
    fn short_runs_are_seen_beside_long_waits() {
        let lengths = [0, 1, 3_600, 1].map(Duration::from_secs);
        let (widths, is_to_scale) = widths(&lengths);
        assert!(!is_to_scale);
        assert!(widths.iter().skip(1).step_by(2).all(|width| *width >= BAR_MIN));
        assert!(widths.iter().sum::<f64>() < LINE + 1.0);
    }

    #[test]
    fn a_histogram_marks_the_run_even_outside_its_bars() {
        let buckets: Vec<_> =
            (0..10).map(|at| (Duration::from_millis(1 << at), u64::from(at == 3) * 5)).collect();
        let drawn = histogram(&buckets, Some(Duration::from_millis(100)));
        assert!(drawn.bars.iter().any(|bar| bar.rect.class == "h-this"));
        assert_eq!(histogram(&[], None), Histogram::default());
    }
}
