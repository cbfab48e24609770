//! The attribute macros of taskflow. Their documentation is at their re-exports, `taskflow::task` and `taskflow::schedule`.
//!
//! Modules depend on each other in one direction only: `lib → expand → {options, signature} → errors`.

mod errors;
mod expand;
mod options;
mod signature;

use proc_macro::TokenStream;

use crate::options::Attribute;

#[allow(missing_docs, reason = "documented where it is re-exported")]
#[proc_macro_attribute]
pub fn task(options: TokenStream, item: TokenStream) -> TokenStream {
    expand::expand(Attribute::Task, options.into(), &item.into()).into()
}

#[allow(missing_docs, reason = "documented where it is re-exported")]
#[proc_macro_attribute]
pub fn schedule(options: TokenStream, item: TokenStream) -> TokenStream {
    expand::expand(Attribute::Schedule, options.into(), &item.into()).into()
}
