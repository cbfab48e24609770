use std::rc::Rc;

#[taskflow::task]
async fn import(what: Rc<String>) {
    let _ = what;
}

fn main() {
    let _ = import;
}
