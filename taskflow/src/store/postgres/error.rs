//! From what goes wrong on a connection to the store's errors.

use std::time::Duration;

use crate::model::{StoreError, StoreErrorKind};

/// The remedy for what a pooler does not let through or mixes up.
const BEHIND_A_POOLER: &str = "seems to be behind a pooler in transaction mode; add `?listen=off` to its URL, or \
                               `listen(false)` to the options of `PostgresStore::from_pool`";

/// What goes wrong during one call.
#[derive(Debug)]
pub(super) enum Fault {
    /// PostgreSQL, or the connection to it, says so.
    Sql(sqlx::Error),
    /// No answer came for so long that none is expected any more.
    Silent(Duration),
    /// Another transaction was faster: the same call will find what it did.
    Again(&'static str),
    /// The call says so.
    Store(StoreError),
}

impl From<sqlx::Error> for Fault {
    fn from(error: sqlx::Error) -> Self {
        Self::Sql(error)
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl Fault {
    /// The SQLSTATE.
    fn code(&self) -> Option<String> {
        match self {
            Self::Sql(sqlx::Error::Database(error)) => error.code().map(|code| code.into_owned()),
            _ => None,
        }
    }

    /// Whether the same call is likely to succeed if it is done again at once: a deadlock, or a row that somebody else
    /// inserted meanwhile. Nothing of it was done.
    pub(super) fn is_race(&self) -> bool {
        matches!(self, Self::Again(_))
            || matches!(self.code().as_deref(), Some("40001" | "40P01" | "23505" | "23P01"))
    }

    /// Whether a value made it fail: a number or an instant beyond what its type holds, or one that a constraint refuses. It
    /// may be one that other hands have stored.
    pub(super) fn is_about_values(&self) -> bool {
        self.code().is_some_and(|code| code.starts_with("22") || code == "23514")
    }

    /// Whether a row with that id or key is there already.
    pub(super) fn is_taken(&self) -> bool {
        self.code().as_deref() == Some("23505")
    }

    /// Whether the connection is of no more use.
    pub(super) fn ends_connection(&self) -> bool {
        match self {
            Self::Silent(_) => true,
            Self::Again(_) | Self::Store(_) => false,
            Self::Sql(sqlx::Error::Database(_)) => {
                let code = self.code().unwrap_or_default();
                let is_lost = ["08", "57P", "25P03", "53300", "F0", "XX"];
                is_lost.iter().any(|ending| code.starts_with(ending)) || self.is_refusal()
            }
            Self::Sql(_) => true,
        }
    }

    /// Whether the server answers that it takes no writes now, from nobody: it starts up, shuts down, or is a standby.
    pub(super) fn refuses_everybody(&self) -> bool {
        matches!(self.code().as_deref(), Some("57P03" | "25006"))
    }

    /// Whether it took so long to hear nothing that it is not worth doing at once again.
    pub(super) fn is_silence(&self) -> bool {
        matches!(self, Self::Silent(_))
    }

    /// Whether there is no transaction to do it in.
    pub(super) fn is_about_no_transaction(&self) -> bool {
        self.code().as_deref() == Some("25P01")
    }

    /// Whether nothing was done since another connection is needed: this one leads to a server that is a standby by now, or
    /// it knows statements that are no longer what they were. Behind a pooler those may be of another session.
    pub(super) fn is_refusal(&self) -> bool {
        match self.code().as_deref() {
            Some("25006" | "26000" | "42P05" | "57P03") => true,
            // Of all that is not supported, this is a statement whose columns have another type now. What it says is in the
            // server's language.
            Some("0A000") => self.routine() == Some("RevalidateCachedQuery"),
            _ => false,
        }
    }

    /// The place in the server that found the error.
    fn routine(&self) -> Option<&str> {
        match self {
            Self::Sql(sqlx::Error::Database(error)) => {
                error.try_downcast_ref::<sqlx::postgres::PgDatabaseError>()?.routine()
            }
            _ => None,
        }
    }

    /// The error for the caller. `in_doubt`: whether what the call asked for may have been done although the connection
    /// was lost.
    pub(super) fn into_error(self, location: &str, in_doubt: bool) -> StoreError {
        if let Self::Store(error) = self {
            return error;
        }
        let is_lost = self.ends_connection() && !self.is_refusal();
        let (kind, message) = self.describe(location);
        let (kind, message) = match kind {
            StoreErrorKind::Unavailable if is_lost && in_doubt => {
                let message = format!("{message}; what was asked for may or may not have been done");
                (StoreErrorKind::Unknown, message)
            }
            _ => (kind, message),
        };
        match self {
            Self::Sql(error) => StoreError::with_source(kind, message, error),
            _ => StoreError::new(kind, message),
        }
    }

    fn describe(&self, location: &str) -> (StoreErrorKind, String) {
        use StoreErrorKind::{Denied, Full, NotAStore, Other, Unavailable};
        let error = match self {
            Self::Silent(length) => {
                return (Unavailable, format!("{location} did not answer for {length:?}"));
            }
            Self::Again(what) => {
                return (Unavailable, format!("{location} is contended: {what}, time and again"));
            }
            Self::Store(error) => return (error.kind(), error.to_string()),
            Self::Sql(sqlx::Error::Database(error)) => error,
            Self::Sql(sqlx::Error::Configuration(_)) => {
                return (Denied, format!("{location} cannot be connected to as it is configured"));
            }
            Self::Sql(sqlx::Error::Tls(_)) => {
                let remedy = "check `sslmode`, and that this build has TLS (the feature `postgres-tls`)";
                return (Unavailable, format!("{location}: no TLS connection; {remedy}"));
            }
            Self::Sql(
                sqlx::Error::ColumnDecode { .. }
                | sqlx::Error::Decode(_)
                | sqlx::Error::ColumnNotFound(_)
                | sqlx::Error::RowNotFound
                | sqlx::Error::Encode(_),
            ) => return (Other, format!("{location} holds something that cannot be read")),
            Self::Sql(_) => return (Unavailable, format!("the connection to {location} was lost")),
        };
        let code = error.code().unwrap_or_default();
        let said = error.message();
        match &*code {
            "53100" => (Full, format!("no room is left on the disk of {location}")),
            "42501" | "28000" | "28P01" => (Denied, format!("{location} refuses: {said}")),
            "25P01" => (Denied, format!("this connection to {location} has no open transaction; begin one")),
            "3D000" => (Denied, format!("{location} has no such database; create it")),
            "42P01" | "42703" | "42883" => (
                NotAStore,
                format!(
                    "{location} is not a store, or no longer: {said}; start a manager on it to make it one"
                ),
            ),
            "26000" | "42P05" => (Unavailable, format!("{location} {BEHIND_A_POOLER} ({said})")),
            "08P01" if said.contains("startup parameter") => {
                (Unavailable, format!("{location} {BEHIND_A_POOLER} ({said})"))
            }
            "0A000" if self.is_refusal() => {
                (Unavailable, format!("the tables of {location} were changed time and again: {said}"))
            }
            "25006" => (
                Unavailable,
                format!(
                    "{location} only reads: it is a standby or was demoted; check where the address leads"
                ),
            ),
            "57014" => (Unavailable, format!("{location} took too long: {said}")),
            "40001" | "40P01" | "23505" | "23P01" | "55P03" => {
                (Unavailable, format!("{location} is contended: {said}"))
            }
            code if ["08", "53", "57", "25P03", "F0"].iter().any(|class| code.starts_with(class)) => {
                (Unavailable, format!("{location} is not available: {said}"))
            }
            _ => (Other, format!("{location} refused what it was asked for: {said}")),
        }
    }
}
