//! A manager refuses to start with two tasks of one name, and the error names both.

use taskflow::testing::TestTasks;
use taskflow::{Error, TaskManager};

mod here {
    #[taskflow::task]
    pub(crate) async fn report() {}

    #[taskflow::task]
    pub(crate) async fn weekly() {}
}

mod there {
    #[taskflow::task(aliases = ["report"])]
    pub(crate) async fn monthly() {}

    #[taskflow::task]
    pub(crate) async fn weekly() {}
}

#[tokio::test]
async fn two_tasks_of_one_name_are_a_start_error_that_names_both_places() {
    let _ = (here::report, there::monthly, here::weekly, there::weekly);
    let error = TaskManager::builder().start().await.unwrap_err();
    assert!(matches!(&error, Error::DuplicateTask { name, .. } if name == "report"), "{error}");
    let text = error.to_string();
    for place in
        ["duplicate_names::here", "duplicate_names::there", "duplicate_names.rs:7", "duplicate_names.rs:15"]
    {
        assert!(text.contains(place), "{text}");
    }
}

#[test]
#[should_panic(expected = "cannot start:\n  - two tasks are named `report`")]
fn the_check_of_the_test_kit_names_them() {
    TestTasks::new().check();
}
