#![deny(warnings)]

use std::borrow::Cow;
use std::collections::BTreeMap;

use taskflow::{FromContext, State, TaskContext, TaskManager, task::ContextError};

#[derive(Clone)]
pub struct Pool {
    pub url: String,
}

struct Attempt(u32);

impl FromContext for Attempt {
    fn from_context(context: &TaskContext) -> Result<Self, ContextError> {
        Ok(Self(context.attempt()))
    }
}

type Ctx = TaskContext;

#[taskflow::task]
async fn patterns(
    State(pool): State<Pool>,
    State(Pool { url }): State<Pool>,
    #[inject] Attempt(attempt): Attempt,
    #[inject] _: Ctx,
    _: TaskContext,
    mut n: u32,
    tasks: TaskManager,
) {
    n += attempt;
    let _ = (pool, url, n, tasks);
}

#[taskflow::task]
async fn owned(
    r#type: String,
    map: BTreeMap<String, Vec<Option<u128>>>,
    text: Cow<'static, str>,
    array: [u8; 4],
    pair: (u8, std::time::Duration),
    #[arg(default)] added_later: u8,
    maybe: Option<String>,
    callback: State<fn(&str) -> bool>,
) {
    let _ = (r#type, map, text, array, pair, added_later, maybe, callback);
}

// An argument of a type that is also named `State`, but is not taskflow's.
#[derive(serde::Serialize, serde::Deserialize)]
struct OnOff<T>(T);
mod light {
    pub(super) use super::OnOff as State;
}

#[taskflow::task]
async fn payload_state(#[arg] state: light::State<bool>) {
    let _ = state.0;
}

#[taskflow::task]
#[rustfmt::skip]
async fn twelve(a: u8, b: u8, c: u8, d: u8, e: u8, f: u8, g: u8, h: u8, i: u8, j: u8, k: u8, l: u8) {
    let _ = (a, b, c, d, e, f, g, h, i, j, k, l);
}

async fn handler(tasks: TaskManager) {
    let _ = tasks.add_task(patterns, (3,)).await;
    let _ = tasks.add_task(twelve, (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12)).await;
}

fn main() {
    let _ = (handler, owned, payload_state);
}
