//! The instances of this store that have a lease connection, and the requests to it.

use std::collections::HashMap;

use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use crate::model::{InstanceId, StoreError};
use crate::store::suspects::Seen;
use crate::store::{Renewal, Renewed};

/// The instances of this store that have a lease connection.
#[derive(Debug, Default)]
pub(super) struct LeaseConnections(pub(super) Mutex<HashMap<InstanceId, mpsc::UnboundedSender<Request>>>);

/// A request to a lease connection.
#[derive(Debug)]
pub(super) enum Request {
    Renew(Renewing),
    /// Another call saw that the lock is not held.
    ShowAgain,
}

/// A renewal, and the channel for its reply.
#[derive(Debug)]
pub(super) struct Renewing {
    pub(super) renewal: Renewal,
    pub(super) reply: oneshot::Sender<Result<Renewed, StoreError>>,
    /// It was tried before, on a connection that broke.
    pub(super) is_repeated: bool,
}

impl LeaseConnections {
    /// Renews on the lease connection, if there is one.
    pub(super) fn renew(&self, renewal: &Renewal) -> Option<oneshot::Receiver<Result<Renewed, StoreError>>> {
        let lease_connections = self.0.lock();
        let requests = lease_connections.get(&renewal.instance)?;
        let (reply, answer) = oneshot::channel();
        let renewing = Renewing { renewal: renewal.clone(), reply, is_repeated: false };
        requests.send(Request::Renew(renewing)).ok()?;
        Some(answer)
    }

    /// Whether this instance belongs to this store. If its lock is not held, asks its lease connection to take it
    /// again: a pooler may have given the session to another client.
    pub(super) fn is_ours(&self, seen: &Seen<i64>) -> bool {
        let lease_connections = self.0.lock();
        let Some(requests) = lease_connections.get(&seen.instance) else { return false };
        if !seen.is_there {
            let _ = requests.send(Request::ShowAgain);
        }
        true
    }
}
