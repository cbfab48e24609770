//! Encodes and decodes task arguments: a JSON object keyed by parameter name.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use serde::de::{self, DeserializeOwned, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, forward_to_deserialize_any};
use serde_json::value::RawValue;

use super::buffer::Buffer;
use crate::model::{AddError, lossless};

/// A type that can be a task argument: any owned type that serde can write and read back.
///
/// It is implemented for all such types; do not implement it by hand.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a task argument",
    label = "cannot be stored in the queue",
    note = "a task argument must implement `serde::Serialize` and `serde::de::DeserializeOwned`, and be `Send + Sync + 'static`; derive both on your own types inside `{Self}`",
    note = "a resource that the worker provides, such as a connection pool, is taken as `State<{Self}>`"
)]
pub trait TaskArg: Sized {
    #[doc(hidden)]
    fn put(&self, name: &'static str, arguments: &mut ArgumentWriter) -> Result<(), AddError>;
    #[doc(hidden)]
    fn take(name: &'static str, payload: &Payload<'_>) -> Result<Self, ArgumentError>;
    #[doc(hidden)]
    fn take_or_default(name: &'static str, payload: &Payload<'_>) -> Result<Self, ArgumentError>
    where
        Self: Default;
}

#[diagnostic::do_not_recommend]
impl<T: Serialize + DeserializeOwned + Send + Sync + 'static> TaskArg for T {
    fn put(&self, name: &'static str, arguments: &mut ArgumentWriter) -> Result<(), AddError> {
        arguments.put(name, self)
    }

    fn take(name: &'static str, payload: &Payload<'_>) -> Result<Self, ArgumentError> {
        match payload.find(name) {
            Some(json) => read(name, json),
            None => T::deserialize(Missing { name }).map_err(|error| ArgumentError::new(name, &error)),
        }
    }

    fn take_or_default(name: &'static str, payload: &Payload<'_>) -> Result<Self, ArgumentError>
    where
        Self: Default,
    {
        payload.find(name).map_or_else(|| Ok(Self::default()), |json| read(name, json))
    }
}

fn read<T: DeserializeOwned>(name: &'static str, json: &RawValue) -> Result<T, ArgumentError> {
    serde_json::from_str(json.get()).map_err(|error| ArgumentError::new(name, &error))
}

/// Writes arguments as one JSON object.
#[doc(hidden)]
#[derive(Debug)]
pub struct ArgumentWriter {
    task: &'static str,
    json: Buffer,
}

#[doc(hidden)]
impl ArgumentWriter {
    #[must_use]
    pub fn new(task: &'static str) -> Self {
        let mut json = Buffer::take();
        json.0.push(b'{');
        Self { task, json }
    }

    fn put<T: Serialize>(&mut self, argument: &'static str, value: &T) -> Result<(), AddError> {
        let refuse = |message: String| AddError::Argument { task: self.task, argument, message };
        let json = &mut self.json.0;
        if json.len() > 1 {
            json.push(b',');
        }
        serde_json::to_writer(&mut *json, argument).map_err(|error| refuse(error.to_string()))?;
        json.push(b':');
        lossless::write(json, value).map_err(refuse)
    }

    #[must_use]
    pub fn finish(mut self) -> Arc<str> {
        self.json.0.push(b'}');
        self.json.text().into()
    }
}

/// A stored payload: the arguments by name, not decoded yet.
#[doc(hidden)]
#[derive(Debug, Default)]
pub struct Payload<'a> {
    /// The first four arguments, without an allocation. Most tasks have no more.
    few: [Option<Stored<'a>>; 4],
    more: Vec<Stored<'a>>,
}

/// The key of an argument and its JSON.
type Stored<'a> = (Cow<'a, str>, &'a RawValue);

#[doc(hidden)]
impl<'a> Payload<'a> {
    pub fn parse(json: &'a str) -> Result<Self, ArgumentError> {
        serde_json::from_str(json).map_err(|error| ArgumentError {
            message: format!("its arguments are not a JSON object: {error}"),
        })
    }

