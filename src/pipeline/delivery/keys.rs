//! Which open batch an item belongs to.

use crate::encode::{Request, Signal};
use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::sync::Arc;
use core::fmt;
use core::hash::{Hash, Hasher};
use core::time::Duration;
use std::collections::HashMap;
use std::hash::DefaultHasher;

/// What a request has for itself: headers and a time. Requests that differ in it are never merged.
#[derive(Clone, Default)]
pub struct Own(Option<Arc<OwnParts>>);

struct OwnParts {
    hash: u64,
    headers: Option<Arc<[(String, String)]>>,
    timeout: Option<Duration>,
}

impl Own {
    /// What this request has for itself.
    pub fn of(request: &Request) -> Self {
        let (headers, timeout) = request.own();
        if headers.is_none() && timeout.is_none() {
            return Self(None);
        }
        let mut hasher = DefaultHasher::new();
        headers.hash(&mut hasher);
        timeout.hash(&mut hasher);
        Self(Some(Arc::new(OwnParts {
            hash: hasher.finish(),
            headers: headers.cloned(),
            timeout,
        })))
    }

    /// Whether there is nothing.
    pub fn is_none(&self) -> bool {
        self.0.is_none()
    }

    /// Gives it to a request in place of its own.
    pub fn apply(&self, request: Request) -> Request {
        match &self.0 {
            None => request,
            Some(own) => request.with_own(own.headers.clone(), own.timeout),
        }
    }
}

impl PartialEq for Own {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (None, None) => true,
            (Some(one), Some(other)) => {
                Arc::ptr_eq(one, other)
                    || (one.hash == other.hash
                        && one.timeout == other.timeout
                        && one.headers == other.headers)
            }
            _ => false,
        }
    }
}

impl Eq for Own {}

impl Hash for Own {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.as_ref().map_or(0, |own| own.hash).hash(state);
    }
}

/// Shows whether there is anything; the values may be secrets.
impl fmt::Debug for Own {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Own")
            .field("is_some", &self.0.is_some())
            .finish_non_exhaustive()
    }
}

/// Which open batch an item belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct OpenKey {
    /// The signal.
    pub signal: Signal,
    /// Headers and time of its own.
    pub own: Own,
}

#[derive(Debug, Default)]
pub(super) struct KeySlot {
    /// Batches that nobody writes into now, the oldest first.
    pub idle: VecDeque<u32>,
    live: u32,
}

/// What is open, by key. Most keys have nothing of their own, and are not hashed.
#[derive(Debug, Default)]
pub(super) struct Keys {
    plain: [KeySlot; Signal::ALL.len()],
    own: HashMap<OpenKey, KeySlot>,
}

impl Keys {
    pub fn get(&self, key: &OpenKey) -> Option<&KeySlot> {
        match key.own.is_none() {
            true => Some(&self.plain[key.signal.index()]),
            false => self.own.get(key),
        }
    }

    pub fn get_mut(&mut self, key: &OpenKey) -> Option<&mut KeySlot> {
        match key.own.is_none() {
            true => Some(&mut self.plain[key.signal.index()]),
            false => self.own.get_mut(key),
        }
    }

    /// One more batch of a key is open.
    pub fn add(&mut self, key: &OpenKey) {
        match self.get_mut(key) {
            Some(slot) => slot.live += 1,
            None => {
                let slot = KeySlot {
                    live: 1,
                    ..KeySlot::default()
                };
                self.own.insert(key.clone(), slot);
            }
        }
    }

    /// One less is.
    pub fn remove(&mut self, key: &OpenKey) {
        let slot = self.get_mut(key).expect("a key with an open batch");
        slot.live -= 1;
        if slot.live == 0 && !key.own.is_none() {
            self.own.remove(key);
        }
    }
}
