//! The tags of a task, shared by its run and its events.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The tags of a task, as a map that clones share. An empty one allocates nothing. It derefs to the map.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Tags(Option<Arc<BTreeMap<String, String>>>);

static NONE: BTreeMap<String, String> = BTreeMap::new();

impl Deref for Tags {
    type Target = BTreeMap<String, String>;

    fn deref(&self) -> &Self::Target {
        self.0.as_deref().unwrap_or(&NONE)
    }
}

impl From<BTreeMap<String, String>> for Tags {
    fn from(tags: BTreeMap<String, String>) -> Self {
        Self((!tags.is_empty()).then(|| Arc::new(tags)))
    }
}

impl From<&BTreeMap<String, String>> for Tags {
    fn from(tags: &BTreeMap<String, String>) -> Self {
        Self((!tags.is_empty()).then(|| Arc::new(tags.clone())))
    }
}

impl fmt::Debug for Tags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

impl Serialize for Tags {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (**self).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Tags {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        BTreeMap::deserialize(deserializer).map(Self::from)
    }
}
