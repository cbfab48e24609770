//! A task's name is a function's name: it can be shadowed, and a module or a type may have it too.

#![deny(warnings, clippy::pedantic, clippy::nursery)]

mod report {
    #[taskflow::task]
    pub async fn report(day: String) -> Result<usize, String> {
        Ok(day.len())
    }
}
use report::report;

#[taskflow::task]
async fn call(writer: u8, args: u8, payload: u8, context: u8, needs: u8, returned: u8, error: u8, value0: u8) {
    let _ = (writer, args, payload, context, needs, returned, error, value0);
}

#[taskflow::task]
async fn encode(outcome: u8) {
    let _ = outcome;
}

#[taskflow::task]
async fn inject() {}

const fn length(report: &str) -> usize {
    report.len()
}

fn main() {
    let _ = report;
    let report = length("text");
    let _ = (report, call, encode, inject);
}
