//! What a call must look like: the judgement of its head, and the way from its body to a message.

use super::builder::Settings;
use super::coding::{self, Undecodable};
use super::content::{self, Content};
use super::grpc;
use crate::code::Code;
use crate::config::{Compression, Protocol};
use crate::encode::{Signal, json};
use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};

/// The version of HTTP that a request came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HttpVersion {
    /// HTTP/1.1 (RFC 9112), or 1.0.
    Http1,
    /// HTTP/2 (RFC 9113).
    Http2,
}

/// What a head says of the rest of its call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) signal: Signal,
    pub(super) protocol: Protocol,
    /// How the body is compressed; in gRPC, how a message with the compressed flag is.
    compression: Option<Compression>,
}

/// Memory that a client gets for the mere announcement of a message.
const BYTES_AHEAD_MAX: usize = 1 << 20;

/// A body that arrived whole and could be read.
pub(super) struct Arrived {
    /// The body as it came, without a gRPC prefix.
    pub(super) body: Bytes,
    /// The message in protobuf.
    pub(super) message: Bytes,
    /// How the body was compressed.
    pub(super) compression: Compression,
    pub(super) content: Content,
}

/// Why a call is turned away before the collector's user is asked.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Refusal {
    /// An HTTP status, as any web server would give it.
    Http(StatusCode),
    /// A gRPC status.
    Grpc(Code, String),
    /// An HTTP status with a `google.rpc.Status` in the format of the request (OTLP specification, "Failures").
    Otlp(StatusCode, Code, String, Protocol),
}

impl Plan {
    /// Judges the head of a call.
    pub(super) fn new(
        version: HttpVersion,
        method: &Method,
        path: &str,
        fields: &HeaderMap,
        settings: &Settings,
    ) -> Result<Self, Refusal> {
        let content_type = fields
            .get(header::CONTENT_TYPE)
            .map_or(&b""[..], HeaderValue::as_bytes);
        let is_grpc = version == HttpVersion::Http2 && is_grpc(content_type);
        if *method == Method::POST && is_grpc {
            return Self::of_grpc(path, fields);
        }
        let signal = settings.http_signal(path);
        if signal.is_none() && grpc_signal(path).is_none() {
            return Err(Refusal::Http(StatusCode::NOT_FOUND));
        }
        if *method != Method::POST {
            return Err(Refusal::Http(StatusCode::METHOD_NOT_ALLOWED));
        }
        let (Some(signal), Some(protocol)) = (signal, format_of(content_type)) else {
            return Err(Refusal::Http(StatusCode::UNSUPPORTED_MEDIA_TYPE));
        };
        let Some(compression) = compression_of(fields, "content-encoding") else {
            return Err(Refusal::Http(StatusCode::UNSUPPORTED_MEDIA_TYPE));
        };
        Ok(Self {
            signal,
            protocol,
            compression: Some(compression),
        })
    }

    fn of_grpc(path: &str, fields: &HeaderMap) -> Result<Self, Refusal> {
        let Some(signal) = grpc_signal(path) else {
            let message = format!("unknown method {path}");
            return Err(Refusal::Grpc(Code::UNIMPLEMENTED, message));
        };
        Ok(Self {
            signal,
            protocol: Protocol::Grpc,
            compression: compression_of(fields, "grpc-encoding"),
        })
    }

    /// Judges what has arrived of a body.
    pub(super) fn check_size(&self, body: &[u8], bytes_max: usize) -> Result<(), Refusal> {
        if self.protocol == Protocol::Grpc {
            return grpc::check_size(body, bytes_max);
        }
        if body.len() > bytes_max {
            return Err(self.too_large(bytes_max));
        }
        Ok(())
    }

    /// Bytes to expect of a body that begins so, as far as they are worth asking the system for before they are here.
    pub(super) fn expected_bytes(&self, begin: &[u8]) -> usize {
        let announced = match self.protocol {
            Protocol::Grpc => grpc::expected_bytes(begin).unwrap_or(0),
            _ => 0,
        };
        announced.min(BYTES_AHEAD_MAX).max(begin.len())
    }

    /// Judges the length that a head announces.
    pub(super) fn check_length(&self, announced: u64, bytes_max: usize) -> Result<(), Refusal> {
        if usize::try_from(announced).is_ok_and(|announced| announced <= bytes_max) {
            return Ok(());
        }
        Err(self.too_large(bytes_max))
    }

