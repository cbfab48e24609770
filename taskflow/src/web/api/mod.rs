//! The REST API, `/api/v1`.

mod me;

use super::routes::{Route, route};

pub(crate) static ROUTES: &[Route] = &[
    route!(Api, GET "/api/v1/me", Actor => me::show),
    route!(Api, POST "/api/v1/login", Nothing => me::log_in),
    route!(Api, POST "/api/v1/logout", Actor => me::log_out),
];
