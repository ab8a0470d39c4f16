//! Certificates made by the tests, and servers that present them.
#![allow(dead_code, reason = "each test uses its own part")]

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use std::sync::Arc;

/// The name that the tests' collector goes by.
pub const NAME: &str = "collector.example";

/// An authority that signs certificates.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    pub pem: String,
    /// The certificates between this one and its root, which come after those it signs.
    above: Vec<CertificateDer<'static>>,
}

/// A certificate with its key.
pub struct Certificate {
    pub chain: Vec<CertificateDer<'static>>,
    pub key: PrivatePkcs8KeyDer<'static>,
    pub chain_pem: String,
    pub key_pem: String,
}

fn authority_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).expect("parameters");
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

impl Authority {
    pub fn new(name: &str) -> Self {
        let key = KeyPair::generate().expect("a key");
        let params = authority_params(name);
        let certificate = params.self_signed(&key).expect("a certificate");
        Self {
            certificate: certificate.der().clone(),
            pem: certificate.pem(),
            issuer: Issuer::new(params, key),
            above: Vec::new(),
        }
    }

    /// An authority that this one vouches for.
    pub fn intermediate(&self, name: &str) -> Self {
        let key = KeyPair::generate().expect("a key");
        let params = authority_params(name);
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        Self {
            certificate: certificate.der().clone(),
            pem: certificate.pem(),
            above: vec![certificate.der().clone()],
            issuer: Issuer::new(params, key),
        }
    }

    pub fn der(&self) -> CertificateDer<'static> {
        self.certificate.clone()
    }

    /// A certificate of a server of this name, changed as wanted.
    pub fn server(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Certificate {
        self.issue(name, ExtendedKeyUsagePurpose::ServerAuth, change)
    }

    /// A certificate of a client.
    pub fn client(&self, name: &str) -> Certificate {
        self.issue(name, ExtendedKeyUsagePurpose::ClientAuth, |_| ())
    }

    fn issue(
        &self,
        name: &str,
        usage: ExtendedKeyUsagePurpose,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Certificate {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("parameters");
        params
            .distinguished_name
            .push(DnType::CommonName, "otlp-embed test");
        params.extended_key_usages = vec![usage];
        change(&mut params);
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        let mut chain = vec![certificate.der().clone()];
        chain.extend(self.above.iter().cloned());
        let mut chain_pem = certificate.pem();
        if !self.above.is_empty() {
            chain_pem += &self.pem;
        }
        Certificate {
            chain,
            chain_pem,
            key: PrivatePkcs8KeyDer::from(key.serialize_der()),
            key_pem: key.serialize_pem(),
        }
    }
}

/// How a server secures its connections.
pub struct ServerTls {
    pub certificate: Certificate,
    pub alpn: Vec<&'static [u8]>,
    /// The authority whose clients are admitted; without one every client is.
    pub clients: Option<CertificateDer<'static>>,
    pub versions: Vec<&'static rustls::SupportedProtocolVersion>,
}

impl ServerTls {
    pub fn new(certificate: Certificate) -> Self {
        Self {
            certificate,
            alpn: vec![b"h2"],
            clients: None,
            versions: rustls::ALL_VERSIONS.to_vec(),
        }
    }

    pub fn config(&self) -> Arc<ServerConfig> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&self.versions)
            .expect("versions");
        let builder = match &self.clients {
            Some(root) => {
                let mut roots = RootCertStore::empty();
                roots.add(root.clone()).expect("a root");
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                builder.with_client_cert_verifier(verifier.build().expect("a verifier"))
            }
            None => builder.with_no_client_auth(),
        };
        let key = PrivateKeyDer::Pkcs8(self.certificate.key.clone_key());
        let mut config = builder
            .with_single_cert(self.certificate.chain.clone(), key)
            .expect("a certificate with its key");
        config.alpn_protocols = self.alpn.iter().map(|name| name.to_vec()).collect();
        Arc::new(config)
    }
}
