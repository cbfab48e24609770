//! The body of a response. It ends the request's hold when it has been sent.

use std::pin::Pin;
use std::task::{Context, Poll};

use http_body::{Body, Frame, SizeHint};

use super::request::EndGuard;

/// A response body that releases the request's tasks when it has been read to its end, or is dropped before.
#[derive(Debug)]
pub struct ResponseBody<B> {
    inner: Pin<Box<B>>,
    guard: Option<EndGuard>,
}

impl<B> ResponseBody<B> {
    pub(super) fn new(inner: B, guard: Option<EndGuard>) -> Self {
        Self { inner: Box::pin(inner), guard }
    }
}

impl<B: Body> Body for ResponseBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let frame = self.inner.as_mut().poll_frame(cx);
        if let Poll::Ready(None) = frame {
            // Dropping the guard ends the hold.
            self.guard = None;
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
