//! The workers of a test, each simulated as a process of its own.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::manager::TaskManager;
use crate::seam::World;

/// A process of a test that runs tasks.
struct Process {
    world: Arc<World>,
    manager: TaskManager,
    is_frozen: bool,
}

/// The processes of a test that run tasks, in the order of their start.
#[derive(Default)]
pub(super) struct Processes(Mutex<Vec<Process>>);

impl Processes {
    pub(super) fn add(&self, world: Arc<World>, manager: TaskManager) {
        self.0.lock().push(Process { world, manager, is_frozen: false });
    }

    pub(super) fn len(&self) -> usize {
        self.0.lock().len()
    }

    /// The number of processes that are not frozen.
    pub(super) fn awake(&self) -> usize {
        self.0.lock().iter().filter(|process| !process.is_frozen).count()
    }

    /// Wakes the dispatchers.
    pub(super) fn wake(&self) {
        self.0.lock().iter().for_each(|process| process.manager.wake());
    }

    /// The number of runs in the processes that are not frozen.
    pub(super) fn runs(&self) -> usize {
        let processes = self.0.lock();
        processes.iter().filter(|it| !it.is_frozen).map(|it| it.manager.runs()).sum()
    }

    /// Kills the oldest process. Answers whether there was one.
    pub(super) fn kill(&self) -> bool {
        let mut processes = self.0.lock();
        if processes.is_empty() {
            return false;
        }
        let process = processes.remove(0);
        drop(processes);
        process.world.kill();
        true
    }

    /// Takes out the oldest process that is not frozen.
    pub(super) fn take_awake(&self) -> Option<TaskManager> {
        let mut processes = self.0.lock();
        let at = processes.iter().position(|process| !process.is_frozen)?;
        Some(processes.remove(at).manager)
    }

    /// Freezes the oldest process that is not frozen. Answers whether there was one.
    pub(super) fn freeze(&self) -> bool {
        let mut processes = self.0.lock();
        let Some(process) = processes.iter_mut().find(|process| !process.is_frozen) else { return false };
        process.is_frozen = true;
        process.world.freeze();
        true
    }

    pub(super) fn thaw(&self) {
        for process in &mut *self.0.lock() {
            process.is_frozen = false;
            process.world.thaw();
        }
    }

    pub(super) fn kill_all(&self) {
        while self.kill() {}
    }
}
