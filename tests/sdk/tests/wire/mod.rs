//! What the tests of the wire share: telemetry made by chance, a collector to read messages from, and an order to compare in.
#![allow(dead_code, reason = "each test uses its own part")]

use opentelemetry::{Array, InstrumentationScope, Key, KeyValue, StringValue, Value};
use opentelemetry_proto::tonic::common::v1 as common;
use opentelemetry_sdk::Resource;
use otlp_embed::testing::Collector;
use otlp_embed::{Config, Exporter, Protocol, rt};
use prost::Message;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Numbers by chance, the same for the same seed (SplitMix64).
pub struct Chance(pub u64);

impl Chance {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub fn flag(&mut self) -> bool {
        self.below(2) == 0
    }

    /// Text of every length that matters: none, short, around the lengths at which its field or its way changes, long.
    pub fn text(&mut self) -> String {
        const LENGTHS: [usize; 12] = [0, 1, 7, 31, 32, 33, 113, 127, 128, 1023, 1024, 5000];
        let len = LENGTHS[self.below(LENGTHS.len() as u64) as usize];
        let letters = ["a", "Z", " ", "ä", "語", "\u{1f600}"];
        let mut text = String::new();
        while text.len() < len {
            text.push_str(letters[self.below(6) as usize]);
        }
        text
    }

    /// The same text in each of the SDK's ways to hold it.
    pub fn string_value(&mut self) -> StringValue {
        let text = self.text();
        match self.below(3) {
            0 => StringValue::from(text),
            1 => StringValue::from(Arc::<str>::from(text)),
            _ => StringValue::from("a text that is there for ever"),
        }
    }

    pub fn number(&mut self) -> i64 {
        match self.below(6) {
            0 => 0,
            1 => -1,
            2 => i64::MIN,
            3 => i64::MAX,
            4 => self.below(300) as i64,
            _ => self.next() as i64,
        }
    }

    /// Without those that are no number, which are equal to nothing.
    pub fn float(&mut self) -> f64 {
        match self.below(5) {
            0 => 0.0,
            1 => -0.0,
            2 => f64::INFINITY,
            3 => -1.5,
            _ => self.next() as f64 / 7.0,
        }
    }

    pub fn value(&mut self) -> Value {
        let len = self.below(4) as usize;
        match self.below(8) {
            0 => Value::Bool(self.flag()),
            1 => Value::I64(self.number()),
            2 => Value::F64(self.float()),
            3 => Value::Array(Array::Bool((0..len).map(|_| self.flag()).collect())),
            4 => Value::Array(Array::I64((0..len).map(|_| self.number()).collect())),
            5 => Value::Array(Array::F64((0..len).map(|_| self.float()).collect())),
            6 => Value::Array(Array::String((0..len).map(|_| self.string_value()).collect())),
            _ => Value::String(self.string_value()),
        }
    }

    pub fn attributes(&mut self) -> Vec<KeyValue> {
        let count = self.below(6);
        let attributes =
            (0..count).map(|number| KeyValue::new(Key::new(format!("key.{number}")), self.value()));
        attributes.collect()
    }

    /// A time, also before the epoch.
    pub fn time(&mut self) -> SystemTime {
        match self.below(8) {
            0 => UNIX_EPOCH - Duration::from_secs(5),
            1 => UNIX_EPOCH,
            _ => UNIX_EPOCH + Duration::from_nanos(1_700_000_000_000_000_000 + self.below(1 << 40)),
        }
    }

    /// One of a few scopes, some of which differ in one thing alone.
    pub fn scope(&mut self) -> InstrumentationScope {
        let builder = InstrumentationScope::builder(["lib", "other", ""][self.below(3) as usize]);
        let builder = match self.below(3) {
            0 => builder,
            1 => builder.with_version("1.0"),
            _ => builder.with_version("2.0"),
        };
        let builder = match self.flag() {
            true => builder,
            false => builder.with_schema_url("https://example.com/scope"),
        };
        match self.flag() {
            true => builder.build(),
            false => builder
                .with_attributes([KeyValue::new("scope.attribute", true)])
                .build(),
        }
    }
}

pub fn resource() -> Resource {
    Resource::builder_empty()
        .with_schema_url(
            [
                KeyValue::new("service.name", "shop"),
                KeyValue::new("host.cores", 2),
            ],
            "https://example.com/resource",
        )
        .build()
}

/// A collector, and an exporter to it.
pub fn world() -> (Collector, Exporter<rt::Blocking>) {
    let collector = Collector::start().expect("a collector");
    let config = Config::new()
        .with_protocol(Protocol::Grpc)
        .with_endpoint(collector.endpoint());
    let runtime = rt::Blocking::new().expect("a runtime");
    (collector, config.build(runtime).expect("an exporter"))
}

/// The messages that arrived, as the upstream reads them.
pub fn messages<M: Message + Default>(collector: &Collector) -> Vec<M> {
    let requests = collector.requests();
    let messages = requests.iter().map(|request| M::decode(request.message.clone()));
    messages.collect::<Result<_, _>>().expect("it is valid protobuf")
}

/// A resource's attributes come in any order.
pub fn sort_resource(resource: &mut Option<opentelemetry_proto::tonic::resource::v1::Resource>) {
    if let Some(resource) = resource {
        resource.attributes.sort_by(|a, b| a.key.cmp(&b.key));
    }
}

/// What scopes are sorted by.
pub fn scope_key(scope: &Option<common::InstrumentationScope>, schema_url: &str) -> String {
    format!("{scope:?} {schema_url}")
}
