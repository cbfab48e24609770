//! The code in `docs/testing.md` and in the README comes from examples and tests that run.

#![allow(clippy::unwrap_used, reason = "a test that finds an error fails")]

use std::fs;
use std::path::Path;

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)).unwrap()
}

/// The lines of `code` without indentation, which differs inside a module.
fn flat(code: &str) -> String {
    code.lines().map(|line| line.trim_start().to_owned() + "\n").collect()
}

#[test]
fn the_code_of_the_page_on_testing_is_tested() {
    let tested = ["testing", "simulation"].map(|example| flat(&read(&format!("examples/{example}.rs"))));
    let page = read("docs/testing.md");
    let blocks: Vec<_> =
        page.split("```rust\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert!(blocks.len() >= 4, "{blocks:?}");
    for block in blocks {
        let code = flat(block);
        assert!(tested.iter().any(|tested| tested.contains(&code)), "in no example:\n{block}");
    }
}

#[test]
fn the_program_of_the_readme_is_tested() {
    let page = read("README.md");
    let (_, program) = page.split_once("/// Retried three times").unwrap();
    let (program, _) = program.split_once("#[tokio::main]").unwrap();
    assert!(flat(&read("tests/readme.rs")).contains(&flat(program)), "not in tests/readme.rs:\n{program}");
}
