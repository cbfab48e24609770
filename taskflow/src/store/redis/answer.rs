//! Reads the answers of scripts.

use redis::Value;

use crate::model::{InstanceId, StoreError, TaskId};

use super::error::unexpected;

/// The answer of a script, and the location of the store for the error if the answer is not as expected.
#[derive(Debug)]
pub(super) struct Answer<'a> {
    pub(super) value: Value,
    pub(super) location: &'a str,
}

impl<'a> Answer<'a> {
    pub(super) fn bytes(self) -> Result<Vec<u8>, StoreError> {
        bytes(self.value).ok_or_else(|| unexpected(self.location))
    }

    pub(super) fn number(self) -> Result<i64, StoreError> {
        number(&self.value).ok_or_else(|| unexpected(self.location))
    }

    pub(super) fn list(self) -> Result<List<'a>, StoreError> {
        match self.value {
            Value::Array(items) => Ok(List { items: items.into_iter(), location: self.location }),
            // An empty Lua table is sent as nil.
            Value::Nil => Ok(List { items: Vec::new().into_iter(), location: self.location }),
            _ => Err(unexpected(self.location)),
        }
    }
}

/// The items of an answer, one after the other.
#[derive(Debug)]
pub(super) struct List<'a> {
    items: std::vec::IntoIter<Value>,
    location: &'a str,
}

impl<'a> List<'a> {
    pub(super) fn is_empty(&self) -> bool {
        self.items.len() == 0
    }

    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    fn read<T>(&mut self, read: impl FnOnce(Value) -> Option<T>) -> Result<T, StoreError> {
        self.items.next().and_then(read).ok_or_else(|| unexpected(self.location))
    }

    pub(super) fn bytes(&mut self) -> Result<Vec<u8>, StoreError> {
        self.read(bytes)
    }

    pub(super) fn number(&mut self) -> Result<i64, StoreError> {
        self.read(|value| number(&value))
    }

    pub(super) fn task_id(&mut self) -> Result<TaskId, StoreError> {
        self.read(|value| Some(TaskId::from_bytes(id(&bytes(value)?)?)))
    }

    pub(super) fn instance_id(&mut self) -> Result<InstanceId, StoreError> {
        self.read(|value| Some(InstanceId::from_bytes(id(&bytes(value)?)?)))
    }

    /// The next item, parsed from its bytes.
    pub(super) fn parsed<T>(&mut self, parse: impl FnOnce(&[u8]) -> Option<T>) -> Result<T, StoreError> {
        self.read(|value| parse(&bytes(value)?))
    }

    /// A value that may be missing.
    pub(super) fn option(&mut self) -> Result<Option<Vec<u8>>, StoreError> {
        self.read(|value| if value == Value::Nil { Some(None) } else { bytes(value).map(Some) })
    }

    /// A nested list.
    pub(super) fn list(&mut self) -> Result<List<'a>, StoreError> {
        let location = self.location;
        self.read(|value| Answer { value, location }.list().ok())
    }
}

fn bytes(value: Value) -> Option<Vec<u8>> {
    match value {
        Value::BulkString(bytes) => Some(bytes),
        Value::SimpleString(text) => Some(text.into_bytes()),
        _ => None,
    }
}

fn number(value: &Value) -> Option<i64> {
    match value {
        Value::Int(number) => Some(*number),
        Value::BulkString(text) => std::str::from_utf8(text).ok()?.parse().ok(),
        _ => None,
    }
}

pub(super) fn id(bytes: &[u8]) -> Option<[u8; 16]> {
    bytes.try_into().ok()
}
