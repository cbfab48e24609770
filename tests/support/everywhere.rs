//! Every kind of store there is here, for tests that hold for all of them.

use crate::servers;
use crate::support::Place;

/// An empty one of each; those whose server is not installed have said so.
pub(crate) fn everywhere() -> Vec<Place> {
    let servers = [servers::postgres::shared_url(), servers::redis::shared_url()];
    Place::each().into_iter().chain(servers.into_iter().flatten().map(Place::Server)).collect()
}
