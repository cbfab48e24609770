//! Limits how often somebody may try a password, over all processes together.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Console;
use crate::model::Error;
use crate::store::{DocumentQuery, DocumentWrite};

const KIND: &str = "throttle";

/// After this many tries without a success, further ones are refused. A try counts only until [`WINDOW`] has passed without
/// another counted try.
const MAX_TRIES: u32 = 5;

/// How long counted tries are remembered. Each counted try begins this time again.
pub(crate) const WINDOW: Duration = Duration::from_secs(60);

/// How often a try attempts to count itself while others change the count at the same time. After that, it is refused.
const ROUNDS: usize = 20;

#[derive(Default, Serialize, Deserialize)]
struct Tries {
    n: u32,
}

/// Counts a try under each key, before the password is checked. Returns `false` if a key has had too many tries, or if
/// others changed its count at each attempt. Simultaneous tries are counted one by one, so that together they cannot exceed the
/// limit.
pub(crate) async fn may_try(console: &Console, keys: &[String]) -> Result<bool, Error> {
    let mut may = true;
    for key in keys {
        may &= count(console, key).await?;
    }
    Ok(may)
}

/// Forgets the tries of these keys, after a success.
pub(crate) async fn succeeded(console: &Console, keys: &[String]) {
    let deletes = keys.iter().map(|key| DocumentWrite::delete(KIND, key)).collect();
    // Tries that are not forgotten now expire within a minute.
    let _ = console.tasks().write_documents(deletes).await;
}

async fn count(console: &Console, key: &str) -> Result<bool, Error> {
    for _ in 0..ROUNDS {
        let document = console.tasks().documents(DocumentQuery::one(KIND, key)).await?.pop();
        let tries: Tries =
            document.as_ref().and_then(|it| serde_json::from_slice(&it.value).ok()).unwrap_or_default();
        if tries.n >= MAX_TRIES {
            return Ok(false);
        }
        let version = document.map_or(0, |it| it.version);
        let value = serde_json::to_vec(&Tries { n: tries.n + 1 }).expect("a number");
        // Each counted try begins the window again. A refused try does not: a minute after the last counted try, the count
        // expires.
        let write = DocumentWrite::put(KIND, key, value).expires_in(WINDOW).expected(version);
        if console.tasks().write_documents(vec![write]).await?.first() != Some(&None) {
            return Ok(true);
        }
    }
    Ok(false)
}
