struct Opaque;

#[taskflow::task]
async fn import(file: String, what: Opaque) {
    let _ = (file, what);
}

#[taskflow::task]
async fn import_all(files: Vec<Option<Opaque>>) {
    let _ = files;
}

fn main() {
    let _ = (import, import_all);
}
