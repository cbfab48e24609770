//! The schedules of this process: those of its program from its start on, and stored ones as they come, change and go.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;

use super::{Plan, ticker};
use crate::engine::pause::jittered;
use crate::engine::runner::Runner;
use crate::task::Descriptor;

/// How often the store is asked for schedules that were added or changed.
const LOOK: Duration = Duration::from_millis(500);

/// A stored schedule that ticks here, and the definition it ticks by.
struct Ticking {
    definition: String,
    ticker: JoinHandle<()>,
}

impl Drop for Ticking {
    fn drop(&mut self) {
        self.ticker.abort();
    }
}

/// Lets schedules tick until the process stops.
pub(crate) async fn watch(runner: Arc<Runner>, own: Vec<&'static Descriptor>) {
    // What the program says of a schedule beats what was stored under its name before.
    let declared: HashSet<&str> = own.iter().map(|task| task.config().name).collect();
    for task in own {
        let Some(spec) = task.schedule() else { continue };
        match Plan::of(task, spec) {
            Ok(plan) => drop(start(&runner, plan)),
            Err(error) => {
                let schedule = task.config().name;
                tracing::error!(schedule, error, "this schedule cannot tick on this machine");
            }
        }
    }
    let core = &runner.core;
    let mut ticking: HashMap<String, Ticking> = HashMap::new();
    loop {
        if let Ok(known) = core.read("a look at the schedules", core.store.schedules()).await {
            let stored = known.into_iter().filter_map(|state| Some((state.name, state.definition?)));
            let stored: HashMap<String, String> =
                stored.filter(|(name, _)| !declared.contains(&**name)).collect();
            ticking.retain(|name, it| stored.get(name) == Some(&it.definition));
            for (name, definition) in stored {
                if ticking.contains_key(&name) {
                    continue;
                }
                let ticker = match Plan::stored(name.clone(), &definition) {
                    Ok(plan) => start(&runner, plan),
                    Err(error) => {
                        tracing::error!(
                            schedule = name,
                            error,
                            "this stored schedule cannot tick in this process"
                        );
                        // Told once: what cannot tick is kept as if it did.
                        core.runtime.spawn(std::future::ready(()))
                    }
                };
                ticking.insert(name, Ticking { definition, ticker });
            }
        }
        tokio::select! {
            () = core.over.cancelled() => return,
            () = tokio::time::sleep(jittered(LOOK)) => {}
        }
    }
}

fn start(runner: &Arc<Runner>, plan: Plan) -> JoinHandle<()> {
    runner.core.runtime.spawn(ticker::keep(runner.clone(), plan))
}
