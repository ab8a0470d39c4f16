//! The settings of the whole exporter.

use super::super::{
    CONNECT_TIMEOUT, HTTP1_CONNECTIONS_MAX, MEMORY_LIMIT_BYTES, REQUEST_BYTES_MAX, RESPONSE_BYTES_MAX,
};
use super::super::{Config, ConfigReport};
use super::{no_time, shown};
use crate::error::Error;
use alloc::format;
use alloc::string::String;
use core::time::Duration;

/// Connections of HTTP/1.1 that can be asked for.
const HTTP1_CONNECTIONS_LIMIT: usize = 1_000;
/// Pings that come faster are answered by a GOAWAY from many servers (gRPC, "Client-side Keepalive").
const KEEPALIVE_ODD_BELOW: Duration = Duration::from_secs(10);

/// Checks and reports them.
///
/// # Errors
///
/// A misuse error that names the one that cannot work.
pub(super) fn check(config: &Config, report: &mut ConfigReport) -> Result<(), Error> {
    connections(config, report)?;
    limits(config, report)?;
    let retry = config.whole.retry.unwrap_or_default();
    retry.check()?;
    let (initial, max) = (retry.initial, retry.max);
    let value = match retry.attempts_max {
        1 => "never".into(),
        u32::MAX => format!("after {initial:?} to {max:?}, until the timeout"),
        most => format!("after {initial:?} to {max:?}, {most} attempts in all"),
    };
    report.understand(
        None,
        "retry",
        value,
        origin(config.whole.retry, "with_retry_policy"),
    );
    Ok(())
}

fn connections(config: &Config, report: &mut ConfigReport) -> Result<(), Error> {
    let whole = &config.whole;
    let timeout = whole.connect_timeout.unwrap_or(CONNECT_TIMEOUT);
    if timeout.is_zero() {
        return Err(no_time("with_connect_timeout"));
    }
    let from = origin(whole.connect_timeout, "with_connect_timeout");
    report.understand(None, "connect timeout", shown(timeout), from);

    let count = whole.http1_connections_max.unwrap_or(HTTP1_CONNECTIONS_MAX);
    if !(1..=HTTP1_CONNECTIONS_LIMIT).contains(&count) {
        return refuse(format!(
            "with_http1_connections: {count} lies outside 1 to {HTTP1_CONNECTIONS_LIMIT}"
        ));
    }
    let from = origin(whole.http1_connections_max, "with_http1_connections");
    report.understand(None, "HTTP/1.1 connections", format!("{count} at most"), from);

    let value = match whole.keepalive {
        None => "off".into(),
        Some(keepalive) if keepalive.interval.is_zero() || keepalive.timeout.is_zero() => {
            return refuse("with_keepalive: interval and timeout must be more than 0 s".into());
        }
        Some(keepalive) => {
            let interval = keepalive.interval;
            if interval < KEEPALIVE_ODD_BELOW {
                report.warn(format!(
                    "with_keepalive: a ping every {interval:?} is more than many collectors bear, who close the connection"
                ));
            }
            let idle = if keepalive.while_idle { ", idle or not" } else { "" };
            format!(
                "a ping after {interval:?}, {:?} to answer{idle}",
                keepalive.timeout
            )
        }
    };
    report.understand(
        None,
        "keepalive",
        value,
        origin(whole.keepalive, "with_keepalive"),
    );

    let value = match whole.max_connection_age {
        None => "any".into(),
        Some(age) if age.is_zero() => {
            return refuse(
                "with_max_connection_age: zero leaves no time for an export; give more than 0 s".into(),
            );
        }
        Some(age) => format!("{age:?} at most"),
    };
    let from = origin(whole.max_connection_age, "with_max_connection_age");
    report.understand(None, "connection age", value, from);
    Ok(())
}

fn limits(config: &Config, report: &mut ConfigReport) -> Result<(), Error> {
    let whole = &config.whole;
    let limits = [
        (
            "memory limit",
            "with_memory_limit",
            whole.memory_limit_bytes,
            MEMORY_LIMIT_BYTES,
        ),
        (
            "request limit",
            "with_request_limit",
            whole.request_bytes_max,
            REQUEST_BYTES_MAX,
        ),
        (
            "response limit",
            "with_response_limit",
            whole.response_bytes_max,
            RESPONSE_BYTES_MAX,
        ),
    ];
    for (name, method, value, default) in limits {
        let bytes = value.unwrap_or(default);
        if bytes == 0 {
            return refuse(format!("{method}: zero bytes hold no message; give more than 0"));
        }
        report.understand(None, name, format!("{bytes} bytes"), origin(value, method));
    }
    Ok(())
}

fn origin<T>(value: Option<T>, method: &'static str) -> &'static str {
    value.map_or("default", |_| method)
}

fn refuse<T>(text: String) -> Result<T, Error> {
    Err(Error::config(text))
}
