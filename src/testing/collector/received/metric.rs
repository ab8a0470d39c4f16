//! Metrics as the records keep them.

use super::{ReceivedResource, ReceivedScope};
use crate::pb::collector::ExportMetricsServiceRequest;
use crate::pb::metrics::Metric;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// One metric of one request, with its data points.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ReceivedMetric {
    /// The [`index`](super::ReceivedRequest::index) of the request that brought it.
    pub request: u64,
    /// What produced it.
    pub resource: Arc<ReceivedResource>,
    /// The instrumentation that produced it.
    pub scope: Arc<ReceivedScope>,
    /// The metric as it came.
    pub metric: Metric,
}

/// Takes a request message apart.
pub(in crate::testing::collector) fn into_metrics(
    message: ExportMetricsServiceRequest,
    request: u64,
) -> Vec<ReceivedMetric> {
    let mut metrics = Vec::new();
    for group in message.resource_metrics {
        let resource = ReceivedResource::new(group.resource, group.schema_url);
        for scope_group in group.scope_metrics {
            let scope = ReceivedScope::new(scope_group.scope, scope_group.schema_url);
            metrics.extend(scope_group.metrics.into_iter().map(|metric| ReceivedMetric {
                request,
                resource: Arc::clone(&resource),
                scope: Arc::clone(&scope),
                metric,
            }));
        }
    }
    metrics
}
