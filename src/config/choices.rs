//! Settings that are one of a few words.

use core::fmt;

/// How requests are put on the wire (OTLP exporter specification, "Specify Protocol").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Protocol {
    /// `grpc`: protobuf over gRPC, which is HTTP/2.
    Grpc,
    /// `http/protobuf`: protobuf in HTTP requests.
    HttpProtobuf,
    /// `http/json`: JSON in HTTP requests.
    HttpJson,
}

/// How requests are compressed (OTLP exporter specification, "Specify Compression").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// gzip (RFC 1952).
    Gzip,
    /// Zstandard (RFC 8878), beyond the specification.
    Zstd,
}

/// Which temporality metrics are to be collected with (OTLP metrics exporter specification, "Additional Environment
/// Variable Configuration"). The exporter sends what it is given; this is for the SDK that collects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TemporalityPreference {
    /// `cumulative`: since the start of the process, for every instrument.
    #[default]
    Cumulative,
    /// `delta`: since the last collection, but cumulative for up-down counters.
    Delta,
    /// `lowmemory`: delta for synchronous counters and histograms, cumulative for the rest.
    LowMemory,
}

/// How histograms are to be aggregated where no view says otherwise (OTLP metrics exporter specification, "Additional
/// Environment Variable Configuration"). The exporter sends what it is given; this is for the SDK that collects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum HistogramAggregation {
    /// `explicit_bucket_histogram`: buckets with fixed bounds.
    #[default]
    ExplicitBucketHistogram,
    /// `base2_exponential_bucket_histogram`: buckets whose bounds grow by a power of two.
    Base2ExponentialBucketHistogram,
}

/// A setting that is one of a few words.
pub(super) trait Choice: Copy + 'static {
    /// Every value with its word.
    const ALL: &'static [(&'static str, Self)];

    /// The value of a word in any case.
    fn named(word: &str) -> Option<Self> {
        let named = |(name, _): &&(&str, Self)| name.eq_ignore_ascii_case(word);
        Self::ALL.iter().find(named).map(|(_, value)| *value)
    }
}

impl Choice for Protocol {
    const ALL: &'static [(&'static str, Self)] = &[
        ("grpc", Self::Grpc),
        ("http/protobuf", Self::HttpProtobuf),
        ("http/json", Self::HttpJson),
    ];
}

impl Choice for Compression {
    const ALL: &'static [(&'static str, Self)] =
        &[("none", Self::None), ("gzip", Self::Gzip), ("zstd", Self::Zstd)];
}

impl Choice for TemporalityPreference {
    const ALL: &'static [(&'static str, Self)] = &[
        ("cumulative", Self::Cumulative),
        ("delta", Self::Delta),
        ("lowmemory", Self::LowMemory),
    ];
}

impl Choice for HistogramAggregation {
    const ALL: &'static [(&'static str, Self)] = &[
        ("explicit_bucket_histogram", Self::ExplicitBucketHistogram),
        (
            "base2_exponential_bucket_histogram",
            Self::Base2ExponentialBucketHistogram,
        ),
    ];
}

impl Protocol {
    /// The name in the environment variables of the specification.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Grpc => "grpc",
            Self::HttpProtobuf => "http/protobuf",
            Self::HttpJson => "http/json",
        }
    }

    /// The endpoint unless another is set (OTLP exporter specification, "Configuration Options").
    pub const fn default_endpoint(self) -> &'static str {
        match self {
            Self::Grpc => "http://localhost:4317",
            Self::HttpProtobuf | Self::HttpJson => "http://localhost:4318",
        }
    }
}

/// `http/protobuf`, as the specification asks, or `grpc` in a build without the feature `http`.
impl Default for Protocol {
    fn default() -> Self {
        if cfg!(feature = "http") {
            Self::HttpProtobuf
        } else {
            Self::Grpc
        }
    }
}

impl Compression {
    /// The name in the environment variables of the specification, which is that of the content coding too.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }
}

impl TemporalityPreference {
    /// The name in the environment variables of the specification.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cumulative => "cumulative",
            Self::Delta => "delta",
            Self::LowMemory => "lowmemory",
        }
    }
}

impl HistogramAggregation {
    /// The name in the environment variables of the specification.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ExplicitBucketHistogram => "explicit_bucket_histogram",
            Self::Base2ExponentialBucketHistogram => "base2_exponential_bucket_histogram",
        }
    }
}

/// Displays a choice by its word.
macro_rules! display {
    ($($choice:ty),*) => {
        $(impl fmt::Display for $choice {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        })*
    };
}

display!(Protocol, Compression, TemporalityPreference, HistogramAggregation);

#[cfg(test)]
mod tests {
    use super::*;
    use core::fmt::Debug;

    fn words_name_their_values<T: Choice + PartialEq + Debug>(as_str: fn(T) -> &'static str) {
        for (word, value) in T::ALL {
            assert_eq!(as_str(*value), *word);
            assert_eq!(T::named(&word.to_ascii_uppercase()), Some(*value), "spec 33");
        }
        assert_eq!(T::named("no such word"), None);
    }

    #[test]
    fn every_word_is_read_and_shown_alike() {
        words_name_their_values(Protocol::as_str);
        words_name_their_values(Compression::as_str);
        words_name_their_values(TemporalityPreference::as_str);
        words_name_their_values(HistogramAggregation::as_str);
    }
}
