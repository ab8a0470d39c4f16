//! Which test shows which requirement: `tests/spec.md` is made from the citations `spec N` in the tests themselves, so
//! that it cannot go stale. `OTLP_EMBED_BLESS=1 cargo test --test spec_table` writes it anew.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// The requirements, in short, by their number less one.
const REQUIREMENTS: [&str; 55] = [
    "the request size is capped before compression, 64 MiB unless set",
    "a request over the cap is never sent: it is split, and a record too large alone is recorded as discarded",
    "the response size is capped after decompression, 4 MiB unless set",
    "an oversize response is a recorded error that is not retried",
    "no empty envelopes are sent",
    "unknown fields are ignored",
    "unary calls run concurrently",
    "the number of concurrent calls and of HTTP/1.1 connections is configurable",
    "a shutdown waits or does not wait, as asked",
    "what was not delivered is recorded",
    "several destinations queue, acknowledge and retry on their own over shared data",
    "a populated partial success is never retried, a warning included",
    "retryable errors are recorded",
    "what is not retryable is dropped, counted and never retried",
    "the retryable gRPC codes are retried",
    "RESOURCE_EXHAUSTED is retried only with RetryInfo",
    "retries back off exponentially",
    "RetryInfo is obeyed wherever it stands, and grown from",
    "HTTP 429, 502, 503 and 504 are retried",
    "every other 4xx and 5xx is not retried",
    "Retry-After is read in seconds and as a date; what makes no sense falls back to backoff",
    "a disconnect without a response is retried with backoff",
    "backoff has random jitter, on failures to connect too",
    "connections are kept alive and reused",
    "possible duplicates of a resend are counted",
    "behaviour does not hang on the code in an error body; its message is reported",
    "requests are POSTs to the signal's path",
    "the content type is that of protobuf or JSON",
    "gzip sets Content-Encoding",
    "HTTP/2 is negotiated by ALPN, with a fall back to HTTP/1.1",
    "JSON has hex ids, integer enums, lowerCamelCase, 64-bit integers as strings, bytes as base64",
    "the default ports are 4317 and 4318",
    "every option can be set, and overridden for a signal; empty is unset, an invalid value falls through",
    "an HTTP endpoint keeps scheme, host, port and path",
    "the base endpoint appends the signal's path, a signal's own URL is used as it is",
    "gRPC takes http, https and unix endpoints; the scheme overrides `insecure`",
    "the protocol is grpc, http/protobuf (the default) or http/json",
    "an export has 10 s, retries included",
    "the compression is none or gzip",
    "headers come in the form of W3C Baggage, percent-decoded",
    "retries are on by default",
    "the user agent names the exporter",
    "a gRPC request carries its timeout, te, content-type and binary metadata in base64",
    "grpc-message is percent-decoded leniently",
    "an HTTP answer without grpc-status is mapped as gRPC says",
    "the reset of a stream is mapped by its reason",
    "GOAWAY: streams above the last were not processed and are resent, the others finish",
    "trailers-only, padded and split frames, 1xx, SETTINGS in mid-flight all work",
    "the deadline covers everything, and leaves a connection that works",
    "a stale connection is noticed and the request resent on a new one",
    "client keepalive is off by default and never faster than servers allow",
    "floods end in a prompt error within bounded memory",
    "an accepted request is never resent; redirects are never followed and credentials never leave the origin",
    "certificates are verified; TLS never falls back to plain text",
    "the SDK's self-metrics count each item once an export",
];

/// Requirements that no test of the crate can show, and why.
const REASONS: [(usize, &str); 0] = [];

#[test]
fn every_requirement_has_a_test_or_a_reason_and_the_table_says_which() {
    let cited = citations();
    let mut table = String::from(
        "# Which test shows which requirement\n\nMade from the citations `spec N` in the tests by `tests/spec_table.rs`, which compares it with them.\n\n\
         | | requirement | tests |\n|---|---|---|\n",
    );
    let mut bare = Vec::new();
    for (at, requirement) in REQUIREMENTS.iter().enumerate() {
        let number = at + 1;
        let tests = cited.get(&number).map(Vec::as_slice).unwrap_or_default();
        let reason = REASONS.iter().find(|(known, _)| *known == number);
        let shown = match (tests, reason) {
            ([], None) => {
                bare.push(number);
                continue;
            }
            ([], Some((_, reason))) => format!("none: {reason}"),
            (_, Some(_)) => panic!("spec {number} has a test; its reason for having none is out of date"),
            (tests, None) => tests.join("<br>"),
        };
        writeln!(table, "| {number} | {requirement} | {shown} |").expect("a string takes everything");
    }
    assert!(
        bare.is_empty(),
        "no test cites spec {bare:?}, and no reason is given"
    );
    let path = root().join("tests/spec.md");
    if std::env::var_os("OTLP_EMBED_BLESS").is_some() {
        fs::write(&path, &table).expect("the table can be written");
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == table,
        "tests/spec.md is stale: run `OTLP_EMBED_BLESS=1 cargo test --test spec_table`"
    );
}

