//! gRPC status codes.

use core::fmt;

/// A gRPC status code (gRPC, "Status codes and their use in gRPC").
///
/// Any number is representable; a code that gRPC does not define is judged like [`UNKNOWN`](Self::UNKNOWN).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Code(u32);

macro_rules! codes {
    ($($name:ident = $number:literal, $doc:literal;)*) => {
        impl Code {
            $(#[doc = $doc] pub const $name: Self = Self($number);)*

            /// The code's name in the gRPC specification, where it has one.
            pub const fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($number => Some(stringify!($name)),)*
                    _ => None,
                }
            }
        }
    };
}

codes! {
    OK = 0, "Success.";
    CANCELLED = 1, "The call was cancelled.";
    UNKNOWN = 2, "Anything that has no code of its own.";
    INVALID_ARGUMENT = 3, "The request is wrong.";
    DEADLINE_EXCEEDED = 4, "The deadline passed before the call ended.";
    NOT_FOUND = 5, "Something named in the request does not exist.";
    ALREADY_EXISTS = 6, "Something to be created exists.";
    PERMISSION_DENIED = 7, "The caller may not do this.";
    RESOURCE_EXHAUSTED = 8, "A quota or a size limit was reached.";
    FAILED_PRECONDITION = 9, "The system is not in the state that the call needs.";
    ABORTED = 10, "The call was aborted by a conflict.";
    OUT_OF_RANGE = 11, "Past the valid range.";
    UNIMPLEMENTED = 12, "The server does not serve this method.";
    INTERNAL = 13, "An invariant of the server is broken.";
    UNAVAILABLE = 14, "The service is not available now.";
    DATA_LOSS = 15, "Data was lost or corrupted.";
    UNAUTHENTICATED = 16, "The credentials are missing or wrong.";
}

impl Code {
    /// The code with this number.
    pub const fn from_u32(number: u32) -> Self {
        Self(number)
    }

    /// The code's number.
    pub const fn as_u32(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "code {}", self.0),
        }
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
