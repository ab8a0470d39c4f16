//! The workers on each runtime.

use super::Result;
use super::args::Runtime;
use super::load::{Load, Next, Worker, now};
use super::progress::Progress;
use otlp_embed::{Config, Exporter, Stats, rt};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// For how long an exporter may take to end once every export has its verdict.
const CLOSING: Duration = Duration::from_secs(5);

/// What the exporter says at the end.
pub struct Ended {
    pub stats: Stats,
    pub endpoint: String,
    pub elapsed: Duration,
}

/// A sleep of whatever runtime.
type Sleep = fn(Duration) -> Pin<Box<dyn Future<Output = ()> + Send>>;

/// Runs the workers until all have done their part and every export has its verdict.
pub fn run(load: &Arc<Load>, config: Config) -> Result<Ended> {
    match load.plan.runtime {
        Runtime::Tokio => on_tokio(load, config),
        Runtime::Smol => on_smol(load, config),
        Runtime::AsyncStd => on_async_std(load, config),
        Runtime::Blocking => on_threads(load, config),
    }
}

fn on_tokio(load: &Arc<Load>, config: Config) -> Result<Ended> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let exporter = config.build(rt::Tokio::current()?)?;
        let progress = Progress::start(load, &exporter);
        let workers = each(load, |worker| {
            let sleep: Sleep = |time| Box::pin(tokio::time::sleep(time));
            tokio::spawn(work(load.clone(), exporter.clone(), worker, sleep))
        });
        for worker in workers {
            worker.await?;
        }
        drop(progress);
        ended(load, &exporter, exporter.shutdown(CLOSING)).await
    })
}

fn on_smol(load: &Arc<Load>, config: Config) -> Result<Ended> {
    smol::block_on(async {
        let exporter = config.build(rt::Smol::new())?;
        let progress = Progress::start(load, &exporter);
        let workers = each(load, |worker| {
            let sleep: Sleep = |time| {
                Box::pin(async move {
                    smol::Timer::after(time).await;
                })
            };
            smol::spawn(work(load.clone(), exporter.clone(), worker, sleep))
        });
        for worker in workers {
            worker.await;
        }
        drop(progress);
        ended(load, &exporter, exporter.shutdown(CLOSING)).await
    })
}

fn on_async_std(load: &Arc<Load>, config: Config) -> Result<Ended> {
    async_std::task::block_on(async {
        let runtime = rt::FuturesIo::new(async_std::net::TcpStream::connect, async_std::task::sleep);
        let exporter = config.build(runtime)?;
        let progress = Progress::start(load, &exporter);
        let workers = each(load, |worker| {
            let sleep: Sleep = |time| Box::pin(async_std::task::sleep(time));
            async_std::task::spawn(work(load.clone(), exporter.clone(), worker, sleep))
        });
        for worker in workers {
            worker.await;
        }
        drop(progress);
        ended(load, &exporter, exporter.shutdown(CLOSING)).await
    })
}

fn on_threads(load: &Arc<Load>, config: Config) -> Result<Ended> {
    let exporter = config.build(rt::Blocking::new()?)?;
    let progress = Progress::start(load, &exporter);
    let workers = each(load, |worker| {
        // Both block the thread that polls them, which is what it is for.
        let sleep: Sleep = |time| Box::pin(async move { thread::sleep(time) });
        let work = work(load.clone(), exporter.clone(), worker, sleep);
        thread::Builder::new().spawn(|| futures_executor::block_on(work))
    });
    for worker in workers {
        worker?.join().map_err(|_| "a worker panicked")?;
    }
    drop(progress);
    futures_executor::block_on(ended(load, &exporter, exporter.shutdown(CLOSING)))
}

fn each<T>(load: &Load, start: impl FnMut(Worker) -> T) -> Vec<T> {
    (0..load.plan.workers).map(Worker::new).map(start).collect()
}

/// One worker: one export after another.
async fn work<R: rt::Runtime>(load: Arc<Load>, exporter: Exporter<R>, mut worker: Worker, sleep: Sleep) {
    loop {
        match worker.next(&load) {
            Next::End => return,
            Next::Sleep(time) => sleep(time).await,
            Next::Export(request) => {
                let begun = now();
                let verdict = exporter.export(request).await;
                load.settle(&verdict, now() - begun);
                if verdict.is_err() && !load.is_interrupted() {
                    // A collector that refuses at once is not asked in a tight loop.
                    sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }
}

async fn ended<R: rt::Runtime>(
    load: &Load,
    exporter: &Exporter<R>,
    shutdown: impl Future<Output = otlp_embed::Report>,
) -> Result<Ended> {
    let elapsed = load.elapsed();
    let report = shutdown.await;
    let entries = exporter.config_report().entries();
    let endpoints = entries.filter(|entry| entry.setting() == "endpoint");
    let named = endpoints
        .filter(|entry| entry.signal().is_none_or(|signal| signal == load.plan.signal))
        .last();
    Ok(Ended {
        stats: report.stats,
        endpoint: named.map(|entry| entry.value().to_owned()).unwrap_or_default(),
        elapsed,
    })
}
