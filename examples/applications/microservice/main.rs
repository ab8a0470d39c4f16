//! A small HTTP service under load, with traces, logs and metrics, whose collector dies and returns meanwhile.
//!
//! ```sh
//! cargo run --example microservice -- [--seconds N] [--rate N] [--outage START..END] [--queue ITEMS] [--endpoint URL] \
//!     [--patience N] [--progress]
//! ```
//!
//! A shop answers its customers and asks an inventory, another service on another port, for what is in stock: the trace goes
//! along in the headers of W3C Trace Context. Both are instrumented with the OpenTelemetry SDK after its semantic conventions,
//! and all that they make goes through one pipeline.
//!
//! The account at the end compares what was made, which the program counts where it makes it, with what the pipeline says that
//! became of it, and with what the collector received, item by item. The exit code is 0 only where the account closes: each
//! item has arrived, or is among those that the pipeline tells as lost. With an endpoint of the user's there is no one to ask, and
//! the account is the pipeline's. Ctrl-C ends the load early; a second one ends the program.
//!
//! On a terminal there is a line each second; in a pipe with `--progress` alone.

mod account;
mod collector;
mod http;
mod instrument;
mod load;
mod made;
mod options;
mod progress;
mod service;
#[path = "../../support/terminal.rs"]
mod speak;
mod telemetry;

use collector::Mortal;
use load::Load;
use made::Made;
use options::Options;
use progress::Progress;
use service::{Inventory, Shop};
use speak::{exit_code, say};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use telemetry::{Delivery, Telemetry};
use tokio::net::TcpListener;

/// What an application's `main` comes to.
type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

fn main() -> ExitCode {
    exit_code(run(Options::from_args()))
}

fn run(options: Options) -> Result<()> {
    // The exporter's settings are checked before anything else begins.
    let mut mortal = match &options.endpoint {
        Some(_) => None,
        None => Some(Mortal::start()?),
    };
    let endpoint = match (&options.endpoint, &mortal) {
        (Some(endpoint), _) => Some(endpoint.clone()),
        (None, mortal) => mortal.as_ref().map(Mortal::endpoint),
    };
    let delivery = Delivery::start(endpoint.as_deref(), options.queue, mortal.is_some())?;
    let made = Arc::new(Made::new(mortal.is_some()));
    let shop = Arc::new(Telemetry::new("shop", &delivery.pipeline, &made));
    let inventory = Arc::new(Telemetry::new("inventory", &delivery.pipeline, &made));
    let stop = stop_at_ctrl_c()?;
    say(format_args!(
        "{} requests/s for {:?}, exporting to {}",
        options.rate,
        options.seconds,
        endpoint.as_deref().unwrap_or("an endpoint of the environment")
    ));

    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let load = Arc::new(Load::new(options.rate, options.seconds, stop));
    let progress = Progress::start(options.progress, &load, &delivery)?;
    let served: Result<()> = runtime.block_on(async {
        let inside = TcpListener::bind("127.0.0.1:0").await?;
        let outside = TcpListener::bind("127.0.0.1:0").await?;
        let shop = Shop::new(&shop, inside.local_addr()?);
        let addr = outside.local_addr()?;
        tokio::spawn(http::serve(inside, Arc::new(Inventory::new(&inventory))));
        tokio::spawn(http::serve(outside, Arc::new(shop)));
        if let (Some(mortal), Some(outage)) = (&mut mortal, options.outage()) {
            mortal.begin(outage)?;
        }
        Arc::clone(&load).run(addr).await;
        Ok(())
    });
    // What is still being answered, where a customer gave up, ends here.
    runtime.shutdown_timeout(Duration::from_secs(1));
    served?;

    shop.shutdown();
    inventory.shutdown();
    let (report, stats) = delivery.shutdown(options.patience)?;
    drop(progress);
    let (inbox, returned) = mortal.map(Mortal::end).unzip();

    load.tell();
    let closed = account::close(&made, inbox.as_ref(), &report, &stats);
    returned.unwrap_or(Ok(())).and(closed)
}

/// What is set by Ctrl-C, once; the second one ends the program at once.
fn stop_at_ctrl_c() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let set = Arc::clone(&stop);
    ctrlc::set_handler(move || {
        if set.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
    })?;
    Ok(stop)
}
