//! Encryption at rest: keys, key rings, and the choice of what is encrypted. With the feature `encryption`.
//!
//! A manager that was built with [`encrypt`](crate::TaskManagerBuilder::encrypt) *seals* (encrypts) arguments and results with
//! XChaCha20-Poly1305, and *opens* (decrypts) them in the process that runs the task or waits for it. The store, retries,
//! recovery and the dashboard never need a key. `docs/encryption.md` says what is sealed and what is not, and how keys are
//! rotated.
//!
//! ```standalone_crate
//! use taskflow::TaskManager;
//! use taskflow::crypt::{Encrypt, Key, Keyring};
//!
//! # #[taskflow::task] async fn greet(name: String) -> Result<String, String> { Ok(format!("hello, {name}")) }
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // A service would read its keys: `Key::from_env("TASKFLOW_KEY_2026")?`.
//! let (new, old) = (Key::generate(), Key::generate());
//! let keys = Keyring::new(new).also(old);
//!
//! let tasks = TaskManager::builder().encrypt(Encrypt::new(keys)).start().await?;
//! let handle = tasks.add(greet("Ada".to_owned())).await?;
//! assert_eq!(handle.wait().await?, "hello, Ada");
//!
//! let record = tasks.get(handle.id()).await?.expect("it is kept for a week");
//! assert!(!record.args.get().contains("Ada"));
//! assert_eq!(tasks.open(&record)?.args.get(), r#"{"name":"Ada"}"#);
//! # Ok(())
//! # }
//! ```

mod encrypt;
mod envelope;
mod error;
mod key;
mod rewrapped;
mod ring;

pub use encrypt::Encrypt;
pub(crate) use envelope::{Bound, Envelope, Field, Owner, Place, seal};
pub use error::{KeyError, OpenError};
pub use key::Key;
pub use rewrapped::Rewrapped;
pub use ring::{Keyring, Keys};
