//! The HTTP API and the dashboard of a test's tasks.

use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderValue, header};
use axum::middleware::map_request;

use super::tasks::TestTasks;
use crate::web::{Access, Actor, Admin, Role};

impl TestTasks {
    /// The router of the API at `/api/v1`, and of the dashboard if the feature `dashboard` is on. Every request counts as sent
    /// by an actor named `test` with that role, and, unless its headers say otherwise, by a page of the site itself. So there
    /// is no login, and `tower::ServiceExt::oneshot` calls the router without a server.
    ///
    /// ```standalone_crate
    /// use axum::body::Body;
    /// use axum::http::Request;
    /// use taskflow::testing::TestTasks;
    /// use taskflow::web::Role;
    /// use tower::ServiceExt;
    ///
    /// #[taskflow::task]
    /// async fn ping() {}
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let t = TestTasks::new().start().await;
    /// let ping = t.manager().add_task(ping, ()).await?;
    ///
    /// let cancel = Request::post(format!("/api/v1/tasks/{ping}/cancel")).body(Body::empty())?;
    /// let answer = t.admin(Role::Viewer).oneshot(cancel).await?;
    /// assert_eq!(answer.status(), 403); // a viewer only looks
    ///
    /// let cancel = Request::post(format!("/api/v1/tasks/{ping}/cancel")).body(Body::empty())?;
    /// let answer = t.admin(Role::Operator).oneshot(cancel).await?;
    /// assert_eq!(answer.status(), 200);
    /// assert_eq!(t.record(&ping).status, taskflow::TaskStatus::Cancelled);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// To test the access and the options of your own [`Admin`], make it with [`manager`](Self::manager).
    pub fn admin(&self, role: Role) -> Router {
        let actor = Actor::new("test", role);
        let access = Access::from_request(move |_| std::future::ready(Some(actor.clone())));
        Admin::new(self.manager(), access).router().layer(map_request(from_own_site))
    }
}

/// Marks a request as sent by a page of the site, unless it has an `Origin` or a `Sec-Fetch-Site` header.
async fn from_own_site(mut request: Request) -> Request {
    let headers = request.headers_mut();
    if !headers.contains_key(header::ORIGIN) {
        headers.entry("sec-fetch-site").or_insert(HeaderValue::from_static("same-origin"));
    }
    request
}
