//! Statements with the table names of this store.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::RwLock;
use sqlx::{AssertSqlSafe, SqlSafeStr, SqlStr};

/// The instant that matters in a state: when a later task comes due, when the lease of a run or a hold ends, or when
/// a task ended. Together with the state it is the key of an index, word for word. That index covers rows with
/// `(state > 0) IS TRUE`, which follows from no other condition. So it is used only by statements that contain this
/// condition, and no statement about a few ids is ever planned to read all running tasks along it.
macro_rules! moment {
    () => {
        "(CASE WHEN state > 3 THEN finished_at WHEN state > 1 THEN lease_until ELSE run_at END)"
    };
}
pub(super) use moment;

/// The shard of `taskflow_counts` that a transaction adds to. It depends on the connection, and changes every half second: an
/// update walks through the former versions of its row, and none of these is removed while any transaction holds an old
/// snapshot. So no row may be updated for long.
macro_rules! shard {
    () => {
        "(((extract(epoch FROM now()) * 2)::bigint % 2000000)::integer * 1024 + pg_backend_pid() % 1024)"
    };
}
pub(super) use shard;

/// The sum of a column of `taskflow_counts`, bounded so that it fits whatever damaged numbers are stored.
macro_rules! total {
    ($column:literal) => {
        concat!(
            "least(greatest(coalesce(sum(",
            $column,
            "), 0), -9000000000000000000), 9000000000000000000)::bigint"
        )
    };
}
pub(super) use total;

/// An instant in microseconds since 1970. An infinite one, or one outside the years 1 to 290000, becomes the first
/// instant of one of these two years.
macro_rules! micros {
    ($instant:literal) => {
        concat!(
            "(extract(epoch FROM least(greatest(",
            $instant,
            ", '0001-01-01 00:00:00+00'), '290000-01-01 00:00:00+00')) * 1000000)::bigint"
        )
    };
}
pub(super) use micros;

/// Rewrites the statements of this crate, which name `taskflow_tasks` and so on, for a namespace.
#[derive(Debug)]
pub(super) struct Sql {
    /// Replaces `taskflow_`, if the store has a namespace.
    prefix: Option<Box<str>>,
    /// Rewritten statements, by the address and length of the original text.
    made: RwLock<HashMap<(usize, usize), Arc<str>>>,
}

/// The longest namespace: PostgreSQL cuts names after 63 bytes, and the longest name that we give adds 28.
const LONGEST: usize = 32;

impl Sql {
    pub(super) fn new(namespace: Option<&str>) -> Self {
        let prefix = namespace.map(|namespace| format!("taskflow_{namespace}_").into_boxed_str());
        Self { prefix, made: RwLock::default() }
    }

    /// Why this is not a valid namespace.
    pub(super) fn check(namespace: &str) -> Result<(), String> {
        let is_fit = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        if namespace.is_empty() || namespace.len() > LONGEST || !namespace.bytes().all(is_fit) {
            return Err(format!(
                "`namespace` cannot be `{}`; it has 1 to {LONGEST} of the characters a to z, 0 to 9 and _",
                namespace.escape_default()
            ));
        }
        Ok(())
    }

    /// The beginning of all names.
    pub(super) fn prefix(&self) -> &str {
        self.prefix.as_deref().unwrap_or("taskflow_")
    }

    /// The statement to run for this text. Only a checked namespace is ever inserted into one.
    pub(super) fn text(&self, text: &'static str) -> SqlStr {
        let Some(prefix) = &self.prefix else { return text.into_sql_str() };
        let place = (text.as_ptr() as usize, text.len());
        if let Some(made) = self.made.read().get(&place) {
            return AssertSqlSafe(Arc::clone(made)).into_sql_str();
        }
        let made: Arc<str> = Arc::from(text.replace("taskflow_", prefix));
        self.made.write().insert(place, Arc::clone(&made));
        AssertSqlSafe(made).into_sql_str()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_is_in_every_name_and_cannot_be_anything_else() {
        let text = Sql::new(Some("shop")).text("SELECT 1 FROM taskflow_tasks, taskflow_logs");
        assert_eq!(text.as_str(), "SELECT 1 FROM taskflow_shop_tasks, taskflow_shop_logs");
        assert_eq!(Sql::new(None).text("taskflow_tasks").as_str(), "taskflow_tasks");
        for bad in ["", "a-b", "A", "a\"; DROP", "é", "a23456789012345678901234567890123"] {
            assert!(Sql::check(bad).is_err(), "{bad}");
        }
        assert!(Sql::check("a2345678901234567890123456789012").is_ok());
    }
}
