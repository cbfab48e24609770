//! One parameter: a stored argument, or a value that the worker provides.

use proc_macro2::Span;
use quote::{ToTokens, format_ident};
use syn::ext::IdentExt;
use syn::{Ident, Meta, Pat, PatType, PathArguments, Type};

use super::function::is_ours;
use super::types::{self, Place};
use crate::errors::Errors;

pub(crate) struct Parameter {
    /// The name of the parameter in the public function.
    pub(crate) ident: Ident,
    pub(crate) ty: Type,
    pub(crate) role: Role,
}

pub(crate) enum Role {
    /// An argument that is stored under this key.
    Argument { key: String, or_default: bool },
    /// A value that the worker provides.
    Injected,
}

impl Parameter {
    pub(super) fn new(typed: &PatType, position: usize, errors: &mut Errors) -> Option<Self> {
        let before = errors.len();
        let marks = marks(typed, errors);
        let injected = marks.inject || (!marks.argument && is_provided(&typed.ty));
        types::check(&typed.ty, if injected { Place::Injected } else { Place::Argument }, errors);
        let (ident, role) = if injected {
            let ident = outer_name(&typed.pat)
                .unwrap_or_else(|| format_ident!("__taskflow_{position}", span = Span::mixed_site()));
            (ident, Role::Injected)
        } else {
            let Some(ident) = plain_name(&typed.pat) else {
                errors.at(&typed.pat, unnamed(&typed.pat, &typed.ty));
                return None;
            };
            let key = ident.unraw().to_string();
            (ident, Role::Argument { key, or_default: marks.or_default })
        };
        (errors.len() == before).then(|| Self { ident, ty: (*typed.ty).clone(), role })
    }
}

fn unnamed(pattern: &Pat, ty: &Type) -> String {
    let ty = ty.to_token_stream();
    match pattern {
        Pat::Wild(_) => format!(
            "name this parameter: its name is its key in the payload\n\
             help: mark a value that the worker provides: `#[inject] _: {ty}`"
        ),
        Pat::Ident(_) => "a task argument is taken by value, by its name alone".to_owned(),
        _ => "name this parameter: its name is its key in the payload\nhelp: take it apart in the body"
            .to_owned(),
    }
}

/// The attributes on a parameter.
#[derive(Default)]
struct Marks {
    inject: bool,
    argument: bool,
    or_default: bool,
}

fn marks(typed: &PatType, errors: &mut Errors) -> Marks {
    let mut marks = Marks::default();
    for attr in &typed.attrs {
        if attr.path().is_ident("cfg") || attr.path().is_ident("cfg_attr") {
            errors.at(
                attr,
                "a task's parameters cannot depend on `cfg`: every build must read the stored arguments",
            );
        }
        if !is_ours(attr) {
            continue;
        }
        if attr.path().is_ident("inject") {
            match &attr.meta {
                Meta::Path(_) => marks.inject = true,
                _ => errors.at(attr, "`#[inject]` takes no options"),
            }
            continue;
        }
        marks.argument = true;
        let is_default = |meta: &Meta| matches!(meta, Meta::Path(path) if path.is_ident("default"));
        match &attr.meta {
            Meta::Path(_) => {}
            Meta::List(list)
                if syn::parse2::<Meta>(list.tokens.clone()).is_ok_and(|meta| is_default(&meta)) =>
            {
                marks.or_default = true;
            }
            Meta::List(list) => errors.at(&list.tokens, "unknown option: the only one is `#[arg(default)]`"),
            Meta::NameValue(_) => errors.at(attr, "expected `#[arg(default)]`"),
        }
    }
    if marks.inject && marks.argument {
        errors.at(&typed.pat, "a parameter is either stored or provided: `#[arg]` or `#[inject]`, not both");
    }
    marks
}

/// Whether the type is `TaskContext`, `TaskManager` or `State<T>`, by the last segment of its path. A reference to such a type
/// counts too: it is an error, and the message should name the right remedy.
fn is_provided(ty: &Type) -> bool {
    match ty {
        Type::Group(group) => is_provided(&group.elem),
        Type::Paren(paren) => is_provided(&paren.elem),
        Type::Reference(reference) => is_provided(&reference.elem),
        Type::Path(path) => path.path.segments.last().is_some_and(|last| match &last.arguments {
            PathArguments::None => last.ident == "TaskContext" || last.ident == "TaskManager",
            PathArguments::AngleBracketed(arguments) => last.ident == "State" && arguments.args.len() == 1,
            PathArguments::Parenthesized(_) => false,
        }),
        _ => false,
    }
}

/// The name in a pattern `name` or `mut name`.
fn plain_name(pattern: &Pat) -> Option<Ident> {
    match pattern {
        Pat::Ident(name) if name.by_ref.is_none() && name.subpat.is_none() => Some(name.ident.clone()),
        Pat::Paren(paren) => plain_name(&paren.pat),
        _ => None,
    }
}

/// The only name in a pattern such as `State(db)`. It becomes the parameter's name in the public function.
fn outer_name(pattern: &Pat) -> Option<Ident> {
    match pattern {
        Pat::Ident(name) => Some(name.ident.clone()),
        Pat::Paren(paren) => outer_name(&paren.pat),
        Pat::TupleStruct(tuple) if tuple.elems.len() == 1 => outer_name(tuple.elems.first()?),
        _ => None,
    }
}
