//! Checks that a function can be a task, and extracts its parameters and return type.

mod function;
mod parameter;
mod types;

use quote::{ToTokens, quote};
use syn::ext::IdentExt;
use syn::{FnArg, ReturnType, Safety, Signature, Type};

pub(crate) use self::function::Function;
pub(crate) use self::parameter::{Parameter, Role};
use self::types::Place;
use crate::errors::Errors;
use crate::options::Attribute;

/// The parameters, return type and name of a function that can be a task.
pub(crate) struct Shape {
    pub(crate) parameters: Vec<Parameter>,
    pub(crate) output: Type,
    pub(crate) is_async: bool,
    /// The name of the function, which is the default name of the task.
    pub(crate) name: String,
}

/// The most parameters of a task: `TaskFn` is implemented for functions with up to 12.
const MAX_PARAMETERS: usize = 12;

impl Shape {
    /// The shape of `function`. If it cannot be a task, all reasons are added to `errors`.
    pub(crate) fn of(function: &Function, attribute: Attribute, errors: &mut Errors) -> Option<Self> {
        let sig = &function.sig;
        let before = errors.len();
        check_attributes(function, attribute, errors);
        check_qualifiers(sig, errors);
        let is_generic = check_generics(sig, errors);
        let mut parameters = Vec::new();
        for (position, input) in sig.inputs.iter().enumerate() {
            match input {
                FnArg::Receiver(receiver) => errors.at(
                    receiver,
                    format!(
                        "task `{}` cannot take `self`: it runs in another process, where this value does not exist\n\
                         help: pass the data it needs as owned arguments, or shared resources as `State<T>`",
                        sig.ident
                    ),
                ),
                // In a generic function, the generics most likely cause any further errors in the types.
                FnArg::Typed(_) if is_generic => {}
                FnArg::Typed(typed) => parameters.extend(Parameter::new(typed, position, errors)),
            }
        }
        if attribute == Attribute::Schedule {
            check_no_arguments(sig, &parameters, errors);
        }
        if let Some(extra) = sig.inputs.iter().nth(MAX_PARAMETERS) {
            let count = sig.inputs.len();
            errors.at(
                extra,
                format!("a task has at most {MAX_PARAMETERS} parameters, and this one has {count}\nhelp: put some in a struct"),
            );
        }
        let output = match &sig.output {
            ReturnType::Default => Type::Verbatim(quote!(())),
            ReturnType::Type(_, ty) => (**ty).clone(),
        };
        if !is_generic {
            types::check(&output, Place::Output, errors);
        }
        let shape = Self {
            parameters,
            output,
            is_async: sig.asyncness.is_some(),
            name: sig.ident.unraw().to_string(),
        };
        (errors.len() == before).then_some(shape)
    }

    /// Whether the function returns `()`, as far as its signature shows.
    pub(crate) fn returns_unit(&self) -> bool {
        match &self.output {
            Type::Verbatim(_) => true,
            Type::Tuple(tuple) => tuple.elems.is_empty(),
            _ => false,
        }
    }

    pub(crate) fn arguments(&self) -> impl Iterator<Item = (&Parameter, &str, bool)> {
        self.parameters.iter().filter_map(|parameter| match &parameter.role {
            Role::Argument { key, or_default } => Some((parameter, key.as_str(), *or_default)),
            Role::Injected => None,
        })
    }

    pub(crate) fn injected(&self) -> impl Iterator<Item = &Parameter> {
        self.parameters.iter().filter(|parameter| matches!(parameter.role, Role::Injected))
    }
}

/// Refuses a second `#[task]` or `#[schedule]` on the function.
fn check_attributes(function: &Function, attribute: Attribute, errors: &mut Errors) {
    for other in &function.attrs {
        let Some(last) = other.path().segments.last() else { continue };
        let message = match (attribute, last.ident.to_string().as_str()) {
            (Attribute::Task, "task") => "this function is already a task: give all options in one attribute",
            (_, "task" | "schedule") => {
                "a schedule is a task too\nhelp: give all options in one `#[schedule(..)]`"
            }
            _ => continue,
        };
        errors.at(other, message);
    }
}

fn check_qualifiers(sig: &Signature, errors: &mut Errors) {
    let mut refuse = |token: &dyn ToTokens, what: &str| {
        errors.at(
            token.to_token_stream(),
            format!("a task cannot be {what}: the worker calls it as a plain function"),
        );
    };
    if let Some(token) = &sig.constness {
        refuse(token, "`const`");
    }
    if let Safety::Unsafe(token) = &sig.safety {
        refuse(token, "`unsafe`");
    }
    if let Some(abi) = &sig.abi {
        refuse(abi, "`extern`");
    }
    if let Some(variadic) = &sig.variadic {
        refuse(variadic, "variadic");
    }
}

fn check_generics(sig: &Signature, errors: &mut Errors) -> bool {
    let generics = &sig.generics;
    if generics.lifetimes().next().is_some() && generics.type_params().next().is_none() {
        errors.at(
            generics,
            "a task cannot have lifetime parameters: its arguments are stored in the queue and outlive this call\n\
             help: use owned types",
        );
        return true;
    }
    if !generics.params.is_empty() {
        errors.at(
            generics,
            "a task cannot be generic: the worker finds it by one name and reads back one set of types\n\
             help: write one task for each type, calling a generic function",
        );
        return true;
    }
    if let Some(clause) = &generics.where_clause {
        errors.at(clause, "a task has no generics, so this `where` clause has no effect: remove it");
    }
    false
}

fn check_no_arguments(sig: &Signature, parameters: &[Parameter], errors: &mut Errors) {
    for parameter in parameters {
        if matches!(parameter.role, Role::Argument { .. }) {
            errors.push(syn::Error::new(
                parameter.ident.span(),
                format!(
                    "the schedule `{}` cannot take the argument `{}`: a tick has no arguments to pass\n\
                     help: take a shared resource as `State<T>`, and mark other provided values with `#[inject]`",
                    sig.ident, parameter.ident
                ),
            ));
        }
    }
}
