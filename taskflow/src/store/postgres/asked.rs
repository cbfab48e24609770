//! A claim as its statements take it, and the result as they return it.

use std::collections::BTreeMap;
use std::sync::Arc;

use uuid::Uuid;

use super::damage::Damage;
use super::session::Statement;
use super::value::{escape_nul, length};
use crate::store::{Claim, Claims, Finished, codec};

/// A claim in the form that is bound to a statement.
pub(super) struct Asked {
    pub(super) queues: Vec<AskedQueue>,
    pub(super) limit: i64,
    /// How many of the claimed tasks find a free slot.
    pub(super) slots: i64,
    /// Identifies the leases of this claim, in case its answer is lost.
    pub(super) claim_id: i64,
}

/// The answers to the finishes, the claimed tasks, and the leased tasks that cannot be run.
pub(super) type Taken = (Vec<Finished>, Claims, Vec<Damage>);

/// A queue of a claim.
pub(super) struct AskedQueue {
    pub(super) name: Arc<str>,
    /// How many more tasks the claim may take from this queue.
    pub(super) free: i64,
    pub(super) prefetch: bool,
}

impl Asked {
    pub(super) fn new(claim: &Claim, claim_id: i64) -> Self {
        let (limit, slots) = (codec::to_i64(claim.limit), codec::to_i64(claim.slots()));
        let mut queues: BTreeMap<Arc<str>, AskedQueue> = BTreeMap::new();
        for queue in claim.queues.iter().filter(|queue| queue.limit > 0 && limit > 0) {
            let free = codec::to_i64(queue.limit).min(limit);
            let asked = AskedQueue { name: Arc::clone(&queue.name), free, prefetch: queue.prefetch };
            queues.insert(Arc::clone(&queue.name), asked);
        }
        Self { queues: queues.into_values().collect(), limit, slots, claim_id }
    }

    pub(super) fn bind(&self, statement: Statement, claim: &Claim, minds_what_is_first: bool) -> Statement {
        statement
            .bind(self.queues.iter().map(|queue| escape_nul(&queue.name)).collect::<Vec<_>>())
            .bind(self.queues.iter().map(|queue| queue.free).collect::<Vec<_>>())
            .bind(claim.names.iter().map(|name| escape_nul(name)).collect::<Vec<_>>())
            .bind(self.limit)
            .bind(Uuid::from(claim.instance))
            .bind(self.claim_id)
            .bind(length(claim.lease))
            .bind(minds_what_is_first)
            .bind(self.slots)
            .bind(self.queues.iter().map(|queue| queue.prefetch).collect::<Vec<_>>())
    }
}
