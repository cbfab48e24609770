//! `taskflow bench`: measures how fast taskflow is on a store, compared with what is possible there.
//!
//! A figure alone says as much about the machine as about the program. So the same run also measures the *floor*: the same
//! work written by hand on the store's raw driver. The two take turns. `docs/performance.md` describes the method and how
//! to misread the result.

mod backend;
mod failure;
mod figure;
mod history;
mod http;
mod instances;
mod machine;
mod memory;
mod observed;
mod options;
mod ours;
mod pinned;
mod queue;
mod report;
mod scale;
mod scenario;
mod work;

use std::process::ExitCode;

use indicatif::{ProgressBar, ProgressStyle};

use self::backend::{Backend, Measured, OldReader, Target};
pub(super) use self::failure::Result;
use self::figure::{Figure, Sample, figures, figures_of_pairs};
use self::machine::Machine;
pub(super) use self::memory::{Holding, hold};
pub(super) use self::options::Options;
use self::options::Scenario;
use self::ours::Ours;
use self::report::{Report, Settings};

/// The help of the command.
pub(super) const ABOUT: &str = "\
Measure taskflow on a store, and the same work hand-written on the store's raw driver.

Build with --release, and run nothing else on the machine meanwhile. The bench removes everything it creates. \
docs/performance.md says how each figure is measured and how to misread it.";

/// Measures, and prints the report.
pub(super) async fn run(options: &Options) -> Result<ExitCode> {
    let target = Target::new(options.store.clone());
    let report = backend::with(&target, &Whole { options, target: &target }).await?;
    print(&report, options.json)?;
    let shortfalls = report.shortfalls(&options.at_least);
    for shortfall in &shortfalls {
        eprintln!("error: {shortfall}");
    }
    Ok(if shortfalls.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[expect(clippy::print_stdout, reason = "printing the report is the purpose of the command")]
fn print(report: &Report, as_json: bool) -> Result<()> {
    if as_json {
        println!("{}", serde_json::to_string_pretty(report)?);
    } else {
        print!("{report}");
    }
    Ok(())
}

/// A bench of one store.
struct Whole<'a> {
    options: &'a Options,
    target: &'a Target,
}

impl Measured for Whole<'_> {
    type Output = Report;

    async fn on<B: Backend>(&self, backend: B) -> Result<Report> {
        let report = tokio::select! {
            report = measure_all(self, &backend) => report,
            () = stopped() => Err("interrupted".into()),
        };
        // Clean up in any case. If both fail, the error of the measurement matters more.
        let removed = backend.remove().await;
        let report = report?;
        removed?;
        Ok(report)
    }
}

/// Returns on Ctrl-C or SIGTERM.
async fn stopped() {
    let interrupted = tokio::signal::ctrl_c();
    #[cfg(unix)]
    if let Ok(mut terminated) = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
        tokio::select! {
            _ = interrupted => {}
            _ = terminated.recv() => {}
        }
        return;
    }
    let _ = interrupted.await;
}

async fn measure_all<B: Backend>(whole: &Whole<'_>, backend: &B) -> Result<Report> {
    let Whole { options, target } = *whole;
    let scenarios = options.scenarios(B::HAS_SNAPSHOTS)?;
    let mut machine = Machine::before();
    let facts = backend.facts().await?;
    let progress = progress(scenarios.len() as u64 * u64::from(options.runs))?;
    let mut figures = Vec::new();
    for scenario in scenarios {
        let bench = Bench { options, target, backend, progress: &progress };
        figures.extend(bench.measure(scenario).await?);
    }
    progress.finish_and_clear();
    machine.after();
    Ok(Report {
        taskflow: env!("CARGO_PKG_VERSION"),
        store: options.store.split(':').next().unwrap_or_default().to_owned(),
        facts,
        machine,
        settings: Settings::of(options),
        figures,
    })
}

/// A progress bar, shown only on a terminal.
fn progress(steps: u64) -> Result<ProgressBar> {
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {msg}")?;
    Ok(ProgressBar::new(steps).with_style(style))
}

/// A store that is being measured.
struct Bench<'a, B> {
    options: &'a Options,
    target: &'a Target,
    backend: &'a B,
    progress: &'a ProgressBar,
}

