//! What every signal uses: values, attributes, scopes, resources.

use super::Kind::{Bool, Bytes, Double, Int32, Int64, Message as Nested, String, Uint32};
use super::{Field, Message};

/// `opentelemetry.proto.common.v1.AnyValue`.
pub(super) static ANY_VALUE: Message = Message {
    fields: &[
        Field::new(1, "string_value", "stringValue", String).oneof(),
        Field::new(2, "bool_value", "boolValue", Bool).oneof(),
        Field::new(3, "int_value", "intValue", Int64).oneof(),
        Field::new(4, "double_value", "doubleValue", Double).oneof(),
        Field::new(5, "array_value", "arrayValue", Nested(&ARRAY_VALUE)).oneof(),
        Field::new(6, "kvlist_value", "kvlistValue", Nested(&KEY_VALUE_LIST)).oneof(),
        Field::new(7, "bytes_value", "bytesValue", Bytes).oneof(),
        Field::new(8, "string_value_strindex", "stringValueStrindex", Int32).oneof(),
    ],
};

/// `opentelemetry.proto.common.v1.ArrayValue`.
static ARRAY_VALUE: Message = Message {
    fields: &[Field::new(1, "values", "values", Nested(&ANY_VALUE))
        .repeated()
        .always()],
};

/// `opentelemetry.proto.common.v1.KeyValueList`.
static KEY_VALUE_LIST: Message = Message {
    fields: &[Field::new(1, "values", "values", Nested(&KEY_VALUE))
        .repeated()
        .always()],
};

/// `opentelemetry.proto.common.v1.KeyValue`.
pub(super) static KEY_VALUE: Message = Message {
    fields: &[
        Field::new(1, "key", "key", String).always(),
        Field::new(2, "value", "value", Nested(&ANY_VALUE)),
        Field::new(3, "key_strindex", "keyStrindex", Int32),
    ],
};

/// `opentelemetry.proto.common.v1.InstrumentationScope`.
pub(super) static SCOPE: Message = Message {
    fields: &[
        Field::new(1, "name", "name", String),
        Field::new(2, "version", "version", String),
        Field::new(3, "attributes", "attributes", Nested(&KEY_VALUE)).repeated(),
        Field::new(4, "dropped_attributes_count", "droppedAttributesCount", Uint32),
    ],
};

/// `opentelemetry.proto.common.v1.EntityRef`.
static ENTITY_REF: Message = Message {
    fields: &[
        Field::new(1, "schema_url", "schemaUrl", String).always(),
        Field::new(2, "type", "type", String).always(),
        Field::new(3, "id_keys", "idKeys", String).repeated().always(),
        Field::new(4, "description_keys", "descriptionKeys", String)
            .repeated()
            .always(),
    ],
};

/// `opentelemetry.proto.resource.v1.Resource`.
pub(super) static RESOURCE: Message = Message {
    fields: &[
        Field::new(1, "attributes", "attributes", Nested(&KEY_VALUE)).repeated(),
        Field::new(2, "dropped_attributes_count", "droppedAttributesCount", Uint32),
        Field::new(3, "entity_refs", "entityRefs", Nested(&ENTITY_REF)).repeated(),
    ],
};
