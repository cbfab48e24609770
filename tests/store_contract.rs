//! One suite over every store: the documentation of [`taskflow::store::Store`] as cases, and random histories compared
//! with an abstract model. Another store is one `open` function and one line.

mod contract;

use contract::contract;
use contract::lab::Opened;

contract!(memory, crate::open_memory, 400);

fn open_memory() -> Opened {
    Opened::new(taskflow::store::MemoryStore::new(), ())
}
