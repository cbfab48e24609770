//! A function with a parsed signature and an unparsed body, so that the attribute expands even while the body is half typed.

use proc_macro2::{Group, TokenStream};
use quote::{ToTokens, TokenStreamExt, quote};
use syn::parse::{Parse, ParseStream};
use syn::{Attribute, Error, FnArg, Result, Signature, Token, Visibility};

pub(crate) struct Function {
    pub(crate) attrs: Vec<Attribute>,
    pub(crate) vis: Visibility,
    pub(crate) sig: Signature,
    pub(crate) body: Group,
}

impl Parse for Function {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let attrs = input.call(Attribute::parse_outer)?;
        let ahead = input.fork();
        let starts = ahead.parse::<Visibility>().is_ok() && is_function(&ahead);
        if !starts {
            return Err(Error::new(input.span(), "only a function can be a task"));
        }
        let (vis, sig) = (input.parse()?, input.parse()?);
        if input.peek(Token![;]) {
            return Err(input.error("a task needs a body: it is what the worker runs"));
        }
        Ok(Self { attrs, vis, sig, body: input.parse()? })
    }
}

fn is_function(input: ParseStream<'_>) -> bool {
    let qualifier = input.peek(Token![async]) || input.peek(Token![unsafe]) || input.peek(Token![extern]);
    input.peek(Token![fn]) || qualifier || (input.peek(Token![const]) && !input.peek2(syn::Ident))
}

impl Function {
    /// Removes `#[inject]` and `#[arg]` from the parameters, because the compiler does not know them.
    pub(crate) fn clean(&mut self) {
        for input in &mut self.sig.inputs {
            let (FnArg::Receiver(syn::Receiver { attrs, .. }) | FnArg::Typed(syn::PatType { attrs, .. })) =
                input;
            attrs.retain(|attr| !is_ours(attr));
        }
    }

    /// Splits the attributes into those of the public function and those of the body. Unknown attributes, such as
    /// `#[tracing::instrument]`, go to the body.
    pub(crate) fn split_attributes(&self) -> (Vec<&Attribute>, Vec<&Attribute>) {
        self.attrs.iter().partition(|attr| OUTER.iter().any(|name| attr.path().is_ident(name)))
    }
}

const OUTER: &[&str] =
    &["doc", "cfg", "cfg_attr", "deprecated", "must_use", "allow", "warn", "deny", "forbid", "expect"];

/// Whether the attribute is `#[inject]` or `#[arg]`.
pub(super) fn is_ours(attr: &Attribute) -> bool {
    attr.path().is_ident("inject") || attr.path().is_ident("arg")
}

impl ToTokens for Function {
    fn to_tokens(&self, tokens: &mut TokenStream) {
        let Self { attrs, vis, sig, body } = self;
        tokens.append_all(quote! { #(#attrs)* #vis #sig #body });
    }
}
