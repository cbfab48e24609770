#![forbid(unsafe_code)]
#![deny(missing_docs, unreachable_pub, unused_qualifications, unnameable_types, missing_debug_implementations)]
//! A crate with strict lints.

/// As visible as its argument.
#[taskflow::task]
pub(crate) async fn outside(what: inner::Inner) {
    let _ = what;
}

mod inner {
    #[derive(Debug, serde::Serialize, serde::Deserialize)]
    pub(crate) struct Inner;
}

fn main() {
    #[taskflow::task]
    async fn local(n: u8) {
        let _ = n;
    }
}
