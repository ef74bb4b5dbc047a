//! The tests' own certificate authority, and servers with its certificates.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// A certificate file made by `testdata/tls/make.sh`.
pub fn certificate(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/tls").join(name)
}

/// A server at 127.0.0.1 or localhost whose certificate is signed by the tests' own authority.
pub fn server_config() -> Arc<ServerConfig> {
    let chain = vec![CertificateDer::from_pem_file(certificate("server.pem")).expect("the certificate")];
    let key = PrivateKeyDer::from_pem_file(certificate("server-key.pem")).expect("the key");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.expect("protocol versions").with_no_client_auth();
    Arc::new(builder.with_single_cert(chain, key).expect("a key that fits"))
}
