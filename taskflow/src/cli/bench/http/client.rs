//! The HTTP client of the bench: keep-alive connections, each sending its next request as soon as it has the response.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::cli::Result;

/// Sends `requests` requests in total over `connections` connections.
pub(super) async fn ask(
    address: SocketAddr,
    path: &'static str,
    connections: u64,
    requests: u64,
) -> Result<()> {
    let left = Arc::new(AtomicU64::new(requests));
    let mut clients = JoinSet::new();
    for _ in 0..connections {
        let left = Arc::clone(&left);
        clients.spawn(async move {
            let mut client = Client::connect(address, path).await?;
            let one = |left: u64| left.checked_sub(1);
            while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one).is_ok() {
                client.ask().await?;
            }
            Ok(())
        });
    }
    while let Some(client) = clients.join_next().await {
        let answered: Result<()> = client?;
        answered?;
    }
    Ok(())
}

struct Client {
    stream: TcpStream,
    request: Vec<u8>,
    answer: Vec<u8>,
}

impl Client {
    async fn connect(address: SocketAddr, path: &str) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let request = format!("POST {path} HTTP/1.1\r\nhost: {address}\r\ncontent-length: 0\r\n\r\n");
        Ok(Self { stream, request: request.into_bytes(), answer: Vec::new() })
    }

    /// Sends one request and reads the whole response.
    async fn ask(&mut self) -> Result<()> {
        self.stream.write_all(&self.request).await?;
        self.answer.clear();
        loop {
            if self.stream.read_buf(&mut self.answer).await? == 0 {
                return Err("the server closed the connection before the end of a response".into());
            }
            if let Some(length) = length_of(&self.answer)?
                && self.answer.len() >= length
            {
                return Ok(());
            }
        }
    }
}

/// The length of a response, once its head is complete. A response other than `200 OK` is an error.
fn length_of(answer: &[u8]) -> Result<Option<usize>> {
    let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(None) };
    let head = std::str::from_utf8(&answer[..end])?;
    if !head.starts_with("HTTP/1.1 200 ") {
        return Err(format!("the server answered `{}`", head.lines().next().unwrap_or_default()).into());
    }
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let length: usize = length.ok_or("the response of the server has no `content-length`")?.parse()?;
    Ok(Some(end + 4 + length))
}
