//! Profiles, a signal in development; their names are in a dictionary of the request.

use super::Kind::{Bytes, Fixed64, Id, Int32, Int64, Message as Nested, String, Uint32, Uint64};
use super::common::{ANY_VALUE, RESOURCE, SCOPE};
use super::{Field, Message};

/// `opentelemetry.proto.collector.profiles.v1development.ExportProfilesServiceRequest`.
pub(super) static REQUEST: Message = Message {
    fields: &[
        Field::new(
            1,
            "resource_profiles",
            "resourceProfiles",
            Nested(&RESOURCE_PROFILES),
        )
        .repeated()
        .always()
        .container(),
        Field::new(2, "dictionary", "dictionary", Nested(&DICTIONARY)),
    ],
};

/// `opentelemetry.proto.profiles.v1development.ResourceProfiles`.
static RESOURCE_PROFILES: Message = Message {
    fields: &[
        Field::new(1, "resource", "resource", Nested(&RESOURCE)),
        Field::new(2, "scope_profiles", "scopeProfiles", Nested(&SCOPE_PROFILES))
            .repeated()
            .container(),
        Field::new(3, "schema_url", "schemaUrl", String),
    ],
};

/// `opentelemetry.proto.profiles.v1development.ScopeProfiles`.
static SCOPE_PROFILES: Message = Message {
    fields: &[
        Field::new(1, "scope", "scope", Nested(&SCOPE)),
        Field::new(2, "profiles", "profiles", Nested(&PROFILE))
            .repeated()
            .item(),
        Field::new(3, "schema_url", "schemaUrl", String),
    ],
};

/// `opentelemetry.proto.profiles.v1development.ProfilesDictionary`.
static DICTIONARY: Message = Message {
    fields: &[
        Field::new(1, "mapping_table", "mappingTable", Nested(&MAPPING)).repeated(),
        Field::new(2, "location_table", "locationTable", Nested(&LOCATION)).repeated(),
        Field::new(3, "function_table", "functionTable", Nested(&FUNCTION)).repeated(),
        Field::new(4, "link_table", "linkTable", Nested(&LINK)).repeated(),
        Field::new(5, "string_table", "stringTable", String).repeated(),
        Field::new(6, "attribute_table", "attributeTable", Nested(&ATTRIBUTE)).repeated(),
        Field::new(7, "stack_table", "stackTable", Nested(&STACK)).repeated(),
    ],
};

/// `opentelemetry.proto.profiles.v1development.Profile`.
static PROFILE: Message = Message {
    fields: &[
        Field::new(1, "sample_type", "sampleType", Nested(&VALUE_TYPE)),
        Field::new(2, "samples", "samples", Nested(&SAMPLE)).repeated(),
        Field::new(3, "time_unix_nano", "timeUnixNano", Fixed64),
        Field::new(4, "duration_nano", "durationNano", Uint64),
        Field::new(5, "period_type", "periodType", Nested(&VALUE_TYPE)),
        Field::new(6, "period", "period", Int64),
        Field::new(7, "profile_id", "profileId", Id),
        Field::new(8, "dropped_attributes_count", "droppedAttributesCount", Uint32),
        Field::new(9, "original_payload_format", "originalPayloadFormat", String),
        Field::new(10, "original_payload", "originalPayload", Bytes),
        Field::new(11, "attribute_indices", "attributeIndices", Int32).repeated(),
    ],
};

/// `opentelemetry.proto.profiles.v1development.ValueType`.
static VALUE_TYPE: Message = Message {
    fields: &[
        Field::new(1, "type_strindex", "typeStrindex", Int32),
        Field::new(2, "unit_strindex", "unitStrindex", Int32),
    ],
};

/// `opentelemetry.proto.profiles.v1development.Sample`.
static SAMPLE: Message = Message {
    fields: &[
        Field::new(1, "stack_index", "stackIndex", Int32),
        Field::new(2, "attribute_indices", "attributeIndices", Int32).repeated(),
        Field::new(3, "link_index", "linkIndex", Int32),
        Field::new(4, "values", "values", Int64).repeated(),
        Field::new(5, "timestamps_unix_nano", "timestampsUnixNano", Fixed64).repeated(),
    ],
};

/// `opentelemetry.proto.profiles.v1development.Mapping`.
static MAPPING: Message = Message {
    fields: &[
        Field::new(1, "memory_start", "memoryStart", Uint64),
        Field::new(2, "memory_limit", "memoryLimit", Uint64),
        Field::new(3, "file_offset", "fileOffset", Uint64),
        Field::new(4, "filename_strindex", "filenameStrindex", Int32),
        Field::new(5, "attribute_indices", "attributeIndices", Int32).repeated(),
    ],
};

/// `opentelemetry.proto.profiles.v1development.Location`.
static LOCATION: Message = Message {
    fields: &[
        Field::new(1, "mapping_index", "mappingIndex", Int32),
        Field::new(2, "address", "address", Uint64),
        Field::new(3, "lines", "lines", Nested(&LINE)).repeated(),
        Field::new(4, "attribute_indices", "attributeIndices", Int32).repeated(),
    ],
};

/// `opentelemetry.proto.profiles.v1development.Line`.
static LINE: Message = Message {
    fields: &[
        Field::new(1, "function_index", "functionIndex", Int32),
        Field::new(2, "line", "line", Int64),
        Field::new(3, "column", "column", Int64),
    ],
};

/// `opentelemetry.proto.profiles.v1development.Function`.
static FUNCTION: Message = Message {
    fields: &[
        Field::new(1, "name_strindex", "nameStrindex", Int32),
        Field::new(2, "system_name_strindex", "systemNameStrindex", Int32),
        Field::new(3, "filename_strindex", "filenameStrindex", Int32),
        Field::new(4, "start_line", "startLine", Int64),
    ],
};

/// `opentelemetry.proto.profiles.v1development.Link`.
static LINK: Message = Message {
    fields: &[
        Field::new(1, "trace_id", "traceId", Id),
        Field::new(2, "span_id", "spanId", Id),
    ],
};

/// `opentelemetry.proto.profiles.v1development.KeyValueAndUnit`.
static ATTRIBUTE: Message = Message {
    fields: &[
        Field::new(1, "key_strindex", "keyStrindex", Int32),
        Field::new(2, "value", "value", Nested(&ANY_VALUE)),
        Field::new(3, "unit_strindex", "unitStrindex", Int32),
    ],
};

/// `opentelemetry.proto.profiles.v1development.Stack`.
static STACK: Message = Message {
    fields: &[Field::new(1, "location_indices", "locationIndices", Int32).repeated()],
};
