//! Arbitrary values of the environment variables.
//!
//! Whatever they say, there is a report without secrets, and settings that were accepted hold what the layers rely on.

use super::input::Input;
use otlp_embed::endpoint::Host;
use otlp_embed::protocol::Settings;
use otlp_embed::{Config, Signal};

/// Stands where only a secret can stand, and nowhere else.
const SECRET: &str = "Hunter-2.secret";

const SIGNALS: [&str; 5] = ["", "TRACES_", "METRICS_", "LOGS_", "PROFILES_"];
const PROXIES: [&str; 8] = [
    "http_proxy",
    "HTTP_PROXY",
    "https_proxy",
    "HTTPS_PROXY",
    "all_proxy",
    "ALL_PROXY",
    "no_proxy",
    "NO_PROXY",
];

/// Reads the variables that `data` describes: a name, a length and a value each.
pub fn run(data: &[u8]) {
    let mut input = Input(data);
    let with_proxies = input.byte().is_some_and(|byte| byte % 2 == 1);
    let mut vars = Vec::new();
    while let (Some(kind), Some(len)) = (input.byte(), input.byte()) {
        let text = String::from_utf8_lossy(input.bytes(len.into())).replace(SECRET, "");
        vars.push(variable(kind, &text));
    }
    let read = || {
        let vars = vars.iter().map(|(name, value)| (name, value));
        let config = Config::from_vars(vars).expect("not too much");
        match with_proxies {
            true => config.with_proxy_from_env(),
            false => config,
        }
    };
    let config = read();
    let report = config.report();
    let shown = report.to_string();
    assert_eq!(
        shown,
        read().report().to_string(),
        "the same variables say the same"
    );
    for shown in [shown, format!("{config:?}"), format!("{report:?}")] {
        assert!(!shown.contains(SECRET), "a secret is shown: {shown}");
        assert!(shown.len() < 1 << 20, "{} bytes of report", shown.len());
    }
    match config.settings() {
        Ok(settings) => check(&settings),
        Err(error) => {
            let text = error.to_string();
            assert!(error.is_misuse() && !text.contains(SECRET), "{text}");
            assert!(text.len() < 1_000, "{text}");
        }
    }
}

/// A variable with a value that has the secret where one may be, or none.
fn variable(kind: u8, text: &str) -> (String, String) {
    let signal = SIGNALS[usize::from(kind >> 4) % SIGNALS.len()];
    let otlp = |name: &str| format!("OTEL_EXPORTER_OTLP_{signal}{name}");
    let (before, after) = text.split_at(middle(text));
    match kind & 0xf {
        0 => (otlp("ENDPOINT"), text.into()),
        1 => (otlp("PROTOCOL"), text.into()),
        2 => (otlp("TIMEOUT"), text.into()),
        3 => (otlp("HEADERS"), text.into()),
        4 => (otlp("COMPRESSION"), text.into()),
        5 => (otlp("INSECURE"), text.into()),
        // A file that is there would be read.
        6 => (otlp("CERTIFICATE"), format!("/nonexistent/{text}")),
        7 => (otlp("CLIENT_KEY"), format!("/nonexistent/{text}")),
        8 => (otlp("TEMPORALITY_PREFERENCE"), text.into()),
        9 => (otlp("DEFAULT_HISTOGRAM_AGGREGATION"), text.into()),
        10 => {
            let name: String = before.chars().filter(|c| !",=".contains(*c)).collect();
            let value = after.replace(',', "");
            (otlp("HEADERS"), format!("first=1,{name}={value}{SECRET},last=2"))
        }
        11 => {
            let (user, host) = (before.replace("://", ""), after.replace('@', ""));
            (otlp("ENDPOINT"), format!("http://{user}{SECRET}@{host}"))
        }
        12 => {
            let path = before.replace('@', "");
            (
                otlp("ENDPOINT"),
                format!("http://collector/{path}?{after}{SECRET}"),
            )
        }
        13 => {
            let name = PROXIES[usize::from(kind >> 4) % PROXIES.len()];
            (name.into(), format!("{before}{SECRET}:{SECRET}@{after}"))
        }
        14 => {
            let name = PROXIES[usize::from(kind >> 4) % PROXIES.len()];
            (name.into(), text.into())
        }
        _ => (format!("OTEL_EXPORTER_OTLP_{text}"), SECRET.into()),
    }
}

/// About the middle, between two characters.
fn middle(text: &str) -> usize {
    let mut ats = (0..=text.len() / 2).rev();
    ats.find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

/// What the layers rely on.
fn check(settings: &Settings) {
    for signal in Signal::ALL {
        let (route, lane) = (settings.route(signal), settings.lane(signal));
        assert!(!route.timeout.is_zero() && !lane.connect_timeout.is_zero());
        assert!(route.path.starts_with('/'), "{}", route.path);
        let is_fit = |b: u8| b.is_ascii_graphic() && b != b'#';
        assert!(route.path.bytes().all(is_fit), "{:?}", route.path);
        assert!(!route.endpoint_name.contains(SECRET), "{}", route.endpoint_name);
        for (name, value) in &*route.headers {
            let token = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.".contains(&b);
            assert!(!name.is_empty() && name.bytes().all(token), "{name:?}");
            assert!(value.bytes().all(|b| (0x20..0x7f).contains(&b)), "{value:?}");
        }
        let endpoint = &lane.endpoint;
        assert!(
            endpoint.path().is_empty() && !endpoint.authority().is_empty(),
            "{endpoint}"
        );
        assert_eq!(endpoint.port() == 0, matches!(endpoint.host(), Host::Unix(_)));
        let is_fit = |b: u8| b.is_ascii_graphic() && !b"/?#@".contains(&b);
        assert!(endpoint.authority().bytes().all(is_fit), "{endpoint}");
        if let Some(proxy) = &lane.proxy {
            assert!(proxy.port != 0 && !proxy.to_string().contains(SECRET));
        }
    }
    for at in 0..settings.lanes.len() {
        assert!(
            settings.routes.iter().any(|route| route.lane == at),
            "a lane of nobody"
        );
    }
}
