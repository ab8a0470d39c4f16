//! Values, attributes and instrumentation scopes (`opentelemetry.proto.common.v1`).

use alloc::string::String;
use alloc::vec::Vec;

/// The value of an attribute; without one inside it is the empty value.
#[derive(Clone, PartialEq, prost::Message)]
pub struct AnyValue {
    /// Which kind of value it is, with the value.
    #[prost(oneof = "any_value::Value", tags = "1, 2, 3, 4, 5, 6, 7, 8")]
    pub value: Option<any_value::Value>,
}

/// The kinds of [`AnyValue`].
pub mod any_value {
    use super::{ArrayValue, KeyValueList};
    use alloc::string::String;
    use alloc::vec::Vec;

    /// One value of one kind.
    #[derive(Clone, PartialEq, prost::Oneof)]
    pub enum Value {
        /// Text.
        #[prost(string, tag = "1")]
        StringValue(String),
        /// A truth value.
        #[prost(bool, tag = "2")]
        BoolValue(bool),
        /// A signed integer.
        #[prost(int64, tag = "3")]
        IntValue(i64),
        /// A floating-point number.
        #[prost(double, tag = "4")]
        DoubleValue(f64),
        /// A list of values.
        #[prost(message, tag = "5")]
        ArrayValue(ArrayValue),
        /// A map of values.
        #[prost(message, tag = "6")]
        KvlistValue(KeyValueList),
        /// Opaque bytes.
        #[prost(bytes, tag = "7")]
        BytesValue(Vec<u8>),
        /// Index into the string table of a profile; receivers of other signals treat it as absent.
        #[prost(int32, tag = "8")]
        StringValueStrindex(i32),
    }
}

/// A list of values.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ArrayValue {
    /// The values, in order.
    #[prost(message, repeated, tag = "1")]
    pub values: Vec<AnyValue>,
}

/// A map of values, as a list of pairs with unique keys.
#[derive(Clone, PartialEq, prost::Message)]
pub struct KeyValueList {
    /// The pairs.
    #[prost(message, repeated, tag = "1")]
    pub values: Vec<KeyValue>,
}

/// One attribute.
#[derive(Clone, PartialEq, prost::Message)]
pub struct KeyValue {
    /// Its name.
    #[prost(string, tag = "1")]
    pub key: String,
    /// Its value.
    #[prost(message, optional, tag = "2")]
    pub value: Option<AnyValue>,
    /// Index of the name in the string table of a profile; unused by other signals.
    #[prost(int32, tag = "3")]
    pub key_strindex: i32,
}

/// The library that recorded telemetry.
#[derive(Clone, PartialEq, prost::Message)]
pub struct InstrumentationScope {
    /// Its name; empty means unknown.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Its version; empty means unknown.
    #[prost(string, tag = "2")]
    pub version: String,
    /// What else describes it.
    #[prost(message, repeated, tag = "3")]
    pub attributes: Vec<KeyValue>,
    /// Attributes discarded before they came here.
    #[prost(uint32, tag = "4")]
    pub dropped_attributes_count: u32,
}

/// A reference to an entity that a resource takes part in.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct EntityRef {
    /// URL of the schema that its keys follow.
    #[prost(string, tag = "1")]
    pub schema_url: String,
    /// Kind of entity, such as `service` or `host`.
    #[prost(string, tag = "2")]
    pub r#type: String,
    /// Resource attributes that identify it.
    #[prost(string, repeated, tag = "3")]
    pub id_keys: Vec<String>,
    /// Resource attributes that describe it.
    #[prost(string, repeated, tag = "4")]
    pub description_keys: Vec<String>,
}
