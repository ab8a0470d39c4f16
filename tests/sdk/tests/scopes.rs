//! Producers that panic while they name the scope of their items.

mod running;

use otlp_embed::Protocol;
use otlp_embed::pipeline::PipelineConfig;
use otlp_embed::testing::Collector;
use running::faces::{blocking, piped};
use running::{config, within};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

/// What nothing here reaches.
const BOUND: Duration = Duration::from_secs(30);

/// A scope that was never named does not carry what is written after it away.
#[test]
fn a_panic_while_a_scope_is_named_costs_no_span() {
    within(BOUND, "the program", || {
        let collector = Collector::start().expect("a collector");
        let exporter = blocking(config(&collector, Protocol::HttpProtobuf));
        let (pipeline, thread) = piped(&exporter, PipelineConfig::new());
        let written = pipeline.spans(|batch| {
            batch.scope("first", "");
            batch.span([1; 16], [1; 8], "before").end();
            let named = catch_unwind(AssertUnwindSafe(|| {
                batch.scope_with("second", "", |to| {
                    to.attr("half", "written");
                    panic!("while it is named");
                });
            }));
            assert!(named.is_err());
            batch.span([1; 16], [2; 8], "after").end();
            batch.scope("third", "");
            batch.span([1; 16], [3; 8], "last").end();
        });
        written.expect("there is room");
        let report = pipeline.shutdown_blocking(BOUND);
        assert_eq!(
            (report.stats.accepted, report.stats.delivered),
            (3, 3),
            "{report}"
        );
        let spans = collector.spans();
        let mut names: Vec<_> = spans.iter().map(|span| span.name.clone()).collect();
        names.sort();
        assert_eq!(names, ["after", "before", "last"]);
        thread.join().expect("no panic");
    });
}
