//! Builds the type-erased descriptor of a task, which decodes its arguments, injects its values and runs it.

use super::{
    ArgumentError, BlockingBody, BlockingTask, BoxFuture, Descriptor, Location, Parameter, Payload, RunError,
    RunTask, Task, TaskConfig, TaskContext, TaskOutcome,
};

impl Descriptor {
    /// The descriptor of an async function.
    #[doc(hidden)]
    #[must_use]
    pub const fn of<T: Task>(
        config: &'static TaskConfig,
        parameters: &'static [Parameter],
        location: Location,
    ) -> Self {
        Self::new(config, parameters, location, T::needs, RunTask::Async(run::<T>))
    }

    /// The descriptor of a synchronous function.
    #[doc(hidden)]
    #[must_use]
    pub const fn of_blocking<T: BlockingTask>(
        config: &'static TaskConfig,
        parameters: &'static [Parameter],
        location: Location,
    ) -> Self {
        Self::new(config, parameters, location, T::needs, RunTask::Blocking(run_blocking::<T>))
    }
}

fn prepare<T: Task>(context: &TaskContext, args: &str) -> Result<(T::Injected, T::Args), RunError> {
    let arguments = |error: ArgumentError| RunError::Arguments(error.to_string());
    let args = T::decode(&Payload::parse(args).map_err(arguments)?).map_err(arguments)?;
    let injected = T::inject(context).map_err(|error| RunError::Injection(error.to_string()))?;
    Ok((injected, args))
}

fn run<T: Task>(context: &TaskContext, args: &str) -> Result<BoxFuture<'static, TaskOutcome>, RunError> {
    let (injected, args) = prepare::<T>(context, args)?;
    let body = T::call(injected, args);
    Ok(Box::pin(async move { T::outcome(body.await) }))
}

fn run_blocking<T: BlockingTask>(context: &TaskContext, args: &str) -> Result<BlockingBody, RunError> {
    let (injected, args) = prepare::<T>(context, args)?;
    Ok(Box::new(move || T::outcome(T::call_blocking(injected, args))))
}
