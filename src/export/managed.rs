//! Exports whose items another account books: what a pipeline takes back, to export it again.

use crate::encode::Request;
use alloc::vec::Vec;

/// How an export is made for somebody who keeps the account of its items.
///
/// The engine leaves them out of its own, but for what it holds and for what it does: bytes, exports, retries, possible
/// duplicates. Where the export fails in a way that a later one may mend, or is ended from this side, its error hands back
/// what is still to be delivered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Managed {
    /// An earlier export of these items was sent whole and not answered.
    pub unanswered: bool,
    /// A failed attempt ends the export: there is another endpoint that takes it, also where no attempt here can mend the
    /// failure and the request was certainly not processed, as with a certificate that expired. One that was certainly not
    /// processed is still sent again where an attempt may help.
    pub is_single: bool,
}

/// What is left of a managed export that failed.
#[derive(Clone, Debug)]
pub struct Remainder {
    /// All that is still to be delivered. Several where they cannot be one, which is rare.
    pub requests: Vec<Request>,
    /// Some of it was sent whole and not answered: it may have arrived.
    pub unanswered: bool,
}

impl Remainder {
    pub(crate) fn new(request: Request, unanswered: bool) -> Self {
        Self {
            requests: Vec::from([request]),
            unanswered,
        }
    }

    /// Adds what another part left.
    pub(crate) fn add(&mut self, other: Self) {
        self.requests.extend(other.requests);
        self.unanswered |= other.unanswered;
    }

    /// Makes one request of all of it where that can be.
    pub(crate) fn joined(self) -> Self {
        match Request::join(&self.requests) {
            Some(request) => Self::new(request, self.unanswered),
            None => self,
        }
    }

    /// Its items.
    pub fn items(&self) -> u64 {
        self.requests.iter().map(Request::items).sum()
    }
}
