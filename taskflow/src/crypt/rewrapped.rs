use serde::Serialize;

/// How many different errors are kept.
const MAX_ERRORS: usize = 10;

/// The result of [`rewrap`](crate::TaskManager::rewrap) and [`rewrap_schedules`](crate::TaskManager::rewrap_schedules).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Rewrapped {
    /// How many arguments were sealed anew, with the current key.
    pub sealed: u64,
    /// How many were not changed, because they were already sealed with the current key, were not sealed at all, or belong to a
    /// task that has succeeded.
    pub unchanged: u64,
    /// How many were changed or deleted elsewhere after they had been read. Another call tries them again.
    pub missed: u64,
    /// How many could not be opened here. They were not changed.
    pub refused: u64,
    /// Why they could not be opened: the first ten different reasons.
    pub errors: Vec<String>,
}

impl Rewrapped {
    pub(crate) fn refuse(&mut self, error: &str) {
        self.refused += 1;
        self.note(error);
    }

    fn note(&mut self, error: &str) {
        if self.errors.len() < MAX_ERRORS && !self.errors.iter().any(|known| known == error) {
            self.errors.push(error.to_owned());
        }
    }
}

impl std::ops::AddAssign for Rewrapped {
    fn add_assign(&mut self, other: Self) {
        self.sealed += other.sealed;
        self.unchanged += other.unchanged;
        self.missed += other.missed;
        self.refused += other.refused;
        other.errors.iter().for_each(|error| self.note(error));
    }
}
