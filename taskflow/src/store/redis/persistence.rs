//! Whether what is accepted would survive the server.

use redis::Value;

use super::link::Links;

/// Warns where the server keeps nothing, or not at once. A server that does not say (`CONFIG` is often forbidden) is not
/// asked again.
pub(super) async fn warn_if_off(links: &Links) {
    let (Some(appendonly), Some(fsync)) =
        (setting(links, "appendonly").await, setting(links, "appendfsync").await)
    else {
        return;
    };
    let location = &links.location;
    if appendonly == "yes" {
        if fsync == "no" {
            tracing::warn!(
                "`{location}` has `appendfsync no`: a power loss loses what the system had not written yet, \
                 some 30 seconds; set `appendfsync everysec` or `always`"
            );
        }
        return;
    }
    if setting(links, "save").await.is_none_or(|save| save.is_empty()) {
        tracing::warn!(
            "`{location}` keeps nothing on disk: every task is lost when it stops; set `appendonly yes`"
        );
    } else {
        tracing::warn!(
            "`{location}` only takes snapshots: tasks accepted since the last one are lost when it stops; \
             set `appendonly yes`"
        );
    }
}

async fn setting(links: &Links, name: &str) -> Option<String> {
    let mut config = redis::cmd("CONFIG");
    config.arg("GET").arg(name);
    match links.ask(&config).await.ok()? {
        Value::Array(pair) => match pair.into_iter().nth(1)? {
            Value::BulkString(value) => String::from_utf8(value).ok(),
            _ => None,
        },
        _ => None,
    }
}
