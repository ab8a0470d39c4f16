//! Attribute values of every kind, for the exporter's writers and for the manifest.

use otlp_embed::encode::{IntoValue, ValueWriter, Written};
use serde_json::json;
use std::sync::Arc;

/// A value.
pub enum Value {
    Text(String),
    /// Text that the request refers to, and does not copy.
    Shared(Arc<str>),
    Int(i64),
    Double(f64),
    Bool(bool),
    Bytes(Vec<u8>),
    List(Vec<Value>),
    Map(Vec<(&'static str, Value)>),
}

impl Value {
    /// The value in the form of `records.py`.
    pub fn to_json(&self) -> serde_json::Value {
        match self {
            Self::Text(text) => json!({ "string": text }),
            Self::Shared(text) => json!({ "string": **text }),
            Self::Int(int) => json!({ "int": int.to_string() }),
            Self::Double(double) => json!({ "double": double }),
            Self::Bool(bool) => json!({ "bool": bool }),
            Self::Bytes(bytes) => json!({ "bytes": hex(bytes) }),
            Self::List(values) => json!({ "array": values.iter().map(Self::to_json).collect::<Vec<_>>() }),
            Self::Map(values) => json!({ "kvlist": pairs(values) }),
        }
    }
}

impl IntoValue for &Value {
    fn write_value(self, to: ValueWriter<'_>) -> Written {
        match self {
            Value::Text(text) => to.string(text),
            Value::Shared(text) => to.shared(text.clone()),
            Value::Int(int) => to.int(*int),
            Value::Double(double) => to.double(*double),
            Value::Bool(bool) => to.bool(*bool),
            Value::Bytes(bytes) => to.bytes(bytes),
            Value::List(values) => to.array(|list| values.iter().for_each(|value| _ = list.push(value))),
            Value::Map(values) => {
                to.kvlist(|map| values.iter().for_each(|(key, value)| _ = map.attr(key, value)))
            }
        }
    }
}

/// Attributes in the form of `records.py`.
pub fn pairs(attributes: &[(&str, Value)]) -> Vec<serde_json::Value> {
    attributes
        .iter()
        .map(|(key, value)| json!([key, value.to_json()]))
        .collect()
}

/// Bytes in hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
