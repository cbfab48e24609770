//! The values of `.state(..)`, and the states that tasks need.

use std::any::{Any, TypeId, type_name};
use std::collections::HashMap;
use std::fmt;

/// The states that the injected parameters of a task need.
#[derive(Debug, Default)]
pub struct Needs(Vec<(TypeId, &'static str)>);

impl Needs {
    /// Declares that a `.state(..)` of type `T` is needed.
    pub fn state<T: 'static>(&mut self) {
        self.0.push((TypeId::of::<T>(), type_name::<T>()));
    }

    /// The names of the needed types that `states` does not contain.
    pub(crate) fn missing(&self, states: &States) -> impl Iterator<Item = &'static str> {
        self.0.iter().filter(|(id, _)| !states.0.contains_key(id)).map(|(_, name)| *name)
    }
}

/// The values of `.state(..)`, by type.
#[derive(Default)]
pub(crate) struct States(HashMap<TypeId, Box<dyn Any + Send + Sync>>);

/// Makes values of one type.
struct Provider<T>(Box<dyn Fn() -> Option<T> + Send + Sync>);

impl States {
    /// Adds a state: each run gets a clone of `value`.
    pub(crate) fn insert<T: Clone + Send + Sync + 'static>(&mut self, value: T) {
        self.provide(move || Some(value.clone()));
    }

    /// Adds a state: each run gets the value that `provide` returns.
    pub(crate) fn provide<T: 'static>(&mut self, provide: impl Fn() -> Option<T> + Send + Sync + 'static) {
        self.0.insert(TypeId::of::<T>(), Box::new(Provider(Box::new(provide))));
    }

    pub(crate) fn contains<T: 'static>(&self) -> bool {
        self.0.contains_key(&TypeId::of::<T>())
    }

    pub(crate) fn get<T: 'static>(&self) -> Option<T> {
        let provider: &Provider<T> = self.0.get(&TypeId::of::<T>())?.downcast_ref()?;
        (provider.0)()
    }
}

impl fmt::Debug for States {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("States").field("types", &self.0.len()).finish()
    }
}
