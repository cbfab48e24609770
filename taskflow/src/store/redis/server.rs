//! Checks whether the server keeps what it accepts: in memory, and when it stops.

use redis::Value;

use super::connection::Connections;
use crate::model::{StoreError, StoreErrorKind};

/// Refuses to run tasks on a server that evicts keys when its memory is full. A process that runs no tasks only gets a
/// warning. So does every process where `CONFIG` is forbidden, because there the settings belong to the provider.
pub(super) async fn check_eviction(connections: &Connections, runs: bool) -> Result<(), StoreError> {
    let location = &connections.location;
    let configured = setting(connections, "maxmemory-policy").await;
    let is_known = configured.is_some();
    let policy = match configured {
        Some(policy) => policy,
        None => match policy_in_info(connections).await {
            Some(policy) => policy,
            None => {
                tracing::warn!(
                    "`{location}` does not say its `maxmemory-policy`; make sure that it is `noeviction`: else Redis \
                     deletes tasks when its memory is full"
                );
                return Ok(());
            }
        },
    };
    if policy == "noeviction" {
        return Ok(());
    }
    let message = format!(
        "`{location}` has `maxmemory-policy {policy}`: when its memory is full it deletes tasks that were accepted; set \
         `maxmemory-policy noeviction`"
    );
    if is_known && runs {
        return Err(StoreError::new(StoreErrorKind::Denied, message));
    }
    tracing::warn!("{message}");
    Ok(())
}

/// The eviction policy, from information that every user may read.
async fn policy_in_info(connections: &Connections) -> Option<String> {
    let mut info = redis::cmd("INFO");
    info.arg("memory");
    let text = match connections.ask(&info).await.ok()? {
        Value::BulkString(text) => String::from_utf8(text).ok()?,
        Value::VerbatimString { text, .. } => text,
        _ => return None,
    };
    text.lines()
        .find_map(|line| line.strip_prefix("maxmemory_policy:"))
        .map(|policy| policy.trim().to_owned())
}

/// Warns if the server stores nothing on disk, or not at once. If the server does not say (`CONFIG` is often
/// forbidden), there is no warning.
pub(super) async fn warn_if_it_forgets(connections: &Connections) {
    let (Some(appendonly), Some(fsync)) =
        (setting(connections, "appendonly").await, setting(connections, "appendfsync").await)
    else {
        return;
    };
    let location = &connections.location;
    if appendonly == "yes" {
        if fsync == "no" {
            tracing::warn!(
                "`{location}` has `appendfsync no`: a power loss loses what the system had not written yet, \
                 some 30 seconds; set `appendfsync everysec` or `always`"
            );
        }
        return;
    }
    if setting(connections, "save").await.is_none_or(|save| save.is_empty()) {
        tracing::warn!(
            "`{location}` keeps nothing on disk: every task is lost when it stops; set `appendonly yes`"
        );
    } else {
        tracing::warn!(
            "`{location}` only takes snapshots: tasks accepted since the last one are lost when it is killed or loses power; \
             set `appendonly yes`"
        );
    }
}

async fn setting(connections: &Connections, name: &str) -> Option<String> {
    let mut config = redis::cmd("CONFIG");
    config.arg("GET").arg(name);
    match connections.ask(&config).await.ok()? {
        Value::Array(pair) => match pair.into_iter().nth(1)? {
            Value::BulkString(value) => String::from_utf8(value).ok(),
            _ => None,
        },
        _ => None,
    }
}
