//! Fields of one value: numbers and text.

use super::sink::Sink;
use super::wire;

/// Writes a text field, none where the text is empty.
#[inline]
pub(crate) fn text_field(sink: &mut Sink, tag: u8, text: &str) {
    let len = text.len();
    if len == 0 {
        return;
    }
    if len < 1 << 7 {
        let to = sink.window(2 + len);
        [to[0], to[1]] = [tag, len as u8];
        wire::copy(&mut to[2..], text.as_bytes());
        sink.advance(2 + len);
    } else {
        sink.put([tag]);
        sink.varint(len as u64);
        sink.bytes(text.as_bytes());
    }
}

/// Writes a number unless it is the default; `always` writes that as well.
#[inline]
pub(crate) fn varint_field(sink: &mut Sink, key: u8, value: u64, always: bool) {
    if value != 0 || always {
        if value < 1 << 7 {
            sink.put([key, value as u8]);
        } else {
            sink.put([key]);
            sink.varint(value);
        }
    }
}

/// Writes a number of 8 bytes unless it is the default; `always` writes that as well.
#[inline]
pub(crate) fn fixed64_field(sink: &mut Sink, key: u8, value: u64, always: bool) {
    if value != 0 || always {
        let [a, b, c, d, e, f, g, h] = value.to_le_bytes();
        sink.put([key, a, b, c, d, e, f, g, h]);
    }
}

/// Writes a number of 4 bytes unless it is the default; `always` writes that as well.
#[inline]
pub(crate) fn fixed32_field(sink: &mut Sink, key: u8, value: u32, always: bool) {
    if value != 0 || always {
        let [a, b, c, d] = value.to_le_bytes();
        sink.put([key, a, b, c, d]);
    }
}

/// Writes a floating-point number unless it is zero, of either sign.
#[inline]
pub(crate) fn double_field(sink: &mut Sink, key: u8, value: f64) {
    if value != 0.0 {
        fixed64_field(sink, key, value.to_bits(), true);
    }
}

/// Writes a signed number in zigzag form unless it is zero.
#[inline]
pub(crate) fn sint32_field(sink: &mut Sink, key: u8, value: i32) {
    varint_field(sink, key, (((value << 1) ^ (value >> 31)) as u32).into(), false);
}

/// Writes text that is referenced.
#[cfg(feature = "opentelemetry_0_33")]
pub(crate) fn shared_text_field(sink: &mut Sink, tag: u8, text: super::shared::SharedText) {
    sink.put([tag]);
    sink.varint(text.len() as u64);
    sink.shared(text.into_inner());
}
