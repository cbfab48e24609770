use std::process::ExitCode;

use super::Inventory;

const USAGE: &str = "\
prints the tasks of this program as JSON

  --against FILE   compare them with an older output of this program, and exit with 1 if a deployment would strand stored tasks";

/// The `main` of a small program for continuous integration, which your crate has beside its server. Your tasks are linked only
/// into your own programs, so no ready-made command can know them.
///
/// ```no_run
/// // src/bin/check-tasks.rs
/// # mod my_app {}
/// use my_app as _; // the crate that defines the tasks
///
/// fn main() -> std::process::ExitCode {
///     taskflow::admin::check(std::env::args().skip(1))
/// }
/// ```
///
/// Without arguments it prints the [`Inventory`] of the program as JSON: keep the output of the version that is deployed.
/// `--against deployed.json` prints what would happen to tasks that the deployed version has stored. The exit code is 1 if a
/// deployment would strand some: if a task or one of its names is gone, or if an argument without a default is new or was
/// optional before. Changed types, removed arguments and removed schedules are printed as warnings.
///
/// The exit code is 2 for wrong arguments, for a file that cannot be read or is not such an output, and if two tasks have the
/// same name.
#[expect(clippy::print_stdout, clippy::print_stderr, reason = "it is the `main` of a program")]
pub fn check(arguments: impl IntoIterator<Item = String>) -> ExitCode {
    let mut arguments = arguments.into_iter();
    let refuse = |message: &str| {
        eprintln!("error: {message}");
        ExitCode::from(2)
    };
    let against = match (arguments.next().as_deref(), arguments.next(), arguments.next()) {
        (None, ..) => None,
        (Some("--help" | "-h"), None, None) => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        (Some("--against"), Some(path), None) => Some(path),
        (Some("--against"), None, _) => {
            return refuse("`--against` wants the file with an older output of this program");
        }
        _ => return refuse("there is only the option `--against FILE`"),
    };
    let now = match Inventory::of_this_program() {
        Ok(now) => now,
        Err(error) => return refuse(&error.to_string()),
    };
    let Some(path) = against else {
        println!("{}", serde_json::to_string_pretty(&now).expect("names and numbers are JSON"));
        return ExitCode::SUCCESS;
    };
    let old = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) => return refuse(&format!("cannot read {path}: {error}")),
    };
    let old: Inventory = match serde_json::from_str(&old) {
        Ok(old) => old,
        Err(error) => return refuse(&format!("{path} is not an output of this program: {error}")),
    };
    let found = now.against(&old);
    for it in &found {
        println!("{}: {}: {}", if it.strands { "error" } else { "warning" }, it.name, it.message);
    }
    let stranding = found.iter().filter(|it| it.strands).count();
    if stranding > 0 {
        eprintln!("a deployment would strand stored tasks");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
