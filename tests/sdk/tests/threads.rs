//! Threads that end while they hold the last of an exporter.

mod running;

use opentelemetry_sdk::trace::SpanExporter;
use otlp_embed::testing::Collector;
use otlp_embed::{Exporter, Protocol, rt, sdk};
use running::config;
use running::faces::{blocking, span_data};
use std::cell::RefCell;
use std::process::Command;

thread_local! {
    static LAST: RefCell<Option<Exporter<rt::Blocking>>> = const { RefCell::new(None) };
}

const CHILD: &str = "OTLP_EMBED_TEST_CHILD";

/// A thread's last values are dropped when the SDK's own of that thread may be gone.
#[test]
fn an_exporter_may_end_with_its_thread() {
    if std::env::var_os(CHILD).is_none() {
        let this = std::env::current_exe().expect("this program");
        let output = Command::new(this)
            .args(["--exact", "an_exporter_may_end_with_its_thread", "--nocapture"])
            .env(CHILD, "1")
            .output()
            .expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{:?}: {said}", output.status);
        // On other systems the values of a thread may end in another order, and a panic be caught and said.
        assert!(
            cfg!(not(target_os = "linux")) || !said.contains("panicked"),
            "{said}"
        );
        return;
    }
    let collector = Collector::start().expect("a collector");
    let endpoint = config(&collector, Protocol::Grpc);
    std::thread::spawn(move || {
        // Before anything of the SDK's, so that it is dropped after it.
        LAST.set(None);
        let exporter = blocking(endpoint);
        let spans = sdk::SpanExporter::new(&exporter);
        futures_executor::block_on(spans.export(vec![span_data()])).expect("delivered");
        LAST.set(Some(exporter));
    })
    .join()
    .expect("no panic");
    assert_eq!(collector.spans().len(), 1);
}