    fn find(&self, name: &str) -> Option<&'a RawValue> {
        let mut stored = self.few.iter().flatten().chain(&self.more);
        stored.find(|(key, _)| key == name).map(|(_, json)| *json)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Payload<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Slots;
        impl<'de> Visitor<'de> for Slots {
            type Value = Payload<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object keyed by parameter name")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut payload = Payload::default();
                let mut free = payload.few.iter_mut();
                while let Some(Key(key)) = map.next_key()? {
                    let stored = (key, map.next_value()?);
                    match free.next() {
                        Some(slot) => *slot = Some(stored),
                        None => payload.more.push(stored),
                    }
                }
                Ok(payload)
            }
        }
        deserializer.deserialize_map(Slots)
    }
}

/// A key, borrowed if it contains no escapes.
struct Key<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Key<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl<'de> Visitor<'de> for Text {
            type Value = Cow<'de, str>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a parameter name")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Cow::Borrowed(text))
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Cow::Owned(text.to_owned()))
            }
        }
        deserializer.deserialize_str(Text).map(Key)
    }
}

/// The error of stored arguments that do not match the function's parameters.
#[doc(hidden)]
#[derive(Debug)]
pub struct ArgumentError {
    message: String,
}

impl ArgumentError {
    fn new(name: &str, error: &serde_json::Error) -> Self {
        Self { message: format!("argument `{name}` does not decode: {error}") }
    }
}

impl fmt::Display for ArgumentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// Deserializes an argument that is missing in the payload: an `Option` becomes `None`, every other type is an error. Decoding
/// a `null` instead would also accept `()`, `serde_json::Value` and untagged enums.
struct Missing {
    name: &'static str,
}

impl<'de> Deserializer<'de> for Missing {
    type Error = serde_json::Error;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Self::Error> {
        Err(de::Error::custom(format_args!("the payload has no `{}`", self.name)))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        visitor.visit_none()
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload<T>(read: impl FnOnce(&Payload<'_>) -> T) -> T {
        let mut writer = ArgumentWriter::new("t");
        "a\"b".to_owned().put("to", &mut writer).unwrap();
        Some(3_u128).put("n", &mut writer).unwrap();
        let json = writer.finish();
        assert_eq!(&*json, r#"{"to":"a\"b","n":3}"#);
        read(&Payload::parse(&json).unwrap())
    }

    #[test]
    fn arguments_are_found_by_name() {
        payload(|payload| {
            assert_eq!(String::take("to", payload).unwrap(), "a\"b");
            assert_eq!(<Option<u128> as TaskArg>::take("n", payload).unwrap(), Some(3));
        });
    }

    #[test]
    fn arguments_beyond_those_kept_in_place_are_found_too() {
        let payload = Payload::parse(r#"{"a":1,"b":2,"c":3,"d":4,"e":5,"f":6}"#).unwrap();
        let values = ["a", "b", "c", "d", "e", "f"].map(|name| u8::take(name, &payload).unwrap());
        assert_eq!(values, [1, 2, 3, 4, 5, 6]);
    }

    #[test]
    fn only_an_option_or_a_default_may_be_missing() {
        payload(|payload| {
            assert_eq!(<Option<u8> as TaskArg>::take("new", payload).unwrap(), None);
            assert_eq!(u8::take_or_default("new", payload).unwrap(), 0);
            for error in [
                u8::take("new", payload).unwrap_err(),
                <()>::take("new", payload).unwrap_err(),
                <serde_json::Value as TaskArg>::take("new", payload).unwrap_err(),
            ] {
                assert!(error.to_string().contains("the payload has no `new`"), "{error}");
            }
        });
    }

    #[test]
    fn a_payload_that_is_not_an_object_is_refused() {
        for json in ["[1]", "3", "", "{\"a\":", "null"] {
            assert!(Payload::parse(json).is_err(), "{json}");
        }
    }
}
