//! What the compiler says of a wrong task, word for word, and that it says nothing of a right one.
//!
//! After a change that is meant: `TRYBUILD=overwrite cargo test -p ui-tests`, then read each `.stderr`.
//! The words are those of the compiler in `rust-toolchain.toml`, without the component `rust-src`.

#[test]
fn right_tasks_compile_and_wrong_ones_are_told_why() {
    let cases = trybuild::TestCases::new();
    cases.pass("pass/*.rs");
    cases.compile_fail("task/fail/*.rs");
    cases.compile_fail("schedule/fail/*.rs");
}
