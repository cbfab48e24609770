//! Packs the arguments of claims and reads their answers.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::answer::List;
use super::damage::Damaged;
use super::packed_row::{Body, FOR_EVER, PackedRow, Unpack, exact, policy};
use super::script::{AT_ONCE, Call};
use crate::model::{InstanceId, RateLimit, RetryPolicy, StoreError, TaskId, time};
use crate::store::{Claim, ClaimQueue, ClaimQueues, Claimed, Claims, RunRef, SharedLimits};

/// Identifies a claim of a process. Every claim has its own.
pub(super) type Token = [u8; 24];

/// Numbers claims, and remembers those whose answers were lost: their tasks are leased to an instance that does not
/// know it. They are taken back before the instance claims again.
#[derive(Debug)]
pub(super) struct UnconfirmedClaims {
    handle: [u8; 16],
    next: AtomicU64,
    unanswered: Mutex<HashMap<InstanceId, Vec<Token>>>,
}

impl UnconfirmedClaims {
    pub(super) fn new(handle: [u8; 16]) -> Self {
        Self { handle, next: AtomicU64::new(0), unanswered: Mutex::default() }
    }

    fn next(&self) -> Token {
        let mut token = [0; 24];
        token[..16].copy_from_slice(&self.handle);
        token[16..].copy_from_slice(&self.next.fetch_add(1, Ordering::Relaxed).to_be_bytes());
        token
    }

    /// Records a claim with an unknown outcome.
    fn lost(&self, instance: InstanceId, token: Token) {
        self.unanswered.lock().entry(instance).or_default().push(token);
    }
}

/// A claim whose answer has not come or has not been read yet. If it is dropped before it is
/// [confirmed](Self::confirm), for example with the call's future, it is [`lost`](UnconfirmedClaims::lost).
#[derive(Debug)]
pub(super) struct Unconfirmed<'a> {
    unconfirmed: &'a UnconfirmedClaims,
    instance: InstanceId,
    pub(super) token: Token,
    is_confirmed: bool,
}

impl<'a> Unconfirmed<'a> {
    pub(super) fn begin(unconfirmed: &'a UnconfirmedClaims, instance: InstanceId) -> Self {
        Self { unconfirmed, instance, token: unconfirmed.next(), is_confirmed: false }
    }

    /// A claim that was lost, to be taken back.
    pub(super) fn lost_before(unconfirmed: &'a UnconfirmedClaims, instance: InstanceId) -> Option<Self> {
        let mut unanswered = unconfirmed.unanswered.lock();
        let token = unanswered.get_mut(&instance)?.pop();
        if token.is_none() {
            unanswered.remove(&instance);
        }
        Some(Self { unconfirmed, instance, token: token?, is_confirmed: false })
    }

    /// The outcome is known: which tasks it took, or that it took none.
    pub(super) fn confirm(mut self) {
        self.is_confirmed = true;
    }
}

impl Drop for Unconfirmed<'_> {
    fn drop(&mut self) {
        if !self.is_confirmed {
            self.unconfirmed.lost(self.instance, self.token);
        }
    }
}

/// Adds the arguments of a claim. `this` identifies it.
pub(super) fn pack(call: &mut Call, claim: &Claim, this: Token, queues: &PackedQueues) {
    call.arg(claim.instance.as_bytes()).arg(exact(time::micros(claim.lease))).arg(claim.limit).arg(&this[..]);
    call.arg(claim.slots());
    call.arg(claim.names.len()).arg(pack_names(claim)).arg(claim.queues.len()).arg(queues.with_room(claim));
}

/// The bytes before and after each name in a text of many names. Neither occurs in UTF-8.
const BEFORE: u8 = 0xff;
const BEHIND: u8 = 0xfe;

/// All names in one text: a script finds one in it without reading them all.
fn pack_names(claim: &Claim) -> Vec<u8> {
    let mut text = Vec::with_capacity(24 * claim.names.len());
    for name in claim.names.iter() {
        text.push(BEFORE);
        text.extend_from_slice(name.as_bytes());
        text.push(BEHIND);
    }
    text
}

/// Stands after the number of free places if the tasks of the queue may be prefetched.
const PREFETCHED: u8 = b'p';

/// More free places than any claim asks for, and a number that is exact in Lua.
const MUCH: usize = 1 << 30;

/// The queues of a process in the form in which the scripts read them. All claims of the process share this text until a
/// limit changes: packing thousands of queues for each claim would take longer than the claim.
#[derive(Debug)]
pub(super) struct PackedQueues {
    of: ClaimQueues,
    text: Vec<u8>,
    are_limited: bool,
}

impl PackedQueues {
    pub(super) fn of(queues: &ClaimQueues) -> Self {
        let mut text = Vec::with_capacity(24 * queues.len());
        for queue in queues.served() {
            pack_queue(&mut text, queue);
        }
        let are_limited = queues.served().iter().any(|queue| queue.shared.any());
        Self { of: queues.clone(), text, are_limited }
    }

    pub(super) fn are_those_of(&self, claim: &Claim) -> bool {
        self.of.are_those_of(&claim.queues)
    }

