//! Log records: the processor, the exporter, and their data on the wire.

use super::values::LentAny;
use super::{name_scope, resource, sdk_result, unix_nanos};
use crate::encode::{LogBatch, Request, Resource};
use crate::pb::logs::SeverityNumber;
use crate::sdk::{LogExporter, LogProcessor};
use core::time::Duration;
use otel_api_0_33::InstrumentationScope;
use otel_api_0_33::logs::Severity;
use otel_sdk_0_33::error::OTelSdkResult;
use otel_sdk_0_33::logs::SdkLogRecord;

impl otel_sdk_0_33::logs::LogProcessor for LogProcessor {
    fn emit(&self, record: &mut SdkLogRecord, scope: &InstrumentationScope) {
        self.face.log(|batch| write_record(batch, record, scope));
    }

    fn force_flush(&self) -> OTelSdkResult {
        sdk_result(self.face.flush())
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        sdk_result(self.face.shutdown(timeout))
    }

    fn event_enabled(&self, _level: Severity, _target: &str, _name: Option<&str>) -> bool {
        !self.face.is_closed()
    }

    fn set_resource(&mut self, of: &otel_sdk_0_33::Resource) {
        self.face.set_resource(resource(of));
    }
}

impl otel_sdk_0_33::logs::LogExporter for LogExporter {
    fn export(&self, batch: otel_sdk_0_33::logs::LogBatch<'_>) -> impl Future<Output = OTelSdkResult> + Send {
        let sending = self.outlet.send_with(|| request(self.resource.as_ref(), &batch));
        async move { sdk_result(sending.await) }
    }

    fn shutdown_with_timeout(&self, _timeout: Duration) -> OTelSdkResult {
        sdk_result(self.outlet.shutdown(Duration::ZERO))
    }

    fn event_enabled(&self, _level: Severity, _target: &str, _name: Option<&str>) -> bool {
        !self.outlet.is_closed()
    }

    fn set_resource(&mut self, of: &otel_sdk_0_33::Resource) {
        self.resource = Some(resource(of));
    }
}

fn request(resource: Option<&Resource>, records: &otel_sdk_0_33::logs::LogBatch<'_>) -> Request {
    let mut batch = match resource {
        Some(resource) => LogBatch::new(resource),
        None => LogBatch::new(&Resource::new()),
    };
    for (record, scope) in records.iter() {
        write_record(&mut batch, record, scope);
    }
    batch.finish()
}

fn write_record(batch: &mut LogBatch, record: &SdkLogRecord, scope: &InstrumentationScope) {
    // Where an appender names the place in the program that a record comes from, that is its scope.
    let name = record.target().map_or(scope.name(), |target| target.as_ref());
    name_scope!(batch, name, scope);
    let mut to = batch.log();
    if let Some(time) = record.timestamp() {
        to.time(unix_nanos(time));
    }
    let (number, text) = (record.severity_number(), record.severity_text());
    to.severity(
        number.map_or(SeverityNumber::Unspecified, severity),
        text.unwrap_or_default(),
    );
    if let Some(body) = record.body() {
        to.body(LentAny::new(body));
    }
    for (key, value) in record.attributes_iter() {
        to.attr(key.as_str(), LentAny::new(value));
    }
    if let Some(context) = record.trace_context() {
        let flags = context.trace_flags.map_or(0, |flags| flags.to_u8());
        to.flags(flags.into())
            .trace(context.trace_id.to_bytes(), context.span_id.to_bytes());
    }
    if let Some(time) = record.observed_timestamp() {
        to.observed_time(unix_nanos(time));
    }
    if let Some(name) = record.event_name() {
        to.event_name(name);
    }
    to.end();
}

fn severity(severity: Severity) -> SeverityNumber {
    match severity {
        Severity::Trace => SeverityNumber::Trace,
        Severity::Trace2 => SeverityNumber::Trace2,
        Severity::Trace3 => SeverityNumber::Trace3,
        Severity::Trace4 => SeverityNumber::Trace4,
        Severity::Debug => SeverityNumber::Debug,
        Severity::Debug2 => SeverityNumber::Debug2,
        Severity::Debug3 => SeverityNumber::Debug3,
        Severity::Debug4 => SeverityNumber::Debug4,
        Severity::Info => SeverityNumber::Info,
        Severity::Info2 => SeverityNumber::Info2,
        Severity::Info3 => SeverityNumber::Info3,
        Severity::Info4 => SeverityNumber::Info4,
        Severity::Warn => SeverityNumber::Warn,
        Severity::Warn2 => SeverityNumber::Warn2,
        Severity::Warn3 => SeverityNumber::Warn3,
        Severity::Warn4 => SeverityNumber::Warn4,
        Severity::Error => SeverityNumber::Error,
        Severity::Error2 => SeverityNumber::Error2,
        Severity::Error3 => SeverityNumber::Error3,
        Severity::Error4 => SeverityNumber::Error4,
        Severity::Fatal => SeverityNumber::Fatal,
        Severity::Fatal2 => SeverityNumber::Fatal2,
        Severity::Fatal3 => SeverityNumber::Fatal3,
        Severity::Fatal4 => SeverityNumber::Fatal4,
    }
}
