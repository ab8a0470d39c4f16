//! What an answer says about the size of the request that it refuses.

use crate::code::Code;
use crate::protocol::Answer;
use alloc::string::String;
use alloc::vec::Vec;

/// Bytes of an answer's text that are read.
const TEXT_BYTES_MAX: usize = 1_024;
/// The smallest number that counts as a size where the text does not say what it is.
const SIZE_MIN: u64 = 1_024;

/// A request was refused for its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SizeRefusal {
    /// The size that the collector saw, where it names it.
    pub(super) received: Option<u64>,
    /// The largest size that it takes, where it names it.
    pub(super) max: Option<u64>,
}

/// Reads a refusal for size out of an answer: HTTP 413, or a gRPC status whose words say so. gRPC has no status of its own
/// for it: `RESOURCE_EXHAUSTED` also stands for quotas, and tonic answers `OUT_OF_RANGE`.
pub(super) fn size_refusal(answer: &Answer) -> Option<SizeRefusal> {
    let mut end = answer.message.len().min(TEXT_BYTES_MAX);
    while !answer.message.is_char_boundary(end) {
        end -= 1;
    }
    let text = answer.message[..end].to_ascii_lowercase();
    let is_refusal = match answer.code {
        _ if answer.http_status == Some(413) => true,
        _ if answer.is_http || answer.retry_after.is_some() => false,
        Code::RESOURCE_EXHAUSTED => speaks_of_size(&text),
        Code::OUT_OF_RANGE => text.contains("message length too large"),
        _ => false,
    };
    is_refusal.then(|| sizes(&text))
}

fn speaks_of_size(text: &str) -> bool {
    let says = |words: &str| text.contains(words);
    // An amount in a time is a quota: the same request is taken later, and smaller ones are refused as well.
    if says("quota") || says("rate") || says("per second") || says("per minute") {
        return false;
    }
    says("larger than")
        || says("too large")
        || says("too big")
        || (says("max") && says("size"))
        || (says("bytes") && (says("at most") || says("exceed") || says("limit")))
}

/// The sizes that a text names, in the words of the implementations that are known, or else in any that name one or two.
fn sizes(text: &str) -> SizeRefusal {
    let numbers = numbers(text);
    // grpc-go, C-core: "received message larger than max (5000000 vs. 4194304)".
    let versus = text.find(" vs. ").map(|at| (&text[..at], &text[at..]));
    if let Some((before, after)) = versus {
        let received = self::numbers(before).last().copied();
        let max = self::numbers(after).first().copied();
        if received.is_some() && max.is_some() {
            return SizeRefusal { received, max };
        }
    }
    // grpc-java: "gRPC message exceeds maximum size 4194304: 5000000"; tonic: "found 5000000 bytes, the limit is: 4194304
    // bytes".
    let sizes: Vec<u64> = numbers.into_iter().filter(|number| *number >= SIZE_MIN).collect();
    let (received, max) = match sizes[..] {
        [max] => (None, Some(max)),
        [a, b] => (Some(a.max(b)), Some(a.min(b))),
        _ => (None, None),
    };
    SizeRefusal { received, max }
}

/// The numbers in a text that fit, in order.
fn numbers(text: &str) -> Vec<u64> {
    let digits = |word: &&str| !word.is_empty();
    text.split(|c: char| !c.is_ascii_digit())
        .filter(digits)
        .filter_map(|word| String::from(word).parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(code: Code, message: &str) -> Answer {
        Answer {
            code,
            message: message.into(),
            rejected: 0,
            retry_after: None,
            http_status: None,
            is_http: false,
            location: None,
        }
    }

    fn read(message: &str) -> Option<(Option<u64>, Option<u64>)> {
        let refusal = size_refusal(&answer(Code::RESOURCE_EXHAUSTED, message));
        refusal.map(|refusal| (refusal.received, refusal.max))
    }

    #[test]
    fn the_words_of_known_implementations_are_read() {
        let both = Some((Some(5_000_000), Some(4_194_304)));
        for message in [
            "grpc: received message larger than max (5000000 vs. 4194304)",
            "grpc: received message after decompression larger than max (5000000 vs. 4194304)",
            "Received message larger than max (5000000 vs. 4194304)",
            "CLIENT: Sent message larger than max (5000000 vs. 4194304)",
            "gRPC message exceeds maximum size 4194304: 5000000",
        ] {
            assert_eq!(read(message), both, "{message}");
        }
        let tonic =
            "Error, decoded message length too large: found 5000000 bytes, the limit is: 4194304 bytes";
        let refusal = size_refusal(&answer(Code::OUT_OF_RANGE, tonic)).expect("a refusal");
        assert_eq!(
            (refusal.received, refusal.max),
            (Some(5_000_000), Some(4_194_304))
        );
        assert_eq!(
            read("message larger than max (300 vs. 100)"),
            Some((Some(300), Some(100)))
        );
        let ours = "message of 5000 bytes; at most 100 are taken";
        assert!(read(ours).is_some());
        assert_eq!(read("batch too large"), Some((None, None)));
        assert_eq!(
            read("the max size is 4 MiB"),
            Some((None, None)),
            "a unit is not guessed"
        );
        assert_eq!(read("max size is 4194304 bytes"), Some((None, Some(4_194_304))));
        assert_eq!(read("too large: 5000, 4000, 3000"), Some((None, None)));
    }

    #[test]
    fn other_refusals_are_not_for_size() {
        for message in [
            "",
            "quota exceeded",
            "too many requests",
            "rate limit of 100 a second",
            "no memory",
            "quota of 1000000 bytes exceeded",
            "at most 10000 bytes per second",
            "max batch size rate reached",
        ] {
            assert_eq!(read(message), None, "spec 16: {message}");
        }
        assert_eq!(
            size_refusal(&answer(Code::UNAVAILABLE, "message too large")),
            None
        );
        assert_eq!(size_refusal(&answer(Code::OUT_OF_RANGE, "time too large")), None);
        let mut throttled = answer(Code::RESOURCE_EXHAUSTED, "message too large");
        throttled.retry_after = Some(core::time::Duration::ZERO);
        assert_eq!(
            size_refusal(&throttled),
            None,
            "RetryInfo says that the same request will do later"
        );
    }

    #[test]
    fn http_says_it_with_413() {
        let http = |status, message: &str| {
            let mut answer = answer(Code::RESOURCE_EXHAUSTED, message);
            (answer.http_status, answer.is_http) = (Some(status), true);
            size_refusal(&answer)
        };
        assert!(http(413, "<html>").is_some());
        assert!(http(429, "too large").is_none());
    }

    #[test]
    fn odd_numbers_do_no_harm() {
        for message in [
            "too large 99999999999999999999999999 vs. 1",
            "too large ( vs. )",
            "vs. 1 vs. 2 too large",
        ] {
            assert!(read(message).is_some(), "{message}");
        }
        let long = alloc::format!("too large {}é", "x".repeat(TEXT_BYTES_MAX - 11));
        assert_eq!(read(&long), Some((None, None)));
    }
}
