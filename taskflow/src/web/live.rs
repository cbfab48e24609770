//! The pulse: the numbers that all open pages of a router share.
//!
//! One reader per router reads counts and queues while a stream is open, and stops when none is. After each read it rests 20
//! times as long as the read took, at least 1 s and at most 30 s; after a failed read, 3 s. So the number of open pages does not
//! matter, and reads take at most a twentieth of the time, unless one takes longer than 1.5 s or fails.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::{Stream, stream};
use tokio::sync::{Mutex, watch};

use super::problem::Problem;
#[cfg(feature = "dashboard")]
use crate::admin::{Actor, tag_keys::TagKeys};
use crate::manager::TaskManager;
use crate::model::{Counts, Error, QueueInfo};
#[cfg(feature = "dashboard")]
use crate::model::{InstanceInfo, ScheduleInfo, TaskFilter, TaskInfo, TaskPhase};
use crate::seam::Instant;

/// The most open streams of one router.
const MAX_VIEWERS: usize = 64;

/// The shortest and the longest rest between two reads.
const REST: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// The rest after a read takes this many times as long as the read.
const REST_FACTOR: u32 = 20;

/// How old the parts that change rarely may be: schedules, workers, the known tasks, tag keys and the number of retries.
#[cfg(feature = "dashboard")]
const RARELY: Duration = Duration::from_secs(10);

/// Tasks that wait for another attempt are counted up to this number.
#[cfg(feature = "dashboard")]
const MAX_RETRYING: usize = 10_000;

/// What one read found.
#[derive(Clone, Debug)]
pub(crate) struct Beat {
    pub(crate) number: u64,
    pub(crate) counts: Counts,
    pub(crate) queues: Arc<[QueueInfo]>,
    #[cfg(feature = "dashboard")]
    pub(crate) rare: Arc<Rare>,
    /// The error of the store, if the read failed. The numbers are then those of the last successful read.
    pub(crate) away: Option<String>,
    read_at: Instant,
    cost: Duration,
}

/// What changes rarely.
#[cfg(feature = "dashboard")]
#[derive(Debug)]
pub(crate) struct Rare {
    pub(crate) schedules: Vec<ScheduleInfo>,
    pub(crate) workers: Vec<InstanceInfo>,
    pub(crate) types: Vec<TaskInfo>,
    pub(crate) tag_keys: TagKeys,
    /// How many tasks wait for another attempt; `None` if they could not be counted.
    pub(crate) retrying: Option<u64>,
    read_at: Instant,
}

impl Beat {
    /// The types of tasks whose queues this actor sees.
    #[cfg(feature = "dashboard")]
    pub(crate) fn types_seen_by<'a>(&'a self, actor: &'a Actor) -> impl Iterator<Item = &'a TaskInfo> {
        self.rare.types.iter().filter(|task| actor.sees_queue(&task.queue))
    }

    /// How long this read may be shown before the next one.
    pub(crate) fn rest(&self) -> Duration {
        rest(self.cost)
    }

    /// The same beat with queues that were read later.
    #[cfg(feature = "dashboard")]
    pub(crate) fn with_queues(&self, queues: Vec<QueueInfo>) -> Self {
        Self { queues: queues.into(), ..self.clone() }
    }

    /// Whether tasks have changed since `earlier`, as far as the counts and the queues show it.
    pub(crate) fn differs(&self, earlier: &Self) -> bool {
        let seen = |queue: &QueueInfo| (queue.pending, queue.scheduled, queue.running, queue.finished);
        self.counts != earlier.counts || !self.queues.iter().map(seen).eq(earlier.queues.iter().map(seen))
    }
}

/// How long a read that took this long may be shown before the next one.
pub(crate) fn rest(cost: Duration) -> Duration {
    (cost * REST_FACTOR).clamp(REST.0, REST.1)
}

/// The pulse of one router.
#[derive(Debug, Default)]
pub(crate) struct Live(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    last: Mutex<Option<Arc<Beat>>>,
    sender: watch::Sender<Option<Arc<Beat>>>,
    viewers: AtomicUsize,
    /// Whether the reader runs. It ends under this lock when it finds no viewers.
    runs: parking_lot::Mutex<bool>,
}

impl Default for Shared {
    fn default() -> Self {
        let (sender, _) = watch::channel(None);
        Self { last: Mutex::default(), sender, viewers: AtomicUsize::new(0), runs: Default::default() }
    }
}

/// One open stream.
#[derive(Debug)]
struct Viewer {
    beats: watch::Receiver<Option<Arc<Beat>>>,
    shared: Arc<Shared>,
}

impl Viewer {
    /// The next beat; a viewer that is slow gets the latest one only.
    async fn next(&mut self) -> Option<Arc<Beat>> {
        loop {
            self.beats.changed().await.ok()?;
            if let Some(beat) = self.beats.borrow_and_update().clone() {
                return Some(beat);
            }
        }
    }
}

