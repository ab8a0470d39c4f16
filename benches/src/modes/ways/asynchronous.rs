//! Concurrent futures on one thread: the thread that writes spans also moves the exports.

use super::{Meter, Result, check, exporter};
use crate::modes::settings::Settings;
use crate::modes::workload::Workload;
use crate::timing::now;
use futures_util::stream::{FuturesUnordered, StreamExt};
use otlp_embed::{Exporter, Request, rt};
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
        export_all(
            &exporter,
            settings,
            requests,
            |_| workload.request(settings.batch),
            &mut warming,
        )
        .await?;
        let mut meter = Meter::start(settings, warming.finish().spans);
        let next = |number| workload.request(settings.spans_of(number));
        export_all(&exporter, settings, settings.requests(), next, &mut meter).await?;
        let measured = meter.finish();
        check(&exporter, &measured)?;
        Ok(measured)
    })
}

/// Exports requests, as many at a time as the settings say.
async fn export_all(
    exporter: &Exporter<rt::Tokio>,
    settings: &Settings,
    requests: u64,
    mut next: impl FnMut(u64) -> Request,
    meter: &mut Meter,
) -> Result<()> {
    let mut exports = FuturesUnordered::new();
    for number in 0..requests {
        if exports.len() == settings.in_flight {
            let begun: Option<std::result::Result<Instant, otlp_embed::Error>> = exports.next().await;
            meter.record(begun.ok_or("an export is under way")??);
        }
        let request = next(number);
        meter.count(request.items(), request.encoded_len());
        let (begun, export) = (now(), exporter.export(request));
        exports.push(async move { export.await.map(|_| begun) });
    }
    while let Some(begun) = exports.next().await {
        meter.record(begun?);
    }
    Ok(())
}
