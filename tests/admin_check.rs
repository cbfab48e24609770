//! The check of a program's tasks in continuous integration: its output, and the stored work that a deployment would strand.

#![allow(clippy::unwrap_used, reason = "a test that finds an error fails")]

use std::process::{Command, Output};

use serde_json::Value;
use taskflow::admin::Inventory;

/// Sends a mail.
#[taskflow::task(name = "check.send_email", aliases = ["check.mail"], retries = 3)]
async fn send_email(to: String, copies: Option<u8>) {
    let _ = (to, copies);
}

/// Reports.
#[taskflow::schedule(cron = "0 8 * * *", name = "check.report")]
async fn report() {}

/// This test binary is the program that is checked: it runs itself.
#[test]
#[ignore = "the program that the other tests run"]
fn program() {
    let arguments = std::env::var("CHECK_ARGUMENTS").unwrap();
    let code = taskflow::admin::check(arguments.split_whitespace().map(str::to_owned));
    let is_success = format!("{code:?}") == format!("{:?}", std::process::ExitCode::SUCCESS);
    let is_failure = format!("{code:?}") == format!("{:?}", std::process::ExitCode::FAILURE);
    std::process::exit(if is_success {
        0
    } else if is_failure {
        1
    } else {
        2
    });
}

fn check(arguments: &str) -> (i32, String, String) {
    let Output { status, stdout, stderr } = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "program", "--nocapture"])
        .env("CHECK_ARGUMENTS", arguments)
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

/// The JSON document that the program printed, without the output of the test harness around it.
fn document(out: &str) -> Value {
    let start = out.find('{').unwrap();
    serde_json::Deserializer::from_str(&out[start..]).into_iter().next().unwrap().unwrap()
}

#[test]
fn the_tasks_of_the_program_are_printed_as_json() {
    let (code, out, _) = check("");
    assert_eq!(code, 0, "{out}");
    let document = document(&out);
    let tasks = document["tasks"].as_array().unwrap();
    let mail = tasks.iter().find(|task| task["name"] == "check.send_email").unwrap();
    assert_eq!((&mail["aliases"][0], &mail["retries"]), (&"check.mail".into(), &3.into()));
    assert_eq!(mail["parameters"][0]["type"], "String");
    assert_eq!(document["schedules"][0]["trigger"], "0 8 * * *");
    let inventory: Inventory = serde_json::from_value(document).unwrap();
    assert_eq!(inventory, Inventory::of_this_program().unwrap());
}

#[test]
fn a_deployment_that_strands_stored_tasks_fails_and_another_does_not() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("old.json");
    let against = format!("--against {}", file.display());
    let deployed = document(&check("").1);
    let write = |document: &Value| std::fs::write(&file, document.to_string()).unwrap();

    write(&deployed);
    let (code, out, err) = check(&against);
    assert!(code == 0 && !out.contains("error:") && !out.contains("warning:"), "{out}{err}");

    // The old program had another task, and a parameter with another name.
    let mut old = deployed.clone();
    let tasks = old["tasks"].as_array_mut().unwrap();
    let mut gone = tasks[0].clone();
    gone["name"] = "check.import".into();
    tasks.push(gone);
    let mail = tasks.iter_mut().find(|task| task["name"] == "check.send_email").unwrap();
    mail["parameters"][0]["name"] = "recipient".into();
    write(&old);
    let (code, out, err) = check(&against);
    assert_eq!(code, 1, "{out}{err}");
    for line in [
        "error: check.send_email: stored tasks lack the new argument `to`",
        "warning: check.send_email: the argument `recipient` of stored tasks would be ignored",
        "error: check.import: it is gone",
    ] {
        assert!(out.contains(line), "{line}: {out}");
    }
    assert!(err.contains("would strand stored tasks"), "{err}");

    // The file of a later version may have more fields.
    let mut newer = deployed;
    newer["more"] = true.into();
    write(&newer);
    assert_eq!(check(&against).0, 0);
}

#[test]
fn wrong_arguments_and_files_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("old.json");
    std::fs::write(&file, "[]").unwrap();
    for (arguments, said) in [
        ("--agianst old.json", "there is only the option `--against FILE`"),
        ("--against", "wants the file"),
        ("--against /nonexistent/old.json", "cannot read /nonexistent/old.json"),
        (&format!("--against {}", file.display()), "is not an output of this program"),
    ] {
        let (code, _, err) = check(arguments);
        assert!(code == 2 && err.contains(said), "{arguments}: {code} {err}");
    }
}
