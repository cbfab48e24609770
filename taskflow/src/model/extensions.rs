//! Values that middleware passes to the body of a run.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;

/// Values that the middleware of one run passes to its body: at most one value of each type. Clones share the values.
#[derive(Clone, Default)]
pub struct Extensions(Arc<Mutex<HashMap<TypeId, Arc<dyn Any + Send + Sync>>>>);

impl Extensions {
    /// Stores a value. It replaces an earlier value of the same type.
    pub fn insert<T: Send + Sync + 'static>(&self, value: T) {
        let former = self.0.lock().insert(TypeId::of::<T>(), Arc::new(value));
        // Drop it without the lock: its destructor is user code, which may use the extensions.
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
