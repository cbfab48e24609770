//! An add on its way to the store, as its caller awaits it.

use std::fmt;
use std::future;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::sync::oneshot::error::RecvError;
use tokio::task::coop::{Coop, cooperative};

use super::group::{Answer, Group};
use super::queue::{AddQueue, Put, unavailable};
use super::write;
use crate::engine::spans::AddSpan;
use crate::model::{AddError, StoreError, StoreErrorKind, TaskId};
use crate::seam::Sleep;
use crate::store::Start;

/// How much later than the writer a caller itself checks whether its add has waited too long.
const LATER: Duration = Duration::from_millis(250);

/// Waits for room in the queue of adds.
type Room = Pin<Box<dyn Future<Output = Result<(), AddError>> + Send>>;

/// An add on its way to the store, as its caller awaits it.
pub(crate) struct Sent {
    id: TaskId,
    answer: Pending,
    /// Set until the queue has room for the add.
    room: Option<Room>,
    watch: Watch,
    span: AddSpan,
}

/// The answer to an add.
enum Pending {
    /// The answer is there already. Taking it uses up the cooperative budget of the caller's task in tokio, so that a loop of
    /// adds lets other tasks run.
    Known(Coop<future::Ready<Answer>>),
    Awaited(oneshot::Receiver<Answer>),
}

impl Pending {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Answer, RecvError>> {
        match self {
            Self::Known(answer) => Pin::new(answer).poll(cx).map(Ok),
            Self::Awaited(answer) => Pin::new(answer).poll(cx),
        }
    }

    /// The answer, if it has come.
    fn now(&mut self) -> Option<Answer> {
        match self {
            Self::Known(_) => None,
            Self::Awaited(answer) => answer.try_recv().ok(),
        }
    }
}

/// How a caller enforces `add_timeout` itself. The writer enforces it as long as the writer's runtime runs, so a caller
/// that is polled on that runtime can rely on it. Only a caller on another runtime needs a timer.
enum Watch {
    Unknown,
    NotNeeded,
    Timer(Pin<Box<Sleep>>),
}

impl Sent {
    pub(super) fn new(id: TaskId, answer: oneshot::Receiver<Answer>, span: AddSpan) -> Self {
        Self { id, answer: Pending::Awaited(answer), room: None, watch: Watch::Unknown, span }
    }

    /// An add that has been answered.
    pub(super) fn answered(id: TaskId, answer: Answer, span: AddSpan) -> Self {
        let answer = Pending::Known(cooperative(future::ready(answer)));
        Self { id, answer, room: None, watch: Watch::NotNeeded, span }
    }

    /// Makes the add wait for room in the queue when it is polled.
    pub(super) fn wait_for_room(&mut self, queue: Arc<AddQueue>, group: Group) {
        self.room = Some(Box::pin(wait_for_room(queue, group)));
    }

    pub(super) fn poll(&mut self, queue: &AddQueue, cx: &mut Context<'_>) -> Poll<Answer> {
        let answer = ready!(self.poll_answer(queue, cx));
        if let Err(refused) = &answer {
            queue.core.refusals.count(refused);
        }
        self.span.answered(&answer);
        Poll::Ready(answer)
    }

    fn poll_answer(&mut self, queue: &AddQueue, cx: &mut Context<'_>) -> Poll<Answer> {
        if let Some(room) = &mut self.room {
            let ready = ready!(room.as_mut().poll(cx));
            self.room = None;
            ready?;
        }
        if let Poll::Ready(answer) = self.answer.poll(cx) {
            return Poll::Ready(answer.unwrap_or_else(|_| Err(self.unknown("the answer was lost"))));
        }
        if let Watch::Unknown = self.watch {
            self.watch = match Handle::try_current() {
                Ok(here) if here.id() != queue.core.runtime.id() => {
                    let seam = &queue.core.seam;
                    let at = seam.in_time(queue.core.settings.add_timeout.saturating_add(LATER));
                    Watch::Timer(Box::pin(seam.sleep_until(at)))
                }
                _ => Watch::NotNeeded,
            };
        }
        let Watch::Timer(timer) = &mut self.watch else { return Poll::Pending };
        loop {
            ready!(timer.as_mut().poll(cx));
            match queue.take_back(self.id) {
                Ok(refused) => return Poll::Ready(Err(refused)),
                Err(Some(busy_until)) if busy_until > queue.core.seam.instant() => {
                    *timer = Box::pin(queue.core.seam.sleep_until(busy_until + LATER));
                }
                Err(_) => break,
            }
        }
        // The answer may have come at this very moment.
        let lost = self.unknown("the manager's runtime has not answered in time");
        Poll::Ready(self.answer.now().unwrap_or(Err(lost)))
    }

    /// The error of an add that may have been stored.
    pub(crate) fn unknown(&self, why: &str) -> AddError {
        AddError::Unknown { id: self.id, source: StoreError::new(StoreErrorKind::Unknown, why) }
    }
}

/// Puts the group into the queue once there is room.
async fn wait_for_room(queue: Arc<AddQueue>, mut group: Group) -> Result<(), AddError> {
    let deadline = group.deadline;
    // Other tasks can use its slots meanwhile.
    queue.free(mem::take(&mut group.permits));
    for insert in group.tasks.tasks.iter_mut().filter(|insert| insert.start != Start::Hold) {
        insert.start = Start::Wait;
    }
    queue.forget(mem::take(&mut group.announced), &group.tasks);
    loop {
        let room = queue.core.seam.timeout_at(deadline, queue.room(group.size.bytes)).await;
        if room.is_err() || queue.core.seam.instant() >= deadline {
            let full = "up to 64 MiB of adds wait to be written, and no room became free until `add_timeout`; check the store, or add more slowly";
            return Err(AddError::Store(unavailable(full)));
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
            Put::Full(mut back) => {
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
