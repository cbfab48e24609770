//! The compiler's errors for wrong tasks, word for word, and that right tasks compile.
//!
//! After an intended change: `TRYBUILD=overwrite cargo test -p ui-tests`, then read each `.stderr`.
//! The texts are those of the compiler in `rust-toolchain.toml`, without the component `rust-src`.

#[test]
fn right_tasks_compile_and_wrong_ones_are_told_why() {
    let cases = trybuild::TestCases::new();
    cases.pass("pass/*.rs");
    cases.compile_fail("task/fail/*.rs");
    cases.compile_fail("schedule/fail/*.rs");
}