#[test]
fn citations_are_found_in_tests_alone() {
    let source = "
/// spec 9 is not cited here.
fn helper() {
    let words = \"spec 8\";
}

/// As spec 4 asks.
#[test]
fn a_test() {
    assert!(true, \"spec 1, 2 and spec 50–52\");
}

#[test]
fn another() {
    // special 7
}
";
    let mut cited = BTreeMap::new();
    read_citations(Path::new("tests/x.rs"), source, &mut cited);
    let numbers: Vec<_> = cited.keys().copied().collect();
    assert_eq!(numbers, [1, 2, 4, 50, 51, 52]);
    assert_eq!(cited[&4], ["`tests/x.rs` a_test"]);
}

/// The tests that cite each requirement.
fn citations() -> BTreeMap<usize, Vec<String>> {
    let mut cited = BTreeMap::new();
    for folder in ["src", "tests"] {
        for path in sources(&root().join(folder)) {
            let source = fs::read_to_string(&path).expect("a source is text");
            let name = path.strip_prefix(root()).expect("a source of the crate");
            if name != Path::new("tests/spec_table.rs") {
                read_citations(name, &source, &mut cited);
            }
        }
    }
    cited
}

/// Goes through the functions of a source: what stands between the end of one and the end of the next belongs to it.
fn read_citations(path: &Path, source: &str, cited: &mut BTreeMap<usize, Vec<String>>) {
    let is_scenarios = path.ends_with("tests/conformance/scenarios.rs");
    for item in items(source) {
        let Some(name) = function_name(item) else { continue };
        let is_test = item.contains("#[test]") || (is_scenarios && item.contains("pub "));
        if !is_test {
            continue;
        }
        for number in numbers(item) {
            let tests: &mut Vec<String> = cited.entry(number).or_default();
            let shown = format!("`{}` {name}", path.display());
            if !tests.contains(&shown) {
                tests.push(shown);
            }
        }
    }
}

/// The items of a source, each from the end of the one before to its closing brace.
fn items(source: &str) -> Vec<&str> {
    let (mut items, mut begin, mut at) = (Vec::new(), 0, 0);
    for line in source.split_inclusive('\n') {
        at += line.len();
        let indentation = line.len() - line.trim_start().len();
        if line.trim() == "}" && indentation <= 4 {
            items.push(&source[begin..at]);
            begin = at;
        }
    }
    items
}

fn function_name(item: &str) -> Option<&str> {
    let after = item
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .find_map(|line| line.split_once("fn ").map(|(_, after)| after))?;
    let end = after.find(|c: char| !c.is_alphanumeric() && c != '_')?;
    Some(&after[..end])
}

/// The numbers after each `spec `: lists with commas, ranges with a dash.
fn numbers(text: &str) -> Vec<usize> {
    let mut all = Vec::new();
    for (at, _) in text.match_indices("spec ") {
        if text[..at].ends_with(char::is_alphanumeric) {
            continue;
        }
        let list = &text[at + 5..];
        let end = list
            .find(|c: char| !c.is_ascii_digit() && !matches!(c, ',' | ' ' | '–' | '-'))
            .unwrap_or(list.len());
        for part in list[..end].split(',') {
            let part = part.trim().trim_end_matches(['-', '–', ' ']);
            let mut ends = part
                .split(['–', '-'])
                .map_while(|number| number.trim().parse().ok());
            let Some(first) = ends.next() else { break };
            let last = ends.next().unwrap_or(first);
            all.extend((first..=last).filter(|number| (1..=REQUIREMENTS.len()).contains(number)));
        }
    }
    all.sort_unstable();
    all.dedup();
    all
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder of the crate") {
        let path = entry.expect("an entry").path();
        let is_foreign = path
            .file_name()
            .is_some_and(|name| name == "node_modules" || name == "target" || name == ".venv");
        if path.is_dir() && !is_foreign {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
