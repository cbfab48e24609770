//! An open tab of the dashboard: its stream of pulses, and what the page's script asks for after them.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::client::Client;
use crate::cli::bench::failure::Result;

/// The pages that the tabs show in turn.
const PAGES: [Page; 3] = [
    Page { path: "/admin/tasks", part: "rows", rests: Duration::from_secs(2), only_if_changed: true },
    Page { path: "/admin", part: "page", rests: Duration::from_secs(5), only_if_changed: false },
    Page { path: "/admin/failures", part: "page", rests: Duration::from_secs(10), only_if_changed: false },
];

/// A page, and when its script reads it again.
#[derive(Clone, Copy)]
struct Page {
    path: &'static str,
    part: &'static str,
    /// The least time between two reads.
    rests: Duration,
    only_if_changed: bool,
}

/// Tabs that are open until they are dropped.
pub(super) struct Tabs(Vec<JoinHandle<Result<()>>>);

impl Tabs {
    /// Opens tabs and waits until each shows its first pulse.
    pub(super) async fn open(address: SocketAddr, count: u64) -> Result<Self> {
        let mut tabs = Vec::new();
        for page in PAGES.into_iter().cycle().zip(0..count).map(|(page, _)| page) {
            let (first, seen) = oneshot::channel();
            let tab = tokio::spawn(show(address, page, first));
            seen.await.map_err(|_| "a tab of the dashboard did not open")?;
            tabs.push(tab);
        }
        Ok(Self(tabs))
    }

    /// Fails if a tab is no longer live.
    pub(super) fn check(&self) -> Result<()> {
        match self.0.iter().any(JoinHandle::is_finished) {
            true => Err("a tab of the dashboard lost its stream".into()),
            false => Ok(()),
        }
    }
}

impl Drop for Tabs {
    fn drop(&mut self) {
        for tab in &self.0 {
            tab.abort();
        }
    }
}

/// Shows one page, tells of its first pulse, and keeps it up to date. Ends only with an error.
async fn show(address: SocketAddr, page: Page, first: oneshot::Sender<()>) -> Result<()> {
    let Page { path, part, rests, only_if_changed } = page;
    let get = |path: &str, more: &str| format!("GET {path} HTTP/1.1\r\nhost: {address}\r\n{more}\r\n");
    let mut pages = Client::connect(address).await?;
    pages.ask(&get(path, "")).await?.expect("200")?;
    let mut stream = Client::connect(address).await?;
    stream.open(&get("/admin/events", "accept: text/event-stream\r\n")).await?;
    let mut first = Some(first);
    let (mut tag, mut read_at, mut behind) = (None::<String>, None::<Instant>, false);
    loop {
        stream.until(b"event: pulse").await?;
        let pulse = stream.until(b"\n\n").await?;
        behind |= !only_if_changed || String::from_utf8_lossy(&pulse).contains("\"changed\":true");
        if behind && read_at.is_none_or(|at| at.elapsed() >= rests) {
            (behind, read_at) = (false, Some(Instant::now()));
            let known = tag.as_ref().map(|tag| format!("if-none-match: {tag}\r\n")).unwrap_or_default();
            let answer = pages.ask(&get(&format!("{path}?part={part}"), &known)).await?;
            if answer.status() != "304" {
                answer.expect("200")?;
                tag = answer.header("etag").map(str::to_owned);
            }
        }
        if let Some(first) = first.take() {
            let _ = first.send(());
        }
    }
}