    /// Reads a body that has arrived whole and passed [`check_size`](Self::check_size).
    pub(super) fn read(&self, body: Bytes, settings: &Settings) -> Result<Arrived, Refusal> {
        let bytes_max = settings.message_bytes_max;
        let (body, compression) = if self.protocol == Protocol::Grpc {
            self.unframe(body)?
        } else {
            (body, self.compression.unwrap_or_default())
        };
        let decoded = if compression == Compression::None {
            body.clone()
        } else {
            match coding::decompress(compression, &body, bytes_max) {
                Ok(bytes) => Bytes::from(bytes),
                Err(Undecodable::TooLarge) => return Err(self.too_large(bytes_max)),
                Err(Undecodable::Malformed) => {
                    let name = coding::name(compression);
                    return Err(self.unreadable(format!("the body is not {name}")));
                }
            }
        };
        let message = self.to_protobuf(decoded)?;
        match content::read(self.signal, &message, settings.keep_requests) {
            Ok(content) => Ok(Arrived {
                body,
                message,
                compression,
                content,
            }),
            Err(error) => Err(self.unreadable(format!("the message cannot be read: {error}"))),
        }
    }

    fn unframe(&self, body: Bytes) -> Result<(Bytes, Compression), Refusal> {
        let (is_compressed, message) = grpc::read_message(&body)?;
        if !is_compressed {
            return Ok((message, Compression::None));
        }
        match self.compression {
            Some(Compression::None) => {
                let message = "a message is compressed and grpc-encoding names no compression".to_owned();
                Err(Refusal::Grpc(Code::INTERNAL, message))
            }
            Some(compression) => Ok((message, compression)),
            None => {
                let message = format!("messages may be compressed as: {}", coding::accepted());
                Err(Refusal::Grpc(Code::UNIMPLEMENTED, message))
            }
        }
    }

    fn to_protobuf(self, body: Bytes) -> Result<Bytes, Refusal> {
        if self.protocol != Protocol::HttpJson {
            return Ok(body);
        }
        match json::to_wire(self.signal, &body) {
            Ok(message) => Ok(Bytes::from(message)),
            Err(error) => Err(self.unreadable(format!("{error}"))),
        }
    }

    fn too_large(&self, bytes_max: usize) -> Refusal {
        let message = format!("at most {bytes_max} bytes are taken");
        self.refuse(StatusCode::PAYLOAD_TOO_LARGE, Code::RESOURCE_EXHAUSTED, message)
    }

    fn unreadable(&self, message: String) -> Refusal {
        self.refuse(StatusCode::BAD_REQUEST, Code::INVALID_ARGUMENT, message)
    }

    /// A refusal in the words of the call's protocol.
    pub(super) fn refuse(&self, status: StatusCode, code: Code, message: String) -> Refusal {
        match self.protocol {
            Protocol::Grpc => Refusal::Grpc(code, message),
            format => Refusal::Otlp(status, code, message, format),
        }
    }
}

fn grpc_signal(path: &str) -> Option<Signal> {
    Signal::ALL.into_iter().find(|signal| signal.grpc_path() == path)
}

/// Parameters may follow each of these types, and letter case means nothing (RFC 9110, section 8.3.1).
fn is_grpc(content_type: &[u8]) -> bool {
    let (head, rest) = content_type.split_at(content_type.len().min(b"application/grpc".len()));
    head.eq_ignore_ascii_case(b"application/grpc") && matches!(rest, [] | [b'+' | b';', ..])
}

fn format_of(content_type: &[u8]) -> Option<Protocol> {
    let end = content_type.iter().position(|byte| *byte == b';');
    let media_type = content_type[..end.unwrap_or(content_type.len())].trim_ascii();
    if media_type.eq_ignore_ascii_case(b"application/x-protobuf") {
        Some(Protocol::HttpProtobuf)
    } else if media_type.eq_ignore_ascii_case(b"application/json") {
        Some(Protocol::HttpJson)
    } else {
        None
    }
}

/// The compression that a field names; nothing where it is unknown or not built in.
fn compression_of(fields: &HeaderMap, name: &str) -> Option<Compression> {
    match fields.get(name) {
        None => Some(Compression::None),
        Some(value) => coding::from_name(value.to_str().ok()?.trim()),
    }
}
