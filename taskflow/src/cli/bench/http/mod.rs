//! The scenario `http`: the cost of adding a task in a web request. It compares a plain axum route with the same route and
//! an add.

mod client;
mod tab;
pub(super) mod watched;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::extract::State;
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

/// Requests per second of the plain route.
pub(super) async fn measure_plain(load: &Load) -> Result<Vec<Sample>> {
    let server = Server::start(Router::new().route("/", post(plain))).await?;
    let took = timed(asked(server.address, load)).await?;
    Ok(vec![Sample::rate("http", load.tasks, took)])
}

/// Requests per second of the route that adds a task. The tasks run after the response, while other requests are served.
pub(super) async fn measure(ours: Ours, load: &Load) -> Result<Vec<Sample>> {
    let ours = ours.prepare().await?;
    ours.run().await?;
    RUNS.expect(load.tasks);
    let server = Server::start(routes(&ours)).await?;
    let took = timed(asked(server.address, load)).await?;
    finished(&ours).await?;
    RUNS.check()?;
    drop(server);
    ours.close().await?;
    Ok(vec![Sample::rate("http", load.tasks, took)])
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
        // The dashboard's access by loopback asks where a request comes from.
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
