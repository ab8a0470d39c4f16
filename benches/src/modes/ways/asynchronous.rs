//! Concurrent futures on one thread: the thread that writes spans also moves the exports.

use super::{Meter, Result, check, exporter};
use crate::modes::settings::Settings;
use crate::modes::workload::Workload;
use crate::timing::now;
use futures_util::stream::{FuturesUnordered, StreamExt};
use otlp_embed::{Error, Outcome, Request, rt};
use std::time::Instant;

pub(super) fn run(endpoint: &str, settings: &Settings) -> Result {
    let tokio = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    tokio.block_on(async {
        let exporter = exporter(endpoint, rt::Tokio::current()?)?;
        let mut workload = Workload::new(0);
        let requests = settings.warm_up_requests();
        let mut warming = Meter::start(settings, 0);
        let next = |_| workload.request(settings.batch);
        export_all(
            settings,
            requests,
            next,
            |request| exporter.export(request),
            &mut warming,
        )
        .await?;
        let mut meter = Meter::start(settings, warming.finish().spans);
        let next = |number| workload.request(settings.spans_of(number));
        let requests = settings.requests();
        export_all(
            settings,
            requests,
            next,
            |request| exporter.export(request),
            &mut meter,
        )
        .await?;
        let measured = meter.finish();
        check(&exporter, &measured)?;
        Ok(measured)
    })
}

/// Exports requests, as many at a time as the settings say.
pub(super) async fn export_all<F>(
    settings: &Settings,
    requests: u64,
    mut next: impl FnMut(u64) -> Request,
    export: impl Fn(Request) -> F,
    meter: &mut Meter,
) -> Result<()>
where
    F: Future<Output = std::result::Result<Outcome, Error>>,
{
    let mut exports = FuturesUnordered::new();
    for number in 0..requests {
        if exports.len() == settings.in_flight {
            let begun: Option<std::result::Result<Instant, Error>> = exports.next().await;
            meter.record(begun.ok_or("an export is under way")??);
        }
        let request = next(number);
        meter.count(request.items(), request.encoded_len());
        let (begun, export) = (now(), export(request));
        exports.push(async move { export.await.map(|_| begun) });
    }
    while let Some(begun) = exports.next().await {
        meter.record(begun?);
    }
    Ok(())
}
