#![deny(warnings)]

#[taskflow::task]
#[cfg(any())]
async fn never() -> NoSuchType {}

#[taskflow::task]
#[cfg_attr(not(any()), allow(unused_variables))]
#[cfg(not(any()))]
/// Always there.
async fn always(n: u8) {}

#[taskflow::task]
#[allow(unused_variables)]
#[doc(hidden)]
#[inline(never)]
async fn quiet(n: u8) {}

#[taskflow::task]
#[deprecated(note = "use `quiet`")]
pub async fn old(n: u8) {
    let _ = n;
}

#[tracing::instrument]
#[taskflow::task]
async fn traced_above(n: u8) -> Result<u8, String> {
    Ok(n)
}

#[taskflow::task]
#[tracing::instrument(skip(n))]
async fn traced_below(mut n: u8) -> Result<u8, String> {
    n += 1;
    Ok(n)
}

#[taskflow::task]
#[tracing::instrument]
fn traced_sync(n: u8) -> Result<u8, String> {
    Ok(n)
}

fn main() {
    let _ = (always, quiet, traced_above, traced_below, traced_sync);
}
