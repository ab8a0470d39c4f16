//! TLS as a user asks for it: whom to trust, who to be, and the files that say so.
//!
//! Owns the sources of certificates and keys and the `rustls` configuration made of them. Files are read when the exporter
//! is built and again, where they have changed, when a connection is opened; nothing else is read here, and nothing is
//! connected.

mod files;
mod load;

use self::files::{File, Stamp};
use crate::error::Error;
use alloc::borrow::Cow;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use rustls::ClientConfig;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

/// How connections to `https` endpoints are secured.
///
/// The collector's certificate is always verified; there is no switch that turns it off, and a connection that cannot be
/// secured is never made in plain text. TLS 1.2 and 1.3 are spoken.
///
/// # Trust
///
/// The roots that are named are the ones trusted, and no others: those given with [`with_ca_file`](Self::with_ca_file),
/// [`with_ca_pem`](Self::with_ca_pem) and [`with_roots`](Self::with_roots), those compiled in where
/// `with_webpki_roots` asks for them, those of the operating system where `with_native_roots` does. Where none are named,
/// every set that was built in is trusted: features `tls-webpki-roots` and `tls-native-roots`.
///
/// # Cryptography
///
/// The provider is the one given with [`with_provider`](Self::with_provider), else the one that the application has
/// installed as the default of its process, else `ring` (feature `tls-ring`), else `aws-lc-rs` (feature `tls-aws-lc`).
///
/// # Failures
///
/// What another attempt cannot mend ends the exports that wait for the connection at once, with an error that names the
/// cause and [is not retryable](Error::is_retryable): a certificate that is expired, not valid yet, revoked, made out for
/// another name or from an unknown issuer; a collector that misses a client certificate or refuses it; one that speaks no
/// TLS, none newer than 1.1, or not the protocol of the exports. A handshake that breaks off or takes longer than the
/// connect timeout is tried again.
///
/// # Files
///
/// A file is read when the exporter is built, where a bad one is an error, and again when a connection is opened and the
/// file is another than before, so that certificates can be replaced while the program runs. A bad replacement leaves what
/// was read before in use and is told as [`Stats::last_error`](crate::Stats::last_error). The reading blocks the thread
/// that drives the exporter for as long as it takes: keep the files on a local disk.
///
/// ```
/// use otlp_embed::{Config, Tls};
///
/// # let (ca, chain, key) = ("ca.pem", "client.pem", "client.key");
/// let config = Config::new()
///     .with_endpoint("https://collector.example:4318")
///     .with_tls(Tls::new().with_ca_file(ca).with_client_certificate_files(chain, key));
/// ```
#[derive(Clone)]
#[must_use = "setters take the settings and give them back"]
pub struct Tls {
    sources: Sources,
    /// What the sources were made into; shared by the clones, so that a file is read once for all.
    loaded: Arc<Mutex<Option<Loaded>>>,
}

/// What a user gave.
#[derive(Clone, Default)]
struct Sources {
    config: Option<Arc<ClientConfig>>,
    provider: Option<Arc<CryptoProvider>>,
    roots: Vec<Roots>,
    identity: Option<Identity>,
    server_name: Option<String>,
}

