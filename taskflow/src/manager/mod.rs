//! The handle through which a program adds tasks, looks at them, and acts on them.

mod add;
mod builder;
mod controls;
mod handle;
mod lifecycle;
mod provided;
mod reads;

pub use add::AddTask;
#[cfg(feature = "axum")]
pub(crate) use add::Origin;
pub use builder::TaskManagerBuilder;
pub use handle::TaskHandle;
pub use lifecycle::TaskManager;
