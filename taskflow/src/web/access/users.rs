use std::sync::{Arc, LazyLock};

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use sha2::{Digest, Sha256};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use super::error::AccessError;
use super::secret::{check_name, hex, random};
use crate::admin::{Actor, Role};
use crate::seam::Seam;

/// How many passwords are checked at once. Each takes a core and 19 MiB for some 20 ms.
const AT_ONCE: usize = 2;

/// A person who logs in with a password.
///
/// ```
/// use taskflow::web::{Access, Role, User};
///
/// let hash = User::hash_password("correct horse battery staple");
/// let access = Access::users([User::new("ada", hash, Role::Operator)])?;
/// # drop(access);
/// # Ok::<(), taskflow::web::AccessError>(())
/// ```
#[derive(Clone, Debug)]
pub struct User {
    hash: String,
    actor: Actor,
}

impl User {
    /// A user with a name, the argon2 hash of the password in PHC format, and a role.
    pub fn new(name: impl Into<Arc<str>>, password_hash: impl Into<String>, role: Role) -> Self {
        Self::of(password_hash, Actor::new(name, role))
    }

    /// A user with chosen permissions.
    pub fn of(password_hash: impl Into<String>, actor: Actor) -> Self {
        Self { hash: password_hash.into(), actor }
    }

    /// The argon2id hash of a password, in PHC format. It takes some 20 ms and 19 MiB.
    #[must_use]
    pub fn hash_password(password: &str) -> String {
        let hash = Argon2::default().hash_password(password.as_bytes());
        hash.expect("the default parameters are valid").to_string()
    }
}

pub(crate) struct Users {
    users: Vec<User>,
    checks: Semaphore,
}

impl std::fmt::Debug for Users {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.users.iter().map(|user| user.actor.name())).finish()
    }
}

/// The hash of a random password, so that the check of an unknown name takes as long as that of a known one.
static NOBODY: LazyLock<String> = LazyLock::new(|| User::hash_password(&hex(&random())));

impl Users {
    pub(super) fn new(users: impl IntoIterator<Item = User>) -> Result<Self, AccessError> {
        let mut all: Vec<User> = Vec::new();
        for user in users {
            let name = user.actor.name();
            check_name(name, all.iter().map(|user| user.actor.name()))?;
            let is_argon2 = |hash: PasswordHash| hash.algorithm.as_str().starts_with("argon2");
            if !PasswordHash::new(&user.hash).is_ok_and(is_argon2) {
                return Err(AccessError::PasswordHash { user: name.to_owned() });
            }
            all.push(user);
        }
        LazyLock::force(&NOBODY);
        Ok(Self { users: all, checks: Semaphore::new(AT_ONCE) })
    }

    /// The user of this name, if this is the right password. It takes as long for a name that does not exist.
    pub(crate) async fn check(&self, seam: &Seam, name: &str, password: String) -> Option<&User> {
        let user = self.find(name);
        let hash = user.map_or_else(|| NOBODY.clone(), |user| user.hash.clone());
        let _one = self.checks.acquire().await.ok()?;
        let check = move || Argon2::default().verify_password(password.as_bytes(), hash.as_str()).is_ok();
        let is_right = seam.spawn_blocking(&Handle::current(), check).await.unwrap_or(false);
        user.filter(|_| is_right)
    }

    pub(crate) fn find(&self, name: &str) -> Option<&User> {
        self.users.iter().find(|user| user.actor.name() == name)
    }
}

impl User {
    pub(crate) fn actor(&self) -> &Actor {
        &self.actor
    }

    /// A hash of the password hash: it changes with the password.
    pub(crate) fn password(&self) -> String {
        hex(&Sha256::digest(&self.hash)[..16])
    }
}
