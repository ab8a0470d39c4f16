//! The same calls through each adapter: callers that share one exporter, then the big batch.

use crate::custom::OneThread;
use crate::manifest::Manifest;
use crate::options::{Adapter, Options};
use crate::plan::{self, Batch};
use otlp_embed::rt::{self, Runtime};
use otlp_embed::{Config, Exporter, OtlpExportFuture, Stats, Tls};
use std::future::Future;
use std::io;

type Sent = Result<Stats, Box<dyn std::error::Error>>;

/// Sends everything that is asked for and gives the exporter's account.
///
/// # Errors
///
/// The exporter cannot be built, or the manifest cannot be written; a batch that fails is no error here.
pub fn send(options: &Options, manifest: &Manifest) -> Sent {
    match options.adapter {
        Adapter::Tokio => tokio(options, manifest),
        Adapter::Smol => smol(options, manifest),
        Adapter::FuturesIo => async_std(options, manifest),
        Adapter::Blocking => blocking(options, manifest),
        Adapter::Custom => custom(options, manifest),
    }
}

fn tokio(options: &Options, manifest: &Manifest) -> Sent {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let exporter = config(options).build(rt::Tokio::current()?)?;
        let callers: Vec<_> = callers(&exporter, options, manifest)
            .map(|caller| runtime.spawn(caller))
            .collect();
        for caller in callers {
            caller.await??;
        }
        send_big(&exporter, options, manifest).await?;
        Ok(exporter.stats())
    })
}

fn smol(options: &Options, manifest: &Manifest) -> Sent {
    smol::block_on(async {
        let exporter = config(options).build(rt::Smol::new())?;
        let callers: Vec<_> = callers(&exporter, options, manifest).map(smol::spawn).collect();
        for caller in callers {
            caller.await?;
        }
        send_big(&exporter, options, manifest).await?;
        Ok(exporter.stats())
    })
}

fn async_std(options: &Options, manifest: &Manifest) -> Sent {
    async_std::task::block_on(async {
        let runtime = rt::FuturesIo::new(async_std::net::TcpStream::connect, async_std::task::sleep);
        let exporter = config(options).build(runtime)?;
        let callers: Vec<_> = callers(&exporter, options, manifest)
            .map(async_std::task::spawn)
            .collect();
        for caller in callers {
            caller.await?;
        }
        send_big(&exporter, options, manifest).await?;
        Ok(exporter.stats())
    })
}

fn blocking(options: &Options, manifest: &Manifest) -> Sent {
    let exporter = config(options).build(rt::Blocking::new()?)?;
    let send = |batch: Batch| manifest.write(&batch, &exporter.export(batch.encode()).wait());
    std::thread::scope(|scope| {
        let callers: Vec<_> = (0..options.callers)
            .map(|caller| scope.spawn(move || plan::of_caller(options, caller).try_for_each(send)))
            .collect();
        callers
            .into_iter()
            .try_for_each(|caller| caller.join().expect("a caller does not panic"))
    })?;
    plan::big(options).map_or(Ok(()), send)?;
    Ok(exporter.stats())
}

fn custom(options: &Options, manifest: &Manifest) -> Sent {
    let runtime = OneThread::new();
    let exporter = config(options).build(runtime.clone())?;
    let sent = callers(&exporter, options, manifest).collect();
    runtime.run(sent).into_iter().collect::<io::Result<()>>()?;
    let sent = vec![send_big(&exporter, options, manifest)];
    runtime.run(sent).into_iter().collect::<io::Result<()>>()?;
    Ok(exporter.stats())
}

/// What every exporter of a run is built from.
pub fn config(options: &Options) -> Config {
    let mut config = Config::new()
        .with_protocol(options.protocol)
        .with_compression(options.compression)
        .with_endpoint(&options.endpoints[0]);
    if let Some(ca) = &options.ca {
        let mut tls = Tls::new().with_ca_file(ca);
        if let Some((certificate, key)) = &options.client {
            tls = tls.with_client_certificate_files(certificate, key);
        }
        config = config.with_tls(tls);
    }
    config
}

/// The futures of all callers.
fn callers<R: Runtime>(
    exporter: &Exporter<R>,
    options: &Options,
    manifest: &Manifest,
) -> impl Iterator<Item = impl Future<Output = io::Result<()>> + use<R>> {
    (0..options.callers).map(|caller| {
        let batches = plan::of_caller(options, caller);
        let (exporter, manifest) = (exporter.clone(), manifest.clone());
        async move {
            for batch in batches {
                let verdict = export(&exporter, &batch).await;
                manifest.write(&batch, &verdict)?;
            }
            Ok(())
        }
    })
}

async fn send_big<R: Runtime>(
    exporter: &Exporter<R>,
    options: &Options,
    manifest: &Manifest,
) -> io::Result<()> {
    match plan::big(options) {
        Some(batch) => manifest.write(&batch, &export(exporter, &batch).await),
        None => Ok(()),
    }
}

fn export<R: Runtime>(exporter: &Exporter<R>, batch: &Batch) -> OtlpExportFuture<R> {
    exporter.export(batch.encode())
}
