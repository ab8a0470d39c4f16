//! A stream of requests, made as they are asked for, on the thread that exports them.

use super::{Meter, Result, check, exporter};
use crate::modes::settings::Settings;
use crate::modes::workload::Workload;
use futures_util::stream;
use otlp_embed::pipeline::{ExportStats, StreamingConfig, StreamingOtlpExporter};
use otlp_embed::{Exporter, Request, rt};

pub(super) fn run(endpoint: &str, settings: &Settings) -> Result {
    let tokio = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    tokio.block_on(async {
        let exporter = exporter(endpoint, rt::Tokio::current()?)?;
        let mut workload = Workload::new(0);
        let warm_up = (0..settings.warm_up_requests()).map(|_| workload.request(settings.batch));
        let warm_up = stream_all(&exporter, settings, warm_up).await?.total_exported;
        let mut meter = Meter::start(settings, warm_up);
        let requests = (0..settings.requests()).map(|number| {
            let request = workload.request(settings.spans_of(number));
            meter.count(request.items(), request.encoded_len());
            request
        });
        let stats = stream_all(&exporter, settings, requests).await?;
        let mut measured = meter.finish();
        measured.exports = stats.successful_batches;
        measured.quantiles = Some([stats.latency.p50, stats.latency.p95, stats.latency.p99]);
        check(&exporter, &measured)?;
        if stats.total_exported != measured.spans || stats.total_failed > 0 || stats.pending > 0 {
            return Err(format!("the account of the stream says {stats:?}").into());
        }
        Ok(measured)
    })
}

async fn stream_all(
    exporter: &Exporter<rt::Tokio>,
    settings: &Settings,
    requests: impl Iterator<Item = Request>,
) -> Result<ExportStats> {
    let config = StreamingConfig::new().with_concurrency_max(settings.in_flight);
    let streaming = StreamingOtlpExporter::new(exporter, config)?;
    Ok(streaming.run(stream::iter(requests)).await)
}
