//! Values of a run that middleware hands to the body.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;

/// Values of one run, one for each type. Clones share them.
#[derive(Clone, Default)]
pub struct Extensions(Arc<Mutex<HashMap<TypeId, Arc<dyn Any + Send + Sync>>>>);

impl Extensions {
    /// Puts in a value. It replaces the earlier value of the same type.
    pub fn insert<T: Send + Sync + 'static>(&self, value: T) {
        let former = self.0.lock().insert(TypeId::of::<T>(), Arc::new(value));
        // Its destructor is code of the user, which may use the extensions: it runs without the lock.
        drop(former);
    }

    /// The value of this type, if there is one.
    #[must_use]
    pub fn get<T: Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        let value = self.0.lock().get(&TypeId::of::<T>()).cloned();
        value.and_then(|value| value.downcast().ok())
    }
}

impl fmt::Debug for Extensions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Extensions").field("types", &self.0.lock().len()).finish()
    }
}
