//! Requests sent to an actor, each awaited for its answer; producers and actor share a thread.

use super::asynchronous::export_all;
use super::{Meter, Result, check, exporter};
use crate::modes::settings::Settings;
use crate::modes::workload::Workload;
use otlp_embed::pipeline::{ActorConfig, ExporterActor};
use otlp_embed::rt;
use std::time::Duration;

/// Time to end in.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) fn run(endpoint: &str, settings: &Settings) -> Result {
    let tokio = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    tokio.block_on(async {
        let exporter = exporter(endpoint, rt::Tokio::current()?)?;
        let config = ActorConfig::new().with_concurrency_max(settings.in_flight);
        let (handle, actor) = ExporterActor::new(&exporter, config)?;
        let task = tokio::spawn(actor.run());
        let mut workload = Workload::new(0);
        let requests = settings.warm_up_requests();
        let mut warming = Meter::start(settings, 0);
        let next = |_| workload.request(settings.batch);
        export_all(
            settings,
            requests,
            next,
            |request| handle.export(request),
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
            |request| handle.export(request),
            &mut meter,
        )
        .await?;
        let measured = meter.finish();
        let stats = handle.stats();
        handle.shutdown(PATIENCE).await;
        task.await?;
        check(&exporter, &measured)?;
        let exports = settings.requests() + settings.warm_up_requests();
        if stats.export_count != exports || stats.error_count > 0 {
            return Err(format!("the account of the actor says {stats:?}").into());
        }
        Ok(measured)
    })
}
