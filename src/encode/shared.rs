//! Values that are referenced instead of copied.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use bytes::Bytes;

/// Values of so many bytes and more are referenced; shorter ones are cheaper to copy.
pub(crate) const SHARED_BYTES_MIN: usize = 1024;

/// Something whose bytes a request can hold on to: text as `Arc<str>`, `String` or `&'static str`, and [`Bytes`] or
/// `Vec<u8>` for opaque bytes.
pub trait IntoShared: sealed::Sealed {}

impl<T: sealed::Sealed> IntoShared for T {}

mod sealed {
    use bytes::Bytes;

    pub trait Sealed {
        fn is_text(&self) -> bool;
        fn bytes(&self) -> &[u8];
        fn into_bytes(self) -> Bytes;
    }
}

fn str_bytes(text: &str) -> &[u8] {
    text.as_bytes()
}

/// Text that whoever owns it lends for as long as it is referenced.
#[cfg(feature = "opentelemetry_0_33")]
pub(crate) struct SharedText(Bytes);

#[cfg(feature = "opentelemetry_0_33")]
impl SharedText {
    pub(crate) fn new<T: AsRef<str> + Send + 'static>(owner: T) -> Self {
        struct Owner<T>(T);

        impl<T: AsRef<str>> AsRef<[u8]> for Owner<T> {
            fn as_ref(&self) -> &[u8] {
                self.0.as_ref().as_bytes()
            }
        }

        Self(Bytes::from_owner(Owner(owner)))
    }

    fn bytes(&self) -> &[u8] {
        &self.0
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn into_inner(self) -> Bytes {
        self.0
    }
}

struct Text(Arc<str>);

impl AsRef<[u8]> for Text {
    fn as_ref(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

macro_rules! shared {
    ($($of:ty, $text:literal, $bytes:expr, |$value:ident| $into:expr;)*) => {$(
        impl sealed::Sealed for $of {
            fn is_text(&self) -> bool {
                $text
            }

            fn bytes(&self) -> &[u8] {
                $bytes(self)
            }

            fn into_bytes(self) -> Bytes {
                let $value = self;
                $into
            }
        }
    )*};
}

#[cfg(feature = "opentelemetry_0_33")]
shared! {
    SharedText, true, SharedText::bytes, |value| value.0;
}

shared! {
    Bytes, false, Bytes::as_ref, |value| value;
    Vec<u8>, false, Vec::as_slice, |value| Bytes::from(value);
    String, true, String::as_bytes, |value| Bytes::from(value);
    &'static str, true, str_bytes, |value| Bytes::from_static(value.as_bytes());
    Arc<str>, true, str_bytes, |value| Bytes::from_owner(Text(value));
}
