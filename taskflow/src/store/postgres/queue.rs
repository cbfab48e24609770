//! The stored settings of queues, and their rows, which serve as locks for transactions that must look before they
//! write.

use std::collections::BTreeSet;

use parking_lot::Mutex;
use sqlx::Row;

use super::error::Fault;
use super::session::Session;
use super::value::{escape_nul, unescape_nul};
use crate::model::QueueConfig;
use crate::store::QueueState;
use crate::store::hint_set::HintSet;

const INSERT_ROW: &str = "
INSERT INTO taskflow_queues (name) SELECT name FROM unnest($1::text[]) AS a (name) ORDER BY name
ON CONFLICT (name) DO NOTHING";

const LOCK: &str = "
SELECT name FROM taskflow_queues WHERE name = ANY($1::text[]) ORDER BY name FOR UPDATE";

const PAUSE: &str = "
INSERT INTO taskflow_queues (name, paused) VALUES ($1, $2)
ON CONFLICT (name) DO UPDATE SET paused = excluded.paused";

const CONFIGURE: &str = "
INSERT INTO taskflow_queues (name, config) VALUES ($1, $2)
ON CONFLICT (name) DO UPDATE SET config = excluded.config";

const STORED: &str = "SELECT config FROM taskflow_queues WHERE name = $1";

const STATES: &str = "
SELECT name, paused, config FROM taskflow_queues WHERE paused OR config IS NOT NULL ORDER BY name";

/// Locks the rows of these queues until the transaction ends. The names are in their stored form. Later reads see the
/// writes of the transactions that held the locks before. A transaction must lock all its queues at once, before any
/// task.
pub(super) async fn lock(session: &mut Session<'_>, names: BTreeSet<String>) -> Result<(), Fault> {
    let missing: Vec<String> = names.difference(&session.locked_queues).cloned().collect();
    if missing.is_empty() {
        return Ok(());
    }
    session.begin().await?;
    let locked = session.all(session.query(LOCK).bind(missing.clone())).await?;
    if locked.len() < missing.len() {
        session.execute(session.query(INSERT_ROW).bind(missing.clone())).await?;
        session.all(session.query(LOCK).bind(missing.clone())).await?;
    }
    session.locked_queues.extend(missing);
    Ok(())
}

pub(super) async fn set_paused(session: &mut Session<'_>, queue: &str, paused: bool) -> Result<(), Fault> {
    session.changes = HintSet::ALL;
    let pause = session.query(PAUSE).bind(escape_nul(queue).into_owned()).bind(paused);
    session.execute(pause).await.map(drop)
}

pub(super) async fn set_config(
    session: &mut Session<'_>,
    queue: &str,
    config: Option<&QueueConfig>,
) -> Result<(), Fault> {
    session.changes = HintSet::ALL;
    let json = config.map(|config| serde_json::to_string(config).expect("numbers can be written as JSON"));
    let configure = session.query(CONFIGURE).bind(escape_nul(queue).into_owned()).bind(json);
    session.execute(configure).await.map(drop)
}

/// Stores a configuration if the stored one is `from`. Answers whether it was.
pub(super) async fn replace_config(
    session: &mut Session<'_>,
    queue: &str,
    from: Option<&QueueConfig>,
    to: Option<&QueueConfig>,
) -> Result<bool, Fault> {
    let name = escape_nul(queue).into_owned();
    lock(session, BTreeSet::from([name.clone()])).await?;
    let row = session.one(session.query(STORED).bind(name)).await?;
    let is_so = config(row.try_get(0)?).as_ref() == from;
    if is_so {
        set_config(session, queue, to).await?;
    }
    Ok(is_so)
}

pub(super) async fn states(session: &mut Session<'_>) -> Result<Vec<QueueState>, Fault> {
    let rows = session.all(session.query(STATES)).await?;
    let state = |row: &sqlx::postgres::PgRow| {
        let (name, json) = (unescape_nul(row.try_get(0)?), row.try_get::<Option<&str>, _>(2)?);
        let config = config(json);
        if config.is_none() && json.is_some() && UNREADABLE.lock().insert(name.clone()) {
            tracing::error!(
                queue = name,
                "the stored limits of a queue cannot be read; each process uses its own"
            );
        }
        Ok(QueueState::new(name, row.try_get(1)?, config))
    };
    rows.iter().map(state).collect()
}

/// Queues whose stored configuration cannot be read. Each is logged once.
static UNREADABLE: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// The stored configuration in a column, if it is a valid one: an object, and within the limits.
pub(super) fn config(json: Option<&str>) -> Option<QueueConfig> {
    let json = json.filter(|json| json.trim_start().starts_with('{'))?;
    serde_json::from_str(json).ok().filter(|config: &QueueConfig| config.check().is_ok())
}
