//! Executes calls: each on a borrowed connection, to its end even if nobody waits for the answer, and again if it lost
//! a race. Also gives back the tasks of claims whose answers were lost.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use uuid::Uuid;

use super::connections::Connections;
use super::damage;
use super::error::Fault;
use super::finish;
use super::hints::{Hints, Next};
use super::lease_connections::LeaseConnections;
use super::search_starts::SearchStarts;
use super::session::Session;
use super::sql::Sql;
use crate::model::{InstanceId, StoreError, StoreErrorKind};
use crate::store::hint_set::HintSet;
use crate::store::suspects::Suspects;

/// How often a call that lost a race is repeated.
const RACES: u32 = 20;
/// How often a call that failed on stored values is repeated.
const MENDS: u32 = 3;

/// The state that all handles of a store share.
pub(super) struct Shared {
    pub(super) sql: Sql,
    pub(super) connections: Connections,
    pub(super) hints: Hints,
    /// Whether a server session stays ours from one transaction to the next. Behind some poolers it does not.
    pub(super) listens: bool,
    pub(super) location: String,
    pub(super) lease_connections: LeaseConnections,
    pub(super) suspects: Suspects<i64>,
    pub(super) starts: SearchStarts,
    /// Whether a claim through this store value was from a queue with limits over all processes.
    has_limits: AtomicBool,
    unconfirmed: Mutex<Vec<UnconfirmedClaim>>,
    mended: tokio::sync::Mutex<Option<Mended>>,
}

/// The last search for damage.
#[derive(Clone, Copy, Debug)]
struct Mended {
    found: bool,
    ended_at: Instant,
    took: Duration,
}

/// A claim whose answer was lost. Tasks that it took will never be run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct UnconfirmedClaim {
    instance: Uuid,
    claim_id: i64,
}

/// What a call does, and how it is executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CallKind {
    /// It changes nothing, so a lost answer does no harm.
    Read,
    Write,
    /// It must not wait for other calls, and runs on a runtime of its own.
    Renew,
}

impl Shared {
    pub(super) fn new(sql: Sql, connections: Connections, location: String, listens: bool) -> Self {
        Self {
            sql,
            connections,
            hints: Hints::new(),
            listens,
            location,
            lease_connections: LeaseConnections::default(),
            suspects: Suspects::default(),
            starts: SearchStarts::default(),
            has_limits: AtomicBool::new(false),
            unconfirmed: Mutex::default(),
            mended: tokio::sync::Mutex::default(),
        }
    }

    /// Executes a call on the current runtime.
    pub(super) fn call<T, W>(
        self: &Arc<Self>,
        kind: CallKind,
        work: W,
    ) -> BoxFuture<'static, Result<T, StoreError>>
    where
        T: Send + 'static,
        W: for<'s, 'c> Fn(&'s mut Session<'c>) -> BoxFuture<'s, Result<T, Fault>> + Send + Sync + 'static,
    {
        let shared = Arc::clone(self);
        Box::pin(async move {
            let location = shared.location.clone();
            let done = tokio::spawn(async move { shared.run(kind, &work).await });
            done.await.unwrap_or_else(|_| Err(ended(&location)))
        })
    }

    /// Executes a claim, after giving back the tasks of earlier claims whose answers were lost.
    pub(super) fn claims<T, W>(
        self: &Arc<Self>,
        instance: InstanceId,
        work: W,
    ) -> BoxFuture<'static, Result<T, StoreError>>
    where
        T: Send + 'static,
        W: for<'s, 'c> Fn(&'s mut Session<'c>, i64) -> BoxFuture<'s, Result<T, Fault>>
            + Send
            + Sync
            + 'static,
    {
        let claim = UnconfirmedClaim { instance: Uuid::from(instance), claim_id: fastrand::i64(..) };
        let shared = Arc::clone(self);
        Box::pin(async move {
            let (reply, heard) = oneshot::channel();
            let location = shared.location.clone();
            tokio::spawn(async move {
                let answer = shared.claim(claim, work).await;
                let is_unknown = matches!(&answer, Err(error) if error.kind() == StoreErrorKind::Unknown);
                // An answer that nobody waits for any more is lost as well.
                let is_unheard = matches!(reply.send(answer), Err(Ok(_)));
                if is_unknown || is_unheard {
                    shared.unconfirmed.lock().push(claim);
                }
            });
            heard.await.unwrap_or_else(|_| Err(ended(&location)))
        })
    }

