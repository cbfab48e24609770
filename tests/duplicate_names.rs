//! Two tasks of one name are found when a manager starts, and both are named.

use taskflow::{Error, TaskManager};

mod here {
    #[taskflow::task]
    pub(crate) async fn report() {}
}

mod there {
    #[taskflow::task(aliases = ["report"])]
    pub(crate) async fn monthly() {}
}

#[tokio::test]
async fn two_tasks_of_one_name_are_a_start_error_that_names_both_places() {
    let _ = (here::report, there::monthly);
    let error = TaskManager::builder().start().await.unwrap_err();
    assert!(matches!(&error, Error::DuplicateTask { name, .. } if name == "report"), "{error}");
    let text = error.to_string();
    for place in
        ["duplicate_names::here", "duplicate_names::there", "duplicate_names.rs:6", "duplicate_names.rs:11"]
    {
        assert!(text.contains(place), "{text}");
    }
}
