#![deny(warnings)]

mod errors {
    #[derive(Debug)]
    pub struct MailError;

    impl std::fmt::Display for MailError {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("mail")
        }
    }

    impl MailError {
        pub fn is_transient(&self) -> bool {
            true
        }
    }
}

mod around {
    use std::sync::atomic::{AtomicU32, Ordering};

    use taskflow::observe::{BoxFuture, Middleware, Next, Run, RunOutcome};

    pub struct Quiet;

    impl Middleware for Quiet {
        fn run<'a>(&'a self, _: &'a Run, next: Next<'a>) -> BoxFuture<'a, RunOutcome> {
            next.run()
        }
    }

    pub struct Counter(AtomicU32);

    pub static COUNTER: Counter = Counter(AtomicU32::new(0));

    impl Middleware for Counter {
        fn run<'a>(&'a self, _: &'a Run, next: Next<'a>) -> BoxFuture<'a, RunOutcome> {
            self.0.fetch_add(1, Ordering::Relaxed);
            next.run()
        }
    }
}

mod facade {
    pub use taskflow;
}

#[taskflow::task(
    name = "mail.send",
    aliases = ["send", "mail"],
    retries = 3,
    delay = 0.3,
    backoff = 1,
    max_delay = "1h 30m",
    jitter = 0,
    retry_if = errors::MailError::is_transient,
    timeout = 90,
    priority = -5,
    queue = "mail",
    eager = false,
    requeue_on_interrupt,
    max_lost_runs = 10,
    middleware = [around::Quiet, around::COUNTER],
    encrypt = false,
    crate = facade::taskflow,
)]
async fn everything() -> Result<u8, errors::MailError> {
    Err(errors::MailError)
}

#[taskflow::task(middleware = [])]
fn no_middleware() {}

#[taskflow::task()]
fn nothing() {}

#[taskflow::task(retry_if = never::<String>, delay = "2h", max_delay = "2h")]
fn generic_judge() -> Result<(), String> {
    Ok(())
}

fn never<E>(_: &E) -> bool {
    false
}

macro_rules! tasks {
    ($($name:ident: $type:ty, $retries:literal, $priority:expr;)*) => {$(
        #[taskflow::task(retries = $retries, priority = $priority)]
        async fn $name(value: $type) {
            let _ = value;
        }
    )*};
}

tasks! {
    first: u8, 1, -1;
    second: Vec<String>, 2, 7;
}

fn main() {
    let _ = (everything, no_middleware, nothing, generic_judge, first, second);
}