impl Drop for Viewer {
    fn drop(&mut self) {
        self.shared.viewers.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Live {
    /// The numbers for a page: of the last read if it is fresh, else of a new read. Simultaneous callers share one read.
    ///
    /// # Errors
    /// When the store fails.
    #[cfg(any(test, feature = "dashboard"))]
    pub(crate) async fn beat(&self, tasks: &TaskManager) -> Result<Arc<Beat>, Error> {
        self.0.beat(tasks).await
    }

    /// The beats as they come, each with the one before it. A stream that is read slowly gets the latest only.
    ///
    /// # Errors
    /// 503 if 64 streams are open.
    pub(crate) fn stream(
        &self,
        tasks: &TaskManager,
    ) -> Result<impl Stream<Item = (Option<Arc<Beat>>, Arc<Beat>)> + Send + use<>, Problem> {
        let viewer = self.watch(tasks);
        let viewer = viewer.ok_or_else(|| {
            Problem::too_many_streams(format!("this router has {MAX_VIEWERS} open streams of counts"))
        })?;
        Ok(stream::unfold((viewer, None), |(mut viewer, last)| async {
            let beat = viewer.next().await?;
            Some(((last, Arc::clone(&beat)), (viewer, Some(beat))))
        }))
    }

    /// Watches the pulse; `None` if 64 streams are open.
    fn watch(&self, tasks: &TaskManager) -> Option<Viewer> {
        let shared = &self.0;
        let more = |viewers: usize| (viewers < MAX_VIEWERS).then_some(viewers + 1);
        shared.viewers.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).ok()?;
        let viewer = Viewer { beats: shared.sender.subscribe(), shared: Arc::clone(shared) };
        let mut runs = shared.runs.lock();
        if !*runs {
            *runs = true;
            tasks.spawn(read(Arc::clone(shared), tasks.clone()));
        }
        Some(viewer)
    }

    /// How many streams are open.
    #[cfg(test)]
    fn viewers(&self) -> usize {
        self.0.viewers.load(Ordering::Acquire)
    }
}

/// Reads until no stream is open.
async fn read(shared: Arc<Shared>, tasks: TaskManager) {
    loop {
        let rest = match shared.beat(&tasks).await {
            Ok(beat) => {
                let rest = beat.rest();
                shared.sender.send_replace(Some(beat));
                rest
            }
            Err(error) => {
                let last = shared.sender.borrow().clone();
                if let Some(last) = last {
                    let away = Beat { away: Some(error.to_string()), ..(*last).clone() };
                    shared.sender.send_replace(Some(Arc::new(away)));
                }
                REST.0 * 3
            }
        };
        tasks.seam().sleep(rest).await;
        let mut runs = shared.runs.lock();
        if shared.viewers.load(Ordering::Acquire) == 0 {
            *runs = false;
            return;
        }
    }
}

impl Shared {
    async fn beat(&self, tasks: &TaskManager) -> Result<Arc<Beat>, Error> {
        let seam = tasks.seam();
        let mut last = self.last.lock().await;
        if let Some(beat) = last.as_ref().filter(|beat| seam.since(beat.read_at) < beat.rest()) {
            return Ok(Arc::clone(beat));
        }
        let began = seam.instant();
        let (counts, queues) = (tasks.counts().await?, tasks.queues().await?.into());
        #[cfg(feature = "dashboard")]
        let rare = match last.as_ref().map(|beat| &beat.rare).filter(|rare| seam.since(rare.read_at) < RARELY)
        {
            Some(rare) => Arc::clone(rare),
            None => Arc::new(Rare {
                schedules: tasks.schedules().await?,
                workers: tasks.instances().await?,
                // A store without documents does not say which tasks are known: then the pages show no types.
                types: tasks.tasks().await.unwrap_or_default(),
                tag_keys: TagKeys::read(tasks).await?,
                retrying: retrying(tasks).await?,
                read_at: seam.instant(),
            }),
        };
        let number = last.as_ref().map_or(1, |beat| beat.number + 1);
        let beat = Beat {
            number,
            counts,
            queues,
            #[cfg(feature = "dashboard")]
            rare,
            away: None,
            read_at: seam.instant(),
            cost: seam.since(began),
        };
        Ok(Arc::clone(last.insert(Arc::new(beat))))
    }
}

/// How many tasks wait for another attempt; `None` if they are more than 10,000, or so few among many pending tasks that the
/// count has to give up.
#[cfg(feature = "dashboard")]
async fn retrying(tasks: &TaskManager) -> Result<Option<u64>, Error> {
    let count = tasks.count(TaskFilter::new().phase(TaskPhase::Retrying), MAX_RETRYING).await?;
    Ok(count.exact.then_some(count.n))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn tasks() -> TaskManager {
        TaskManager::builder().store("memory:").connect().await.expect("a memory store opens")
    }

    #[tokio::test]
    async fn nobody_reads_while_nobody_watches() {
        let (live, tasks) = (Live::default(), tasks().await);
        let mut viewer = live.watch(&tasks).expect("there is room");
        assert_eq!(viewer.next().await.map(|beat| beat.number), Some(1));
        drop(viewer);
        let over = tokio::time::timeout(Duration::from_secs(20), async {
            while *live.0.runs.lock() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        over.await.expect("the reader ends");
        let mut again = live.watch(&tasks).expect("there is room");
        assert!(again.next().await.is_some(), "it begins again");
    }

    #[tokio::test]
    async fn readers_at_the_same_time_share_one_read() {
        let (live, tasks) = (Live::default(), tasks().await);
        let (a, b) = futures_util::future::join(live.beat(&tasks), live.beat(&tasks)).await;
        assert_eq!(a.expect("a read").number, b.expect("a read").number);
    }

    #[tokio::test]
    async fn the_number_of_streams_is_bounded() {
        let (live, tasks) = (Live::default(), tasks().await);
        let mut open: Vec<_> = (0..MAX_VIEWERS).map(|_| live.watch(&tasks).expect("there is room")).collect();
        assert!(live.watch(&tasks).is_none());
        open.pop();
        assert_eq!(live.viewers(), MAX_VIEWERS - 1);
        assert!(live.watch(&tasks).is_some());
    }
}