/// Certificates to trust.
#[derive(Clone, PartialEq, Eq)]
enum Roots {
    Der(Arc<[CertificateDer<'static>]>),
    Pem(Pem),
    #[cfg(feature = "tls-webpki-roots")]
    Webpki,
    #[cfg(feature = "tls-native-roots")]
    Native,
}

/// A certificate of the exporter's own, with its key.
#[derive(Clone, PartialEq, Eq)]
struct Identity {
    chain: Pem,
    key: Pem,
}

/// Where PEM comes from.
#[derive(Clone, PartialEq, Eq)]
enum Pem {
    /// Given as it is, by the method named.
    Bytes(&'static str, Arc<[u8]>),
    File(File),
}

/// What the sources were made into.
struct Loaded {
    /// The last that was good.
    config: Arc<ClientConfig>,
    /// The files as they were when they were last looked at, whatever came of it.
    stamps: Vec<Option<Stamp>>,
    /// Why the files as they are now cannot be used, where they cannot.
    trouble: Option<String>,
}

/// What a connection is made with.
pub(crate) struct Opening {
    pub(crate) config: Arc<ClientConfig>,
    /// The name that stands in for the endpoint's host.
    pub(crate) server_name: Option<ServerName<'static>>,
    /// A file was replaced by one that cannot be used, in words.
    pub(crate) warning: Option<String>,
}

impl Default for Tls {
    fn default() -> Self {
        Self::new()
    }
}

impl Tls {
    /// Trusts the roots that were built in, and presents no certificate.
    pub fn new() -> Self {
        Self::of(Sources::default())
    }

    /// Uses a configuration of `rustls` that the application made: its provider, its verifier, its certificates.
    ///
    /// Its application protocols (ALPN) are kept for OTLP/HTTP where it names some; for gRPC they are `h2`. A provider, roots or a
    /// client certificate set beside it are an error of [`Config::build`](crate::Config::build): they belong into it.
    /// [`with_server_name`](Self::with_server_name) goes with it.
    pub fn from_config(config: Arc<ClientConfig>) -> Self {
        Self::of(Sources {
            config: Some(config),
            ..Sources::default()
        })
    }

    /// The cryptography to use, in place of what the [type](Self) says.
    pub fn with_provider(self, provider: Arc<CryptoProvider>) -> Self {
        self.with(|sources| sources.provider = Some(provider))
    }

    /// Trusts these certificates, in DER.
    pub fn with_roots(self, roots: impl IntoIterator<Item = CertificateDer<'static>>) -> Self {
        let roots = Roots::Der(roots.into_iter().collect());
        self.with(|sources| sources.roots.push(roots))
    }

    /// Trusts the certificates in this text, in PEM: one or more.
    pub fn with_ca_pem(self, pem: impl AsRef<[u8]>) -> Self {
        let roots = Roots::Pem(Pem::Bytes("Tls::with_ca_pem", pem.as_ref().into()));
        self.with(|sources| sources.roots.push(roots))
    }

    /// Trusts the certificates in this file, in PEM: one or more. It is read when the exporter is built, and again when it
    /// has changed.
    pub fn with_ca_file(self, path: impl Into<PathBuf>) -> Self {
        self.with_ca_file_named("Tls::with_ca_file", path)
    }

    /// Trusts the certificates of Mozilla's programme, as they were when this crate was built.
    #[cfg(feature = "tls-webpki-roots")]
    pub fn with_webpki_roots(self) -> Self {
        self.with(|sources| sources.roots.push(Roots::Webpki))
    }

    /// Trusts the certificates that the operating system trusts, as they are when the exporter is built.
    #[cfg(feature = "tls-native-roots")]
    pub fn with_native_roots(self) -> Self {
        self.with(|sources| sources.roots.push(Roots::Native))
    }

    /// Presents a certificate to collectors that ask for one (mTLS): its chain, the certificate itself first, and its key
    /// in PKCS#8, PKCS#1 or SEC1, both in PEM.
    pub fn with_client_certificate_pem(self, chain: impl AsRef<[u8]>, key: impl AsRef<[u8]>) -> Self {
        let named = "Tls::with_client_certificate_pem";
        let identity = Identity {
            chain: Pem::Bytes(named, chain.as_ref().into()),
            key: Pem::Bytes(named, key.as_ref().into()),
        };
        self.with(|sources| sources.identity = Some(identity))
    }

    /// As [`with_client_certificate_pem`](Self::with_client_certificate_pem), from files, which are read when the exporter
    /// is built and again when one of them has changed.
    pub fn with_client_certificate_files(self, chain: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        let named = "Tls::with_client_certificate_files";
        self.with_client_certificate_files_named((named, chain), (named, key))
    }

    /// The name or address that the collector's certificate must be made out for, and that it is asked for (SNI), in place
    /// of the endpoint's host.
    pub fn with_server_name(self, name: impl Into<String>) -> Self {
        let name = name.into();
        self.with(|sources| sources.server_name = Some(name))
    }

    /// As [`with_ca_file`](Self::with_ca_file); errors blame the setting named, such as an environment variable.
    pub(crate) fn with_ca_file_named(
        self,
        named: impl Into<Cow<'static, str>>,
        path: impl Into<PathBuf>,
    ) -> Self {
        let roots = Roots::Pem(Pem::File(File::new(named, path)));
        self.with(|sources| sources.roots.push(roots))
    }

    /// As [`with_client_certificate_files`](Self::with_client_certificate_files); errors blame the settings named.
    pub(crate) fn with_client_certificate_files_named(
        self,
        chain: (impl Into<Cow<'static, str>>, impl Into<PathBuf>),
        key: (impl Into<Cow<'static, str>>, impl Into<PathBuf>),
    ) -> Self {
        let identity = Identity {
            chain: Pem::File(File::new(chain.0, chain.1)),
            key: Pem::File(File::new(key.0, key.1)),
        };
        self.with(|sources| sources.identity = Some(identity))
    }

    /// Reads every file and checks that connections can be made; called when the exporter is built. `what` they are made for goes
    /// into the error.
    ///
    /// # Errors
    ///
    /// A misuse error that names the setting, the file and what is wrong, or the feature that is missing.
    pub(crate) fn check(&self, what: &str) -> Result<(), Error> {
        let refuse = |why| Error::config(format!("{what}: {why}"));
        load::server_name(&self.sources).map_err(refuse)?;
        let stamps = self.stamps();
        let config = load::config(&self.sources).map_err(refuse)?;
        *self.lock() = Some(Loaded {
            config,
            stamps,
            trouble: None,
        });
        Ok(())
    }

    /// What to make a connection with, after a look at the files.
    ///
    /// # Errors
    ///
    /// In words, when the settings were never checked and cannot work.
    pub(crate) fn open(&self, is_grpc: bool) -> Result<Opening, String> {
        let stamps = self.stamps();
        let mut loaded = self.lock();
        let loaded = match &mut *loaded {
            Some(loaded) => loaded,
            none => none.insert(Loaded {
                config: load::config(&self.sources)?,
                stamps: stamps.clone(),
                trouble: None,
            }),
        };
        if loaded.stamps != stamps {
            match load::config(&self.sources) {
                Ok(config) => (loaded.config, loaded.trouble) = (config, None),
                Err(why) => {
                    loaded.trouble = Some(format!(
                        "{why}; what was read before stays in use until that is mended"
                    ));
                }
            }
            loaded.stamps = stamps;
        }
        Ok(Opening {
            config: load::with_alpn(&loaded.config, is_grpc),
            server_name: load::server_name(&self.sources)?,
            warning: loaded.trouble.clone(),
        })
    }

    fn of(sources: Sources) -> Self {
        Self {
            sources,
            loaded: Arc::default(),
        }
    }

    /// Changes the sources, which have not been made into anything yet.
    fn with(mut self, change: impl FnOnce(&mut Sources)) -> Self {
        change(&mut self.sources);
        Self::of(self.sources)
    }

    /// The files as they are now. They are looked at before they are read: one that changes in between is read again.
    fn stamps(&self) -> Vec<Option<Stamp>> {
        self.sources.files().map(File::stamp).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Loaded>> {
        // Each change of what is inside is one assignment: a panic leaves nothing half done.
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Two are equal when they were given the same: the same files, the same bytes, the same configuration object.
impl PartialEq for Tls {
    fn eq(&self, other: &Self) -> bool {
        let (a, b) = (&self.sources, &other.sources);
        let (config, provider) = ((&a.config, &b.config), (&a.provider, &b.provider));
        is_same(config.0.as_ref(), config.1.as_ref())
            && is_same(provider.0.as_ref(), provider.1.as_ref())
            && a.roots == b.roots
            && a.identity == b.identity
            && a.server_name == b.server_name
    }
}

impl Eq for Tls {}

fn is_same<T>(a: Option<&Arc<T>>, b: Option<&Arc<T>>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => Arc::ptr_eq(a, b),
        (None, None) => true,
        _ => false,
    }
}

impl Sources {
    fn files(&self) -> impl Iterator<Item = &File> {
        let roots = self.roots.iter().filter_map(|roots| match roots {
            Roots::Pem(pem) => Some(pem),
            _ => None,
        });
        let identity = self.identity.iter().flat_map(|own| [&own.chain, &own.key]);
        roots.chain(identity).filter_map(|pem| match pem {
            Pem::File(file) => Some(file),
            Pem::Bytes(..) => None,
        })
    }
}

impl fmt::Debug for Tls {
    /// Certificates and keys are left out; files are named.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sources = &self.sources;
        f.debug_struct("Tls")
            .field("is_from_config", &sources.config.is_some())
            .field("roots", &sources.roots)
            .field("client_certificate", &sources.identity)
            .field("server_name", &sources.server_name)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Roots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Der(certificates) => write!(f, "{} certificates", certificates.len()),
            Self::Pem(pem) => pem.fmt(f),
            #[cfg(feature = "tls-webpki-roots")]
            Self::Webpki => f.write_str("webpki"),
            #[cfg(feature = "tls-native-roots")]
            Self::Native => f.write_str("native"),
        }
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entry(&self.chain).entry(&self.key).finish()
    }
}

impl fmt::Debug for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(..) => f.write_str("PEM"),
            Self::File(file) => fmt::Debug::fmt(file.path(), f),
        }
    }
}
