//! Parses `key` and `key = value`, separated by commas. Each entry is parsed separately, so that one error does not hide another.

use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens;
use syn::ext::IdentExt;
use syn::parse::{ParseStream, Parser};
use syn::{Error, Expr, Ident, Result, Token};

use crate::errors::Errors;

/// One option as written.
pub(super) struct Entry {
    pub(super) key: Ident,
    pub(super) value: Option<Expr>,
}

impl Entry {
    pub(super) fn name(&self) -> String {
        self.key.unraw().to_string()
    }
}

impl ToTokens for Entry {
    fn to_tokens(&self, tokens: &mut TokenStream) {
        self.key.to_tokens(tokens);
        self.value.to_tokens(tokens);
    }
}

/// All valid entries. An invalid entry adds an error and is skipped.
pub(super) fn entries(tokens: TokenStream, errors: &mut Errors) -> Vec<Entry> {
    let parse = |input: ParseStream<'_>| {
        let mut entries = Vec::new();
        while !input.is_empty() {
            match entry(input) {
                Ok(entry) => entries.push(entry),
                Err(error) => {
                    errors.push(error);
                    while !input.is_empty() && !input.peek(Token![,]) {
                        input.parse::<TokenTree>()?;
                    }
                }
            }
            if !input.is_empty() {
                input.parse::<Token![,]>()?;
            }
        }
        Ok(entries)
    };
    Parser::parse2(parse, tokens).unwrap_or_default()
}

fn entry(input: ParseStream<'_>) -> Result<Entry> {
    if !input.peek(Ident::peek_any) {
        return Err(input.error("expected an option, such as `retries = 3`"));
    }
    let key = input.call(Ident::parse_any)?;
    if input.peek(syn::token::Paren) {
        let group: TokenTree = input.parse()?;
        return Err(Error::new_spanned(&group, format!("expected `=`: write `{key} = ..`")));
    }
    let value = match input.parse::<Option<Token![=]>>()? {
        Some(equals) if input.is_empty() || input.peek(Token![,]) => {
            return Err(Error::new_spanned(equals, format!("`{key}` has no value after the `=`")));
        }
        Some(_) => Some(input.parse()?),
        None => None,
    };
    if !input.is_empty() && !input.peek(Token![,]) {
        return Err(input.error("expected a comma before the next option"));
    }
    Ok(Entry { key, value })
}
