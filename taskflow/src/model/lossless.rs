//! Writes JSON that reads back as the same value. A value that would read back differently is refused when it is written.
//! `serde_json` writes NaN and the infinities as `null`. It writes `Some(None)` and `Some(())` as `null`, which reads back as
//! `None`. It writes JSON of any depth, but reads at most 127 nested arrays and objects.

use std::{fmt, io};

use serde::ser::{self, Serialize, Serializer};
use serde_json::ser::Formatter;

use super::limits;

/// Appends `value` to `json`, or returns why it could not be read back.
pub(crate) fn write<T: Serialize>(json: &mut Vec<u8>, value: &T) -> Result<(), String> {
    let start = json.len();
    let mut serializer = serde_json::Serializer::with_formatter(&mut *json, Shallow { depth: 0 });
    value.serialize(&mut serializer).map_err(|error| error.to_string())?;
    check(&json[start..], value)
}

/// Writes compact JSON and stops at the depth limit, before the value's own recursion overflows the stack.
struct Shallow {
    depth: usize,
}

impl Shallow {
    fn enter(&mut self) -> io::Result<()> {
        self.depth += 1;
        if self.depth <= limits::DEPTH {
            return Ok(());
        }
        let limit = limits::DEPTH;
        Err(io::Error::other(format!("it nests arrays and objects deeper than {limit}, the limit")))
    }
}

impl Formatter for Shallow {
    fn begin_array<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.enter()?;
        writer.write_all(b"[")
    }

    fn end_array<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.depth -= 1;
        writer.write_all(b"]")
    }

    fn begin_object<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.enter()?;
        writer.write_all(b"{")
    }

    fn end_object<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.depth -= 1;
        writer.write_all(b"}")
    }
}

/// Checks that `value`, which was written as `json`, reads back as the same value. Every lossy value is written as `null`, so
/// JSON without `null` needs no further check.
fn check<T: Serialize>(json: &[u8], value: &T) -> Result<(), String> {
    if !json.windows(4).any(|four| four == b"null") {
        return Ok(());
    }
    value.serialize(Check).map(|_| ()).map_err(|Lossy(message)| message)
}

/// Whether a value is written as `null`.
#[derive(PartialEq)]
enum Shape {
    Null,
    Other,
}

#[derive(Debug)]
struct Lossy(String);

impl fmt::Display for Lossy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Lossy {}

impl ser::Error for Lossy {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self(message.to_string())
    }
}

/// A serializer that only checks a value and writes nothing.
struct Check;

fn number(finite: bool, value: f64) -> Result<Shape, Lossy> {
    if finite { Ok(Shape::Other) } else { Err(Lossy(format!("JSON has no {value}"))) }
}

macro_rules! plain {
    ($($name:ident: $type:ty),*) => {
        $(fn $name(self, _: $type) -> Result<Shape, Lossy> { Ok(Shape::Other) })*
    };
}

impl Serializer for Check {
    type Ok = Shape;
    type Error = Lossy;
    type SerializeSeq = Self;
    type SerializeTuple = Self;
    type SerializeTupleStruct = Self;
    type SerializeTupleVariant = Self;
    type SerializeMap = Self;
    type SerializeStruct = Self;
    type SerializeStructVariant = Self;

    plain! {
        serialize_bool: bool, serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64,
        serialize_i128: i128, serialize_u8: u8, serialize_u16: u16, serialize_u32: u32, serialize_u64: u64,
        serialize_u128: u128, serialize_char: char, serialize_str: &str, serialize_bytes: &[u8]
    }

    fn serialize_f32(self, value: f32) -> Result<Shape, Lossy> {
        number(value.is_finite(), value.into())
    }

    fn serialize_f64(self, value: f64) -> Result<Shape, Lossy> {
        number(value.is_finite(), value)
    }

    fn serialize_none(self) -> Result<Shape, Lossy> {
        Ok(Shape::Null)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<Shape, Lossy> {
        match value.serialize(Self)? {
            Shape::Null => {
                Err(Lossy("JSON cannot distinguish a `Some` that holds nothing from `None`".to_owned()))
            }
            Shape::Other => Ok(Shape::Other),
        }
    }

    fn serialize_unit(self) -> Result<Shape, Lossy> {
        Ok(Shape::Null)
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<Shape, Lossy> {
        Ok(Shape::Null)
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, _: &'static str) -> Result<Shape, Lossy> {
        Ok(Shape::Other)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<Shape, Lossy> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        value: &T,
    ) -> Result<Shape, Lossy> {
        value.serialize(self).map(|_| Shape::Other)
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Self, Lossy> {
        Ok(self)
    }

    fn serialize_tuple(self, _: usize) -> Result<Self, Lossy> {
        Ok(self)
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Self, Lossy> {
        Ok(self)
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self, Lossy> {
        Ok(self)
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Self, Lossy> {
        Ok(self)
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Self, Lossy> {
        Ok(self)
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self, Lossy> {
        Ok(self)
    }
}

macro_rules! compound {
    ($($trait:ident: $($method:ident($($key:ident: $type:ty)?)),+;)*) => {
        $(impl ser::$trait for Check {
            type Ok = Shape;
            type Error = Lossy;

            $(fn $method<T: Serialize + ?Sized>(&mut self, $($key: $type,)? value: &T) -> Result<(), Lossy> {
                $(let _ = $key;)?
                value.serialize(Check).map(|_| ())
            })+

            fn end(self) -> Result<Shape, Lossy> {
                Ok(Shape::Other)
            }
        })*
    };
}

compound! {
    SerializeSeq: serialize_element();
    SerializeTuple: serialize_element();
    SerializeTupleStruct: serialize_field();
    SerializeTupleVariant: serialize_field();
    SerializeMap: serialize_key(), serialize_value();
    SerializeStruct: serialize_field(key: &'static str);
    SerializeStructVariant: serialize_field(key: &'static str);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn outcome<T: Serialize>(value: &T) -> Result<(), String> {
        check(&serde_json::to_vec(value).unwrap(), value)
    }

    #[test]
    fn a_value_that_json_cannot_represent_is_found_at_any_depth() {
        assert!(outcome(&f64::NAN).unwrap_err().contains("JSON has no NaN"));
        assert!(outcome(&vec![Some((1, f32::NEG_INFINITY))]).unwrap_err().contains("-inf"));
        assert!(outcome(&BTreeMap::from([("a", [f64::INFINITY])])).is_err());
        assert!(outcome(&Some(Option::<u8>::None)).unwrap_err().contains("`Some`"));
        assert!(outcome(&[Some(())]).is_err());
    }

    #[test]
    fn a_real_null_and_a_text_that_contains_null_pass() {
        assert_eq!(outcome(&(Option::<u8>::None, (), "null", Some("null"), 1.5)), Ok(()));
        assert_eq!(outcome(&Some(vec![Option::<u8>::None])), Ok(()));
    }
}
