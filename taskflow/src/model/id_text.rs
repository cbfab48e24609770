//! Parses a task id from text.

use std::str::FromStr;

use uuid::Uuid;

use super::{Error, TaskId};

impl FromStr for TaskId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match Uuid::parse_str(text) {
            Ok(uuid) => Ok(uuid.into()),
            Err(_) => Err(Error::NotATaskId { text: text.to_owned() }),
        }
    }
}
