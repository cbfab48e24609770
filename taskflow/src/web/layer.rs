//! The layer that gives each request a hold, and ends the hold with the request.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::{HeaderMap, Request, Response};
use tower_layer::Layer;
use tower_service::Service;

use super::background::BackgroundTasks;
use super::request::EndGuard;
use super::response::ResponseBody;
use crate::manager::TaskManager;
use crate::model::{TaskSource, TraceContext};

impl TaskManager {
    /// The layer that lets axum handlers take [`BackgroundTasks`](crate::BackgroundTasks).
    ///
    /// Add it after the routes. Add a timeout layer later, so that it is outside of this one: an inner timeout layer that
    /// answers 5xx looks like a handler that answers 5xx, so the request's tasks would be cancelled.
    #[must_use]
    pub fn layer(&self) -> BackgroundTasksLayer {
        BackgroundTasksLayer { manager: self.clone() }
    }
}

/// The layer made by [`TaskManager::layer`].
#[derive(Clone, Debug)]
pub struct BackgroundTasksLayer {
    manager: TaskManager,
}

impl<S> Layer<S> for BackgroundTasksLayer {
    type Service = BackgroundTasksService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        BackgroundTasksService { inner, manager: self.manager.clone() }
    }
}

/// The service made by [`BackgroundTasksLayer`]. It gives each request its own [`BackgroundTasks`](crate::BackgroundTasks).
#[derive(Clone, Debug)]
pub struct BackgroundTasksService<S> {
    inner: S,
    manager: TaskManager,
}

impl<S, B, R> Service<Request<B>> for BackgroundTasksService<S>
where
    S: Service<Request<B>, Response = Response<R>>,
{
    type Response = Response<ResponseBody<R>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let hold = self.manager.hold_as(TaskSource::Request, trace_of(request.headers()));
        request.extensions_mut().insert(BackgroundTasks(hold.clone()));
        ResponseFuture { guard: Some(EndGuard(hold)), inner: Box::pin(self.inner.call(request)) }
    }
}

/// The trace that the caller of a request names. Several `tracestate` headers are one list.
pub(super) fn trace_of(headers: &HeaderMap) -> Option<TraceContext> {
    let mut parents = headers.get_all("traceparent").iter();
    let parent = parents.next()?.to_str().ok()?;
    if parents.next().is_some() {
        // Nobody knows which of them is the right one.
        return None;
    }
    let states = headers.get_all("tracestate").iter().map(|state| state.to_str().ok());
    let state = states.collect::<Option<Vec<_>>>().map(|states| states.join(","));
    TraceContext::from_headers(parent, state.as_deref())
}

/// The future of [`BackgroundTasksService`]. It ends the request's hold if the handler panics, fails or is dropped; otherwise the
/// body of the response ends it.
#[derive(Debug)]
pub struct ResponseFuture<F> {
    inner: Pin<Box<F>>,
    guard: Option<EndGuard>,
}

impl<F, R, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<R>, E>>,
{
    type Output = Result<Response<ResponseBody<R>>, E>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let held = &mut *self;
        let response = {
            // An outer layer may catch a panic and drop this future later, without a panic. So the panic is noticed here.
            let _passing = PanicPassing(&mut held.guard);
            held.inner.as_mut().poll(cx)
        };
        let response = ready!(response);
        let guard = held.guard.take();
        Poll::Ready(response.map(|response| {
            let status = response.status();
            response.map(|body| {
                if status.is_server_error()
                    && let Some(EndGuard(hold)) = &guard
                {
                    hold.cancel(format!("the handler that added it answered {}", status.as_u16()));
                }
                ResponseBody::new(body, guard)
            })
        }))
    }
}

/// Cancels the request's tasks if a panic unwinds through this frame.
struct PanicPassing<'a>(&'a mut Option<EndGuard>);

impl Drop for PanicPassing<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // The guard cancels the tasks when it is dropped during a panic.
            self.0.take();
        }
    }
}
