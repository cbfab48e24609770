//! A TCP proxy that tests tell where to lead.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Passes bytes on between whoever connects to it and a server of this machine.
#[derive(Debug)]
pub(crate) struct Proxy {
    port: u16,
    target: Arc<AtomicU16>,
    cut: watch::Sender<u32>,
}

impl Proxy {
    /// One that leads to that port.
    pub(crate) async fn to(target: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let target = Arc::new(AtomicU16::new(target));
        let cut = watch::Sender::new(0);
        tokio::spawn(pass(listener, Arc::clone(&target), cut.clone()));
        Self { port, target, cut }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Leads new connections there. Those that are open stay where they are.
    pub(crate) fn lead_to(&self, target: u16) {
        self.target.store(target, Ordering::Release);
    }

    /// Closes every connection.
    #[allow(dead_code, reason = "each test binary uses its part")]
    pub(crate) fn cut(&self) {
        self.cut.send_modify(|cuts| *cuts += 1);
    }
}

async fn pass(listener: TcpListener, target: Arc<AtomicU16>, cut: watch::Sender<u32>) {
    while let Ok((mut from, _)) = listener.accept().await {
        let (target, mut cut) = (target.load(Ordering::Acquire), cut.subscribe());
        tokio::spawn(async move {
            let Ok(mut to) = TcpStream::connect(("127.0.0.1", target)).await else { return };
            tokio::select! {
                _ = tokio::io::copy_bidirectional(&mut from, &mut to) => {}
                _ = cut.changed() => {}
            }
        });
    }
}
