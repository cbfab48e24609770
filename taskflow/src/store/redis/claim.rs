//! Claims, packed for the script and its answer read.

use std::sync::Arc;
use std::time::Duration;

use super::answer::List;
use super::script::Call;
use super::state::{Body, State, exact, policy};
use crate::model::{RetryPolicy, StoreError, TaskId, time};
use crate::store::{Claim, Claimed, Claims, Run};

pub(super) fn pack(call: &mut Call, claim: &Claim) {
    call.arg(claim.instance.as_bytes()).arg(exact(time::micros(claim.lease))).arg(claim.limit);
    call.list(claim.names.iter().map(|name| &**name));
    call.arg(claim.queues.len());
    for (queue, free) in &claim.queues {
        call.arg(&**queue).arg(*free);
    }
}

pub(super) fn unpack(mut answer: List<'_>, claim: &Claim) -> Result<Claims, StoreError> {
    let next_due = due_in(answer.number()?);
    let mut tasks = Vec::with_capacity(answer.len() / 2);
    let mut policies = Policies::default();
    while !answer.is_empty() {
        let (id, state) = (answer.task_id()?, answer.bytes()?);
        tasks.extend(claimed(claim, &mut policies, id, &state));
    }
    Ok(Claims { tasks, next_due })
}

/// Microseconds until something is due; less than nothing means never.
pub(super) fn due_in(micros: i64) -> Option<Duration> {
    u64::try_from(micros).ok().map(Duration::from_micros)
}

fn claimed(claim: &Claim, policies: &mut Policies, id: TaskId, state: &[u8]) -> Option<Claimed> {
    let state = State::unpack(state)?;
    let body = Body::unpack(state.body)?;
    let name = claim.names.iter().find(|name| ***name == *state.name).cloned()?;
    let queue = claim.queues.iter().find(|(queue, _)| **queue == *state.queue)?.0.clone();
    Some(Claimed {
        run: Run::new(id, state.fence),
        name,
        queue,
        args: Arc::from(body.args),
        tags: body.tags,
        attempt: state.attempt,
        max_attempts: state.max_attempts,
        policy: policies.get(body.policy),
        scheduled_for: state.scheduled_for.map(time::from_micros),
        log_lines: state.log_lines,
        log_bytes: state.log_bytes,
    })
}

/// The policy of the task before: the next one's is most likely the same.
#[derive(Default)]
struct Policies {
    last: Option<(String, Arc<RetryPolicy>)>,
}

impl Policies {
    fn get(&mut self, json: &str) -> Arc<RetryPolicy> {
        match &self.last {
            Some((of, policy)) if of == json => Arc::clone(policy),
            _ => {
                let policy = Arc::new(policy(json));
                self.last = Some((json.to_owned(), Arc::clone(&policy)));
                policy
            }
        }
    }
}
