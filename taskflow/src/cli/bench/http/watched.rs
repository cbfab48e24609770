//! The scenario `watched`: what open tabs of the dashboard cost tasks and requests, on a store with many finished tasks.

use taskflow::web::{Access, Admin};

use super::tab::Tabs;
use super::{Server, client, routes};
use crate::cli::bench::failure::Result;
use crate::cli::bench::figure::Sample;
use crate::cli::bench::options::Load;
use crate::cli::bench::ours::Ours;
use crate::cli::bench::queue::Queue;
use crate::cli::bench::scenario::{add_in_bulk, drain, finished, parts};
use crate::cli::bench::work::RUNS;

/// How often each page is opened.
const PAGES: u64 = 100;

/// Drains tasks, and then serves requests that each add one and pages of the dashboard, while this many tabs are open.
pub(in crate::cli::bench) async fn measure(
    ours: Ours,
    load: &Load,
    tabs: u64,
) -> Result<(Ours, Vec<Sample>)> {
    add_in_bulk(&ours, load.tasks).await?;
    let ours = ours.prepare().await?;
    let dashboard = Admin::new(ours.manager(), Access::loopback()).router();
    let router = routes(&ours).nest("/admin", dashboard);
    let server = Server::start(router).await?;
    let tabs = Tabs::open(server.address, tabs).await?;
    let draining = drain(&ours, load.tasks).await?;
    RUNS.expect(load.tasks);
    let adding = client::ask(server.address, "/", load.connections, load.tasks).await?;
    finished(&ours).await?;
    RUNS.check()?;
    let pages = PAGES.min(load.samples);
    let page = client::open_repeatedly(server.address, "/admin/tasks?status=success", pages).await?;
    // No task has this value, so each page examines as many tasks as it may.
    let search = client::open_repeatedly(server.address, "/admin/tasks?arg.email=nobody", pages).await?;
    tabs.check()?;
    drop((tabs, server));
    let mut samples = vec![Sample::rate("watched/drain", load.tasks, draining)];
    samples.extend(parts(["watched/http_p50", "watched/http_p99", "watched/http_max"], adding));
    samples.extend(parts(["watched/page_p50", "watched/page_p99", "watched/page_max"], page));
    samples.extend(parts(["watched/search_p50", "watched/search_p99", "watched/search_max"], search));
    Ok((ours.reopen().await?, samples))
}
