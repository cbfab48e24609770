//! Texts that describe a task to people: the types of its parameters and the first line of its documentation.

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use quote::ToTokens;
use syn::{Attribute, Expr, ExprLit, Lit, Meta, PathArguments, Type};

/// The longest text of a type, in characters.
const MAX_TYPE: usize = 200;

/// The longest summary, in characters.
const MAX_SUMMARY: usize = 300;

/// A type as a person would write it: `Vec<(String, u32)>`. A text longer than [`MAX_TYPE`] is cut off.
pub(super) fn of_type(ty: &Type) -> String {
    let mut text = String::new();
    write(ty.to_token_stream(), &mut text);
    cut(&text, MAX_TYPE)
}

/// Whether the last segment of the type's path is `Option<..>`, so that an absent argument is read as `None`.
pub(super) fn is_option(ty: &Type) -> bool {
    match ty {
        Type::Group(group) => is_option(&group.elem),
        Type::Paren(paren) => is_option(&paren.elem),
        Type::Path(path) => path.path.segments.last().is_some_and(|last| {
            last.ident == "Option"
                && matches!(&last.arguments, PathArguments::AngleBracketed(list) if list.args.len() == 1)
        }),
        _ => false,
    }
}

/// The first line of the documentation that is not empty.
pub(super) fn summary(attrs: &[Attribute]) -> Option<String> {
    let docs = attrs.iter().filter(|attr| attr.path().is_ident("doc")).filter_map(|attr| match &attr.meta {
        Meta::NameValue(pair) => match &pair.value {
            Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => Some(text.value()),
            // A macro such as `include_str!` is not expanded yet.
            _ => None,
        },
        _ => None,
    });
    let text = docs.collect::<Vec<_>>().join("\n");
    // Lines of a block comment may begin with `* `, which is removed. So is the `* ` of a Markdown list item.
    let lines = text.lines().map(|line| line.trim().trim_start_matches("* ").trim());
    lines.into_iter().find(|line| !line.is_empty() && *line != "*").map(|line| cut(line, MAX_SUMMARY))
}

fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

/// Writes tokens with spaces about as a formatter would, but not around most operators.
fn write(tokens: TokenStream, text: &mut String) {
    let mut tokens = tokens.into_iter().peekable();
    while let Some(token) = tokens.next() {
        match token {
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    Delimiter::Parenthesis => ("(", ")"),
                    Delimiter::Bracket => ("[", "]"),
                    Delimiter::Brace => ("{", "}"),
                    Delimiter::None => ("", ""),
                };
                text.push_str(open);
                write(group.stream(), text);
                text.push_str(close);
            }
            TokenTree::Punct(punct) => match punct.as_char() {
                '-' if tokens.next_if(|next| next.to_string() == ">").is_some() => text.push_str(" -> "),
                '+' | '=' => {
                    text.push(' ');
                    text.push(punct.as_char());
                    text.push(' ');
                }
                separator @ (',' | ';') => {
                    text.push(separator);
                    if tokens.peek().is_some() {
                        text.push(' ');
                    }
                }
                other => text.push(other),
            },
            word => {
                if text.ends_with(|last: char| last.is_alphanumeric() || last == '_') {
                    text.push(' ');
                }
                text.push_str(&word.to_string());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use syn::parse_quote;

    use super::*;

    #[test]
    fn a_type_reads_as_it_was_written() {
        for text in [
            "String",
            "Vec<(String, u32)>",
            "std::collections::BTreeMap<u8, Option<[u8; 32]>>",
            "(u8,)",
            "()",
            "Box<dyn Fn(u8) -> bool + Send + 'static>",
            "Wrapper<{3}, -1>",
            "&'static str",
            "[Item; SIZE]",
        ] {
            let ty: Type = syn::parse_str(text).unwrap();
            assert_eq!(of_type(&ty), text);
        }
        let long: Type = syn::parse_str(&format!("[u8; {}]", "N + ".repeat(100) + "N")).unwrap();
        assert_eq!(of_type(&long).chars().count(), MAX_TYPE + 1);
    }

    #[test]
    fn an_option_is_known_by_its_last_segment() {
        let is = |text: &str| is_option(&syn::parse_str(text).unwrap());
        assert!(is("Option<u8>") && is("std::option::Option<Vec<u8>>") && is("(Option<u8>)"));
        assert!(!is("Vec<Option<u8>>") && !is("Optional<u8>") && !is("Option"));
    }

    #[test]
    fn the_summary_is_the_first_line_with_words() {
        let of = |item: syn::ItemFn| summary(&item.attrs);
        assert_eq!(
            of(parse_quote!(
                ///
                /// Sends a letter.
                ///
                /// And more.
                fn f() {}
            )),
            Some("Sends a letter.".to_owned())
        );
        assert_eq!(
            of(parse_quote!(
                #[doc = "\n     * Sends a letter.\n     * And more.\n"]
                fn f() {}
            )),
            Some("Sends a letter.".to_owned())
        );
        assert_eq!(
            of(parse_quote!(
                #[doc(hidden)]
                fn f() {}
            )),
            None
        );
        let long = "ä".repeat(1000);
        let cut = of(parse_quote!(
            #[doc = #long]
            fn f() {}
        ));
        assert_eq!(cut.unwrap().chars().count(), MAX_SUMMARY + 1);
    }
}
