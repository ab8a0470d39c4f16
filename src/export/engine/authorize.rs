//! Credentials: asked for before each attempt of an export whose route has a source of them.

use super::Engine;
use crate::credentials::{Authorization, CredentialHeaders, CredentialSource};
use crate::export::machine::{AttemptEnd, LastFailure, Next};
use crate::export::{Action, ExportId};
use crate::protocol::{Connection, Failure};

impl<P: Connection> Engine<P> {
    /// Asks for the credentials of the next attempt; the export stays in `Init` until they are there.
    pub(super) fn ask_credentials(
        &mut self,
        id: ExportId,
        source: CredentialSource,
        rejected: Option<CredentialHeaders>,
    ) {
        if self.authorizing.insert(id) {
            self.actions
                .push_back(Action::Authorize(id, Authorization { source, rejected }));
        }
    }

    /// What keeps an export from its credentials, in words.
    pub(super) fn pending_credentials(&self, id: ExportId) -> Option<LastFailure> {
        self.authorizing.contains(&id).then(|| {
            LastFailure::pending(
                "ask for credentials: no answer yet",
                "check that their source does not block",
            )
        })
    }

    /// The source gave headers. An answer that nobody asked for, or that comes too late, is ignored.
    pub(super) fn handle_authorized(&mut self, id: ExportId, headers: &CredentialHeaders) {
        let headers = match headers.checked() {
            Ok(headers) => headers,
            Err(why) => return self.handle_not_authorized(id, Failure::fatal(why)),
        };
        if !self.authorizing.remove(&id) {
            return;
        }
        let endpoint = self.endpoint_name(id);
        let Some(machine) = self.exports.get_mut(&id) else {
            return;
        };
        match machine.authorize(headers, &endpoint) {
            Some(Next::Settled) => self.settle(id),
            _ => self.admit(id),
        }
    }

    /// The source gave none.
    pub(super) fn handle_not_authorized(&mut self, id: ExportId, why: Failure) {
        if self.authorizing.remove(&id) {
            self.end_attempt(id, AttemptEnd::NotAuthorized(why));
        }
    }
}
