//! Redis. Its floor is a stream: callers share one connection for `XADD`; another sends `XACK`, `XDEL` and the next
//! `XREADGROUP` in one pipeline.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use parking_lot::Mutex;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Cmd, Pipeline};
use taskflow::store::IntoStore;

use super::target::without_namespace;
use super::worker::{Shared, Turns, to_json};
use super::{Backend, Facts, NoReader, Target};
use crate::cli::bench::failure::Result;
use crate::cli::bench::ours::Place;
use crate::cli::bench::queue::Queue;
use crate::cli::bench::work::Payload;

/// A server, and the prefix of all namespaces that the bench creates there.
#[derive(Debug)]
pub(super) struct Redis {
    url: String,
    mark: char,
    client: Client,
    name: String,
    made: AtomicU32,
}

impl Redis {
    pub(super) async fn open(target: &Target) -> Result<Self> {
        let url = target.url.as_str();
        let mark = without_namespace(url)?;
        let client = Client::open(url)?;
        let redis =
            Self { url: url.to_owned(), mark, client, name: target.name.clone(), made: AtomicU32::new(0) };
        redis.connect().await?;
        Ok(redis)
    }

    async fn connect(&self) -> Result<MultiplexedConnection> {
        // No response timeout: a read may block until there is work.
        let config = AsyncConnectionConfig::new().set_response_timeout(None);
        Ok(self.client.get_multiplexed_async_connection_with_config(&config).await?)
    }

    fn namespace(&self) -> String {
        format!("{}_{}", self.name, self.made.fetch_add(1, Ordering::Relaxed))
    }
}

/// The value of a setting of the server.
async fn setting(connection: &mut MultiplexedConnection, name: &str) -> Result<String> {
    let pair: Vec<String> = redis::cmd("CONFIG").arg("GET").arg(name).query_async(connection).await?;
    Ok(pair.into_iter().nth(1).unwrap_or_default())
}

impl Backend for Redis {
    type Floor = Floor;
    type Reader = NoReader;

    fn place(&self) -> Result<Place> {
        let url = format!("{}{}namespace={}", self.url, self.mark, self.namespace());
        Ok(Place::new(move || url.as_str().into_store()))
    }

    async fn floor(&self, slots: usize) -> Result<Floor> {
        let key = format!("{{taskflow:{}}}:floor", self.namespace());
        let mut adding = self.connect().await?;
        let mut group = redis::cmd("XGROUP");
        group.arg("CREATE").arg(&key).arg(GROUP).arg("0").arg("MKSTREAM");
        group.exec_async(&mut adding).await?;
        let claimer = Claimer { connection: self.connect().await?, key: key.clone(), waits: false };
        let claimer = Arc::new(Mutex::new(Some(claimer)));
        Ok(Floor { adding, key, shared: Shared::new(slots), claimer })
    }

    async fn facts(&self) -> Result<Facts> {
        let mut connection = self.connect().await?;
        let info: String = redis::cmd("INFO").arg("server").query_async(&mut connection).await?;
        let version = info.lines().find_map(|line| line.strip_prefix("redis_version:")).unwrap_or("unknown");
        let mut durability = Vec::new();
        for name in ["appendonly", "appendfsync", "save"] {
            // Hosted servers often forbid `CONFIG`.
            let value = setting(&mut connection, name).await.unwrap_or_else(|_| "unknown".to_owned());
            durability.push(format!("{name} {}", if value.is_empty() { "off" } else { &value }));
        }
        Ok(Facts::from([
            ("redis", version.to_owned()),
            ("durability", durability.join(", ")),
            ("floor", "redis, a stream: XADD; XACK, XDEL and XREADGROUP together".to_owned()),
        ]))
    }

    async fn read(&self) -> Result<NoReader> {
        NoReader::open()
    }

    async fn remove(&self) -> Result<()> {
        let mut connection = self.connect().await?;
        let mut cursor = 0_u64;
        loop {
            let mut scan = redis::cmd("SCAN");
            scan.arg(cursor).arg("MATCH").arg(format!("{{taskflow:{}_*", self.name)).arg("COUNT").arg(1_000);
            let (next, keys): (u64, Vec<Vec<u8>>) = scan.query_async(&mut connection).await?;
            if !keys.is_empty() {
                redis::cmd("UNLINK").arg(keys).exec_async(&mut connection).await?;
            }
            cursor = next;
            if cursor == 0 {
                return Ok(());
            }
        }
    }
}

const GROUP: &str = "workers";

/// Tasks claimed at once.
const CLAIM: usize = 256;

/// Two connections to one stream.
#[derive(Clone, Debug)]
pub(super) struct Floor {
    adding: MultiplexedConnection,
    key: String,
    shared: Arc<Shared>,
    /// Present until `run` takes it.
    claimer: Arc<Mutex<Option<Claimer>>>,
}

impl Floor {
    fn added(&self, payload: &Payload) -> Result<Cmd> {
        let mut add = redis::cmd("XADD");
        add.arg(&self.key).arg("*").arg("p").arg(to_json(payload)?);
        Ok(add)
    }
}

#[derive(Debug)]
struct Claimer {
    connection: MultiplexedConnection,
    key: String,
    /// Whether the last read found nothing: then the next one blocks on the server.
    waits: bool,
}

/// The reply of `XREADGROUP`: one stream with its entries, each with one field.
type Read = Option<Vec<(String, Vec<(String, (String, String))>)>>;

impl Turns for Claimer {
    type Id = String;

    async fn turn(&mut self, finished: Vec<String>) -> Result<Vec<(String, String)>> {
        let mut turn = Pipeline::new();
        if !finished.is_empty() {
            turn.cmd("XACK").arg(&self.key).arg(GROUP).arg(&finished).ignore();
            turn.cmd("XDEL").arg(&self.key).arg(&finished).ignore();
        }
        turn.cmd("XREADGROUP").arg("GROUP").arg(GROUP).arg("worker").arg("COUNT").arg(CLAIM);
        if std::mem::take(&mut self.waits) {
            turn.arg("BLOCK").arg(1_000);
        }
        turn.arg("STREAMS").arg(&self.key).arg(">");
        let (read,): (Read,) = turn.query_async(&mut self.connection).await?;
        let entries = read.into_iter().flatten().flat_map(|(_, entries)| entries);
        Ok(entries.map(|(id, (_, payload))| (id, payload)).collect())
    }

    async fn idle(&mut self) {
        self.waits = true;
    }
}

impl Queue for Floor {
    async fn add(&self, payload: Payload) -> Result<()> {
        self.shared.added.fetch_add(1, Ordering::Relaxed);
        Ok(self.added(&payload)?.exec_async(&mut self.adding.clone()).await?)
    }

    async fn add_all(&self, payloads: Vec<Payload>) -> Result<()> {
        self.shared.added.fetch_add(payloads.len() as u64, Ordering::Relaxed);
        let mut adds = Pipeline::with_capacity(payloads.len());
        for payload in &payloads {
            adds.add_command(self.added(payload)?).ignore();
        }
        Ok(adds.exec_async(&mut self.adding.clone()).await?)
    }

    async fn prepare(self) -> Result<Self> {
        Ok(self)
    }

    async fn run(&self) -> Result<()> {
        let claimer = self.claimer.lock().take();
        if let Some(claimer) = claimer {
            self.shared.work(claimer);
        }
        Ok(())
    }

    async fn unfinished(&self) -> Result<u64> {
        self.shared.unfinished()
    }

    async fn close(self) -> Result<()> {
        self.shared.stop().await;
        Ok(())
    }
}
