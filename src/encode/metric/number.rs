//! Numbers of either kind.

/// A measured number, made `From` any of Rust's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    /// An integer.
    Int(i64),
    /// A floating-point number.
    Double(f64),
}

macro_rules! numbers {
    ($($of:ty => $kind:ident,)*) => {$(
        impl From<$of> for Number {
            #[inline]
            fn from(value: $of) -> Self {
                Self::$kind(value.into())
            }
        }
    )*};
}

numbers! {
    i8 => Int,
    i16 => Int,
    i32 => Int,
    i64 => Int,
    u8 => Int,
    u16 => Int,
    u32 => Int,
    f32 => Double,
    f64 => Double,
}

/// Integers beyond those that OTLP knows become the nearest floating-point number.
impl From<u64> for Number {
    #[inline]
    fn from(value: u64) -> Self {
        i64::try_from(value).map_or(Self::Double(value as f64), Self::Int)
    }
}

/// As for `u64`.
impl From<usize> for Number {
    #[inline]
    fn from(value: usize) -> Self {
        Self::from(value as u64)
    }
}
