//! Bounds how often somebody may try a password, over all processes.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Console;
use crate::model::Error;
use crate::store::{DocumentQuery, DocumentWrite};

const KIND: &str = "throttle";

/// The most failed tries within [`WINDOW`].
const TRIES: u32 = 5;

/// The window. Each try begins it again.
pub(crate) const WINDOW: Duration = Duration::from_secs(60);

/// How often a count that others change at the same time is tried again.
const ROUNDS: usize = 20;

#[derive(Default, Serialize, Deserialize)]
struct Tries {
    n: u32,
}

/// Counts a try before the password is checked, under each key. Answers `false` if there were too many. Tries that
/// come together are counted one by one, so that none passes beside the others.
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
        if tries.n >= TRIES {
            return Ok(false);
        }
        let version = document.map_or(0, |it| it.version);
        let value = serde_json::to_vec(&Tries { n: tries.n + 1 }).expect("a number");
        // Each try begins the window again: somebody who goes on trying waits for a quiet minute.
        let write = DocumentWrite::put(KIND, key, value).expires_in(WINDOW).expected(version);
        if console.tasks().write_documents(vec![write]).await?.first() != Some(&None) {
            return Ok(true);
        }
    }
    Ok(false)
}
