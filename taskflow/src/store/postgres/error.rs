//! The failures of a call, and the store's errors that they become.

use std::time::Duration;

use crate::model::{StoreError, StoreErrorKind};

/// The remedy where a pooler rejects something or mixes up sessions.
const BEHIND_A_POOLER: &str = "seems to be behind a pooler in transaction mode; add `?listen=off` to its URL, or \
                               `listen(false)` to the options of `PostgresStore::from_pool`";

/// A failure of one call.
#[derive(Debug)]
pub(super) enum Fault {
    /// An error of PostgreSQL or of the connection to it.
    Sql(sqlx::Error),
    /// No answer came for this long, so none is expected any more.
    Silent(Duration),
    /// Another transaction was faster. Repeat the call: it will see what that transaction did.
    Again(&'static str),
    /// An error of the call itself.
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

    /// Whether the same call is likely to succeed if it is repeated at once, because another transaction was faster: it
    /// inserted the row first, or a deadlock ended the call. The call changed nothing.
    pub(super) fn is_race(&self) -> bool {
        matches!(self, Self::Again(_))
            || matches!(self.code().as_deref(), Some("40001" | "40P01" | "23505" | "23P01"))
    }

    /// Whether a value caused the failure: a number or an instant out of range, or one that a constraint refuses. It
    /// may be a damaged value that is stored.
    pub(super) fn is_about_values(&self) -> bool {
        self.code().is_some_and(|code| code.starts_with("22") || code == "23514")
    }

    /// Whether a row with that id or key exists already.
    pub(super) fn is_taken(&self) -> bool {
        self.code().as_deref() == Some("23505")
    }

    /// Whether the connection can no longer be used.
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

    /// Whether the server refuses writes from everybody: it is starting up, shutting down, a standby, or set to read-only.
    pub(super) fn refuses_everybody(&self) -> bool {
        matches!(self.code().as_deref(), Some("57P03" | "25006"))
    }

    /// Whether the server was silent for so long that the call is not worth repeating at once.
    pub(super) fn is_silence(&self) -> bool {
        matches!(self, Self::Silent(_))
    }

    /// Whether the call failed because the connection has no open transaction.
    pub(super) fn is_about_no_transaction(&self) -> bool {
        self.code().as_deref() == Some("25P01")
    }

    /// Whether the call changed nothing and needs another connection: this one leads to a server that has become a
    /// standby, or its prepared statements are out of date. Behind a pooler they may belong to another session.
    pub(super) fn is_refusal(&self) -> bool {
        match self.code().as_deref() {
            Some("25006" | "26000" | "42P05" | "57P03") => true,
            // `0A000` covers everything that is not supported. Here it is a statement whose columns have another type
            // now. The routine identifies it, because the message is in the server's language.
            Some("0A000") => self.routine() == Some("RevalidateCachedQuery"),
            // The session has another statement under this name.
            Some("08P01") => self.routine() == Some("exec_bind_message"),
            _ => false,
        }
    }

    /// The function in the server that raised the error.
    fn routine(&self) -> Option<&str> {
        match self {
            Self::Sql(sqlx::Error::Database(error)) => {
                error.try_downcast_ref::<sqlx::postgres::PgDatabaseError>()?.routine()
            }
            _ => None,
        }
    }

    /// The error for the caller. `in_doubt`: whether the call may have been carried out although the connection was
    /// lost.
    pub(super) fn into_error(self, location: &str, in_doubt: bool) -> StoreError {
        if let Self::Store(error) = self {
            return error;
        }
        let is_lost = self.ends_connection() && !self.is_refusal();
        let (kind, message) = self.describe(location);
        let (kind, message) = match kind {
            StoreErrorKind::Unavailable if is_lost && in_doubt => {
                let message = format!("{message}; the call may or may not have been carried out");
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
                return (Unavailable, format!("{location} is contended: {what}, repeatedly; try again"));
            }
            Self::Store(error) => return (error.kind(), error.to_string()),
            Self::Sql(sqlx::Error::Database(error)) => error,
            Self::Sql(sqlx::Error::Configuration(_)) => {
                return (
                    Denied,
                    format!("cannot connect to {location} as it is configured; check its URL or options"),
                );
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
            ) => return (Other, format!("{location} holds a value that taskflow cannot read")),
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
                    "{location} is not a store, or is no longer one: {said}; start a manager on it, or run `taskflow migrate`, to create the tables"
                ),
            ),
            "26000" | "42P05" => (Unavailable, format!("{location} {BEHIND_A_POOLER} ({said})")),
            "08P01" if said.contains("startup parameter") || self.is_refusal() => {
                (Unavailable, format!("{location} {BEHIND_A_POOLER} ({said})"))
            }
            "0A000" if self.is_refusal() => {
                (Unavailable, format!("the tables of {location} were changed repeatedly: {said}"))
            }
            "25006" => (
                Unavailable,
                format!(
                    "{location} only reads: it is a standby, was demoted, or its transactions are read-only (some providers \
                     set `default_transaction_read_only` when the disk is full); check where the address leads"
                ),
            ),
            "57014" => (Unavailable, format!("{location} gave up the statement: {said}")),
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