    /// Whether a queue has limits over all processes.
    pub(super) fn are_limited(&self) -> bool {
        self.are_limited
    }

    /// Whether a claim has no limits over all processes, and takes no more than `claim_plain.lua` can.
    pub(super) fn are_plain(&self, claim: &Claim) -> bool {
        claim.limit <= AT_ONCE && !self.are_limited
    }

    /// The text of all queues. Before it, each queue of the claim that has fewer free places than its limit has another
    /// entry: the first entry of a queue counts.
    fn with_room(&self, claim: &Claim) -> Vec<u8> {
        let mut text = Vec::with_capacity(self.text.len() + 256);
        for queue in claim.queues.lowered() {
            pack_queue(&mut text, &queue);
        }
        text.extend_from_slice(&self.text);
        text
    }
}

/// Adds a queue with its number of free places, whether its tasks may be prefetched, and its limits.
fn pack_queue(text: &mut Vec<u8>, queue: &ClaimQueue) {
    text.push(BEFORE);
    text.extend_from_slice(queue.name.as_bytes());
    text.push(BEHIND);
    text.extend_from_slice(queue.limit.min(MUCH).to_string().as_bytes());
    text.extend(queue.prefetch.then_some(PREFETCHED));
    let SharedLimits { global_concurrency, key_concurrency, rate_limit } = queue.shared;
    if !queue.shared.any() {
        return;
    }
    for most in [global_concurrency, key_concurrency, rate_limit.map(|rate| rate.starts)] {
        text.push(b':');
        // Larger numbers are not exact in Lua.
        let most = most.map(|most| i64::try_from(most).map_or(FOR_EVER, exact).to_string());
        text.extend_from_slice(most.unwrap_or_default().as_bytes());
    }
    text.push(b':');
    text.extend_from_slice(rate_limit.map_or(0, slice).to_string().as_bytes());
}

/// A hundredth of a limit's length, in microseconds: starts are remembered with this precision.
fn slice(limit: RateLimit) -> i64 {
    let length = exact(time::micros(limit.per.max(RateLimit::MIN_PER)));
    // An instant a hundred slices from now must be exact as well.
    ((length + 99) / 100).min(FOR_EVER / 200)
}

/// The claimed tasks, and those that cannot be read.
pub(super) fn unpack(mut answer: List<'_>, claim: &Claim) -> Result<(Claims, Vec<Damaged>), StoreError> {
    let due_in = answer.number()?;
    let (next_due, needs_slot) = (next_due(due_in), due_in == NEEDS_SLOT);
    let (ids, heads) = (answer.bytes()?, answer.bytes()?);
    let (mut ids, mut heads) = (Unpack(&ids), Unpack(&heads));
    let (mut tasks, mut damaged) = (Vec::with_capacity(answer.len()), Vec::new());
    let mut policies = Policies::default();
    while let Some((id, head)) = ids.array().zip(heads.take(PackedRow::HEAD)) {
        let (id, task) = (TaskId::from_bytes(id), answer.bytes()?);
        let state = PackedRow::put_together(head, &task);
        match state.as_ref().and_then(|state| claimed(claim, &mut policies, id, state)) {
            Some(claimed) => tasks.push(claimed),
            None => damaged.push(Damaged::of(id, state.as_ref())),
        }
    }
    Ok((Claims { tasks, next_due, needs_slot }, damaged))
}

/// Stands for the time until the next task is due, in the answer of a claim that stopped at a task that may not be
/// prefetched.
const NEEDS_SLOT: i64 = -2;

/// The time until the next task is due, in microseconds; a negative number means never.
fn next_due(micros: i64) -> Option<Duration> {
    u64::try_from(micros).ok().map(Duration::from_micros)
}

fn claimed(claim: &Claim, policies: &mut Policies, id: TaskId, state: &PackedRow<'_>) -> Option<Claimed> {
    let body = Body::unpack(state.body)?;
    let name = claim.names.iter().find(|name| ***name == *state.name).cloned()?;
    let queue = claim.queues.get(state.queue)?.name;
    Some(Claimed {
        expires_in: state.expires_at.map(|end| time::left(end, state.started_at)),
        snoozes: state.snoozes,
        run: RunRef::new(id, state.fence),
        name,
        queue,
        args: Arc::from(body.args),
        tags: body.tags,
        trace: body.trace,
        attempt: state.attempt,
        max_attempts: state.max_attempts,
        policy: policies.get(body.policy)?,
        scheduled_for: state.scheduled_for.map(time::from_micros),
        log_lines: state.log_lines,
        log_bytes: state.log_bytes,
    })
}

/// The policy of the previous task. The next one most likely has the same.
#[derive(Default)]
struct Policies {
    last: Option<(String, Arc<RetryPolicy>)>,
}

impl Policies {
    fn get(&mut self, json: &str) -> Option<Arc<RetryPolicy>> {
        match &self.last {
            Some((of, policy)) if of == json => Some(Arc::clone(policy)),
            _ => {
                let policy = Arc::new(policy(json)?);
                self.last = Some((json.to_owned(), Arc::clone(&policy)));
                Some(policy)
            }
        }
    }
}
