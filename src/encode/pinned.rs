//! Strings of an owned source referenced in place: the only file of the crate with unsafe code.
//!
//! The source moves into an `Arc` before anything is read from it. From then on only `&S` exists: there is no way to
//! `&mut S` and no way to get the source back, so that a borrow of it is good until the last `Arc` is gone. Each lent
//! piece of memory holds one.

#![allow(unsafe_code)]

use alloc::sync::Arc;
use bytes::Bytes;
use core::marker::{PhantomData, PhantomPinned};
use core::pin::Pin;
use core::ptr::NonNull;

/// A source that never moves and is never written again.
struct Pinned<S> {
    source: S,
    _pinned: PhantomPinned,
}

/// Makes [`Bytes`] of memory that the source owns; see [`pin`].
pub(crate) struct Lender<'s, S> {
    owner: &'s Pin<Arc<Pinned<S>>>,
    /// Invariant in `'s`: a lender of a shorter lifetime would lend what does not belong to the source.
    _exact: PhantomData<fn(&'s S) -> &'s S>,
}

/// Memory of a source, with a share of the source.
struct Lent<S> {
    bytes: NonNull<[u8]>,
    _owner: Pin<Arc<Pinned<S>>>,
}

/// Pins a source and lets a closure read it and lend parts of it.
///
/// The closure has to work for every `'s`, and `S` borrows from nobody: what lives for `'s` is borrowed from the source,
/// or is static.
pub(crate) fn pin<S, R>(source: S, read: impl for<'s> FnOnce(&'s S, Lender<'s, S>) -> R) -> R
where
    S: Send + Sync + 'static,
{
    let owner = Arc::pin(Pinned {
        source,
        _pinned: PhantomPinned,
    });
    read(
        &owner.source,
        Lender {
            owner: &owner,
            _exact: PhantomData,
        },
    )
}

impl<'s, S: Send + Sync + 'static> Lender<'s, S> {
    /// Shares memory of the source, for as long as the result or a clone of it lives.
    pub(crate) fn lend(&self, bytes: &'s [u8]) -> Bytes {
        Bytes::from_owner(Lent {
            bytes: NonNull::from(bytes),
            _owner: self.owner.clone(),
        })
    }
}

impl<S> AsRef<[u8]> for Lent<S> {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: the slice was valid for the lifetime of a borrow of the pinned source, or for ever (`Lender::lend` takes
        // nothing else, being invariant). `_owner` keeps the source alive, in its place and out of reach of `&mut`, so
        // that this borrow could have lasted until now; the source is dropped after the last `Lent`.
        unsafe { self.bytes.as_ref() }
    }
}

// SAFETY: the pointer is a shared borrow of `S` or of static bytes, as good as the `&[u8]` it was made of; `_owner` is
// dropped on whatever thread is the last, which asks for `S: Send`, and shared between threads, which asks for `S: Sync`.
unsafe impl<S: Send + Sync> Send for Lent<S> {}

// SAFETY: as above; through `&Lent` there is nothing but `&[u8]`.
unsafe impl<S: Send + Sync> Sync for Lent<S> {}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::String;
    use alloc::vec;
    use alloc::vec::Vec;
    use core::sync::atomic::{AtomicBool, Ordering};

    /// Tells when it is dropped, and reads its text once more while that happens.
    struct Source {
        texts: Vec<String>,
        dropped: Arc<AtomicBool>,
    }

    impl Drop for Source {
        fn drop(&mut self) {
            assert!(self.texts.iter().all(|text| text.len() == 2000));
            self.dropped.store(true, Ordering::SeqCst);
        }
    }

    fn source() -> (Source, Arc<AtomicBool>) {
        let dropped = Arc::new(AtomicBool::new(false));
        let texts = vec!["a".repeat(2000), "b".repeat(2000)];
        (
            Source {
                texts,
                dropped: dropped.clone(),
            },
            dropped,
        )
    }

    #[test]
    fn lent_bytes_keep_the_source_and_share_its_memory() {
        let (source, dropped) = source();
        let at: Vec<_> = source.texts.iter().map(|text| text.as_ptr()).collect();
        let lent: Vec<Bytes> = pin(source, |source, lender| {
            source
                .texts
                .iter()
                .map(|text| lender.lend(text.as_bytes()))
                .collect()
        });
        assert_eq!(lent.iter().map(|bytes| bytes.as_ptr()).collect::<Vec<_>>(), at);
        let part = lent[1].slice(1000..);
        drop(lent);
        assert!(!dropped.load(Ordering::SeqCst));
        assert_eq!(part, "b".repeat(1000));
        drop(part);
        assert!(dropped.load(Ordering::SeqCst));
    }

    #[test]
    fn nothing_lent_frees_the_source_at_once() {
        let (source, dropped) = source();
        assert_eq!(pin(source, |source, _| source.texts.len()), 2);
        assert!(dropped.load(Ordering::SeqCst));
    }

    #[test]
    fn a_panic_while_reading_frees_the_source_after_what_was_lent() {
        let (source, dropped) = source();
        let kept = Arc::new(std::sync::Mutex::new(Vec::new()));
        let keep = kept.clone();
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            pin(source, |source, lender| {
                keep.lock().unwrap().push(lender.lend(source.texts[0].as_bytes()));
                panic!("in the middle");
            })
        }));
        assert!(caught.is_err());
        assert!(!dropped.load(Ordering::SeqCst));
        assert_eq!(kept.lock().unwrap()[0], "a".repeat(2000));
        kept.lock().unwrap().clear();
        assert!(dropped.load(Ordering::SeqCst));
    }

    #[test]
    fn threads_read_and_drop_in_any_order() {
        let (source, dropped) = source();
        let lent = pin(source, |source, lender| lender.lend(source.texts[1].as_bytes()));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                let lent = lent.clone();
                scope.spawn(move || assert!(lent.iter().all(|byte| *byte == b'b')));
            }
            drop(lent);
        });
        assert!(dropped.load(Ordering::SeqCst));
    }

    #[test]
    fn empty_and_static_slices_can_be_lent() {
        let (source, dropped) = source();
        let (empty, fixed) = pin(source, |source, lender| {
            (
                lender.lend(&source.texts[0].as_bytes()[..0]),
                lender.lend(b"static"),
            )
        });
        assert!(empty.is_empty());
        drop(empty);
        assert_eq!(fixed, "static");
        drop(fixed);
        assert!(dropped.load(Ordering::SeqCst));
    }
}
