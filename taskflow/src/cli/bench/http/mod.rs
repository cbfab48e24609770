//! The scenarios `http` and `http_floor`: the cost of adding a task in a web request. They compare a route that adds a task
//! with a plain route, and with one that adds it to the floor.

mod client;
mod tab;
pub(super) mod watched;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use taskflow::{AddError, BackgroundTasks};
use tokio::task::JoinHandle;

use super::Result;
use super::figure::Sample;
use super::options::Load;
use super::ours::Ours;
use super::queue::Queue;
use super::scenario::{finished, timed};
use super::work::{Payload, RUNS, no_op};

const ANSWER: &str = "accepted";

/// The number of the next task.
type Next = Arc<AtomicU64>;

async fn plain() -> &'static str {
    ANSWER
}

async fn adds_a_task(State(next): State<Next>, tasks: BackgroundTasks) -> Result<&'static str, AddError> {
    let payload = Payload::of(next.fetch_add(1, Ordering::Relaxed));
    tasks.add_task(no_op, (payload.user_id, payload.email)).await?;
    Ok(ANSWER)
}

/// Adds a task to a queue that does not hold it until the response.
async fn adds_to<Q: Queue>(State((next, queue)): State<(Next, Q)>) -> Result<&'static str, StatusCode> {
    let added = queue.add(Payload::of(next.fetch_add(1, Ordering::Relaxed))).await;
    added.map(|()| ANSWER).map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)
}

/// Requests per second of the plain route.
pub(super) async fn measure_plain(load: &Load) -> Result<Vec<Sample>> {
    let server = Server::start(Router::new().route("/", post(plain))).await?;
    let took = timed(asked(server.address, load)).await?;
    Ok(["http", "http/not_held"].map(|name| Sample::rate(name, load.tasks, took)).into())
}

/// Requests per second of the route that adds a task, which is held until the response. The tasks run while other requests
/// are served.
pub(super) async fn measure_held(ours: Ours, name: &'static str, load: &Load) -> Result<Vec<Sample>> {
    let ours = ours.prepare().await?;
    let took = served(&ours, routes(&ours), load).await?;
    ours.close().await?;
    Ok(vec![Sample::rate(name, load.tasks, took)])
}

/// Requests per second of the route that adds a task through the manager, which does not hold it.
pub(super) async fn measure_not_held(ours: Ours, load: &Load) -> Result<Vec<Sample>> {
    measure_adds_to(ours, "http/not_held", load).await
}

/// Requests per second of the route that adds a task to a floor.
pub(super) async fn measure_floor(floor: impl Queue, load: &Load) -> Result<Vec<Sample>> {
    measure_adds_to(floor, "http_floor", load).await
}

async fn measure_adds_to<Q: Queue>(queue: Q, name: &'static str, load: &Load) -> Result<Vec<Sample>> {
    let queue = queue.prepare().await?;
    let route = Router::new().route("/", post(adds_to::<Q>)).with_state((Next::default(), queue.clone()));
    let took = served(&queue, route, load).await?;
    queue.close().await?;
    Ok(vec![Sample::rate(name, load.tasks, took)])
}

/// How long all requests take, while their tasks run.
async fn served<Q: Queue>(queue: &Q, router: Router, load: &Load) -> Result<Duration> {
    queue.run().await?;
    RUNS.expect(load.tasks);
    let server = Server::start(router).await?;
    let took = timed(asked(server.address, load)).await?;
    finished(queue).await?;
    RUNS.check()?;
    Ok(took)
}

/// The route that adds a task.
fn routes(ours: &Ours) -> Router {
    Router::new().route("/", post(adds_a_task)).with_state(Next::default()).layer(ours.manager().layer())
}

async fn asked(address: SocketAddr, load: &Load) -> Result<()> {
    client::ask(address, "/", load.connections, load.tasks).await.map(drop)
}

/// A server that stops when it is dropped.
struct Server {
    address: SocketAddr,
    serving: JoinHandle<std::io::Result<()>>,
}

impl Server {
    async fn start(router: Router) -> Result<Self> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        // `Access::loopback` of the dashboard needs the address of the client.
        let service = router.into_make_service_with_connect_info::<SocketAddr>();
        let serving = tokio::spawn(axum::serve(listener, service).into_future());
        Ok(Self { address, serving })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.serving.abort();
    }
}
