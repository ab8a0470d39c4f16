//! Exports as the environment says, and tells where each setting comes from; with TLS, compression and a changing token.
//!
//! ```sh
//! OTEL_EXPORTER_OTLP_TIMEOUT=3000 cargo run --example configured [URL]
//! ```
//!
//! With a URL, or where `OTEL_EXPORTER_OTLP_ENDPOINT` names one, it exports there, and trusts whom
//! `OTEL_EXPORTER_OTLP_CERTIFICATE` names. Without, it starts a collector in this process that speaks TLS with a
//! certificate made for this run, and exports to it with gzip and a bearer token.

#[path = "support/terminal.rs"]
mod terminal;

use otlp_embed::testing::Collector;
use otlp_embed::{Compression, Config, Request, Resource, Tls, TraceBatch, rt};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use std::error::Error;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use terminal::{exit_code, say};

const EXPORTS: u64 = 3;

fn main() -> ExitCode {
    exit_code(run())
}

fn run() -> Result<(), Box<dyn Error>> {
    let variables = Config::from_env()?;
    let has_endpoint = std::env::var_os("OTEL_EXPORTER_OTLP_ENDPOINT").is_some_and(|url| !url.is_empty());
    match std::env::args().nth(1) {
        Some(url) => export(variables.with_endpoint(url)),
        None if has_endpoint => export(variables),
        None => {
            let (collector, authority) = collector()?;
            // A token for every attempt. A program would hand out one that a task of its own keeps fresh.
            let number = AtomicU64::new(1);
            let token = move || format!("token-{}", number.fetch_add(1, Ordering::Relaxed));
            let config = variables
                .with_endpoint(collector.endpoint())
                .with_tls(Tls::new().with_ca_pem(authority))
                .with_compression(Compression::Gzip)
                .with_credentials(token);
            export(config)?;
            show(&collector)
        }
    }
}

/// Exports a few times over one exporter.
fn export(config: Config) -> Result<(), Box<dyn Error>> {
    let exporter = config.build(rt::Blocking::new()?)?;
    // No secret is in it: neither the token, nor a header's value, nor a proxy's password.
    say(exporter.config_report());
    for number in 1..=EXPORTS {
        let outcome = exporter.export(request(number)).wait()?;
        say(format_args!("export {number}: {outcome}"));
        if outcome.delivered() != 1 {
            return Err("the collector did not take the span".into());
        }
    }
    Ok(())
}

fn request(number: u64) -> Request {
    let mut batch = TraceBatch::new(&Resource::builder().attr("service.name", "example").build());
    batch.scope("otlp-embed-examples", "1.0");
    let trace_id = u128::from(number).to_be_bytes();
    let start = 1_700_000_000_000_000_000;
    batch
        .span(trace_id, number.to_be_bytes(), "work")
        .attr("text", "compresses well; ".repeat(50))
        .times(start..start + 500_000)
        .end();
    batch.finish()
}

/// A collector that speaks TLS, and in PEM the certificate to trust for it.
fn collector() -> Result<(Collector, String), Box<dyn Error>> {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()])?;
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der())?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut server = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)?;
    server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let collector = Collector::builder().with_tls(Arc::new(server)).start()?;
    Ok((collector, made.cert.pem()))
}

/// What the collector saw of the settings.
fn show(collector: &Collector) -> Result<(), Box<dyn Error>> {
    let requests = collector.requests();
    for request in &requests {
        say(format_args!(
            "received {:?} in {:?} with {}: {} bytes for {}",
            request.compression,
            request.version,
            request.header("authorization").unwrap_or("no token"),
            request.body.len(),
            request.encoded_len,
        ));
    }
    let has_token = |token: String| {
        let mut headers = requests
            .iter()
            .filter_map(|request| request.header("authorization"));
        headers.any(|header| header == token)
    };
    let is_compressed = requests
        .iter()
        .all(|request| request.compression == Compression::Gzip);
    if !is_compressed || !(1..=EXPORTS).all(|number| has_token(format!("Bearer token-{number}"))) {
        return Err("the collector did not see what was configured".into());
    }
    Ok(())
}
