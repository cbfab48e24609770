//! Checks the types of a signature: no borrowed types, no `impl Trait`, no `Self`.

use quote::ToTokens;
use syn::{GenericArgument, Lifetime, Path, PathArguments, Type, TypeReference};

use crate::errors::Errors;

/// The place of a type in the signature.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// An argument. It is decoded from the payload, so it cannot borrow anything.
    Argument,
    /// A value that the worker provides.
    Injected,
    /// The return type.
    Output,
}

/// Reports the first part of a type that is not allowed at `place`.
pub(super) fn check(ty: &Type, place: Place, errors: &mut Errors) {
    let before = errors.len();
    walk(ty, &mut |part| {
        if errors.len() == before {
            report(part, place, errors);
        }
    });
}

#[derive(Clone, Copy)]
enum Part<'a> {
    Reference(&'a TypeReference),
    Lifetime(&'a Lifetime),
    Impl(&'a Type),
    SelfType(&'a Path),
    Cow(&'a Path),
}

fn report(part: Part<'_>, place: Place, errors: &mut Errors) {
    match part {
        Part::Reference(reference) => {
            let is_static = reference.lifetime.as_ref().is_some_and(|lifetime| lifetime.ident == "static");
            match place {
                Place::Argument => errors.at(
                    reference,
                    format!(
                        "a task argument must be owned: it is stored in the queue and outlives this call\n\
                         help: use `{}` instead",
                        owned(reference)
                    ),
                ),
                Place::Injected if !is_static => errors.at(
                    reference,
                    format!("a task outlives its caller, so it cannot borrow\nhelp: use `{}` instead", owned(reference)),
                ),
                Place::Output if !is_static => errors.at(
                    reference,
                    format!("the return type of a task must be owned\nhelp: use `{}` instead", owned(reference)),
                ),
                Place::Injected | Place::Output => {}
            }
        }
        Part::Lifetime(lifetime) if lifetime.ident != "static" => {
            errors.at(lifetime, "a task cannot borrow: it is stored in the queue and outlives this call\nhelp: use an owned type, or `'static`");
        }
        Part::Lifetime(_) => {}
        Part::Impl(ty) if place == Place::Output => errors.at(
            ty,
            "a task must name its return type: `()` or `Result<T, E>`\nhelp: for a function that returns a future, write `async fn`",
        ),
        Part::Impl(ty) => errors.at(
            ty,
            "a task needs a concrete type here: it is read back from the queue\nhelp: name the type, such as `String` for `impl Into<String>`",
        ),
        Part::SelfType(path) => errors.at(
            path,
            "a task cannot name `Self`: it is its own type, apart from the `impl` around it\nhelp: write the type's name",
        ),
        Part::Cow(path) => errors.at(
            path,
            "a task argument must be owned: it is stored in the queue and outlives this call\nhelp: write the lifetime, `Cow<'static, ..>`, or use an owned type",
        ),
    }
}

/// The owned type to suggest for a borrowed one: the known owned counterpart, or the referenced type itself.
fn owned(reference: &TypeReference) -> String {
    match &*reference.elem {
        Type::Slice(slice) => format!("Vec<{}>", spelled(&slice.elem)),
        Type::Path(path) => {
            let known = path.path.segments.last().and_then(|last| match last.ident.to_string().as_str() {
                "str" => Some("String"),
                "Path" => Some("PathBuf"),
                "OsStr" => Some("OsString"),
                "CStr" => Some("CString"),
                _ => None,
            });
            known.map_or_else(|| spelled(&reference.elem), str::to_owned)
        }
        elem => spelled(elem),
    }
}

/// A type as it is usually written, without the extra spaces of its tokens.
fn spelled(ty: &impl ToTokens) -> String {
    let text = ty.to_token_stream().to_string();
    [(" <", "<"), ("< ", "<"), (" >", ">"), (" ::", "::"), (":: ", "::"), (" ,", ","), ("& ", "&")]
        .iter()
        .fold(text, |text, (from, to)| text.replace(from, to))
}

/// Calls `see` with each part of a type that may be wrong, from the outside in. Nothing inside a `dyn Trait` or a `fn` pointer is
/// checked.
fn walk<'a>(ty: &'a Type, see: &mut dyn FnMut(Part<'a>)) {
    match ty {
        Type::Array(array) => walk(&array.elem, see),
        Type::Group(group) => walk(&group.elem, see),
        Type::Paren(paren) => walk(&paren.elem, see),
        Type::Slice(slice) => walk(&slice.elem, see),
        Type::Tuple(tuple) => tuple.elems.iter().for_each(|elem| walk(elem, see)),
        Type::ImplTrait(_) => see(Part::Impl(ty)),
        Type::Reference(reference) => {
            see(Part::Reference(reference));
            walk(&reference.elem, see);
        }
        Type::Path(path) => {
            if let Some(qself) = &path.qself {
                walk(&qself.ty, see);
            }
            if path.path.segments.first().is_some_and(|first| first.ident == "Self") {
                see(Part::SelfType(&path.path));
            }
            walk_path(&path.path, see);
        }
        _ => {}
    }
}

fn walk_path<'a>(path: &'a Path, see: &mut dyn FnMut(Part<'a>)) {
    for segment in &path.segments {
        let PathArguments::AngleBracketed(arguments) = &segment.arguments else { continue };
        let has_lifetime =
            arguments.args.iter().any(|argument| matches!(argument, GenericArgument::Lifetime(_)));
        if segment.ident == "Cow" && !has_lifetime {
            see(Part::Cow(path));
        }
        for argument in &arguments.args {
            match argument {
                GenericArgument::Lifetime(lifetime) => see(Part::Lifetime(lifetime)),
                GenericArgument::Type(ty) => walk(ty, see),
                GenericArgument::AssocType(binding) => walk(&binding.ty, see),
                _ => {}
            }
        }
    }
}
