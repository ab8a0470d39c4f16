//! A proxy that answers as the fuzzer likes: the tunnel opens exactly where the answer is a success, wherever it is cut,
//! and nothing of an export leaves before.

use super::input::Input;
use otlp_embed::endpoint::Host;
use otlp_embed::protocol::{CallId, Connection as _, Event, Proxy, Session};
use otlp_embed::time::Instant;
use otlp_embed::{Config, Protocol};

/// How an answer was taken.
#[derive(Debug, PartialEq, Eq)]
enum Taken {
    /// The tunnel is open, and these bytes were the answer.
    Open,
    Refused(String),
    Closed(String),
    Waiting,
}

pub fn run(data: &[u8]) {
    let mut input = Input(data);
    let Some(seed) = input.byte() else { return };
    let answer = input.0;
    // Once whole, once cut as the seed says: both have to agree.
    let whole = take(answer, usize::MAX);
    let cut = take(answer, 1 + usize::from(seed % 64));
    assert_eq!(whole, cut, "cuts change nothing");
    if whole == Taken::Open {
        assert!(
            answer.windows(5).any(|window| window == b"HTTP/"),
            "a success is one"
        );
    }
}

fn take(answer: &[u8], chunk: usize) -> Taken {
    let config = Config::new()
        .with_protocol(Protocol::Grpc)
        .with_endpoint("http://collector.example:4317");
    let mut settings = config.settings().expect("they work");
    settings.lanes[0].proxy = Some(Proxy {
        host: Host::Name("proxy.example".into()),
        port: 3128,
        authorization: None,
    });
    let now = Instant::from_millis(1);
    let mut session = Session::open(&settings.lanes[0], now).expect("it opens");
    let question = session.poll_transmit().expect("a question").concat();
    assert!(question.starts_with(b"CONNECT collector.example:4317 HTTP/1.1\r\n"));
    assert!(session.poll_transmit().is_none(), "nothing before the answer");
    session.handle_sent(now, question.len());
    for part in answer.chunks(chunk) {
        session.handle_input(now, part);
        if let Some(pieces) = session.poll_transmit() {
            // What came through the tunnel is the affair of the next layer.
            assert!(
                pieces.concat().starts_with(b"PRI * HTTP/2.0\r\n\r\n"),
                "a preface"
            );
            return Taken::Open;
        }
        assert!(!session.can_start(), "nothing before the answer");
        match session.poll_event() {
            Some(Event::Refused(why)) => return ended(&mut session, Taken::Refused(why)),
            // The tunnel opened and what came through it was no HTTP/2.
            Some(Event::Closed(why)) if session.poll_timeout().is_none() && !why.starts_with("the proxy") => {
                return Taken::Open;
            }
            Some(Event::Closed(why)) => return ended(&mut session, Taken::Closed(why)),
            Some(event) => panic!("{event:?}"),
            None => {}
        }
    }
    Taken::Waiting
}

/// A session that is over stays over, whatever comes.
fn ended(session: &mut Session, taken: Taken) -> Taken {
    let (Taken::Refused(why) | Taken::Closed(why)) = &taken else {
        return taken;
    };
    assert!(why.len() < 1_000 && !why.chars().any(char::is_control), "{why}");
    let now = Instant::from_millis(2);
    session.handle_input(now, b"HTTP/1.1 200 OK\r\n\r\n");
    session.handle_eof(now, "the end");
    session.handle_timeout(now);
    assert!(session.poll_transmit().is_none() && session.poll_event().is_none());
    assert!(!session.can_start() && session.is_draining());
    assert!(!session.cancel(now, CallId(1)));
    taken
}
