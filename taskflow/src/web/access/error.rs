/// Why an [`Access`](crate::web::Access) cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AccessError {
    /// A user's hash is not the text of an argon2 hash.
    #[error(
        "the password hash of `{user}` is not an argon2 hash in PHC format (`$argon2id$v=19$..`): make one with \
             `User::hash_password`"
    )]
    PasswordHash {
        /// The user.
        user: String,
    },
    /// A token's hash is not a SHA-256.
    #[error(
        "the hash of the token `{token}` is not a SHA-256 in 64 hexadecimal digits: make one with `Token::generate`"
    )]
    TokenHash {
        /// The token's name.
        token: String,
    },
    /// Two users or two tokens have the same name.
    #[error("two users, or two tokens, are named `{name}`")]
    Twice {
        /// The name.
        name: String,
    },
    /// A name is empty or longer than 128 bytes, or has control characters.
    #[error("a name has 1 to 128 bytes and no control characters")]
    Name,
}
