use serde::Serialize;

/// How many different errors are kept.
const MAX_ERRORS: usize = 10;

/// What [`rewrap`](crate::TaskManager::rewrap) has done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Rewrapped {
    /// How many arguments were sealed anew, with the current key.
    pub sealed: u64,
    /// How many were left as they were: sealed with the current key before, not sealed at all, or of a task that has
    /// succeeded.
    pub unchanged: u64,
    /// How many somebody else changed or deleted in between. Another call tries them again.
    pub missed: u64,
    /// How many cannot be opened here. They are left as they were.
    pub refused: u64,
    /// Why, each reason once: the first ten.
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
