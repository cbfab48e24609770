//! A TCP proxy whose target a test can change.

#![allow(dead_code, reason = "each test binary uses its part")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU16, AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Passes bytes on between its clients and a server of this machine.
#[derive(Debug)]
pub(crate) struct Proxy {
    port: u16,
    target: Arc<AtomicU16>,
    cut: watch::Sender<u32>,
    limits: Arc<Limits>,
}

#[derive(Debug)]
struct Limits {
    /// While it is set, new connections are closed.
    refuses: AtomicBool,
    /// How many bytes may still go to the server before every connection is cut. Negative: any number.
    left: AtomicI64,
    accepted: AtomicUsize,
    /// Bytes that came from the server.
    answered: AtomicUsize,
}

impl Limits {
    /// Whether this many more bytes may go to the server.
    fn allow(&self, bytes: usize) -> bool {
        let bytes = i64::try_from(bytes).expect("a small number");
        if self.left.load(Ordering::Acquire) < 0 || self.left.fetch_sub(bytes, Ordering::AcqRel) >= bytes {
            return true;
        }
        self.left.store(-1, Ordering::Release);
        self.refuses.store(true, Ordering::Release);
        false
    }
}

impl Proxy {
    /// A proxy that leads to that port.
    pub(crate) async fn to(target: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let target = Arc::new(AtomicU16::new(target));
        let cut = watch::Sender::new(0);
        let limits = Limits {
            refuses: AtomicBool::new(false),
            left: AtomicI64::new(-1),
            accepted: AtomicUsize::new(0),
            answered: AtomicUsize::new(0),
        };
        let limits = Arc::new(limits);
        tokio::spawn(pass(listener, Arc::clone(&target), cut.clone(), Arc::clone(&limits)));
        Self { port, target, cut, limits }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Leads new connections to this port. Open connections stay where they are.
    pub(crate) fn lead_to(&self, target: u16) {
        self.target.store(target, Ordering::Release);
    }

    /// Closes every connection.
    pub(crate) fn cut(&self) {
        self.cut.send_modify(|cuts| *cuts += 1);
    }

    /// Cuts every connection when this many more bytes have gone to the server, and refuses new ones.
    pub(crate) fn cut_after(&self, bytes: usize) {
        self.limits.left.store(i64::try_from(bytes).expect("a small number"), Ordering::Release);
    }

    /// Refuses new connections, or not.
    pub(crate) fn refuse(&self, refuses: bool) {
        self.limits.refuses.store(refuses, Ordering::Release);
    }

    /// How many connections there ever were, without those that were refused.
    pub(crate) fn accepted(&self) -> usize {
        self.limits.accepted.load(Ordering::Acquire)
    }

    /// How many bytes the server ever answered.
    pub(crate) fn answered(&self) -> usize {
        self.limits.answered.load(Ordering::Acquire)
    }
}

async fn pass(listener: TcpListener, target: Arc<AtomicU16>, cut: watch::Sender<u32>, limits: Arc<Limits>) {
    while let Ok((from, _)) = listener.accept().await {
        if limits.refuses.load(Ordering::Acquire) {
            continue;
        }
        limits.accepted.fetch_add(1, Ordering::AcqRel);
        let (target, limits) = (target.load(Ordering::Acquire), Arc::clone(&limits));
        let (mut is_cut, cut) = (cut.subscribe(), cut.clone());
        tokio::spawn(async move {
            let Ok(to) = TcpStream::connect(("127.0.0.1", target)).await else { return };
            let _ = (from.set_nodelay(true), to.set_nodelay(true));
            let ((from_client, to_client), (from_server, to_server)) = (from.into_split(), to.into_split());
            tokio::select! {
                is_spent = forward(from_client, to_server, |n| limits.allow(n)) => if is_spent {
                    cut.send_modify(|cuts| *cuts += 1);
                },
                _ = forward(from_server, to_client, |n| {
                    limits.answered.fetch_add(n, Ordering::AcqRel);
                    true
                }) => {}
                _ = is_cut.changed() => {}
            }
        });
    }
}

/// Passes bytes on until one side ends or no more may pass. Answers whether the limit was the reason.
async fn forward(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, may_pass: impl Fn(usize) -> bool) -> bool {
    let mut bytes = vec![0; 16 << 10];
    while let Ok(n @ 1..) = from.read(&mut bytes).await {
        if !may_pass(n) {
            return true;
        }
        if to.write_all(&bytes[..n]).await.is_err() {
            break;
        }
    }
    false
}
