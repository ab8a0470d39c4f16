//! Our messages and their upstream twins.

use prost::Message;
use std::fmt::Debug;

/// One of our types and its upstream twin.
pub trait Twin: Sized {
    type Theirs;
    fn theirs(self) -> Self::Theirs;
    fn ours(theirs: Self::Theirs) -> Self;
}

macro_rules! same {
    ($($of:ty),*) => {$(
        impl Twin for $of {
            type Theirs = $of;

            fn theirs(self) -> $of {
                self
            }

            fn ours(theirs: $of) -> $of {
                theirs
            }
        }
    )*};
}

macro_rules! message {
    ($($ours:ident)::+, $($theirs:ident)::+ { $($field:ident),* $(,)? }) => {
        impl Twin for $($ours)::+ {
            type Theirs = $($theirs)::+;

            fn theirs(self) -> Self::Theirs {
                let $($ours)::+ { $($field),* } = self;
                $($theirs)::+ { $($field: Twin::theirs($field)),* }
            }

            fn ours(theirs: Self::Theirs) -> Self {
                let $($theirs)::+ { $($field),* } = theirs;
                $($ours)::+ { $($field: Twin::ours($field)),* }
            }
        }
    };
}

macro_rules! enumeration {
    ($($ours:ident)::+, $($theirs:ident)::+ { $($name:ident),* $(,)? }) => {{
        use $($ours)::+ as Ours;
        use $($theirs)::+ as Theirs;
        // Both matches are exhaustive: a name that only one side has ends the compilation.
        let ours = |value| match value { $(Theirs::$name => Ours::$name),* };
        let theirs = |value| match value { $(Ours::$name => Theirs::$name),* };
        $(
            assert_eq!(Ours::$name as i32, Theirs::$name as i32);
            assert_eq!(ours(theirs(Ours::$name)), Ours::$name);
        )*
    }};
}

same!(u8, bool, i32, i64, u32, u64, f64, String);

impl<T: Twin> Twin for Vec<T> {
    type Theirs = Vec<T::Theirs>;

    fn theirs(self) -> Self::Theirs {
        self.into_iter().map(T::theirs).collect()
    }

    fn ours(theirs: Self::Theirs) -> Self {
        theirs.into_iter().map(T::ours).collect()
    }
}

impl<T: Twin> Twin for Option<T> {
    type Theirs = Option<T::Theirs>;

    fn theirs(self) -> Self::Theirs {
        self.map(T::theirs)
    }

    fn ours(theirs: Self::Theirs) -> Self {
        theirs.map(T::ours)
    }
}

/// Checks that both sides write the same bytes for a message, and read the same from them.
pub fn agree<T>(message: T)
where
    T: Twin + Message + Clone + PartialEq + Debug + Default,
    T::Theirs: Message + Default,
{
    let bytes = message.encode_to_vec();
    let theirs = message.clone().theirs();
    assert_eq!(theirs.encode_to_vec(), bytes, "encoded {message:#?}");
    let read = <T::Theirs as Message>::decode(&*bytes).expect("upstream reads what was written");
    // Encoded for the comparison because NaN is not equal to itself.
    assert_eq!(T::ours(read).encode_to_vec(), bytes, "decoded {message:#?}");
    let read = T::decode(&*theirs.encode_to_vec()).expect("what upstream writes can be read");
    assert_eq!(read.encode_to_vec(), bytes, "read back {message:#?}");
}

pub(crate) use {enumeration, message};
