//! Ids of tasks, and of the processes that run them.

use std::cmp::Ordering;
use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! uuid_newtype {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// A new id, greater than every id this process made before.
            #[must_use]
            #[expect(clippy::new_without_default, reason = "a new id must be requested explicitly, never by default")]
            pub fn new() -> Self {
                Self(Uuid::now_v7())
            }

            /// The 16 bytes of the id's [`Uuid`], most significant first.
            #[must_use]
            pub fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }

            /// The id with these bytes, most significant first.
            #[must_use]
            pub fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(Uuid::from_bytes(bytes))
            }
        }

        impl Ord for $name {
            /// Compares the ids as numbers. That is the order of their bytes, and faster than comparing the bytes.
            fn cmp(&self, other: &Self) -> Ordering {
                self.0.as_u128().cmp(&other.0.as_u128())
            }
        }

        impl PartialOrd for $name {
            fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
                Some(self.cmp(other))
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
    /// The id of one task: a version 7 UUID. Ids sort by creation time, and each id that a process makes is greater than the
    /// ids it made before.
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

impl TaskId {
    /// When the id was made, in milliseconds since the epoch; `None` for an id that is not of version 7.
    pub(crate) fn made_at_millis(self) -> Option<u64> {
        let bytes = self.as_bytes();
        let millis = bytes[..6].iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        (bytes[6] >> 4 == 7).then_some(millis)
    }
}

uuid_newtype! {
    /// The id of one start of one process: a version 7 UUID. A process that restarts gets a new id, so it is never mistaken for
    /// the instance that died.
    InstanceId
}
