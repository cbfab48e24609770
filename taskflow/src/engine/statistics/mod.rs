//! Statistics in the store: each process writes what its meter counted, as one document for each minute and one for each
//! hour, and any process can read the documents of all processes.
//!
//! [`recorder`] splits the counts into minutes and hours, and [`keep`] writes them. [`read`] adds up the documents of a
//! range. [`document`] is their form.

mod document;
mod keep;
mod read;
mod recorder;

pub(crate) use keep::{flush, keep};
pub(crate) use read::read;
pub(crate) use recorder::Recorder;
