use serde::Serialize;

use crate::model::Cursor;

/// A page of a list.
#[derive(Debug, Serialize)]
pub struct Listed<T> {
    pub(crate) items: Vec<T>,
    pub(crate) next: Option<Cursor>,
}

impl<T> Listed<T> {
    /// A page that `next` continues.
    #[must_use]
    pub fn page(items: Vec<T>, next: Option<Cursor>) -> Self {
        Self { items, next }
    }

    /// A list that has one page.
    #[must_use]
    pub fn all(items: Vec<T>) -> Self {
        Self { items, next: None }
    }
}
