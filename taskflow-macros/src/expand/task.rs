//! Generates the item: a function with the user's name, visibility, documentation and parameters. It returns a call, and its
//! body contains the task type.

use proc_macro2::{Delimiter, Group, Span, TokenStream};
use quote::{ToTokens, TokenStreamExt, format_ident, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Ident, Type};

use super::{config, text};
use crate::options::Options;
use crate::signature::{Function, Role, Shape};

pub(super) struct Expansion<'a> {
    function: &'a Function,
    shape: &'a Shape,
    options: &'a Options,
    name: &'a str,
    krate: TokenStream,
    argument_types: Vec<&'a Type>,
    injected_types: Vec<&'a Type>,
}

impl<'a> Expansion<'a> {
    pub(super) fn new(function: &'a Function, shape: &'a Shape, options: &'a Options) -> Self {
        Self {
            function,
            shape,
            options,
            name: options.name.as_deref().unwrap_or(&shape.name),
            krate: options.krate.as_ref().map_or_else(|| quote!(::taskflow), ToTokens::to_token_stream),
            argument_types: shape.arguments().map(|(parameter, ..)| &parameter.ty).collect(),
            injected_types: shape.injected().map(|parameter| &parameter.ty).collect(),
        }
    }

    /// The user's function, verbatim. It is an *associated* function, so its name is not in lexical scope. Therefore that name
    /// inside its body still means the task, and the function can call itself or add itself again.
    fn body(&self) -> TokenStream {
        let Function { sig, body, .. } = self.function;
        let (_, attrs) = self.function.split_attributes();
        quote! {
            impl __TaskflowTask {
                #(#attrs)*
                // The form of a task forces the user to write code that these lints refuse.
                #[allow(clippy::needless_pass_by_value, clippy::unnecessary_wraps, clippy::unused_async)]
                #sig #body
            }
        }
    }

