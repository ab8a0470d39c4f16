//! Attributes as the records keep them.

use crate::pb::common::{AnyValue, KeyValue, any_value};
use alloc::string::String;
use alloc::vec::Vec;

/// The value of an attribute (OTLP's `AnyValue`).
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Value {
    /// No value.
    Empty,
    /// A string.
    Str(String),
    /// A boolean.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// A floating-point number.
    Double(f64),
    /// Bytes.
    Bytes(Vec<u8>),
    /// Values in their order.
    Array(Vec<Value>),
    /// Named values in their order.
    Map(Vec<(String, Value)>),
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::Str(value.into())
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Self::Double(value)
    }
}

impl From<AnyValue> for Value {
    fn from(value: AnyValue) -> Self {
        match value.value {
            None => Self::Empty,
            Some(any_value::Value::StringValue(value)) => Self::Str(value),
            Some(any_value::Value::BoolValue(value)) => Self::Bool(value),
            Some(any_value::Value::IntValue(value)) => Self::Int(value),
            Some(any_value::Value::DoubleValue(value)) => Self::Double(value),
            Some(any_value::Value::BytesValue(value)) => Self::Bytes(value),
            Some(any_value::Value::ArrayValue(array)) => {
                Self::Array(array.values.into_iter().map(Self::from).collect())
            }
            Some(any_value::Value::KvlistValue(list)) => Self::Map(attributes(list.values)),
            // An index into a table of strings that only profiles have.
            Some(any_value::Value::StringValueStrindex(_)) => Self::Empty,
        }
    }
}

/// Attributes in their order.
pub(super) fn attributes(fields: Vec<KeyValue>) -> Vec<(String, Value)> {
    fields
        .into_iter()
        .map(|field| (field.key, field.value.map_or(Value::Empty, Value::from)))
        .collect()
}

/// The first value of this key.
pub(super) fn find<'a>(attributes: &'a [(String, Value)], key: &str) -> Option<&'a Value> {
    let mut values = attributes.iter().filter(|(known, _)| known == key);
    values.next().map(|(_, value)| value)
}
