//! The HTTP client of the bench: keep-alive connections, each with one request under way.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::cli::bench::failure::Result;

/// Sends `requests` requests in total over `connections` connections. Returns the microseconds that each took.
pub(super) async fn ask(
    address: SocketAddr,
    path: &'static str,
    connections: u64,
    requests: u64,
) -> Result<Vec<f64>> {
    let left = Arc::new(AtomicU64::new(requests));
    let mut clients = JoinSet::new();
    for _ in 0..connections {
        let left = Arc::clone(&left);
        clients.spawn(async move {
            let mut client = Client::connect(address).await?;
            let request = format!("POST {path} HTTP/1.1\r\nhost: {address}\r\ncontent-length: 0\r\n\r\n");
            let one = |left: u64| left.checked_sub(1);
            let mut micros = Vec::new();
            while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one).is_ok() {
                let since = Instant::now();
                client.ask(&request).await?.expect("200")?;
                micros.push(since.elapsed().as_secs_f64() * 1e6);
            }
            Ok(micros)
        });
    }
    let mut all = Vec::new();
    while let Some(client) = clients.join_next().await {
        let answered: Result<Vec<f64>> = client?;
        all.extend(answered?);
    }
    Ok(all)
}

/// Asks for a page again and again over one connection. Returns the microseconds that each answer took.
pub(super) async fn open_repeatedly(address: SocketAddr, path: &str, times: u64) -> Result<Vec<f64>> {
    let mut client = Client::connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\n\r\n");
    let mut micros = Vec::new();
    for _ in 0..times {
        let since = Instant::now();
        client.ask(&request).await?.expect("200")?;
        micros.push(since.elapsed().as_secs_f64() * 1e6);
    }
    Ok(micros)
}

/// One connection.
pub(super) struct Client {
    stream: TcpStream,
    received: Vec<u8>,
}

/// The head of a response.
pub(super) struct Head<'a>(&'a str);

impl Client {
    pub(super) async fn connect(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, received: Vec::new() })
    }

    /// Sends one request and reads the whole response.
    pub(super) async fn ask(&mut self, request: &str) -> Result<Head<'_>> {
        let head = self.head(request).await?;
        let length = Head(std::str::from_utf8(&self.received[..head])?).length()?;
        while self.received.len() < head + length {
            self.more().await?;
        }
        Ok(Head(std::str::from_utf8(&self.received[..head])?))
    }

    /// Sends one request and reads the head of the response. What follows is read by [`until`](Self::until).
    pub(super) async fn open(&mut self, request: &str) -> Result<()> {
        let head = self.head(request).await?;
        Head(std::str::from_utf8(&self.received[..head])?).expect("200")?;
        self.received.drain(..head);
        Ok(())
    }

    /// Reads a stream up to and with `mark`, and returns that part of it.
    pub(super) async fn until(&mut self, mark: &[u8]) -> Result<Vec<u8>> {
        loop {
            if let Some(place) = place_of(mark, &self.received) {
                return Ok(self.received.drain(..place + mark.len()).collect());
            }
            self.more().await?;
        }
    }

    /// Sends a request and returns the length of the response's head.
    async fn head(&mut self, request: &str) -> Result<usize> {
        self.stream.write_all(request.as_bytes()).await?;
        self.received.clear();
        loop {
            self.more().await?;
            if let Some(place) = place_of(b"\r\n\r\n", &self.received) {
                return Ok(place + 4);
            }
        }
    }

    async fn more(&mut self) -> Result<()> {
        match self.stream.read_buf(&mut self.received).await? {
            0 => Err("the server closed the connection before the end of a response".into()),
            _ => Ok(()),
        }
    }
}

impl Head<'_> {
    /// Fails unless the status is this one.
    pub(super) fn expect(&self, status: &str) -> Result<()> {
        if self.status() == status {
            return Ok(());
        }
        Err(format!("the server answered `{}`", self.0.lines().next().unwrap_or_default()).into())
    }

    pub(super) fn status(&self) -> &str {
        self.0.split(' ').nth(1).unwrap_or_default()
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let pairs = self.0.lines().filter_map(|line| line.split_once(": "));
        pairs.into_iter().find_map(|(other, value)| other.eq_ignore_ascii_case(name).then_some(value))
    }

    fn length(&self) -> Result<usize> {
        match (self.status(), self.header("content-length")) {
            (_, Some(length)) => Ok(length.parse()?),
            ("304", None) => Ok(0),
            (_, None) => Err("the response of the server has no `content-length`".into()),
        }
    }
}

fn place_of(mark: &[u8], bytes: &[u8]) -> Option<usize> {
    bytes.windows(mark.len()).position(|part| part == mark)
}
