//! The memory store. Its floor is a tokio channel.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use taskflow::{MemoryStore, store::IntoStore};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;

use super::slots::Slots;
use super::{Backend, Facts, NoReader};
use crate::cli::bench::failure::Result;
use crate::cli::bench::ours::Place;
use crate::cli::bench::queue::Queue;
use crate::cli::bench::work::{Payload, no_op};

#[derive(Debug)]
pub(super) struct Memory;

/// A channel and one receiving task.
#[derive(Clone, Debug)]
pub(super) struct Channel(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    slots: usize,
    sender: UnboundedSender<Payload>,
    /// Present until `run` takes it.
    receiver: Mutex<Option<UnboundedReceiver<Payload>>>,
    worker: Mutex<Option<JoinHandle<Result<()>>>>,
    added: AtomicU64,
    finished: AtomicU64,
}

/// Payloads taken from the channel at once.
const CLAIM: usize = 256;

impl Backend for Memory {
    type Floor = Channel;
    type Reader = NoReader;

    fn place(&self) -> Result<Place> {
        let store = MemoryStore::new();
        Ok(Place::new(move || store.clone().into_store()))
    }

    async fn floor(&self, slots: usize) -> Result<Channel> {
        let (sender, receiver) = unbounded_channel();
        Ok(Channel(Arc::new(Inner {
            slots,
            sender,
            receiver: Mutex::new(Some(receiver)),
            worker: Mutex::default(),
            added: AtomicU64::default(),
            finished: AtomicU64::default(),
        })))
    }

    async fn facts(&self) -> Result<Facts> {
        Ok(Facts::from([("durability", "none".to_owned()), ("floor", "tokio::sync::mpsc".to_owned())]))
    }

    async fn read(&self) -> Result<NoReader> {
        NoReader::open()
    }

    async fn remove(&self) -> Result<()> {
        Ok(())
    }

    fn keeps(&self) -> u64 {
        10_000
    }
}

impl Queue for Channel {
    async fn add(&self, payload: Payload) -> Result<()> {
        self.0.added.fetch_add(1, Ordering::Relaxed);
        Ok(self.0.sender.send(payload)?)
    }

    async fn add_all(&self, payloads: Vec<Payload>) -> Result<()> {
        self.0.added.fetch_add(payloads.len() as u64, Ordering::Relaxed);
        for payload in payloads {
            self.0.sender.send(payload)?;
        }
        Ok(())
    }

    async fn prepare(self) -> Result<Self> {
        Ok(self)
    }

    async fn run(&self) -> Result<()> {
        let Some(mut receiver) = self.0.receiver.lock().take() else { return Ok(()) };
        let inner = Arc::clone(&self.0);
        let worker = tokio::spawn(async move {
            let mut claimed = Vec::with_capacity(CLAIM);
            let mut slots = Slots::new(inner.slots);
            while receiver.recv_many(&mut claimed, CLAIM).await > 0 {
                for payload in claimed.drain(..) {
                    let run = async move {
                        no_op(payload.user_id, payload.email).await;
                        Ok(())
                    };
                    slots.start(run).await?;
                }
                inner.finished.fetch_add(slots.ended().await?.len() as u64, Ordering::Release);
            }
            Ok(())
        });
        *self.0.worker.lock() = Some(worker);
        Ok(())
    }

    async fn unfinished(&self) -> Result<u64> {
        Ok(self.0.added.load(Ordering::Acquire) - self.0.finished.load(Ordering::Acquire))
    }

    async fn close(self) -> Result<()> {
        if let Some(worker) = self.0.worker.lock().take() {
            worker.abort();
        }
        Ok(())
    }
}
