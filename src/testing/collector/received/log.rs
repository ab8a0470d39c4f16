//! Log records as the records keep them.

use super::value::{Value, attributes};
use super::{ReceivedResource, ReceivedScope};
use crate::pb::collector::ExportLogsServiceRequest;
use crate::pb::logs::LogRecord;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// One log record of one request.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ReceivedLog {
    /// The [`index`](super::ReceivedRequest::index) of the request that brought it.
    pub request: u64,
    /// What produced it.
    pub resource: Arc<ReceivedResource>,
    /// The instrumentation that produced it.
    pub scope: Arc<ReceivedScope>,
    /// The record as it came.
    pub record: LogRecord,
}

impl ReceivedLog {
    /// The value of an attribute; the first, where there are several of the name.
    pub fn attribute(&self, key: &str) -> Option<Value> {
        let mut fields = self.record.attributes.iter().filter(|field| field.key == key);
        let field = fields.next()?.clone();
        attributes([field].into()).pop().map(|(_, value)| value)
    }

    /// What is said; [`Value::Empty`] where nothing is.
    pub fn body(&self) -> Value {
        self.record.body.clone().map_or(Value::Empty, Value::from)
    }
}

/// Takes a request message apart.
pub(in crate::testing::collector) fn into_logs(
    message: ExportLogsServiceRequest,
    request: u64,
) -> Vec<ReceivedLog> {
    let mut logs = Vec::new();
    for group in message.resource_logs {
        let resource = ReceivedResource::new(group.resource, group.schema_url);
        for scope_group in group.scope_logs {
            let scope = ReceivedScope::new(scope_group.scope, scope_group.schema_url);
            logs.extend(scope_group.log_records.into_iter().map(|record| ReceivedLog {
                request,
                resource: Arc::clone(&resource),
                scope: Arc::clone(&scope),
                record,
            }));
        }
    }
    logs
}
