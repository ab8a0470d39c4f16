//! The `rustls` configuration that the settings ask for.

use super::{Identity, Pem, Roots, Sources};
use alloc::borrow::{Cow, ToOwned};
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, InconsistentKeys, RootCertStore};

/// HTTP/2 in the application protocols of TLS (RFC 9113, section 3.2).
const H2: &[u8] = b"h2";
/// HTTP/1.1 in the application protocols of TLS (RFC 7301, section 6).
const HTTP1: &[u8] = b"http/1.1";

/// The configuration, without application protocols.
///
/// # Errors
///
/// In words: the setting, the file, what is wrong and what to do about it.
pub(super) fn config(sources: &Sources) -> Result<Arc<ClientConfig>, String> {
    if let Some(config) = &sources.config {
        if sources.provider.is_some() || !sources.roots.is_empty() || sources.identity.is_some() {
            return Err(
                "Tls::from_config: a complete configuration takes no further provider, roots or client certificate; \
                 set them in the configuration"
                    .to_owned(),
            );
        }
        return Ok(config.clone());
    }
    let builder = ClientConfig::builder_with_provider(provider(sources)?)
        .with_safe_default_protocol_versions()
        .map_err(|error| {
            format!("Tls::with_provider: {error}; give a provider with cipher suites of TLS 1.2 or 1.3")
        })?
        .with_root_certificates(roots(&sources.roots)?);
    let config = match &sources.identity {
        Some(identity) => {
            let (chain, key) = (chain(&identity.chain)?, key(&identity.key)?);
            let built = builder.with_client_auth_cert(chain, key);
            built.map_err(|error| refused_identity(identity, &error))?
        }
        None => builder.with_no_client_auth(),
    };
    Ok(Arc::new(config))
}

/// The name that the collector's certificate must be made out for, where it is not the endpoint's host.
///
/// # Errors
///
/// In words, when it is no name and no address.
pub(super) fn server_name(sources: &Sources) -> Result<Option<ServerName<'static>>, String> {
    let Some(name) = &sources.server_name else {
        return Ok(None);
    };
    match ServerName::try_from(name.clone()) {
        Ok(name) => Ok(Some(name)),
        Err(_) => Err(format!(
            "Tls::with_server_name: {name:?} is neither a host name nor an address"
        )),
    }
}

/// The configuration with the application protocols that are offered: gRPC is HTTP/2; OTLP/HTTP takes what was built in,
/// the better first (OTLP specification, "OTLP/HTTP Request"), unless the application chose.
pub(super) fn with_alpn(config: &Arc<ClientConfig>, is_grpc: bool) -> Arc<ClientConfig> {
    let offered: &[&[u8]] = if is_grpc {
        &[H2]
    } else if !config.alpn_protocols.is_empty() {
        return config.clone();
    } else if cfg!(feature = "http2") {
        &[H2, HTTP1]
    } else {
        &[HTTP1]
    };
    if config.alpn_protocols == offered {
        return config.clone();
    }
    // What is shared between connections, sessions to resume above all, is behind references and stays shared.
    let mut config = ClientConfig::clone(config);
    config.alpn_protocols = offered.iter().map(|name| name.to_vec()).collect();
    Arc::new(config)
}

fn provider(sources: &Sources) -> Result<Arc<CryptoProvider>, String> {
    let chosen = sources.provider.as_ref().or(CryptoProvider::get_default());
    match chosen {
        Some(provider) => Ok(provider.clone()),
        None => built_in_provider(),
    }
}

#[cfg(feature = "tls-ring")]
#[allow(clippy::unnecessary_wraps)]
fn built_in_provider() -> Result<Arc<CryptoProvider>, String> {
    Ok(Arc::new(rustls::crypto::ring::default_provider()))
}

