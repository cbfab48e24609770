const THREE: u32 = 3;

#[taskflow::task(
    name = "",
    aliases = "old",
    retries = -1,
    delay = 1s,
    backoff = 0.5,
    max_delay = "5 parsecs",
    jitter = 1.5,
    timeout = 0,
    priority = 40000,
    queue = "a\nb",
    eager = "yes",
    requeue_on_interrupt = 1,
    max_lost_runs = 0
)]
async fn all_wrong() {}

#[taskflow::task(retries = THREE, delay = -1, timeout = "90", priority = 1.5, aliases = [1], name = 5)]
async fn wrong_kinds() {}

#[taskflow::task(delay = "2h")]
async fn longer_than_the_longest() {}

#[taskflow::task(delay = "2m", max_delay = 30)]
async fn longer_than_its_longest() {}

fn main() {
    let _ = (all_wrong, wrong_kinds, longer_than_the_longest, longer_than_its_longest, THREE);
}
