//! Sessions of people who have logged in. The store keeps them, so all processes share them and a restart does not end them.
//! A logout ends a session everywhere: at once in the router that got it, within about 3 s in other routers and processes.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::Console;
use crate::model::{Error, time};
use crate::seam::Instant;
use crate::store::{Document, DocumentQuery, DocumentWrite};

const KIND: &str = "session";

/// How long an unused session lasts.
const IDLE: Duration = Duration::from_secs(12 * 3600);

/// How long any session lasts at most.
const ABSOLUTE: Duration = Duration::from_secs(7 * 24 * 3600);

/// A request renews its session if the last renewal is older than this.
const RENEW: Duration = Duration::from_secs(600);

/// For how long a router uses what it has read of a session: a logout reaches the other routers and processes in about this time.
const CACHED: Duration = Duration::from_secs(3);

/// The most cached sessions.
const MAX_CACHED: usize = 10_000;

/// A session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Session {
    /// The user.
    pub(crate) user: String,
    /// A hash of the user's password hash: a new password ends the sessions of the old one.
    pub(crate) password: String,
    #[serde(with = "time::rfc3339_serde")]
    pub(crate) created_at: SystemTime,
    pub(crate) user_agent: String,
}

/// Reads and writes sessions. The key of a session is the hash of its secret.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    cached: Mutex<HashMap<String, (Instant, Option<Session>)>>,
}

impl Sessions {
    pub(crate) async fn begin(&self, console: &Console, key: String, session: &Session) -> Result<(), Error> {
        let write = DocumentWrite::put(KIND, key, bytes(session)).expires_in(IDLE);
        console.tasks().write_documents(vec![write]).await.map(drop)
    }

    /// The session of that key, if it has not ended.
    pub(crate) async fn get(&self, console: &Console, key: &str) -> Result<Option<Session>, Error> {
        let seam = console.seam();
        if let Some((at, session)) = self.cached.lock().get(key)
            && seam.since(*at) < CACHED
        {
            return Ok(session.clone());
        }
        let document = console.tasks().documents(DocumentQuery::one(KIND, key)).await?.pop();
        let session = document.as_ref().and_then(|it| serde_json::from_slice::<Session>(&it.value).ok());
        let age = |at: SystemTime| seam.now().duration_since(at).unwrap_or_default();
        let session = session.filter(|session| age(session.created_at) < ABSOLUTE);
        if let (Some(document), Some(session)) = (document, &session)
            && age(document.written_at) > RENEW
        {
            let write = DocumentWrite::put(KIND, key, bytes(session)).expires_in(IDLE);
            // Write only over the version that was read, so that a session that has just ended does not come back.
            let write = write.expected(document.version);
            // A session that is not renewed now is renewed by the next request.
            let _ = console.tasks().write_documents(vec![write]).await;
        }
        let mut cached = self.cached.lock();
        if cached.len() >= MAX_CACHED {
            cached.retain(|_, (at, _)| seam.since(*at) < CACHED);
        }
        if cached.len() < MAX_CACHED {
            cached.insert(key.to_owned(), (seam.instant(), session.clone()));
        }
        Ok(session)
    }

    pub(crate) async fn end(&self, console: &Console, key: &str) -> Result<(), Error> {
        console.tasks().write_documents(vec![DocumentWrite::delete(KIND, key)]).await?;
        self.cached.lock().insert(key.to_owned(), (console.seam().instant(), None));
        Ok(())
    }

    /// Ends all sessions of a user, and answers how many.
    pub(crate) async fn end_all(&self, console: &Console, user: &str) -> Result<usize, Error> {
        let mut query = DocumentQuery::all(KIND);
        let mut ended = 0;
        loop {
            let documents = console.tasks().documents(query.clone()).await?;
            let is_last = documents.len() < query.limit;
            query.from = documents.last().map(|last| format!("{}\0", last.key)).unwrap_or_default();
            let of_user = |it: &Document| {
                serde_json::from_slice::<Session>(&it.value).is_ok_and(|session| session.user == user)
            };
            let keys: Vec<_> = documents.into_iter().filter(of_user).map(|it| it.key).collect();
            ended += keys.len();
            let deletes = keys.iter().map(|key| DocumentWrite::delete(KIND, key.clone())).collect();
            console.tasks().write_documents(deletes).await?;
            let mut cached = self.cached.lock();
            cached.extend(keys.into_iter().map(|key| (key, (console.seam().instant(), None))));
            if is_last {
                return Ok(ended);
            }
        }
    }
}

fn bytes(session: &Session) -> Vec<u8> {
    serde_json::to_vec(session).expect("a session is text and an instant")
}