#[cfg(all(feature = "tls-aws-lc", not(feature = "tls-ring")))]
#[allow(clippy::unnecessary_wraps)]
fn built_in_provider() -> Result<Arc<CryptoProvider>, String> {
    Ok(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
}

#[cfg(not(any(feature = "tls-ring", feature = "tls-aws-lc")))]
fn built_in_provider() -> Result<Arc<CryptoProvider>, String> {
    Err("TLS has no cryptography here: enable the feature `tls-ring` or `tls-aws-lc` of otlp-embed, install a default \
         provider of rustls before the exporter is built, or give one with Tls::with_provider"
        .to_owned())
}

fn roots(named: &[Roots]) -> Result<RootCertStore, String> {
    let every = every_built_in();
    let named = if named.is_empty() { &every[..] } else { named };
    if named.is_empty() {
        return Err(
            "TLS trusts nobody here: give the collector's authority with Tls::with_ca_file, Tls::with_ca_pem or \
             Tls::with_roots, or enable the feature `tls-webpki-roots` or `tls-native-roots` of otlp-embed"
                .to_owned(),
        );
    }
    let mut store = RootCertStore::empty();
    for roots in named {
        match roots {
            Roots::Der(certificates) => {
                add(&mut store, "Tls::with_roots", certificates.iter().cloned())?;
            }
            Roots::Pem(pem) => add(&mut store, &place(pem), chain(pem)?)?,
            #[cfg(feature = "tls-webpki-roots")]
            Roots::Webpki => store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
            #[cfg(feature = "tls-native-roots")]
            Roots::Native => add_native(&mut store)?,
        }
    }
    if store.is_empty() {
        return Err("Tls::with_roots: no certificate is given; give at least one".to_owned());
    }
    Ok(store)
}

/// What is trusted where nothing is named.
fn every_built_in() -> Vec<Roots> {
    vec![
        #[cfg(feature = "tls-webpki-roots")]
        Roots::Webpki,
        #[cfg(feature = "tls-native-roots")]
        Roots::Native,
    ]
}

fn add(
    store: &mut RootCertStore,
    place: &str,
    certificates: impl IntoIterator<Item = CertificateDer<'static>>,
) -> Result<(), String> {
    for (at, certificate) in certificates.into_iter().enumerate() {
        store.add(certificate).map_err(|error| {
            format!(
                "{place}: certificate {} cannot be trusted: {error}; give X.509 certificates of authorities",
                at + 1
            )
        })?;
    }
    Ok(())
}

/// The operating system's certificates, of which a few that cannot be read are the rule.
#[cfg(feature = "tls-native-roots")]
fn add_native(store: &mut RootCertStore) -> Result<(), String> {
    let native = rustls_native_certs::load_native_certs();
    let (added, _) = store.add_parsable_certificates(native.certs);
    if added > 0 {
        return Ok(());
    }
    let why = native.errors.first().map(|error| format!(": {error}"));
    Err(format!(
        "Tls::with_native_roots: the operating system has no root certificates{}; install them (Debian: ca-certificates), \
         or give the collector's authority with Tls::with_ca_file",
        why.unwrap_or_default()
    ))
}

/// The certificates in PEM, of which there is at least one.
fn chain(pem: &Pem) -> Result<Vec<CertificateDer<'static>>, String> {
    let bytes = bytes(pem)?;
    let certificates = CertificateDer::pem_slice_iter(&bytes).collect::<Result<Vec<_>, _>>();
    let certificates = certificates.map_err(|error| bad_pem(pem, &error))?;
    if certificates.is_empty() {
        return Err(format!(
            "{}: no certificate in it; give PEM with a CERTIFICATE block",
            place(pem)
        ));
    }
    Ok(certificates)
}

fn key(pem: &Pem) -> Result<PrivateKeyDer<'static>, String> {
    let bytes = bytes(pem)?;
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| match error {
        pem::Error::NoItemsFound => format!(
            "{}: no private key in it; give PEM with a PRIVATE KEY block that is not encrypted",
            place(pem)
        ),
        error => bad_pem(pem, &error),
    })
}

fn bytes(pem: &Pem) -> Result<Cow<'_, [u8]>, String> {
    match pem {
        Pem::Bytes(_, bytes) => Ok(Cow::Borrowed(&**bytes)),
        Pem::File(file) => file.read().map(Cow::Owned),
    }
}

/// The setting, and the file where it is one.
fn place(pem: &Pem) -> String {
    match pem {
        Pem::Bytes(named, _) => (*named).to_owned(),
        Pem::File(file) => file.place(),
    }
}

/// The library's words may quote what stands in the file, which may be a key.
fn bad_pem(pem: &Pem, error: &pem::Error) -> String {
    let what = match error {
        pem::Error::MissingSectionEnd { .. } => "a block without an END line",
        pem::Error::IllegalSectionStart { .. } => "a BEGIN line that is none",
        pem::Error::Base64Decode(_) => "a block that is not base64",
        _ => "it cannot be read",
    };
    format!("{}: no PEM: {what}", place(pem))
}

fn refused_identity(identity: &Identity, error: &rustls::Error) -> String {
    let (chain, key) = (place(&identity.chain), place(&identity.key));
    match error {
        rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => format!(
            "{key}: the key does not belong to the certificate of {chain}; give the key that the first certificate was made \
             with"
        ),
        error => format!("{chain}: the client certificate cannot be used with {key}: {error}"),
    }
}
