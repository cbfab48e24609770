use taskflow::{TaskContext, TaskManager};

#[taskflow::task]
async fn report(context: TaskContext, day: String) {
    let _ = (context, day);
}

async fn handler(tasks: TaskManager, context: TaskContext) {
    let _ = tasks.add(report(context, "today".to_owned())).await;
}

fn main() {
    let _ = handler;
}
