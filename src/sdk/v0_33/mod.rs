//! The traits of `opentelemetry_sdk` 0.33, implemented.

mod logs;
mod metrics;
mod spans;
mod values;

pub(in crate::sdk) use metrics::ResourceMemo;

use super::processors::Failure;
use crate::encode::Resource;
use otel_api_0_33::InstrumentationScope;
use otel_sdk_0_33::error::{OTelSdkError, OTelSdkResult};
use std::time::{SystemTime, UNIX_EPOCH};
use values::LentValue;

/// A result in the SDK's words.
fn sdk_result(result: Result<(), Failure>) -> OTelSdkResult {
    result.map_err(|failure| match failure {
        Failure::Closed => OTelSdkError::AlreadyShutdown,
        Failure::TimedOut(time) => OTelSdkError::Timeout(time),
        Failure::Other(text) => OTelSdkError::InternalFailure(text),
    })
}

/// A resource, encoded.
fn resource(resource: &otel_sdk_0_33::Resource) -> Resource {
    let mut builder = Resource::builder();
    for (key, value) in resource {
        builder = builder.attr(key.as_str(), LentValue(value));
    }
    match resource.schema_url() {
        Some(url) => builder.schema_url(url).build(),
        None => builder.build(),
    }
}

/// Names the scope of the items that follow, in a batch of any signal.
macro_rules! name_scope {
    ($batch:expr, $name:expr, $scope:expr) => {{
        let scope: &otel_api_0_33::InstrumentationScope = $scope;
        let version = scope.version().unwrap_or_default();
        // One that has nothing else is most often the one before, which costs less to see.
        if scope.schema_url().is_none() && scope.attributes().next().is_none() {
            $batch.scope($name, version);
        } else {
            $batch.scope_with($name, version, |to| $crate::sdk::v0_33::write_scope(scope, to));
        }
    }};
}
use name_scope;

/// Writes what a scope has beside its name and its version.
fn write_scope(scope: &InstrumentationScope, to: &mut crate::encode::ScopeWriter<'_>) {
    for attribute in scope.attributes() {
        to.attr(attribute.key.as_str(), LentValue(&attribute.value));
    }
    if let Some(url) = scope.schema_url() {
        to.schema_url(url);
    }
}

/// Nanoseconds since the Unix epoch: zero before it, and the most there is after the year 2554.
fn unix_nanos(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
