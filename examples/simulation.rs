//! A simulation: `cargo run --example simulation` plays a hundred histories of a small shop, in which stores lose answers and
//! processes die. `cargo test --example simulation` plays them as a test.

#![allow(clippy::print_stdout, reason = "it shows what happens")]
#![allow(clippy::unwrap_used, reason = "a simulation that finds an error fails")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use taskflow::testing::{Fault, Op, TestTasks};
use taskflow::{AddError, State, TaskManager};
use tokio::sync::Semaphore;

/// A bank that answers a charge only when the history adds a permit.
#[derive(Clone)]
struct FakeBank {
    /// The cents that each order was charged.
    charged: Arc<Mutex<BTreeMap<u32, u32>>>,
    answers: Arc<Semaphore>,
}

impl FakeBank {
    fn new() -> Self {
        Self { charged: Arc::default(), answers: Arc::new(Semaphore::new(0)) }
    }

    async fn charge(&self, order: u32, cents: u32) {
        // A good bank: a second charge of the same order changes nothing. With `+=` the simulation finds a history that charges
        // somebody twice.
        *self.charged.lock().unwrap().entry(order).or_default() = cents;
        self.answers.acquire().await.unwrap().forget();
    }
}

#[taskflow::task(requeue_on_interrupt = true)]
async fn charge(order: u32, cents: u32, bank: State<FakeBank>) {
    bank.charge(order, cents).await;
}

async fn order(tasks: TaskManager, number: u32) -> Result<u32, AddError> {
    tasks.add_task(charge, (number, 100)).idempotency_key(format!("order {number}")).await?;
    Ok(number)
}

fn history(seed: u64) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        fastrand::seed(seed); // the jitter of the engine
        let mut chance = fastrand::Rng::with_seed(seed);
        let bank = FakeBank::new();
        let t = TestTasks::new().live().state(bank.clone()).patience(Duration::ZERO).start().await;
        let mut orders = Vec::new();
        for number in 0..20 {
            match chance.u32(0..9) {
                0..=2 => orders.push(tokio::spawn(order(t.manager().clone(), number))),
                3..=4 => drop(t.advance(Duration::from_millis(chance.u64(0..9000))).await),
                5 => bank.answers.add_permits(1),
                6 => {
                    t.fault(Fault::lose_answer(*chance.choice(&[Op::Insert, Op::Claim, Op::Finish]).unwrap()))
                }
                7 if t.workers() > 1 => t.kill_worker().await,
                _ => t.second_worker().await,
            }
        }
        t.back();
        bank.answers.add_permits(1000);
        t.advance("10m").await; // all is well again, for long enough
        let mut ordered = BTreeMap::new();
        for order in orders {
            ordered.insert(order.await.unwrap().unwrap(), 100);
        }
        assert_eq!(*bank.charged.lock().unwrap(), ordered, "seed {seed}");
    });
}

#[test]
fn every_order_is_charged_once() {
    (0..100).for_each(history);
}

fn main() {
    (0..100).for_each(history);
    println!("in 100 histories every order was charged once");
}
