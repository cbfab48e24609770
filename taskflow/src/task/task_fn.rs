//! `TaskFn`: a task's function, passed by its name.

use super::{Call, Task};

/// A function annotated with `#[task]`, passed by its name, as [`add_task`](crate::TaskManager::add_task) takes it. `Params` is
/// always inferred.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a task",
    label = "expected the name of a function annotated with `#[taskflow::task]`"
)]
pub trait TaskFn<Params> {
    /// The type of the task.
    type Task: Task;
}

macro_rules! task_fn {
    ($($param:ident)*) => {
        #[diagnostic::do_not_recommend]
        impl<F, T: Task, $($param),*> TaskFn<($($param,)*)> for F
        where
            F: Fn($($param),*) -> Call<T>,
        {
            type Task = T;
        }
    };
}

task_fn!();
task_fn!(A);
task_fn!(A B);
task_fn!(A B C);
task_fn!(A B C D);
task_fn!(A B C D E);
task_fn!(A B C D E G);
task_fn!(A B C D E G H);
task_fn!(A B C D E G H I);
task_fn!(A B C D E G H I J);
task_fn!(A B C D E G H I J K);
task_fn!(A B C D E G H I J K L);
task_fn!(A B C D E G H I J K L M);
