//! Every kind of store that is available here, for tests that hold for all of them.

use crate::servers;
use crate::support::Place;

/// An empty store of each kind. A kind whose server is not installed is left out, with a note.
pub(crate) fn everywhere() -> Vec<Place> {
    let servers = [servers::postgres::shared_url(), servers::redis::shared_url()];
    Place::each().into_iter().chain(servers.into_iter().flatten().map(Place::Server)).collect()
}
