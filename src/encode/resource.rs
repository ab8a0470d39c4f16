//! The producer of telemetry, encoded once.

use super::pool::Pool;
use super::shared::IntoShared;
use super::sink::Sink;
use super::value::{IntoValue, Place, ValueWriter};
use super::wire::{BYTES, key};
use crate::pb;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use prost::Message;

const RESOURCE_ATTRIBUTES: u8 = key(1, BYTES);

/// The process, host or service that telemetry comes from; encoded when it is built, cheap to clone.
///
/// Batches of one resource and its clones share a pool of memory. Make it once and keep it.
#[derive(Clone)]
pub struct Resource {
    inner: Arc<Inner>,
}

struct Inner {
    /// The encoded `Resource` message.
    message: Vec<u8>,
    schema_url: String,
    pool: Arc<Pool>,
}

impl Resource {
    /// A resource without attributes.
    pub fn new() -> Self {
        Self::builder().build()
    }

    /// Starts a resource with attributes.
    ///
    /// ```
    /// use otlp_embed::Resource;
    ///
    /// let resource = Resource::builder()
    ///     .attr("service.name", "checkout")
    ///     .attr("service.version", "1.4.0")
    ///     .build();
    /// ```
    pub fn builder() -> ResourceBuilder {
        ResourceBuilder {
            sink: Sink::default(),
            schema_url: String::new(),
        }
    }

    /// The resource that the environment describes: the pairs of `OTEL_RESOURCE_ATTRIBUTES`, with `service.name` from
    /// `OTEL_SERVICE_NAME` where that is set (OpenTelemetry specification, "Specifying resource information via an
    /// environment variable").
    ///
    /// Values are percent-decoded. As the specification asks, a list with a malformed pair is ignored as a whole. Without
    /// a service name from either variable it is `unknown_service`.
    #[cfg(feature = "std")]
    pub fn from_env() -> Self {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
        env::resource(
            variable("OTEL_RESOURCE_ATTRIBUTES").as_deref(),
            variable("OTEL_SERVICE_NAME").as_deref(),
        )
    }

    pub(crate) fn message(&self) -> &[u8] {
        &self.inner.message
    }

    pub(crate) fn schema_url(&self) -> &str {
        &self.inner.schema_url
    }

    pub(crate) fn pool(&self) -> &Arc<Pool> {
        &self.inner.pool
    }

    fn encoded(message: Vec<u8>, schema_url: String) -> Self {
        Self {
            inner: Arc::new(Inner {
                message,
                schema_url,
                pool: Arc::default(),
            }),
        }
    }
}

impl Default for Resource {
    fn default() -> Self {
        Self::new()
    }
}

/// Resources are equal when their encoded messages and their schemas are.
impl PartialEq for Resource {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
            || (self.inner.message == other.inner.message && self.inner.schema_url == other.inner.schema_url)
    }
}

impl Eq for Resource {}

impl fmt::Debug for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match pb::resource::Resource::decode(self.message()) {
            Ok(message) => message.fmt(f),
            Err(_) => f.debug_struct("Resource").finish_non_exhaustive(),
        }
    }
}

impl From<&pb::resource::Resource> for Resource {
    fn from(message: &pb::resource::Resource) -> Self {
        Self::encoded(message.encode_to_vec(), String::new())
    }
}

/// Builds a [`Resource`].
pub struct ResourceBuilder {
    sink: Sink,
    schema_url: String,
}

impl ResourceBuilder {
    /// Adds an attribute; keys are to be unique.
    pub fn attr(mut self, name: &str, value: impl IntoValue) -> Self {
        value.write_value(ValueWriter::new(
            &mut self.sink,
            Place::Attribute(RESOURCE_ATTRIBUTES, name),
        ));
        self
    }

    /// Adds an attribute given as something shareable; the resource holds a copy.
    pub fn attr_shared(mut self, name: &str, value: impl IntoShared) -> Self {
        ValueWriter::new(&mut self.sink, Place::Attribute(RESOURCE_ATTRIBUTES, name)).shared(value);
        self
    }

    /// Sets the URL of the schema that the resource follows.
    pub fn schema_url(mut self, url: &str) -> Self {
        self.schema_url = url.into();
        self
    }

    /// Encodes the resource.
    pub fn build(self) -> Resource {
        let mut message = Vec::new();
        self.sink.copy_to(&mut message);
        Resource::encoded(message, self.schema_url)
    }
}

#[cfg(feature = "std")]
mod env {
    use super::{Resource, String, Vec};

    const SERVICE_NAME: &str = "service.name";

    pub(super) fn resource(attributes: Option<&str>, service_name: Option<&str>) -> Resource {
        let mut pairs = attributes.and_then(pairs).unwrap_or_default();
        if let Some(name) = service_name {
            pairs.retain(|(key, _)| key != SERVICE_NAME);
            pairs.insert(0, (SERVICE_NAME.into(), name.into()));
        } else if !pairs.iter().any(|(key, _)| key == SERVICE_NAME) {
            pairs.insert(0, (SERVICE_NAME.into(), "unknown_service".into()));
        }
        pairs
            .iter()
            .fold(Resource::builder(), |builder, (key, value)| {
                builder.attr(key, value)
            })
            .build()
    }

    /// The pairs of a list, the last of each key; none where any is malformed.
    fn pairs(list: &str) -> Option<Vec<(String, String)>> {
        let mut pairs: Vec<(String, String)> = Vec::new();
        for pair in list.split(',').filter(|pair| !pair.trim().is_empty()) {
            let (key, value) = pair.split_once('=')?;
            let (key, value) = (percent_decoded(key.trim())?, percent_decoded(value.trim())?);
            if key.is_empty() {
                return None;
            }
            pairs.retain(|(earlier, _)| *earlier != key);
            pairs.push((key, value));
        }
        Some(pairs)
    }

    fn percent_decoded(text: &str) -> Option<String> {
        let mut decoded = Vec::with_capacity(text.len());
        let mut rest = text.as_bytes();
        while let [first, others @ ..] = rest {
            rest = others;
            if *first != b'%' {
                decoded.push(*first);
                continue;
            }
            let [high, low, others @ ..] = others else {
                return None;
            };
            let digit = |digit: &u8| char::from(*digit).to_digit(16);
            decoded.push((digit(high)? << 4 | digit(low)?) as u8);
            rest = others;
        }
        String::from_utf8(decoded).ok()
    }

    #[cfg(test)]
    mod tests {
        use super::resource;
        use crate::encode::Resource;

        #[test]
        fn variables_become_attributes() {
            let expected = Resource::builder()
                .attr("service.name", "shop")
                .attr("a", "1, 2")
                .attr("b", "ü");
            let list = "a=1%2C 2 , service.name=other,b=x,b=%C3%bc,";
            assert_eq!(resource(Some(list), Some("shop")), expected.build());
        }

        #[test]
        fn malformed_lists_are_ignored_as_a_whole() {
            let unknown = Resource::builder()
                .attr("service.name", "unknown_service")
                .build();
            for list in ["a", "a=1,b", "=1", "a=%", "a=%4", "a=%zz", "a=%ff"] {
                assert_eq!(resource(Some(list), None), unknown, "{list}");
            }
            assert_eq!(resource(None, None), unknown);
        }
    }
}
