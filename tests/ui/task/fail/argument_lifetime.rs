use std::borrow::Cow;

#[taskflow::task]
async fn lifetime<'a>(to: &'a str, rest: Cow<'a, str>) {
    let _ = (to, rest);
}

#[taskflow::task]
async fn elided(to: Cow<'_, str>, rest: Cow<str>) {
    let _ = (to, rest);
}

fn main() {
    let _ = elided;
}
