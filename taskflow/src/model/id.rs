//! Identities: of tasks, and of the processes that run them.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! uuid_newtype {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// A new id, greater than every one this process made before.
            #[must_use]
            #[expect(clippy::new_without_default, reason = "an id is made on purpose, never by default")]
            pub fn new() -> Self {
                Self(Uuid::now_v7())
            }

            /// The id as a [`Uuid`]'s 16 bytes, most significant first.
            #[must_use]
            pub fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }

            /// The id whose bytes these are, most significant first.
            #[must_use]
            pub fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(Uuid::from_bytes(bytes))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl From<Uuid> for $name {
            fn from(uuid: Uuid) -> Self {
                Self(uuid)
            }
        }

        impl From<$name> for Uuid {
            fn from(id: $name) -> Self {
                id.0
            }
        }
    };
}

uuid_newtype! {
    /// The identity of one task: a version 7 UUID, so ids sort by the time they were made, and those of one process
    /// only grow.
    ///
    /// ```
    /// use taskflow::TaskId;
    ///
    /// let first = TaskId::new();
    /// let second = TaskId::new();
    /// assert!(first < second);
    /// assert_eq!(first.to_string().parse::<TaskId>()?, first);
    /// # Ok::<(), taskflow::Error>(())
    /// ```
    TaskId
}

uuid_newtype! {
    /// The identity of one start of one process: random, so a process that comes back is another instance and can
    /// never be taken for the one that died.
    InstanceId
}
