//! One blocking export after another, on a plain thread without any runtime.

use super::{Meter, Result, check, exporter};
use crate::modes::settings::Settings;
use crate::modes::workload::Workload;
use crate::timing::now;
use otlp_embed::rt;

pub(super) fn run(endpoint: &str, settings: &Settings) -> Result {
    let exporter = exporter(endpoint, rt::Blocking::new()?)?;
    let mut workload = Workload::new(0);
    let mut warm_up = 0;
    for _ in 0..settings.warm_up_requests() {
        let request = workload.request(settings.batch);
        warm_up += request.items();
        exporter.export(request).wait()?;
    }
    let mut meter = Meter::start(settings, warm_up);
    for number in 0..settings.requests() {
        let request = workload.request(settings.spans_of(number));
        meter.count(request.items(), request.encoded_len());
        let begun = now();
        exporter.export(request).wait()?;
        meter.record(begun);
    }
    let measured = meter.finish();
    check(&exporter, &measured)?;
    Ok(measured)
}
