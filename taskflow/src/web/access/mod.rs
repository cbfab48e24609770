//! Access: how a request becomes an [`Actor`].

mod error;
mod loopback;
pub(super) mod secret;
pub(super) mod session;
mod tokens;
mod users;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use http::request::Parts;

use super::origin::bearer;
use super::problem::Problem;
use super::site::Site;
use crate::admin::{Actor, Role};

pub use error::AccessError;
pub use tokens::Token;
pub use users::User;

use loopback::Loopback;
use tokens::Tokens;
use users::Users;

/// Who may use the dashboard and the API. Each [`Admin`](super::Admin) needs one.
///
/// | | for |
/// |---|---|
/// | [`users`](Self::users) | people with a name and a password |
/// | [`tokens`](Self::tokens) | programs, with `Authorization: Bearer` |
/// | [`from_request`](Self::from_request) | the login of the host application: the best way if there is one |
/// | [`loopback`](Self::loopback) | development: everybody on this machine |
/// | [`open_to_anyone`](Self::open_to_anyone) | networks in which everybody may do everything |
///
/// ```
/// use taskflow::web::{Access, Role, Token, User};
///
/// # fn demo(ada: &str, grafana: &str) -> Result<Access, taskflow::web::AccessError> {
/// let access = Access::users([User::new("ada", ada, Role::Operator)])?
///     .or(Access::tokens([Token::new("grafana", grafana, Role::Metrics)])?);
/// # Ok(access)
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Access(Vec<Kind>);

#[derive(Clone)]
enum Kind {
    Users(Arc<Users>),
    Tokens(Arc<Tokens>),
    FromRequest(Arc<FromRequest>),
    Loopback(Actor),
    Open(Actor),
}

type FromRequest = dyn Fn(&Parts) -> Pin<Box<dyn Future<Output = Option<Actor>> + Send>> + Send + Sync;

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Users(_) => "users",
            Self::Tokens(_) => "tokens",
            Self::FromRequest(_) => "from_request",
            Self::Loopback(_) => "loopback",
            Self::Open(_) => "open_to_anyone",
        })
    }
}

impl Access {
    /// People who log in with a name and a password. Their sessions are kept in the store, so they are valid in every
    /// process that has the same users, and a logout ends them everywhere.
    ///
    /// # Errors
    /// If a password hash is not an argon2 hash, or a name is invalid or used twice.
    pub fn users(users: impl IntoIterator<Item = User>) -> Result<Self, AccessError> {
        Ok(Self(vec![Kind::Users(Arc::new(Users::new(users)?))]))
    }

    /// Programs that send `Authorization: Bearer` with a token.
    ///
    /// # Errors
    /// If the hash of a token is not a SHA-256, or a name is invalid or used twice.
    pub fn tokens(tokens: impl IntoIterator<Item = Token>) -> Result<Self, AccessError> {
        Ok(Self(vec![Kind::Tokens(Arc::new(Tokens::new(tokens)?))]))
    }

    /// The login of the host application: a function that finds the actor of a request, for example by the
    /// application's session or a header of its proxy. `None` means that it knows no actor: the request is
    /// refused with 401, unless another access (see [`or`](Self::or)) knows one.
    ///
    /// ```
    /// use taskflow::web::{Access, Actor, Role};
    ///
    /// let access = Access::from_request(|parts| {
    ///     let user = parts.extensions.get::<String>().cloned();
    ///     async move { Some(Actor::new(user?, Role::Operator)) }
    /// });
    /// # drop(access);
    /// ```
    pub fn from_request<F>(find: impl Fn(&Parts) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Option<Actor>> + Send + 'static,
    {
        Self(vec![Kind::FromRequest(Arc::new(move |parts| Box::pin(find(parts))))])
    }

    /// Everybody on this machine, as an [`Admin`](Role::Admin) named `loopback`: for development. Both the client's address and
    /// the `Host` that it asked for must be loopback, so that no web page can reach it by a name of its own. The server must
    /// provide the address: `into_make_service_with_connect_info::<SocketAddr>()`.
    #[must_use]
    pub fn loopback() -> Self {
        Self(vec![Kind::Loopback(Actor::new("loopback", Role::Admin))])
    }

    /// Everybody, as an [`Admin`](Role::Admin) named `anyone`. A warning is logged at the start and shown on every page.
    #[must_use]
    pub fn open_to_anyone() -> Self {
        Self(vec![Kind::Open(Actor::new("anyone", Role::Admin))])
    }

    /// Tries this access first, and then the other one, for requests in which this one finds no actor.
    #[must_use]
    pub fn or(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }

    pub(crate) fn is_open(&self) -> bool {
        self.0.iter().any(|kind| matches!(kind, Kind::Open(_)))
    }

    /// Whether people log in with a password here.
    #[cfg(feature = "dashboard")]
    pub(crate) fn has_users(&self) -> bool {
        self.some_users().is_some()
    }

    pub(super) fn some_users(&self) -> Option<&Users> {
        self.0.iter().find_map(|kind| match kind {
            Kind::Users(users) => Some(&**users),
            _ => None,
        })
    }

    /// The actor of a request; `None` if no access knows one.
    pub(in crate::web) async fn actor(&self, parts: &Parts, site: &Site) -> Result<Option<Actor>, Problem> {
        let mut refused = None;
        for kind in &self.0 {
            let actor = match kind {
                Kind::Users(users) => session::actor(users, parts, site).await?,
                Kind::Tokens(tokens) => bearer(parts).and_then(|token| tokens.actor(token)),
                Kind::FromRequest(find) => find(parts).await,
                Kind::Loopback(actor) => match Loopback::of(parts) {
                    Loopback::Is => Some(actor.clone()),
                    Loopback::IsNot(why) => {
                        refused = Some(why);
                        None
                    }
                },
                Kind::Open(actor) => Some(actor.clone()),
            };
            if actor.is_some() {
                return Ok(actor);
            }
        }
        match refused {
            // If there is another access, the answer is 401: then a person can log in, or a program send its token.
            Some(why) if self.0.len() == 1 => {
                Err(Problem::new(http::StatusCode::FORBIDDEN, "forbidden", "Only from this machine", why))
            }
            _ => Ok(None),
        }
    }
}
