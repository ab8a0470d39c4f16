//! The value of `OTEL_EXPORTER_OTLP_HEADERS`: pairs as in W3C Baggage, without its metadata.

use crate::config::header::check;
use crate::config::percent::decoded;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// Pairs that are read.
const PAIRS_MAX: usize = 128;

/// What a list of headers says.
#[derive(Debug, Default, PartialEq)]
pub(super) struct List {
    /// Names and values, checked, each name once: the last of its pairs.
    pub headers: Vec<(String, String)>,
    /// What was left out, and why. Nothing is quoted but names that are fit for headers, since the rest may be secret.
    pub refused: Vec<String>,
    /// What was taken, and is odd.
    pub warnings: Vec<String>,
}

/// Reads `name=value,name=value`; values are percent-decoded (OTLP exporter specification, "Specifying headers via
/// environment variables"). A pair that cannot be sent is left out, and the others stand.
pub(super) fn parse(text: &str) -> List {
    let mut list = List::default();
    let pairs = text
        .split(',')
        .map(str::trim)
        .enumerate()
        .filter(|(_, pair)| !pair.is_empty());
    for (count, (at, pair)) in pairs.enumerate() {
        if count == PAIRS_MAX {
            list.refused
                .push(format!("only the first {PAIRS_MAX} headers are read"));
            break;
        }
        list.add(at + 1, pair);
    }
    list
}

impl List {
    /// Reads one pair, the `at`th.
    fn add(&mut self, at: usize, pair: &str) {
        let Some((name, value)) = pair.split_once('=') else {
            self.refused
                .push(format!("header {at} has no '='; write name=value"));
            return;
        };
        let (name, value) = (name.trim(), value.trim());
        let (bytes, is_clean) = decoded(value);
        let Ok(value) = String::from_utf8(bytes) else {
            self.refused.push(format!(
                "the value of header {at} is not UTF-8 once it is percent-decoded"
            ));
            return;
        };
        match check(name, &value) {
            Ok((name, value)) => {
                if !is_clean {
                    self.warnings.push(format!(
                        "header {name:?} has a '%' that begins no percent-encoded octet and is kept; write %25 for it"
                    ));
                }
                if pair.contains(';') {
                    self.warnings.push(format!(
                        "header {name:?} has a ';', which is part of its value, since metadata of Baggage is not supported; write %3B for it"
                    ));
                }
                self.headers.retain(|(other, _)| *other != name);
                self.headers.push((name, value));
            }
            Err(why) => self.refused.push(format!("header {at}: {why}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn pairs_are_read_as_baggage_without_metadata() {
        for (text, expected) in [
            ("", &[][..]),
            (
                "key1=value1,key2=value2",
                &[("key1", "value1"), ("key2", "value2")],
            ),
            (
                " key1 = value1 , key2=value2 ,",
                &[("key1", "value1"), ("key2", "value2")],
            ),
            ("API-Key=a%2Cb%3Bc%20d", &[("api-key", "a,b;c d")]),
            (
                "authorization=Basic dXNlcjpwYXNz==",
                &[("authorization", "Basic dXNlcjpwYXNz==")],
            ),
            ("a=1,A=2", &[("a", "2")]),
            ("a=", &[("a", "")]),
            ("a=b+c", &[("a", "b+c")]),
            ("a=x;meta=1", &[("a", "x;meta=1")]),
            ("a=100%", &[("a", "100%")]),
            ("x-bin=AAE%3D", &[("x-bin", "AAE=")]),
        ] {
            let expected: Vec<_> = expected
                .iter()
                .map(|(n, v)| (n.to_string(), v.to_string()))
                .collect();
            let list = parse(text);
            assert_eq!(list.headers, expected, "spec 40: {text}");
            assert_eq!(list.refused, Vec::<String>::new(), "{text}");
            assert_eq!(
                !list.warnings.is_empty(),
                text.contains(";m") || text.ends_with('%'),
                "{text}"
            );
        }
    }

    #[test]
    fn a_pair_that_cannot_be_sent_costs_no_other_and_is_not_quoted() {
        for (pair, why) in [
            ("hunter2", "no '='"),
            ("=hunter2", "a name consists"),
            ("hunter 2=hunter2", "a name consists"),
            ("a=hunter2%0D%0Ax: y", "printable"),
            ("a=hunter2%00", "printable"),
            ("a=hunter2%FF", "not UTF-8"),
            ("a=hunter2é", "printable"),
            ("a-bin=hunter2!", "base64"),
            ("Content-Type=hunter2", "sets this header itself"),
            ("grpc-timeout=hunter2", "sets this header itself"),
        ] {
            let list = parse(&format!("first=1,{pair},last=2"));
            assert_eq!(list.headers.len(), 2, "{pair}");
            assert!(
                list.refused.len() == 1 && list.refused[0].contains(why),
                "{pair}: {list:?}"
            );
            assert!(!list.refused[0].contains("hunter"), "{pair}: {list:?}");
        }
        let many: String = (0..1_000).map(|at| format!("h{at}=v,")).collect();
        let list = parse(&many);
        assert_eq!((list.headers.len(), list.refused.len()), (PAIRS_MAX, 1));
    }
}
