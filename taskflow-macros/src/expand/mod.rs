//! Expands the function into the one item that replaces it.

mod config;
mod task;
mod text;

use proc_macro2::TokenStream;
use quote::quote;

use crate::errors::Errors;
use crate::options::{Attribute, Options};
use crate::signature::{Function, Shape};

/// The expanded task and all errors. If the function cannot be a task, it is emitted as a plain function, so that the code that
/// calls it causes no further errors.
pub(crate) fn expand(attribute: Attribute, options: TokenStream, item: &TokenStream) -> TokenStream {
    let mut errors = Errors::default();
    let options = Options::parse(attribute, options, &mut errors);
    let Some(mut function) = errors.keep(syn::parse2::<Function>(item.clone())) else {
        return quote! { #item #errors };
    };
    let shape = Shape::of(&function, attribute, &mut errors);
    function.clean();
    let Some(shape) = shape else {
        return quote! { #function #errors };
    };
    check_together(&options, &shape, &mut errors);
    let task = task::Expansion::new(&function, &shape, &options);
    quote! { #task #errors }
}

/// Checks the options against the function.
fn check_together(options: &Options, shape: &Shape, errors: &mut Errors) {
    if let Some(retry_if) = options.retry_if.as_ref().filter(|_| shape.returns_unit()) {
        errors.at(
            retry_if,
            "`retry_if` has no error to judge: this task returns `()`\nhelp: return `Result<(), E>`",
        );
    }
    if options.name.is_none()
        && let Some(alias) = options.aliases.iter().find(|alias| alias.value() == shape.name)
    {
        errors.at(alias, format!("`{}` is already the task's name", shape.name));
    }
}
