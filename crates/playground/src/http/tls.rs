//! Certificates of a playground: an authority of its own, made at the start and gone with it.

use base64::Engine;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use std::sync::Arc;

pub struct Certificates {
    authority: CertificateDer<'static>,
    authority_pem: String,
    server: CertificateDer<'static>,
    key: Vec<u8>,
}

impl Certificates {
    pub fn new() -> anyhow::Result<Self> {
        let mut authority = CertificateParams::new(Vec::new())?;
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.distinguished_name.push(DnType::CommonName, "ironrail playground");
        let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)?;
        let names = ["127.0.0.1", "localhost", "kubernetes", "kubernetes.default.svc"];
        let mut server = CertificateParams::new(names.map(str::to_owned))?;
        server.distinguished_name.push(DnType::CommonName, "kube-apiserver");
        let key = KeyPair::generate()?;
        let server = server.signed_by(&key, &authority)?;
        Ok(Self {
            authority: authority.der().clone(),
            authority_pem: authority.pem(),
            server: server.der().clone(),
            key: key.serialize_der(),
        })
    }

    /// TLS by ring, with HTTP/2 and HTTP/1.1.
    pub fn server_config(&self) -> anyhow::Result<Arc<rustls::ServerConfig>> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.clone()));
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![self.server.clone()], key)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    /// The authority's certificate as kubeconfigs carry it.
    pub fn authority_base64(&self) -> String {
        base64::engine::general_purpose::STANDARD.encode(&self.authority_pem)
    }

    /// The authority's certificate as kube's configuration wants it.
    pub fn authority_der(&self) -> Vec<u8> {
        self.authority.to_vec()
    }
}
