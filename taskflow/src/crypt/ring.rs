//! Key rings: the key that seals, and the other keys that open.

use std::sync::Arc;

use super::Key;

/// The keys of a process. [`Keyring`] and a single [`Key`] implement it. Implement it yourself for keys that come from elsewhere
/// and change while the process runs. The methods are called for every value that is sealed or opened, so they must not block.
/// They must not panic either: a value that cannot be sealed is not stored, and its run fails.
pub trait Keys: Send + Sync + 'static {
    /// The key that seals new values.
    fn current(&self) -> Key;

    /// The key of this id, which opens what it has sealed. `None` if this process does not have it.
    fn by_id(&self, id: &str) -> Option<Key>;
}

/// A fixed set of keys: the current one, which seals, and others that only open.
///
/// ```
/// use taskflow::crypt::{Key, Keyring, Keys};
///
/// let (new, old) = (Key::generate(), Key::generate());
/// let keys = Keyring::new(new.clone()).also(old.clone());
/// assert_eq!(keys.current().id(), new.id());
/// assert!(keys.by_id(old.id()).is_some());
/// ```
#[derive(Clone, Debug)]
pub struct Keyring {
    current: Key,
    others: Vec<Key>,
}

impl Keyring {
    /// A ring of one key.
    #[must_use]
    pub fn new(current: Key) -> Self {
        Self { current, others: Vec::new() }
    }

    /// Adds a key that only opens values: an earlier key, or the next key before it seals anything.
    #[must_use]
    pub fn also(mut self, key: Key) -> Self {
        self.others.push(key);
        self
    }
}

impl Keys for Keyring {
    fn current(&self) -> Key {
        self.current.clone()
    }

    fn by_id(&self, id: &str) -> Option<Key> {
        std::iter::once(&self.current).chain(&self.others).find(|key| key.id() == id).cloned()
    }
}

impl Keys for Key {
    fn current(&self) -> Key {
        self.clone()
    }

    fn by_id(&self, id: &str) -> Option<Key> {
        (self.id() == id).then(|| self.clone())
    }
}

impl<K: Keys + ?Sized> Keys for Arc<K> {
    fn current(&self) -> Key {
        (**self).current()
    }

    fn by_id(&self, id: &str) -> Option<Key> {
        (**self).by_id(id)
    }
}
