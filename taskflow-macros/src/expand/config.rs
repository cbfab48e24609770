//! Generates the constants with the options. The descriptor points to them.

use std::time::Duration;

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::spanned::Spanned;

use crate::options::{Missed, Options, Overlap, Schedule, Trigger};

/// `TaskConfig::new(..)`, followed by a setter for each option that the attribute gives.
pub(super) fn config(options: &Options, name: &str, krate: &TokenStream) -> TokenStream {
    let mut config = quote!(#krate::task::TaskConfig::new(#name));
    let mut set = |option: TokenStream| config.extend(option);
    if !options.aliases.is_empty() {
        let aliases = &options.aliases;
        set(quote!(.aliases(&[#(#aliases),*])));
    }
    options.retries.iter().for_each(|it| set(quote!(.retries(#it))));
    options.backoff.iter().for_each(|it| set(quote!(.backoff(#it))));
    options.jitter.iter().for_each(|it| set(quote!(.jitter(#it))));
    options.priority.iter().for_each(|it| set(quote!(.priority(#it))));
    options.queue.iter().for_each(|it| set(quote!(.queue(#it))));
    options.eager.iter().for_each(|it| set(quote!(.eager(#it))));
    options.requeue_on_interrupt.iter().for_each(|it| set(quote!(.requeue_on_interrupt(#it))));
    options.max_snoozes.iter().for_each(|it| set(quote!(.max_snoozes(#it))));
    options.max_lost_runs.iter().for_each(|it| set(quote!(.max_lost_runs(#it))));
    if !options.middleware.is_empty() {
        set(quote!(.middleware(__TASKFLOW_MIDDLEWARE)));
    }
    options.encrypt.iter().for_each(|it| set(quote!(.encrypt(#it))));
    for (length, setter) in [
        (options.delay, quote!(delay)),
        (options.max_delay, quote!(max_delay)),
        (options.timeout, quote!(timeout)),
    ] {
        if let Some(length) = length.map(duration) {
            set(quote!(.#setter(#length)));
        }
    }
    config
}

/// The item with the middleware of the task, if it has any. It is outside the task's type, whose names could hide the paths.
pub(super) fn middleware(options: &Options, krate: &TokenStream) -> Option<TokenStream> {
    let values = options.middleware.iter().map(|path| {
        quote_spanned! { path.span()=>
            || -> &'static dyn #krate::observe::Middleware { &#path }
        }
    });
    (!options.middleware.is_empty()).then(|| {
        quote! {
            const __TASKFLOW_MIDDLEWARE: &[#krate::model::TaskMiddleware] = &[#(#values),*];
        }
    })
}

/// `ScheduleSpec::new(..)` with its setters; `None` if there is no trigger.
pub(super) fn schedule(schedule: &Schedule, krate: &TokenStream) -> Option<TokenStream> {
    let private = quote!(#krate::__private);
    let mut spec = match schedule.trigger.as_ref()? {
        Trigger::Every(length) => {
            let length = duration(*length);
            quote!(#private::ScheduleSpec::new(#private::Trigger::Every(#length)))
        }
        Trigger::Cron(expression) => {
            quote!(#private::ScheduleSpec::new(#private::Trigger::Cron(#expression)))
        }
    };
    if let Some(zone) = &schedule.timezone {
        spec.extend(quote!(.timezone(#zone)));
    }
    if schedule.run_on_startup {
        spec.extend(quote!(.run_on_startup(true)));
    }
    match schedule.missed {
        Missed::Skip => spec.extend(quote!(.missed(#private::Missed::Skip))),
        Missed::One => {}
        Missed::All => spec.extend(quote!(.missed(#private::Missed::All))),
    }
    match schedule.overlap {
        Overlap::Allow => {}
        Overlap::Skip => spec.extend(quote!(.overlap(#private::Overlap::Skip))),
    }
    Some(spec)
}

fn duration(length: Duration) -> TokenStream {
    let (seconds, nanos) = (length.as_secs(), length.subsec_nanos());
    quote!(::core::time::Duration::new(#seconds, #nanos))
}
