//! What the sessions of both versions of HTTP have in common: settings, records, and the way a request enters them.

use crate::testing::collector::answer::Answer;
use crate::testing::collector::builder::Settings;
use crate::testing::collector::call::{Arrived, HttpVersion, Plan};
use crate::testing::collector::inbox::Inbox;
use crate::testing::collector::received::ReceivedRequest;
use alloc::string::String;
use alloc::vec::Vec;
use http::{HeaderMap, Method};

/// One connection as the records see it.
pub(super) struct Base {
    pub(super) number: u64,
    pub(super) settings: Settings,
    pub(super) inbox: Inbox,
    /// Requests received.
    pub(super) received: u64,
}

/// What becomes of a request that was recorded.
pub(super) struct Verdict {
    pub(super) answer: Answer,
    /// Whether the connection is to drain, this having been its last request.
    pub(super) is_last: bool,
}

impl Base {
    /// Records a request and chooses its answer.
    pub(super) fn receive(
        &mut self,
        version: HttpVersion,
        stream_id: u32,
        plan: Plan,
        headers: Vec<(String, String)>,
        arrived: Arrived,
    ) -> Verdict {
        let request = ReceivedRequest {
            index: 0,
            connection: self.number,
            stream_id,
            signal: plan.signal,
            protocol: plan.protocol,
            version,
            compression: arrived.compression,
            headers,
            items: arrived.content.items,
            encoded_len: arrived.message.len(),
            message: arrived.message,
            body: arrived.body,
            answer: None,
        };
        let answer = self
            .inbox
            .receive(request, arrived.content, self.settings.keep_requests);
        self.received += 1;
        Verdict {
            answer,
            is_last: self.settings.requests_per_connection == Some(self.received),
        }
    }

    pub(super) fn is_version(&self, version: HttpVersion) {
        self.inbox
            .update_connection(self.number, |record| record.version = Some(version));
    }

    pub(super) fn count_invalid(&self) {
        self.inbox.count(|counters| counters.calls_invalid += 1);
    }

    pub(super) fn count_cancelled(&self, calls: u64) {
        self.inbox.count(|counters| counters.calls_cancelled += calls);
    }
}

/// The fields of a head as the records keep them; the pseudo-fields of method and path first.
pub(super) fn text_fields(
    method: &Method,
    path: &str,
    more: &[(&str, Option<&str>)],
    fields: &HeaderMap,
) -> Vec<(String, String)> {
    let mut texts = Vec::with_capacity(fields.len() + 4);
    texts.push((":method".into(), method.as_str().into()));
    texts.push((":path".into(), path.into()));
    for (name, value) in more {
        if let Some(value) = value {
            texts.push(((*name).into(), (*value).into()));
        }
    }
    for (name, value) in fields {
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        texts.push((name.as_str().into(), value));
    }
    texts
}
