//! Compares the ledger of the processes with the store.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use taskflow::{AttemptOutcome, TaskId, TaskManager, TaskStatus};

use super::process::Lab;

/// The ledger of the processes.
pub(crate) struct Oracle {
    accepted: HashSet<TaskId>,
    /// For each task: which attempt began in which process, in order.
    starts: HashMap<TaskId, Vec<(u32, u32)>>,
    ends: HashMap<TaskId, usize>,
    /// How often an add met a full queue.
    refused_for_size: usize,
}

impl Oracle {
    pub(crate) async fn of(lab: &Lab) -> Self {
        let mut oracle = Self {
            accepted: HashSet::new(),
            starts: HashMap::new(),
            ends: HashMap::new(),
            refused_for_size: 0,
        };
        for line in lab.ledger().lines() {
            let words: Vec<&str> = line.split(' ').collect();
            let [what, id, attempt, pid] = words[..] else { panic!("half a line: {line}") };
            let id: TaskId = id.parse().unwrap();
            match what {
                "accepted" => {
                    oracle.accepted.insert(id);
                }
                "start" => {
                    oracle
                        .starts
                        .entry(id)
                        .or_default()
                        .push((attempt.parse().unwrap(), pid.parse().unwrap()));
                }
                "refused" => {}
                "full" => oracle.refused_for_size += 1,
                "end" => *oracle.ends.entry(id).or_default() += 1,
                _ => panic!("{line}"),
            }
        }
        oracle
    }

    pub(crate) fn accepted(&self) -> usize {
        self.accepted.len()
    }

    /// The tasks whose runs began.
    pub(crate) fn started(&self) -> HashSet<TaskId> {
        self.starts.keys().copied().collect()
    }

    pub(crate) fn refused_for_size(&self) -> usize {
        self.refused_for_size
    }

    /// How far apart the clocks were that made the accepted ids: an id begins with its milliseconds.
    pub(crate) fn span_of_clocks(&self) -> Duration {
        let millis = |id: &TaskId| id.as_bytes()[..6].iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        let (first, last) = (self.accepted.iter().map(millis).min(), self.accepted.iter().map(millis).max());
        Duration::from_millis(last.unwrap_or(0) - first.unwrap_or(0))
    }

    pub(crate) fn runs_by_process(&self) -> BTreeMap<u32, usize> {
        let mut shares = BTreeMap::new();
        for (_, pid) in self.starts.values().flatten() {
            *shares.entry(*pid).or_default() += 1;
        }
        shares
    }

    pub(crate) fn check_each_ran_once(&self) {
        for id in &self.accepted {
            let starts = self.starts.get(id).map_or(0, Vec::len);
            assert_eq!((starts, self.ends.get(id)), (1, Some(&1)), "task {id}");
        }
    }

    pub(crate) async fn check_everything_ended(&self, tasks: &TaskManager) {
        let counts = tasks.counts().await.unwrap();
        assert_eq!(counts.unfinished(), 0);
        assert!(counts.success > 0);
        self.check(tasks).await;
    }

    /// Checks that every accepted task has ended; that each run that began is an attempt of the record, with the process
    /// that ran it; that only lost or handed back attempts are followed by another; that the body of each success came to
    /// its end; that all others are `once` tasks that were interrupted; and that no `once` task ran twice.
    pub(crate) async fn check(&self, tasks: &TaskManager) {
        self.check_but_cancelled(tasks, &HashSet::new()).await;
    }

    /// Like [`check`](Self::check), but the tasks in `asked` were asked to stop, so they may have ended as cancelled.
    pub(crate) async fn check_but_cancelled(&self, tasks: &TaskManager, asked: &HashSet<TaskId>) {
        assert!(!self.accepted.is_empty());
        for id in &self.accepted {
            let record = tasks.get(*id).await.unwrap();
            let record = record.unwrap_or_else(|| panic!("task {id} was accepted and is lost"));
            assert!(record.status.is_final(), "task {id} was accepted and is {}", record.status);
            let nothing = Vec::new();
            let starts = self.starts.get(id).unwrap_or(&nothing);
            // A process that dies between the claim and the first line of the task leaves an attempt without a start.
            let mut attempts = record.attempts.iter();
            for (number, pid) in starts {
                let found = attempts.any(|attempt| attempt.number == *number && attempt.pid == *pid);
                assert!(found, "task {id} ran as {number} in {pid}: {:#?}", record.attempts);
            }
            if let Some((_, before)) = record.attempts.split_last() {
                for attempt in before {
                    let may_be_followed =
                        matches!(attempt.outcome, AttemptOutcome::Lost | AttemptOutcome::HandedBack);
                    assert!(may_be_followed, "task {id}: {:#?}", record.attempts);
                }
            }
            if record.status == TaskStatus::Success {
                assert!(self.ends.contains_key(id), "task {id} succeeded without coming to its end");
            } else if record.status == TaskStatus::Cancelled {
                assert!(asked.contains(id), "task {id} was cancelled, which nobody asked for");
            } else {
                assert_eq!((&*record.name, record.status), ("once", TaskStatus::Interrupted), "task {id}");
            }
            if record.name == "once" {
                assert!(starts.len() <= 1, "task {id} ran twice");
            }
        }
    }
}
