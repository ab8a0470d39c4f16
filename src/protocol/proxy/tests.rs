use super::*;
use crate::Config;
use alloc::string::ToString;
use alloc::sync::Arc;
use core::net::IpAddr;

fn lane() -> Lane {
    let config = Config::new()
        .with_protocol(crate::Protocol::Grpc)
        .with_endpoint("http://collector.example:4317")
        .with_header("authorization", "Bearer hunter2");
    config.settings().expect("it works").lanes.remove(0)
}

fn proxy() -> Proxy {
    Proxy {
        host: Host::Name("proxy.example".into()),
        port: 3128,
        authorization: Some(Arc::from("Basic bWU6c2VjcmV0")),
    }
}

fn tunnel() -> Tunnel {
    Tunnel::new(&lane(), &proxy()).expect("it works")
}

fn refusal(answer: &[u8]) -> Failure {
    match tunnel().handle_input(answer) {
        Err(failure) => failure,
        Ok(open) => panic!("{open:?}"),
    }
}

#[test]
fn the_proxy_learns_where_to_and_its_own_credentials_and_no_more() {
    let mut tunnel = tunnel();
    let request = tunnel.poll_transmit().expect("a request");
    let request = core::str::from_utf8(&request).expect("text");
    let user_agent = lane().user_agent.to_string();
    assert_eq!(
        request,
        alloc::format!(
            "CONNECT collector.example:4317 HTTP/1.1\r\nhost: collector.example:4317\r\nuser-agent: {user_agent}\r\n\
             proxy-authorization: Basic bWU6c2VjcmV0\r\n\r\n"
        )
    );
    assert_eq!(tunnel.poll_transmit(), None, "once");
}

#[test]
fn an_address_of_ipv6_stands_in_brackets() {
    let ip: IpAddr = "::1".parse().expect("an address");
    assert_eq!(authority(&Host::Ip(ip), 4317).as_deref(), Some("[::1]:4317"));
    assert_eq!(authority(&Host::Unix("/run/otlp".into()), 0), None);
}

#[test]
fn credentials_cannot_end_their_line() {
    let bad = Proxy {
        authorization: Some(Arc::from("Basic x\r\nhost: evil")),
        ..proxy()
    };
    let why = Tunnel::new(&lane(), &bad).err().expect("refused");
    assert!(
        why.contains("control characters") && !why.contains("evil"),
        "{why}"
    );
}

#[test]
fn a_success_opens_the_tunnel_wherever_it_is_cut() {
    let answer = b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 Connection established\r\ncontent-length: 3\r\n\
                   transfer-encoding: chunked\r\n\r\nrest";
    let head = answer.len() - 4;
    for cut in 0..=answer.len() {
        let mut tunnel = tunnel();
        let mut through = None;
        for (part, seen) in [(&answer[..cut], cut), (&answer[cut..], answer.len())] {
            match &mut through {
                None => through = tunnel.handle_input(part).expect("a success"),
                Some(rest) => rest.extend_from_slice(part),
            }
            assert_eq!(through.is_some(), seen >= head, "cut at {cut}");
        }
        assert_eq!(through.as_deref(), Some(&b"rest"[..]), "cut at {cut}");
    }
}

#[test]
fn a_refusal_says_what_to_do_and_whether_to_try_again() {
    for (answer, is_retryable, words) in [
        (
            &b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n"[..],
            false,
            "credentials for the proxy",
        ),
        (b"HTTP/1.1 403 Forbidden\r\n\r\n", false, "lets this host connect"),
        (
            b"HTTP/1.1 405 Method Not Allowed\r\n\r\n",
            false,
            "does not offer CONNECT",
        ),
        (
            b"HTTP/1.1 302 Found\r\nlocation: http://evil/\r\n\r\n",
            false,
            "redirects are not followed",
        ),
        (
            b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
            true,
            "101 Switching Protocols",
        ),
        (b"HTTP/1.1 429 Too Many Requests\r\n\r\n", true, "429"),
        (b"HTTP/1.0 502 Bad Gateway\r\n\r\n", true, "502 Bad Gateway"),
        (b"HTTP/1.1 503\r\n\r\n", true, "HTTP 503 to the request"),
        (
            b"HTTP/1.1 504 Gateway Timeout\r\n\r\n",
            true,
            "reaches the collector",
        ),
        (b"SSH-2.0-OpenSSH\r\n", false, "no HTTP"),
        (b"\x05\xff", false, "no HTTP"),
    ] {
        let failure = refusal(answer);
        assert_eq!(failure.is_retryable, is_retryable, "{}", failure.message);
        assert!(failure.message.contains(words), "{}", failure.message);
        assert!(
            failure.message.contains("proxy.example:3128"),
            "{}",
            failure.message
        );
        for secret in ["bWU6c2VjcmV0", "hunter2", "evil"] {
            assert!(!failure.message.contains(secret), "{}", failure.message);
        }
    }
}

#[test]
fn what_the_proxy_says_is_bounded() {
    let mut endless = b"HTTP/1.1 200 OK\r\nx: ".to_vec();
    endless.resize(HEAD_BYTES_MAX - 1, b'y');
    let mut tunnel = tunnel();
    assert_eq!(tunnel.handle_input(&endless), Ok(None), "still a head");
    let failure = tunnel.handle_input(b"yy").expect_err("too long");
    assert!(
        failure.message.contains("more than 8192 bytes"),
        "{}",
        failure.message
    );

    let interim = b"HTTP/1.1 100 Continue\r\n\r\n".repeat(INTERIM_MAX as usize);
    let mut tunnel = self::tunnel();
    assert_eq!(tunnel.handle_input(&interim), Ok(None));
    assert!(
        tunnel.handle_input(b"HTTP/1.1 100 Continue\r\n\r\n").is_err(),
        "one too many"
    );

    let mut long = b"HTTP/1.1 403 ".to_vec();
    long.extend([b'n'; 1_000]);
    long.extend(b"\r\n\r\n");
    assert!(refusal(&long).message.len() < 300);
}
