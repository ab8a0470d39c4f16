//! Values of attributes and of log records.

use crate::encode::{
    ArrayWriter, IntoValue, KvListWriter, SHARED_BYTES_MIN, SharedText, ValueWriter, Written,
};
use alloc::borrow::Cow;
use alloc::string::String;
use otel_api_0_33::logs::AnyValue;
use otel_api_0_33::{Array, StringValue, Value};

/// Lists within lists that are written: beyond some levels receivers refuse the whole request.
const NESTING_MAX: usize = 30;

/// A value whose long texts are taken out, to be referenced; the rest of it is copied.
pub(super) struct TakenValue<'a>(pub(super) &'a mut Value);

/// A value that is copied.
pub(super) struct LentValue<'a>(pub(super) &'a Value);

/// A value of a log record, that is copied, and how many lists there are around it.
pub(super) struct LentAny<'a> {
    value: &'a AnyValue,
    nesting: usize,
}

struct TakenText(StringValue);

/// Takes text out where it is long, to be referenced.
pub(super) fn take_long(text: &mut Cow<'static, str>) -> Option<SharedText> {
    (text.len() >= SHARED_BYTES_MIN).then(|| match core::mem::take(text) {
        Cow::Borrowed(text) => SharedText::new(text),
        Cow::Owned(text) => SharedText::new(without_much_room(text)),
    })
}

/// Gives back the memory behind a text where that is more than the text: it would be held, and count nowhere.
fn without_much_room(mut text: String) -> String {
    if text.capacity() / 2 > text.len() {
        text.shrink_to_fit();
    }
    text
}

impl IntoValue for TakenValue<'_> {
    #[inline]
    fn write_value(self, to: ValueWriter<'_>) -> Written {
        match self.0 {
            Value::String(text) if text.as_str().len() >= SHARED_BYTES_MIN => take(text).write_value(to),
            Value::Array(Array::String(texts)) => to.array(|list| {
                for text in texts {
                    match text.as_str().len() >= SHARED_BYTES_MIN {
                        true => list.push(take(text)),
                        false => list.push(text.as_str()),
                    };
                }
            }),
            value => LentValue(value).write_value(to),
        }
    }
}

fn take(text: &mut StringValue) -> TakenText {
    TakenText(core::mem::replace(text, StringValue::from("")))
}

impl IntoValue for TakenText {
    fn write_value(self, to: ValueWriter<'_>) -> Written {
        to.shared(SharedText::new(self.0))
    }
}

impl IntoValue for LentValue<'_> {
    #[inline]
    fn write_value(self, to: ValueWriter<'_>) -> Written {
        match self.0 {
            Value::Bool(value) => to.bool(*value),
            Value::I64(value) => to.int(*value),
            Value::F64(value) => to.double(*value),
            Value::String(text) => to.string(text.as_str()),
            Value::Array(array) => to.array(|list| write_array(array, list)),
            // A kind that this version of the SDK does not have yet, in words.
            other => to.string(&other.as_str()),
        }
    }
}

fn write_array(array: &Array, list: &mut ArrayWriter<'_>) {
    match array {
        Array::Bool(values) => push_all(list, values.iter().copied()),
        Array::I64(values) => push_all(list, values.iter().copied()),
        Array::F64(values) => push_all(list, values.iter().copied()),
        Array::String(texts) => push_all(list, texts.iter().map(StringValue::as_str)),
        other => push_all(list, [alloc::format!("{other}").as_str()].into_iter()),
    }
}

fn push_all<V: IntoValue>(list: &mut ArrayWriter<'_>, values: impl Iterator<Item = V>) {
    for value in values {
        list.push(value);
    }
}

impl<'a> LentAny<'a> {
    pub(super) fn new(value: &'a AnyValue) -> Self {
        Self { value, nesting: 0 }
    }
}

impl IntoValue for LentAny<'_> {
    fn write_value(self, to: ValueWriter<'_>) -> Written {
        let nesting = self.nesting + 1;
        match self.value {
            AnyValue::Int(value) => to.int(*value),
            AnyValue::Double(value) => to.double(*value),
            AnyValue::String(text) => to.string(text.as_str()),
            AnyValue::Boolean(value) => to.bool(*value),
            AnyValue::Bytes(bytes) => to.bytes(bytes),
            AnyValue::ListAny(_) | AnyValue::Map(_) if nesting > NESTING_MAX => to.empty(),
            AnyValue::ListAny(values) => to.array(|list| {
                for value in values.iter() {
                    list.push(LentAny { value, nesting });
                }
            }),
            AnyValue::Map(pairs) => to.kvlist(|list: &mut KvListWriter<'_>| {
                for (key, value) in pairs.iter() {
                    list.attr(key.as_str(), LentAny { value, nesting });
                }
            }),
            // A kind that this version of the SDK does not have yet.
            _ => to.empty(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_is_held_holds_little_more() {
        let mut text = String::with_capacity(1 << 20);
        text.push_str(&"x".repeat(SHARED_BYTES_MIN));
        assert!(without_much_room(text).capacity() <= 2 * SHARED_BYTES_MIN);
        let text = "x".repeat(SHARED_BYTES_MIN);
        let place = text.as_ptr();
        let held = without_much_room(text);
        assert_eq!(held.as_ptr(), place, "it is not moved");
    }
}