impl<B: Backend> Bench<'_, B> {
    async fn measure(&self, scenario: Scenario) -> Result<Vec<Figure>> {
        self.progress.set_message(scenario.name());
        match scenario {
            Scenario::History => return self.measure_history().await,
            Scenario::Watched => return self.measure_watched().await,
            Scenario::Pinned => return self.measure_pinned().await,
            Scenario::Paced => return self.measure_paced().await,
            Scenario::Scale => return self.measure_scale().await,
            Scenario::Instances => return self.measure_instances().await,
            _ => {}
        }
        self.warm_up(scenario).await?;
        let (mut ours, mut baseline) = (Vec::new(), Vec::new());
        for run in 0..self.options.runs {
            // Take turns, so that a machine that becomes slower does so for both sides.
            for is_ours in if run % 2 == 0 { [true, false] } else { [false, true] } {
                let samples = self.measure_once(scenario, is_ours, &self.options.load).await?;
                if is_ours { ours.push(samples) } else { baseline.push(samples) }
            }
            self.progress.inc(1);
        }
        let what = match scenario {
            Scenario::Http => "plain route",
            Scenario::DrainAwaited => "nobody waits",
            Scenario::Observed => "nobody listens",
            _ => "floor",
        };
        Ok(figures_of_pairs(scenario.name(), what, &ours, &baseline))
    }

    /// Runs a tenth of the work without counting it, because the first run is slower.
    async fn warm_up(&self, scenario: Scenario) -> Result<()> {
        if scenario == Scenario::Memory {
            return Ok(());
        }
        let load =
            options::Load { tasks: self.options.load.tasks.div_ceil(10).min(1_000), ..self.options.load };
        for is_ours in [true, false] {
            self.measure_once(scenario, is_ours, &load).await?;
        }
        Ok(())
    }

    async fn measure_once(
        &self,
        scenario: Scenario,
        is_ours: bool,
        load: &options::Load,
    ) -> Result<Vec<Sample>> {
        let samples = match (scenario, is_ours) {
            (Scenario::Memory, _) => memory::measure(self.target, !is_ours, load).await,
            (Scenario::Http, true) => {
                let mut samples = http::measure_held(self.ours().await?, "http", load).await?;
                self.backend.remove().await?;
                samples.extend(http::measure_not_held(self.ours().await?, load).await?);
                Ok(samples)
            }
            (Scenario::Http, false) => http::measure_plain(load).await,
            (Scenario::HttpFloor, true) => http::measure_held(self.ours().await?, "http_floor", load).await,
            (Scenario::HttpFloor, false) => {
                http::measure_floor(self.backend.floor(load.slots()).await?, load).await
            }
            (Scenario::DrainAwaited, is_awaited) => {
                ours::drain_awaited(self.ours().await?, load, is_awaited).await
            }
            (Scenario::Observed, is_observed) => {
                let ours = self.ours().await?.observed(is_observed);
                observed::record_spans(is_observed);
                let samples = scenario::measure(ours, scenario, load).await;
                observed::record_spans(false);
                samples
            }
            (_, true) => {
                let ours = self.ours().await?.of(scenario.task());
                scenario::measure(ours, scenario, load).await
            }
            (Scenario::DrainFailing, false) => {
                scenario::drain_failing(self.backend.floor(load.slots()).await?, load, 2).await
            }
            (_, false) => scenario::measure(self.backend.floor(load.slots()).await?, scenario, load).await,
        };
        self.backend.remove().await?;
        samples
    }

    async fn ours(&self) -> Result<Ours> {
        Ours::open(self.backend.place()?, self.options.load.slots()).await
    }

    /// Measures the same work on an empty store and on one with many finished tasks, which is filled once and emptied at
    /// the end. Also measures claims with and without many tasks that are not due.
    async fn measure_history(&self) -> Result<Vec<Figure>> {
        use self::queue::Queue;

        let load = &self.options.load;
        let (mut empty, mut full) = (Vec::new(), Vec::new());
        for _ in 0..self.options.runs {
            for (samples, later) in [(&mut full, load.waiting), (&mut empty, 0)] {
                samples.push(history::claim_beside_later(self.ours().await?, load, later).await?);
                self.backend.remove().await?;
            }
            let (ours, samples) = history::measure(self.ours().await?, load).await?;
            empty.push(samples);
            ours.close().await?;
            self.backend.remove().await?;
        }
        empty.push(history::start_while_pruned(self.ours().await?, load).await?);
        self.backend.remove().await?;
        let mut ours = history::fill(self.ours().await?, load.history.min(self.backend.keeps())).await?;
        for _ in 0..self.options.runs {
            let samples;
            (ours, samples) = history::measure(ours, load).await?;
            full.push(samples);
            self.progress.inc(1);
        }
        full.push(history::start_while_pruned(ours, load).await?);
        self.backend.remove().await?;
        Ok(figures(Scenario::History.name(), "empty store", &full, &empty))
    }

    /// Measures the same work with and without a reader that keeps an old snapshot, in turns.
    async fn measure_pinned(&self) -> Result<Vec<Figure>> {
        let load = &self.options.load;
        let (mut pinned, mut free) = (Vec::new(), Vec::new());
        for run in 0..self.options.runs {
            for is_pinned in if run % 2 == 0 { [true, false] } else { [false, true] } {
                let ours = self.ours().await?;
                if is_pinned {
                    let reader = self.backend.read().await?;
                    pinned.push(pinned::measure(ours, load).await?);
                    reader.close().await?;
                } else {
                    free.push(pinned::measure(ours, load).await?);
                }
                self.backend.remove().await?;
            }
            self.progress.inc(1);
        }
        Ok(figures_of_pairs(Scenario::Pinned.name(), "no old snapshot", &pinned, &free))
    }

    /// Measures minute after minute beside a reader that keeps an old snapshot.
    async fn measure_paced(&self) -> Result<Vec<Figure>> {
        let ours = self.ours().await?;
        let mut reader = self.backend.read().await?;
        let minutes = pinned::paced(ours, &self.options.load, &mut reader).await;
        reader.close().await?;
        self.backend.remove().await?;
        self.progress.inc(self.options.runs.into());
        let [first, last] = minutes?;
        Ok(figures(Scenario::Paced.name(), "first minute", &[last], &[first]))
    }

    /// Measures the same calls with many waiting tasks and with few, in turns. Each store is filled once.
    async fn measure_scale(&self) -> Result<Vec<Figure>> {
        let load = &self.options.load;
        let filled = async |tasks| {
            let place = self.backend.place()?;
            scale::Scale::filled(place.migrated().await?, tasks, load).await
        };
        let (mut large, mut small) = (filled(load.backlog).await?, filled(load.waiting).await?);
        let (mut ours, mut baseline) = (Vec::new(), Vec::new());
        // The first measurement reads everything for the first time.
        large.measure().await?;
        small.measure().await?;
        for run in 0..self.options.runs {
            for is_large in if run % 2 == 0 { [true, false] } else { [false, true] } {
                match is_large {
                    true => ours.push(large.measure().await?),
                    false => baseline.push(small.measure().await?),
                }
            }
            self.progress.inc(1);
        }
        large.close().await?;
        small.close().await?;
        self.backend.remove().await?;
        Ok(figures_of_pairs(Scenario::Scale.name(), "fewer tasks", &ours, &baseline))
    }

    /// Measures the same work by many instances, by one, and by as many instances of the floor, in turns.
    async fn measure_instances(&self) -> Result<Vec<Figure>> {
        let load = &self.options.load;
        let (mut many, mut one, mut floor) = (Vec::new(), Vec::new(), Vec::new());
        for run in 0..self.options.runs {
            for are_many in if run % 2 == 0 { [true, false] } else { [false, true] } {
                let instances = if are_many { load.instances } else { 1 };
                let samples = instances::measure_ours(self.ours().await?, load, instances).await?;
                self.backend.remove().await?;
                if are_many { many.push(samples) } else { one.push(samples) }
            }
            if let Some(floors) = self.backend.floors(load.slots(), load.instances).await? {
                floor.push(instances::measure_floors(floors, load).await?);
                self.backend.remove().await?;
            }
            self.progress.inc(1);
        }
        let name = Scenario::Instances.name();
        let mut figures = figures_of_pairs(name, "one instance", &many, &one);
        if !floor.is_empty() {
            figures.extend(figures_of_pairs(name, "floor", &many, &floor));
        }
        Ok(figures)
    }

    /// Measures the same work with and without open tabs of the dashboard, in turns, on one store that was filled with
    /// finished tasks before.
    async fn measure_watched(&self) -> Result<Vec<Figure>> {
        use self::queue::Queue;

        let load = &self.options.load;
        let (mut watched, mut alone) = (Vec::new(), Vec::new());
        let mut ours = history::fill(self.ours().await?, load.history.min(self.backend.keeps())).await?;
        for run in 0..self.options.runs {
            for is_watched in if run % 2 == 0 { [true, false] } else { [false, true] } {
                let samples;
                let tabs = if is_watched { load.tabs } else { 0 };
                (ours, samples) = http::watched::measure(ours, load, tabs).await?;
                if is_watched { watched.push(samples) } else { alone.push(samples) }
            }
            self.progress.inc(1);
        }
        ours.close().await?;
        self.backend.remove().await?;
        Ok(figures_of_pairs(Scenario::Watched.name(), "no open tab", &watched, &alone))
    }
}
