use super::*;
use alloc::string::{String, ToString};

fn grpc(url: &str) -> Endpoint {
    Endpoint::parse_grpc(url).unwrap_or_else(|e| panic!("{url}: {e}"))
}

fn http(url: &str) -> Endpoint {
    Endpoint::parse_http(url).unwrap_or_else(|e| panic!("{url}: {e}"))
}

#[test]
fn grpc_accepts_what_users_write() {
    assert_eq!(grpc("http://localhost:4317").to_string(), "http://localhost:4317");
    assert_eq!(grpc("http://localhost").port(), 4317, "spec 32");
    assert_eq!(grpc("HTTPS://collector.example:443/").scheme(), Scheme::Https);
    assert_eq!(
        &**grpc("https://collector.example:443").authority(),
        "collector.example:443"
    );
    assert_eq!(grpc("127.0.0.1:4317").host(), &Host::Ip([127, 0, 0, 1].into()));
    assert_eq!(grpc("collector:4317").scheme(), Scheme::Https, "spec 36");
    assert_eq!(&**grpc("http://[::1]:9").authority(), "[::1]:9");
    assert_eq!(&**grpc("http://[::1]").authority(), "[::1]:4317");
    assert_eq!(grpc(" otel_collector.ns.svc.cluster.local.:1 ").port(), 1);
    assert_eq!(
        grpc("http://Collector"),
        grpc("http://collector"),
        "names know no case"
    );
}

#[test]
fn http_keeps_scheme_host_port_and_path() {
    for (url, scheme, port, authority, path) in [
        ("http://collector", Scheme::Http, 80, "collector", ""),
        ("https://collector", Scheme::Https, 443, "collector", ""),
        ("http://collector:80/", Scheme::Http, 80, "collector", "/"),
        ("http://collector:443/", Scheme::Http, 443, "collector:443", "/"),
        (
            "https://collector:443/a/b",
            Scheme::Https,
            443,
            "collector",
            "/a/b",
        ),
        (
            "http://collector:4318/v1/traces",
            Scheme::Http,
            4318,
            "collector:4318",
            "/v1/traces",
        ),
        (
            "http://[2001:db8::1]/a%20b/",
            Scheme::Http,
            80,
            "[2001:db8::1]",
            "/a%20b/",
        ),
        (
            "http://10.0.0.1:8080?key=1",
            Scheme::Http,
            8080,
            "10.0.0.1:8080",
            "?key=1",
        ),
        ("HTTP://h/~a@b:c;d=1", Scheme::Http, 80, "h", "/~a@b:c;d=1"),
    ] {
        let endpoint = http(url);
        assert_eq!(
            (endpoint.scheme(), endpoint.port()),
            (scheme, port),
            "spec 34, 35: {url}"
        );
        assert_eq!(
            (&**endpoint.authority(), &**endpoint.path()),
            (authority, path),
            "{url}"
        );
    }
}

#[test]
fn grpc_refuses_what_cannot_work_and_says_why() {
    for (url, why) in [
        ("", "empty"),
        ("  ", "empty"),
        ("ftp://host:1", "scheme"),
        ("http://", "host"),
        ("://host", "no scheme"),
        ("http://:4317", "host"),
        ("http://a b:4317", "host"),
        ("http://[::1", "port"),
        ("http://[::1:4317", "port"),
        ("http://[::zz]:4317", "host"),
        ("http://[fe80::1%25eth0]:4317", "zone"),
        ("http://::1:4317", "port"),
        ("http://host:0", "port"),
        ("http://host:65536", "port"),
        ("http://host:99999999999999999999", "port"),
        ("http://host:+1", "port"),
        ("http://host:", "port"),
        ("http://ho%73t", "percent-encoded"),
        ("http://bücher.example", "xn--"),
        ("http://host/v1/traces", "path"),
        ("http://host?x", "path"),
        ("http://a..b", "host"),
        ("http://me:secret@host", "user information"),
    ] {
        refused(url, Endpoint::parse_grpc(url), why);
    }
}

