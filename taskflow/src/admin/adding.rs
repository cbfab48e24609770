use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::value::RawValue;

use super::{AdminError, Console};
use crate::model::spelling::closest;
use crate::model::{NewTask, TaskInfo};

impl Console {
    /// Prepares a task to [add](Self::add), by its name or an alias, with the options that live processes declare for it. `args`
    /// is a JSON object with a field for each parameter that is not optional.
    ///
    /// # Errors
    /// [`AdminError::UnknownTask`] for a name that no live process knows, and [`AdminError::Invalid`] if `args` is no JSON
    /// object, lacks a required argument or has an unknown one. `is_forced` skips these checks, and gives a name that nobody knows
    /// the default options. Also when the store fails. The types of arguments are not checked.
    pub async fn new_task(&self, name: &str, args: String, is_forced: bool) -> Result<NewTask, AdminError> {
        let known = self.tasks().tasks().await?;
        let is_named = |info: &&TaskInfo| info.name == name || info.aliases.iter().any(|alias| alias == name);
        match known.iter().find(is_named) {
            Some(info) => {
                if !is_forced {
                    check(info, &args)?;
                }
                Ok(info.new_task(args))
            }
            None if is_forced => Ok(NewTask::new(name.to_owned(), Ok(Arc::from(args)))),
            None => {
                let suggestion = closest(name, known.iter().map(|info| info.name.as_str()));
                Err(AdminError::UnknownTask { name: name.to_owned(), suggestion })
            }
        }
    }
}

/// Checks the names of the arguments. Only the program that has the task can check their types.
fn check(info: &TaskInfo, args: &str) -> Result<(), AdminError> {
    let invalid = |field: String, message: String| Err(AdminError::Invalid { field, message });
    let Ok(args) = serde_json::from_str::<BTreeMap<String, &RawValue>>(args) else {
        return invalid("args".to_owned(), "it must be an object: each parameter by its name".to_owned());
    };
    let names = || info.parameters.iter().map(|parameter| parameter.name.as_str());
    if let Some(name) = args.keys().find(|name| names().all(|known| known != name.as_str())) {
        let hint = closest(name, names()).map(|one| format!("; did you mean `{one}`?")).unwrap_or_default();
        let message = format!("the task `{}` has no such parameter{hint}", info.name);
        return invalid(format!("args.{name}"), message);
    }
    match info.parameters.iter().find(|it| !it.is_optional && !args.contains_key(&it.name)) {
        Some(it) => invalid(format!("args.{}", it.name), format!("it is missing: a `{}`", it.type_name)),
        None => Ok(()),
    }
}