    fn descriptor(&self) -> TokenStream {
        let krate = &self.krate;
        let config = config::config(self.options, self.name, krate);
        let parameters = self.shape.arguments().map(|(parameter, key, or_default)| {
            let type_text = text::of_type(&parameter.ty);
            let is_optional = or_default || text::is_option(&parameter.ty);
            quote!(#krate::task::Parameter::new(#key, #type_text, #is_optional))
        });
        let with_summary = text::summary(&self.function.attrs).map(|line| quote!(.with_summary(#line)));
        let of = if self.shape.is_async { quote!(of) } else { quote!(of_blocking) };
        let with_schedule = config::schedule(&self.options.schedule, krate).map(|spec| {
            quote! {
                .with_schedule({
                    const SCHEDULE: &#krate::__private::ScheduleSpec = &#spec;
                    SCHEDULE
                })
            }
        });
        quote! {
            const DESCRIPTOR: &'static #krate::task::Descriptor = {
                const CONFIG: &#krate::task::TaskConfig = &#config;
                &#krate::task::Descriptor::#of::<Self>(
                    CONFIG,
                    &[#(#parameters),*],
                    #krate::task::Location {
                        module: ::core::module_path!(),
                        file: ::core::file!(),
                        line: ::core::line!(),
                    },
                )
                #with_summary
                #with_schedule
            };
        }
    }

    /// `call`, and for a synchronous function also `call_blocking`.
    fn calls(&self) -> (TokenStream, Option<TokenStream>) {
        let krate = &self.krate;
        let name = &self.function.sig.ident;
        let (mut arguments, mut injected, mut all) = (Vec::new(), Vec::new(), Vec::new());
        for (at, parameter) in self.shape.parameters.iter().enumerate() {
            let local = format_ident!("value{at}", span = Span::mixed_site());
            all.push(local.clone());
            match parameter.role {
                Role::Argument { .. } => arguments.push(local),
                Role::Injected => injected.push(local),
            }
        }
        let (arguments, injected) = (tuple(&arguments), tuple(&injected));
        let takes = quote!(#injected: Self::Injected, #arguments: Self::Args);
        let call = if self.shape.is_async {
            // Only this code requires the future to be `Send`. The span shows that error at the function's name.
            quote_spanned!(name.span()=> ::std::boxed::Box::pin(Self::#name(#(#all),*)))
        } else {
            quote!(::std::boxed::Box::pin(async move { Self::#name(#(#all),*) }))
        };
        let call = quote! {
            fn call(#takes) -> #krate::task::BoxFuture<'static, Self::Output> {
                #call
            }
        };
        let blocking = (!self.shape.is_async).then(|| {
            quote! {
                impl #krate::task::BlockingTask for __TaskflowTask {
                    fn call_blocking(#takes) -> Self::Output {
                        Self::#name(#(#all),*)
                    }
                }
            }
        });
        (call, blocking)
    }

    /// `encode` and `decode` for the stored arguments. Only the trait's path has the span of the argument's type.
    fn coding(&self) -> TokenStream {
        let (krate, task) = (&self.krate, self.name);
        let writer = Ident::new("writer", Span::mixed_site());
        let args = Ident::new("args", Span::mixed_site());
        let payload = Ident::new("payload", Span::mixed_site());
        let mut puts = Vec::new();
        let mut takes = Vec::new();
        for (at, (parameter, key, or_default)) in self.shape.arguments().enumerate() {
            let (ty, at) = (&parameter.ty, syn::Index::from(at));
            let put = quote_spanned!(ty.span()=> <#ty as #krate::task::TaskArg>::put);
            let take = if or_default {
                quote_spanned!(ty.span()=> <#ty as #krate::task::TaskArg>::take_or_default)
            } else {
                quote_spanned!(ty.span()=> <#ty as #krate::task::TaskArg>::take)
            };
            puts.push(quote!(#put(&#args.#at, #key, &mut #writer)?;));
            takes.push(quote!(#take(#key, #payload)?));
        }
        let (mutable, args_name, payload_name) = if puts.is_empty() {
            (None, quote!(_), quote!(_))
        } else {
            (Some(quote!(mut)), quote!(#args), quote!(#payload))
        };
        let taken = tuple(&takes);
        quote! {
            fn encode(#args_name: &Self::Args)
                -> ::core::result::Result<::std::sync::Arc<::core::primitive::str>, #krate::AddError>
            {
                let #mutable #writer = #krate::__private::ArgumentWriter::new(#task);
                #(#puts)*
                ::core::result::Result::Ok(#writer.finish())
            }

            fn decode(#payload_name: &#krate::__private::Payload<'_>)
                -> ::core::result::Result<Self::Args, #krate::__private::ArgumentError>
            {
                ::core::result::Result::Ok(#taken)
            }
        }
    }

    /// `inject` and `needs` for the values that the worker provides.
    fn injection(&self) -> TokenStream {
        let krate = &self.krate;
        let context = Ident::new("context", Span::mixed_site());
        let needs = Ident::new("needs", Span::mixed_site());
        let mut values = Vec::new();
        let mut notes = Vec::new();
        for ty in &self.injected_types {
            let from_context = quote_spanned!(ty.span()=> <#ty as #krate::FromContext>::from_context);
            let note = quote_spanned!(ty.span()=> <#ty as #krate::FromContext>::needs);
            values.push(quote!(#from_context(#context)?));
            notes.push(quote!(#note(#needs);));
        }
        let (context_name, needs_name) =
            if values.is_empty() { (quote!(_), quote!(_)) } else { (quote!(#context), quote!(#needs)) };
        let values = tuple(&values);
        quote! {
            fn inject(#context_name: &#krate::TaskContext)
                -> ::core::result::Result<Self::Injected, #krate::task::ContextError>
            {
                ::core::result::Result::Ok(#values)
            }

            fn needs(#needs_name: &mut #krate::task::Needs) {
                #(#notes)*
            }
        }
    }

    /// `<Output as TaskOutput>::name`, with spans that show errors at the output type.
    fn projection(&self, name: &str) -> TokenStream {
        let (krate, output) = (&self.krate, &self.shape.output);
        let ends = Ends::of(output);
        let (open, name) = (ends.open(), ends.name(name));
        quote!(#open #output as #krate::task::TaskOutput>::#name)
    }

    /// `Call<impl Task<..>>`, with spans that show errors at the output type.
    fn returned(&self, arguments: &Group, injected: &Group, value: &TokenStream) -> TokenStream {
        let output = &self.shape.output;
        let ends = Ends::of(output);
        let krate = match &self.options.krate {
            Some(krate) => krate.to_token_stream(),
            None => quote_spanned!(ends.first=> ::taskflow),
        };
        let kind = Ident::new(if self.shape.is_async { "Task" } else { "BlockingTask" }, ends.first);
        let bound = quote_spanned! { ends.first=>
            #krate::Call<impl #krate::task::#kind<
                Args = #arguments, Injected = #injected, Output = #output, Value = #value,
        };
        let close = ends.close();
        quote!(#bound #close #close)
    }

    /// `outcome`: converts the returned value.
    fn outcome(&self) -> TokenStream {
        let krate = &self.krate;
        let returned = Ident::new("returned", Span::mixed_site());
        let error = Ident::new("error", Span::mixed_site());
        let retry_if = Ident::new("retry_if", Span::mixed_site());
        let (into_outcome, error_type) = (self.projection("into_outcome"), self.projection("Error"));
        let (judge, retry) = match self.options.retry_if.as_ref().filter(|_| !self.shape.returns_unit()) {
            Some(path) => (
                Some(quote!(let #retry_if: fn(&#error_type) -> ::core::primitive::bool = #path;)),
                quote!(#retry_if(#error)),
            ),
            None => (None, quote!(true)),
        };
        let judged = quote! {
            #returned,
            |#error| {
                #[allow(unused_imports)]
                use #krate::__private::{
                    ViaBoxedError as _, ViaDisplay as _, ViaError as _, ViaNothing as _, ViaTaskError as _,
                };
                #judge
                #krate::__private::TaskOutcome::failure(
                    (&&&&&#krate::__private::Probe(#error)).report(),
                    #retry,
                )
            }
        };
        let judged = Ends::of(&self.shape.output).parentheses(&judged);
        quote! {
            fn outcome(#returned: Self::Output) -> #krate::__private::TaskOutcome {
                #into_outcome #judged
            }
        }
    }
}

impl ToTokens for Expansion<'_> {
    fn to_tokens(&self, tokens: &mut TokenStream) {
        let Self { krate, argument_types, injected_types, .. } = self;
        let Function { vis, sig, .. } = self.function;
        let (attrs, _) = self.function.split_attributes();
        let (name, output) = (&sig.ident, &self.shape.output);
        let parameters = self.shape.parameters.iter().map(|parameter| {
            let (ident, ty) = (&parameter.ident, &parameter.ty);
            quote!(#ident: #ty)
        });
        let arguments: Vec<_> = self.shape.arguments().map(|(parameter, ..)| &parameter.ident).collect();
        let injected: Vec<_> = self.shape.injected().map(|parameter| &parameter.ident).collect();
        let (arguments, injected) = (tuple(&arguments), tuple(&injected));
        let list = sig.paren_token.span.join();
        let (argument_types, injected_types) =
            (tuple_at(list, argument_types), tuple_at(list, injected_types));
        let value = self.projection("Value");
        let ends = Ends::of(output);
        let (kept, keyword, semicolon) = (ends.name("Value"), ends.type_keyword(), ends.semicolon());
        let value_item = quote!(#keyword #kept = #value #semicolon);
        let returned = self.returned(&argument_types, &injected_types, &value);

        let body = self.body();
        let descriptor = self.descriptor();
        let (call, blocking) = self.calls();
        let coding = self.coding();
        let injection = self.injection();
        let outcome = self.outcome();
        let middleware = config::middleware(self.options, krate);

        tokens.append_all(quote! {
            #(#attrs)*
            // The user cannot shorten the list of parameters or the generated return type.
            #[allow(clippy::too_many_arguments, clippy::type_complexity)]
            #vis fn #name(#(#parameters),*) -> #returned {
                struct __TaskflowTask;

                #middleware

                #body

                impl #krate::Task for __TaskflowTask {
                    type Args = #argument_types;
                    type Injected = #injected_types;
                    type Output = #output;
                    #value_item

                    #descriptor
                    #call
                    #coding
                    #injection
                    #outcome
                }

                #blocking

                #krate::__private::inventory::submit! {
                    #krate::__private::Registration(<__TaskflowTask as #krate::Task>::DESCRIPTOR)
                }

                #krate::Call::<__TaskflowTask>::new(#injected, #arguments)
            }
        });
    }
}

/// The spans of the first and the last token of a type. The compiler shows code with these spans as that type. So an error of the
/// type that the compiler finds in several places is reported only once.
struct Ends {
    first: Span,
    last: Span,
}

impl Ends {
    fn of(ty: &Type) -> Self {
        let mut spans = ty.to_token_stream().into_iter().map(|token| token.span());
        let first = spans.next().unwrap_or_else(Span::call_site);
        Self { first, last: spans.last().unwrap_or(first) }
    }

    fn open(&self) -> TokenStream {
        quote_spanned!(self.first=> <)
    }

    fn close(&self) -> TokenStream {
        quote_spanned!(self.last=> >)
    }

    fn type_keyword(&self) -> TokenStream {
        quote_spanned!(self.first=> type)
    }

    fn name(&self, name: &str) -> Ident {
        Ident::new(name, self.last)
    }

    fn semicolon(&self) -> TokenStream {
        quote_spanned!(self.last=> ;)
    }

    fn parentheses(&self, inner: &impl ToTokens) -> Group {
        let mut group = Group::new(Delimiter::Parenthesis, inner.to_token_stream());
        group.set_span(self.last);
        group
    }
}

/// A tuple with the span at which errors are shown.
fn tuple_at<T: ToTokens>(span: Span, elements: &[T]) -> Group {
    let mut group = Group::new(Delimiter::Parenthesis, quote!(#(#elements,)*));
    group.set_span(span);
    group
}

/// `()`, `(a,)`, `(a, b,)`.
fn tuple<T: ToTokens>(elements: &[T]) -> TokenStream {
    quote!((#(#elements,)*))
}