#[test]
fn http_refuses_what_cannot_work_and_says_why() {
    for (url, why) in [
        ("", "4318"),
        ("collector:4318", "no scheme"),
        ("localhost", "no scheme"),
        ("/v1/traces", "no scheme"),
        ("grpc://host:1", "takes http and https"),
        ("http:///v1/traces", "host"),
        ("http://host:http/v1", "port"),
        ("http://host/a b", "percent-encoded"),
        ("http://host/100%", "percent-encoded"),
        ("http://host/%zz", "percent-encoded"),
        ("http://host/\u{e9}", "percent-encoded"),
        ("http://host/a\r\nx: y", "percent-encoded"),
        ("http://host/\"", "percent-encoded"),
        ("http://host/#top", "fragment"),
        ("https://me:secret@host/v1", "user information"),
        ("https://host/v1\u{0}?secret", "percent-encoded"),
    ] {
        refused(url, Endpoint::parse_http(url), why);
    }
    let long: String = core::iter::once("http://host/")
        .chain((0..5_000).map(|_| "ab"))
        .collect();
    let text = Endpoint::parse_http(&long).expect_err("too long").to_string();
    assert!(text.contains("longer") && text.len() < 1_000, "{text}");
}

fn refused(url: &str, result: Result<Endpoint, Error>, why: &str) {
    let error = result.expect_err(url);
    assert!(error.is_misuse(), "{url}");
    assert!(error.to_string().contains(why), "{url}: {error}");
    assert!(!error.to_string().contains("secret"), "{url}: {error}");
}

#[test]
fn what_lies_on_this_host_is_told_without_a_resolver() {
    for (url, is_local) in [
        ("http://localhost", true),
        ("http://LOCALHOST.", true),
        ("http://a.localhost", true),
        ("http://127.8.9.1", true),
        ("http://[::1]", true),
        ("http://[::ffff:127.0.0.1]", true),
        ("http://notlocalhost", false),
        ("http://localhost.example", false),
        ("http://10.0.0.1", false),
    ] {
        assert_eq!(http(url).is_local(), is_local, "{url}");
    }
}

#[test]
fn what_is_shown_of_a_url_is_no_secret() {
    for (url, shown) in [
        ("http://host/path", "\"http://host/path\""),
        ("http://me:secret@host/path", "\"http://…@host/path\""),
        ("secret@host", "\"…@host\""),
        ("http://host/p?secret", "\"http://host/p?…\""),
        ("http://host/p?a@secret", "\"http://…\""),
        ("http://me:se?cret@host", "\"http://…\""),
        ("http://me@host/?secret", "\"http://…@host/?…\""),
        ("secret secret://@host", "\"…@host\""),
        ("http://host#secret", "\"http://host#…\""),
        ("http://a\nb", "\"http://a\\nb\""),
    ] {
        assert_eq!(redacted(url), shown);
    }
    assert!(redacted(&"é".repeat(1_000)).chars().count() < 130);
}

#[test]
fn unix_sockets_are_taken_over_grpc_and_http() {
    for (url, path) in [
        ("unix:/run/otlp.sock", "/run/otlp.sock"),
        ("unix:///run/otlp.sock", "/run/otlp.sock"),
        ("UNIX:run/otlp.sock", "run/otlp.sock"),
        ("unix:/a b/100%?x#y@z", "/a b/100%?x#y@z"),
        ("unix:@otlp", "@otlp"),
        ("unix-abstract:otlp", "@otlp"),
    ] {
        for endpoint in [grpc(url), http(url)] {
            assert_eq!(endpoint.host(), &Host::Unix(path.into()), "spec 36: {url}");
            assert_eq!(endpoint.scheme(), Scheme::Http);
            assert_eq!((endpoint.port(), &**endpoint.authority()), (0, "localhost"));
            assert!(endpoint.is_local() && endpoint.path().is_empty());
            assert_eq!(endpoint.to_string(), format!("unix:{path}"));
        }
    }
    let long = format!("unix:/{}", "x".repeat(200));
    for (url, why) in [
        ("unix:", "missing"),
        ("unix:@", "missing"),
        ("unix-abstract:", "missing"),
        ("unix://run/otlp.sock", "absolute"),
        ("unix://", "absolute"),
        ("unix:/a\u{0}b", "zero byte"),
        (&long, "longer"),
    ] {
        refused(url, Endpoint::parse_grpc(url), why);
        refused(url, Endpoint::parse_http(url), why);
    }
}
