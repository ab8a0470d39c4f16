//! Credentials that change while the exporter runs: tokens that expire, keys that rotate.

use crate::protocol::Failure;
use alloc::borrow::ToOwned;
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

/// Why a source of credentials has none to give.
pub type CredentialsError = Box<dyn core::error::Error + Send + Sync>;

/// A source of credentials, asked anew for every attempt of every export.
///
/// It is asked by whoever polls an export, outside every lock of the exporter, and must not block: a source that fetches
/// tokens from elsewhere fetches them in a task of its own and hands out the last one. A panic in it fails the export that
/// asked, and no other.
///
/// What it gives is sent to the endpoint that it was set for and nowhere else: redirects are never followed. Values appear
/// in no error, no log and no `Debug` output, and are marked as sensitive where HTTP/2 compresses headers.
///
/// Any `Fn() -> String` is a source of bearer tokens:
///
/// ```
/// use otlp_embed::Config;
/// use std::sync::{Arc, Mutex};
///
/// let token = Arc::new(Mutex::new(String::from("the first token")));
/// let source = token.clone();
/// let config = Config::new().with_credentials(move || source.lock().unwrap().clone());
/// # _ = config;
/// ```
pub trait Credentials: Send + Sync {
    /// The headers to send with the attempt that begins now, such as `authorization`. None is allowed.
    ///
    /// # Errors
    ///
    /// In words that carry no secret, why there are none now. The attempt counts as failed, and the export is retried as
    /// after any failure that may pass.
    fn headers(&self) -> Result<Vec<(String, String)>, CredentialsError>;

    /// The collector refused these headers (`UNAUTHENTICATED`, HTTP 401). The source is asked again right after this, and
    /// the export is sent once more if it gives others.
    fn rejected(&self, headers: &[(String, String)]) {
        _ = headers;
    }
}

impl<F: Fn() -> String + Send + Sync> Credentials for F {
    fn headers(&self) -> Result<Vec<(String, String)>, CredentialsError> {
        Ok(vec![("authorization".to_owned(), format!("Bearer {}", self()))])
    }
}

/// A source of credentials as settings hold it.
#[derive(Clone)]
pub struct CredentialSource {
    shared: Arc<dyn Credentials>,
}

impl CredentialSource {
    /// Shares a source.
    pub fn new(source: impl Credentials + 'static) -> Self {
        Self {
            shared: Arc::new(source),
        }
    }
}

/// Shows nothing of the source.
impl fmt::Debug for CredentialSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CredentialSource").finish_non_exhaustive()
    }
}

/// Whether it is the same source.
impl PartialEq for CredentialSource {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }
}

impl Eq for CredentialSource {}

/// Headers of one attempt, whose values are secrets.
#[derive(Clone, PartialEq, Eq)]
pub struct CredentialHeaders {
    list: Arc<[(String, String)]>,
}

impl CredentialHeaders {
    /// Headers by name and value.
    pub fn new(list: Vec<(String, String)>) -> Self {
        Self { list: list.into() }
    }

    /// The headers.
    pub fn as_slice(&self) -> &[(String, String)] {
        &self.list
    }

    /// The same headers, fit to be sent: names in lowercase, values of printable ASCII.
    ///
    /// # Errors
    ///
    /// The name of the header that is not fit, without its value.
    pub(crate) fn checked(&self) -> Result<Self, String> {
        let mut list = Vec::with_capacity(self.list.len());
        for (name, value) in &*self.list {
            match crate::config::checked_header(name, value) {
                Ok(header) => list.push(header),
                Err(_) => {
                    return Err(format!(
                        "the source of credentials gave a header {name:?} that cannot be sent: a name consists of letters, \
                         digits, '-', '_' and '.' and is none that the exporter sets itself, a value of printable ASCII"
                    ));
                }
            }
        }
        Ok(Self::new(list))
    }
}

/// Shows the names.
impl fmt::Debug for CredentialHeaders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.list.iter().map(|(name, _)| name))
            .finish()
    }
}

/// What a source of credentials is to be asked for one attempt; see [`Action::Authorize`](crate::export::Action::Authorize).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authorization {
    pub(crate) source: CredentialSource,
    /// What the collector has refused.
    pub(crate) rejected: Option<CredentialHeaders>,
}

impl Authorization {
    /// Asks the source, which is foreign code: no lock is to be held.
    ///
    /// # Errors
    ///
    /// In words, why it gave nothing; a panic in it, which no further attempt can mend, in a build with `std`.
    pub fn ask(&self) -> Result<CredentialHeaders, Failure> {
        // The words of its error are foreign code, too.
        let ask = || {
            let source = &*self.source.shared;
            if let Some(rejected) = &self.rejected {
                source.rejected(rejected.as_slice());
            }
            source
                .headers()
                .map(CredentialHeaders::new)
                .map_err(|error| Failure::retryable(format!("the source of credentials gave none: {error}")))
        };
        #[cfg(feature = "std")]
        let answer = crate::foreign::shield(ask)
            .unwrap_or_else(|| Err(Failure::fatal("the source of credentials panicked")));
        #[cfg(not(feature = "std"))]
        let answer = ask();
        answer
    }
}