    async fn claim<T, W>(self: &Arc<Self>, claim: UnconfirmedClaim, work: W) -> Result<T, StoreError>
    where
        T: Send,
        W: for<'s, 'c> Fn(&'s mut Session<'c>, i64) -> BoxFuture<'s, Result<T, Fault>> + Send + Sync,
    {
        self.give_back_unconfirmed(claim.instance).await?;
        self.run(CallKind::Write, &|session: &mut Session<'_>| work(session, claim.claim_id)).await
    }

    /// Gives back the tasks of claims of that instance whose answers were lost. None of them has begun.
    pub(super) async fn give_back_unconfirmed(self: &Arc<Self>, instance: Uuid) -> Result<(), StoreError> {
        let unconfirmed: Vec<UnconfirmedClaim> =
            self.unconfirmed.lock().iter().filter(|claim| claim.instance == instance).copied().collect();
        if unconfirmed.is_empty() {
            return Ok(());
        }
        let claims: Vec<i64> = unconfirmed.iter().map(|claim| claim.claim_id).collect();
        let give_back = self.call(CallKind::Write, move |session| {
            let claims = claims.clone();
            Box::pin(async move { finish::give_back_claims(session, instance, claims).await })
        });
        give_back.await?;
        self.unconfirmed.lock().retain(|claim| !unconfirmed.contains(claim));
        Ok(())
    }

    /// Executes a call. Repeats it if it lost a race, after a repair of stored values on which it failed, and on
    /// another connection if the first one was lost before the call changed anything.
    async fn run<T, W>(self: &Arc<Self>, kind: CallKind, work: &W) -> Result<T, StoreError>
    where
        W: for<'s, 'c> Fn(&'s mut Session<'c>) -> BoxFuture<'s, Result<T, Fault>> + Sync,
    {
        let (mut races, mut mends, mut repeats) = (0, 0, 0);
        loop {
            let (fault, in_doubt) = match self.once(kind, work).await {
                Ok(value) => return Ok(value),
                Err(failed) => failed,
            };
            if kind != CallKind::Renew && fault.is_about_values() && mends < MENDS && self.mend().await {
                mends += 1;
                continue;
            }
            let was_done = in_doubt && !fault.is_refusal();
            let most = if fault.is_refusal() { self.connections.repeats() } else { 2 };
            if fault.ends_connection() && !fault.is_silence() && !was_done && repeats < most {
                // On a new connection: the old ones are not lent again.
                repeats += 1;
                continue;
            }
            races += 1;
            if !fault.is_race() || races > RACES {
                return Err(fault.into_error(&self.location, in_doubt));
            }
            tokio::time::sleep(Duration::from_millis(fastrand::u64(0..=2 * u64::from(races)))).await;
        }
    }

    /// Repairs stored damage that statements fail on. Answers whether the call is worth repeating. A repair reads all
    /// tasks that have not ended, so repairs may take at most a tenth of the time.
    async fn mend(self: &Arc<Self>) -> bool {
        let asked = Instant::now();
        let mut mended = self.mended.lock().await;
        if let Some(last) = *mended {
            if last.ended_at >= asked {
                return last.found;
            }
            if asked < last.ended_at + 10 * last.took {
                return false;
            }
        }
        let begun_at = Instant::now();
        let found = match self.once(CallKind::Write, &damage::mend_boxed).await {
            Ok(found) => found,
            Err((fault, _)) => {
                tracing::error!(?fault, "damage in {} could not be repaired", self.location);
                false
            }
        };
        *mended = Some(Mended { found, ended_at: Instant::now(), took: begun_at.elapsed() });
        found
    }

    /// Executes a call once. The `bool` of an error says whether the call may have been carried out nevertheless.
    async fn once<T, W>(self: &Arc<Self>, kind: CallKind, work: &W) -> Result<T, (Fault, bool)>
    where
        W: for<'s, 'c> Fn(&'s mut Session<'c>) -> BoxFuture<'s, Result<T, Fault>> + Sync,
    {
        let reserved = kind == CallKind::Renew;
        let mut loan = self.connections.lend(reserved).await.map_err(|fault| (fault, false))?;
        let mut session = Session::new(&mut loan, &self.sql, &self.starts, self.listens);
        let done = async {
            if !self.listens {
                // A pooler gives each transaction a session of its own.
                session.begin().await.map_err(|fault| (fault, false))?;
            }
            let work = work(&mut session).await;
            let writes_by_itself = kind != CallKind::Read && !session.is_in_transaction();
            let value = work.map_err(|fault| (fault, writes_by_itself))?;
            session.commit().await.map_err(|fault| (fault, true))?;
            Ok(value)
        };
        let done: Result<T, (Fault, bool)> = done.await;
        let is_fit = match &done {
            Ok(_) => true,
            Err((fault, _)) if fault.ends_connection() => false,
            Err(_) => session.roll_back().await.is_ok(),
        };
        let mut changes = session.changes.when(done.is_ok());
        if session.has_limits {
            self.has_limits.store(true, Ordering::Relaxed);
        }
        if changes.has(HintSet::ENDS) && self.has_limits.load(Ordering::Relaxed) {
            // In a queue with limits, the end of a run may let another task start.
            changes |= HintSet::WORK;
        }
        if done.is_ok() {
            self.starts.are_due_again(std::mem::take(&mut session.due_again));
        }
        drop(session);
        if is_fit {
            loan.keep();
        } else {
            loan.discard();
        }
        if changes.any() {
            self.notify(changes);
        }
        done
    }

    /// Tells the listeners of this process and of the others what changed.
    fn notify(self: &Arc<Self>, changes: HintSet) {
        if self.hints.changed(changes) {
            tokio::spawn(send_hints(Arc::downgrade(self)));
        }
    }
}

/// Sends hints until none is left to send. Errors are ignored, because the other processes poll as well.
async fn send_hints(shared: Weak<Shared>) {
    let mut sending = Sending(shared);
    let mut patience = fastrand::f64();
    loop {
        let Some(shared) = sending.0.upgrade() else { return };
        match shared.hints.next(patience) {
            Next::End => {
                sending.0 = Weak::new();
                return;
            }
            Next::Wait(wait) => shared.hints.wait(wait).await,
            Next::Send { changes, late } => {
                let message = shared.hints.message(changes);
                let sent = shared
                    .call(CallKind::Read, move |session| Box::pin(Hints::notify(session, message.clone())));
                let _ = sent.await;
                shared.hints.heard.send(late);
                patience = fastrand::f64();
            }
        }
    }
}

/// A task that sends hints. If its runtime ends before it does, the next change starts another.
struct Sending(Weak<Shared>);

impl Drop for Sending {
    fn drop(&mut self) {
        if let Some(shared) = self.0.upgrade() {
            shared.hints.interrupted();
        }
    }
}

/// The error for a call that will never be answered.
pub(super) fn ended(location: &str) -> StoreError {
    let message = format!(
        "the call to {location} was abandoned before its answer came (its runtime or its manager ended, or it panicked); it \
         may have been carried out"
    );
    StoreError::new(StoreErrorKind::Unknown, message)
}
