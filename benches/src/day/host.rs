//! Brings collector, pipeline and producers together for a day.

use super::ledger::Ledger;
use super::producers::Producers;
use super::settings::Settings;
use super::story::Story;
use super::watch::{Diary, Watch};
use crate::modes::workload::resource;
use otlp_embed::pipeline::{Overflow, PipelineConfig, QueueConfig};
use otlp_embed::testing::Collector;
use otlp_embed::{Config, DropReason, rt};
use std::error::Error;
use std::time::Duration;

/// Time to settle what is left at the end of the day.
const PATIENCE: Duration = Duration::from_secs(60);

/// Lives through a day and prints it as an operator would read it.
///
/// # Errors
///
/// What did not hold: the law of conservation, the memory, that nothing is lost, that it recovers.
pub fn run(settings: Settings) -> Result<(), Box<dyn Error>> {
    let diary = Diary::begin();
    // Requests kept would be memory that is not the pipeline's.
    let collector = Collector::builder().keep_requests(false).start()?;
    let (ledger, observed) = (Ledger::default(), diary.clone());
    // The exporter's timeout is the default.
    let exporter = Config::new()
        .with_observer(move |event| observed.note(event))
        .with_protocol(settings.protocol)
        .with_endpoint(collector.endpoint())
        .build(rt::Blocking::new()?)?;
    let queue = QueueConfig::new()
        .with_bytes_max(usize::try_from(settings.budget())?)
        .with_overflow(Overflow::Block);
    let config = PipelineConfig::new().with_resource(&resource()).with_queue(queue);
    let (pipeline, future) = exporter.pipeline(config)?;
    let thread = future.run_on_thread()?;
    let watch = Watch::new(exporter.clone(), pipeline.clone(), settings.budget());
    let watcher = watch.start();

    let story = Story {
        collector: &collector,
        ledger: &ledger,
        watch: &watch,
        diary: &diary,
        settings,
    };
    // Until the collector is told otherwise it would take what nobody notes.
    let mut producers = story.begin(|| Producers::start(&pipeline, settings.rate));
    let reset = story.tell()?;
    watch.expect(reset > 0, || "no connection was ever reset".into());
    if let Err(refused) = producers.finish() {
        watch.expect(false, || refused);
    }
    let report = pipeline.shutdown_blocking(PATIENCE);
    let ended = thread.join()?;
    watch.expect(ended == report, || format!("two accounts: {ended} and {report}"));
    watch.look();
    watch.stop();
    let _ = watcher.join();

    let sent = producers.sent();
    let sum = ledger.sum();
    let stats = exporter.stats();
    let all: u64 = sent.iter().sum();
    diary.note(format_args!("the account: {report}"));
    diary.note(format_args!(
        "the collector took {} of {all} spans, {} of them again ({} possible duplicates are accounted for), over {} connections, \
         of which {reset} were reset in halves",
        sum.arrived,
        sum.again,
        stats.possible_duplicates,
        collector.counters().connections,
    ));
    let (looks, bytes_max, resident_max) = watch.seen();
    diary.note(format_args!(
        "memory: {bytes_max} of {} bytes held at most, {} MiB resident at most, the collector's included; the law held {looks} \
         times; producers waited {:.1} s for room, all together",
        settings.budget(),
        resident_max >> 10,
        producers.waited().as_secs_f64(),
    ));
    let settled = (report.stats.accepted, report.stats.delivered);
    watch.expect(settled == (all, all), || {
        format!("{all} spans were written, and the account says {report}")
    });
    for (producer, sent) in sent.into_iter().enumerate() {
        let arrived = ledger.count_first(producer, sent);
        watch.expect(arrived == sent, || {
            format!("{arrived} of {sent} spans of producer {producer} arrived")
        });
    }
    watch.expect(sum.arrived == all && sum.strange == 0, || {
        format!("{all} spans were written, and {sum:?} arrived")
    });
    watch.expect(sum.again <= stats.possible_duplicates, || {
        format!("{sum:?}, and {} may be", stats.possible_duplicates)
    });
    watch.expect(stats.dropped_for(DropReason::Expired) == 0, || {
        format!("{stats:?}")
    });
    match watch.failures() {
        failures if failures.is_empty() => Ok(()),
        failures => Err(failures.join("\n").into()),
    }
}
