//! An add that was sent: what its caller waits for.

use std::fmt;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::{Instant, Sleep};

use super::group::{Answer, Group};
use super::queue::{AddQueue, Put, unavailable};
use super::write;
use crate::engine::backoff::in_time;
use crate::model::{AddError, StoreError, StoreErrorKind, TaskId};
use crate::store::Start;

/// How much later than the writer a caller looks to its add itself.
const LATER: Duration = Duration::from_millis(250);

/// Waits for room among the adds that wait.
type Crowded = Pin<Box<dyn Future<Output = Result<(), AddError>> + Send>>;

/// An add that was sent: what its caller waits for.
pub(crate) struct Sent {
    id: TaskId,
    answer: oneshot::Receiver<Answer>,
    /// Until there is room for it among the adds that wait.
    crowded: Option<Crowded>,
    watch: Watch,
}

/// How a caller keeps `add_timeout` itself. The writer keeps it as long as its runtime is at work, and on that runtime a
/// caller that is polled can rely on it: so only a caller on another runtime needs a timer.
enum Watch {
    Unknown,
    NotNeeded,
    Timer(Pin<Box<Sleep>>),
}

impl Sent {
    pub(super) fn new(id: TaskId, answer: oneshot::Receiver<Answer>) -> Self {
        Self { id, answer, crowded: None, watch: Watch::Unknown }
    }

    /// There is no room for it yet: it waits for some when it is polled.
    pub(super) fn wait_for_room(&mut self, queue: Arc<AddQueue>, group: Group) {
        self.crowded = Some(Box::pin(wait_for_room(queue, group)));
    }

    pub(super) fn poll(&mut self, queue: &AddQueue, cx: &mut Context<'_>) -> Poll<Answer> {
        if let Some(crowded) = &mut self.crowded {
            let ready = ready!(crowded.as_mut().poll(cx));
            self.crowded = None;
            ready?;
        }
        if let Poll::Ready(answer) = Pin::new(&mut self.answer).poll(cx) {
            return Poll::Ready(answer.unwrap_or_else(|_| Err(self.unknown("the answer was lost"))));
        }
        if let Watch::Unknown = self.watch {
            self.watch = match Handle::try_current() {
                Ok(here) if here.id() != queue.core.runtime.id() => {
                    let at = in_time(queue.core.settings.add_timeout.saturating_add(LATER));
                    Watch::Timer(Box::pin(tokio::time::sleep_until(at)))
                }
                _ => Watch::NotNeeded,
            };
        }
        let Watch::Timer(timer) = &mut self.watch else { return Poll::Pending };
        loop {
            ready!(timer.as_mut().poll(cx));
            match queue.take_back(self.id) {
                Ok(refused) => return Poll::Ready(Err(refused)),
                Err(Some(busy_until)) if busy_until > Instant::now() => {
                    timer.as_mut().reset(busy_until + LATER);
                }
                Err(_) => break,
            }
        }
        // It may have been answered at this very moment.
        let lost = self.unknown("its runtime has not answered in time");
        Poll::Ready(self.answer.try_recv().unwrap_or(Err(lost)))
    }

    /// It may be stored.
    pub(crate) fn unknown(&self, why: &str) -> AddError {
        AddError::Unknown { id: self.id, source: StoreError::new(StoreErrorKind::Unknown, why) }
    }
}

/// Puts the group into the queue when there is room.
async fn wait_for_room(queue: Arc<AddQueue>, mut group: Group) -> Result<(), AddError> {
    let deadline = group.deadline;
    // Meanwhile its slots are for others.
    queue.free(mem::take(&mut group.permits));
    for insert in group.tasks.tasks.iter_mut().filter(|insert| insert.start != Start::Hold) {
        insert.start = Start::Wait;
    }
    queue.forget(mem::take(&mut group.announced), &group.tasks);
    loop {
        let room = tokio::time::timeout_at(deadline, queue.room(group.size.bytes)).await;
        if room.is_err() || Instant::now() >= deadline {
            let crowd = "too many adds wait to be written (64 MiB of them), and there was no room until `add_timeout`";
            return Err(AddError::Store(unavailable(crowd)));
        }
        if queue.core.is_closed() {
            return Err(AddError::ShutDown);
        }
        group.announced = queue.core.events.adding(group.tasks.tasks.iter().map(|insert| insert.task.id));
        match queue.put(group) {
            Put::Waits => return Ok(()),
            Put::NeedsWriter => {
                write::start(queue);
                return Ok(());
            }
            Put::Closed(back) => {
                queue.forget(back.announced, &back.tasks);
                return Err(AddError::ShutDown);
            }
            Put::Crowded(mut back) => {
                queue.forget(mem::take(&mut back.announced), &back.tasks);
                group = back;
            }
        }
    }
}

impl fmt::Debug for Sent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sent").field("id", &self.id).finish_non_exhaustive()
    }
}
