use crate::admin::{Console, Sessions};

/// The tasks and the sessions behind a router, and how browsers reach it.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) console: Console,
    pub(crate) sessions: Sessions,
    /// The origin that browsers see, if a proxy changes it.
    pub(crate) public_origin: Option<String>,
    pub(crate) insecure_cookies: bool,
}
