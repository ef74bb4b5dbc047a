//! TLS for the HTTP client. It trusts the certificates bundled with btsync and those of the system, or those in `SSL_CERT_FILE`
//! and `SSL_CERT_DIR`.
//!
//! The system's certificates are read on the first request to an https URL, because reading them costs milliseconds and most
//! downloads send no such request. If the system has none, as in an empty chroot, the bundled ones suffice.

use std::fmt;
use std::io::{Read, Write};
use std::sync::{Arc, OnceLock};

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use ureq::Error;
use ureq::unversioned::transport::time::{Duration, Instant};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, Either, LazyBuffers, NextTimeout, Transport, TransportAdapter,
};

use crate::util::descriptors::is_shortage;

/// Wraps connections to https hosts in TLS; passes others through.
#[derive(Debug)]
pub(crate) struct Tls;

/// A TLS connection.
pub(crate) struct TlsTransport {
    buffers: LazyBuffers,
    stream: StreamOwned<ClientConnection, TransportAdapter>,
}

impl<In: Transport> Connector<In> for Tls {
    type Out = Either<In, TlsTransport>;

    fn connect(&self, details: &ConnectionDetails, chained: Option<In>) -> Result<Option<Self::Out>, Error> {
        let Some(transport) = chained else { return Ok(None) };
        if !details.needs_tls() || transport.is_tls() {
            return Ok(Some(Either::A(transport)));
        }
        let host = details.uri.host().unwrap_or_default().trim_matches(['[', ']']);
        Ok(Some(Either::B(TlsTransport::connect(details, host, transport.boxed())?)))
    }
}

/// A TLS connection to a proxy, over `transport`.
pub(crate) fn over_tls(
    details: &ConnectionDetails,
    host: &str,
    transport: Box<dyn Transport>,
) -> Result<Box<dyn Transport>, Error> {
    Ok(Box::new(TlsTransport::connect(details, host, transport)?))
}

impl TlsTransport {
    /// Exchanges handshakes with `host`.
    fn connect(details: &ConnectionDetails, host: &str, transport: Box<dyn Transport>) -> Result<TlsTransport, Error> {
        let name = ServerName::try_from(host.to_owned());
        let name = name.map_err(|_| Error::Tls("no certificate can name this host"))?;
        let mut session = ClientConnection::new(config()?, name)?;
        let mut socket = TransportAdapter::new(transport, details.current_time.clone());
        socket.set_timeout(left(details));
        session.complete_io(&mut socket)?;
        let buffers = LazyBuffers::new(details.config.input_buffer_size(), details.config.output_buffer_size());
        Ok(TlsTransport { buffers, stream: StreamOwned { conn: session, sock: socket } })
    }
}

impl Transport for TlsTransport {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        self.stream.get_mut().set_timeout(timeout);
        let output = self.buffers.output().get(..amount).unwrap_or_default();
        Ok(self.stream.write_all(output)?)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.stream.get_mut().set_timeout(timeout);
        let amount = self.stream.read(self.buffers.input_append_buf())?;
        self.buffers.input_appended(amount);
        Ok(amount > 0)
    }

    fn is_open(&mut self) -> bool {
        self.stream.get_mut().get_mut().is_open()
    }

    fn is_tls(&self) -> bool {
        true
    }
}

impl fmt::Debug for TlsTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsTransport").finish_non_exhaustive()
    }
}

/// The time left for the handshake after connecting.
fn left(details: &ConnectionDetails) -> NextTimeout {
    let spent = match ((details.current_time)(), details.now) {
        (Instant::Exact(now), Instant::Exact(began)) => now.saturating_duration_since(began),
        _ => std::time::Duration::ZERO,
    };
    let after = match details.timeout.after {
        Duration::Exact(limit) => Duration::Exact(limit.saturating_sub(spent)),
        Duration::NotHappening => Duration::NotHappening,
    };
    NextTimeout { after, ..details.timeout }
}

/// The configuration of all TLS connections of this process. If the system's certificates could not be read for lack of file
/// descriptors, the next connection tries again.
fn config() -> Result<Arc<ClientConfig>, rustls::Error> {
    static CONFIG: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    if let Some(config) = CONFIG.get() {
        return Ok(config.clone());
    }
    let found = rustls_native_certs::load_native_certs();
    let is_all = !found.errors.iter().any(is_for_want_of_descriptors);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let config = Arc::new(builder.with_root_certificates(trusted(usable(found))).with_no_client_auth());
    Ok(if is_all { CONFIG.get_or_init(|| config).clone() } else { config })
}

/// How many root certificates TLS connections trust: the bundled ones, and further ones of the system.
pub(crate) fn trusted_certificates() -> (usize, usize) {
    let bundled = webpki_roots::TLS_SERVER_ROOTS.len();
    let all = trusted(usable(rustls_native_certs::load_native_certs())).len();
    (bundled, all.saturating_sub(bundled))
}

fn is_for_want_of_descriptors(error: &rustls_native_certs::Error) -> bool {
    matches!(&error.kind, rustls_native_certs::ErrorKind::Io { inner, .. } if is_shortage(inner))
}

/// The bundled roots and the certificates in `more`, without duplicates.
fn trusted(more: Vec<CertificateDer<'static>>) -> RootCertStore {
    let mut store = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    let mut unusable = 0;
    for certificate in more {
        match store.add(certificate) {
            Ok(()) => {
                let known = store.roots.split_last().is_some_and(|(last, before)| before.contains(last));
                if known {
                    store.roots.pop();
                }
            }
            Err(_) => unusable += 1,
        }
    }
    log::debug!("TLS trusts {} roots, {unusable} of the system's cannot be used", store.roots.len());
    store
}

/// The certificates that were read; logs errors.
fn usable(found: rustls_native_certs::CertificateResult) -> Vec<CertificateDer<'static>> {
    let asked_for = ["SSL_CERT_FILE", "SSL_CERT_DIR"].iter().any(|name| std::env::var_os(name).is_some());
    for error in found.errors {
        // Warn only about files that the user specified, because a system may have no certificates.
        let level = if asked_for { log::Level::Warn } else { log::Level::Debug };
        log::log!(level, "certificates: {error}");
    }
    found.certs
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::pem::PemObject;

    use super::*;

    #[test]
    fn roots_of_the_system_come_beside_the_bundled_ones_and_once() {
        let bundled = trusted(vec![]).len();
        assert!(bundled > 100, "{bundled}");
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/tls/ca.pem");
        let own = CertificateDer::from_pem_file(path).unwrap();
        let nonsense = CertificateDer::from(vec![0x30, 3, 1, 2, 3]);
        assert_eq!(trusted(vec![own.clone(), nonsense, own]).len(), bundled + 1);
    }

    /// The next connection reads them again.
    #[test]
    fn certificates_that_could_not_be_opened_for_want_of_descriptors_are_looked_for_again() {
        let error = |errno| rustls_native_certs::Error {
            context: "a file",
            kind: rustls_native_certs::ErrorKind::Io {
                inner: std::io::Error::from_raw_os_error(errno),
                path: "x".into(),
            },
        };
        assert!(is_for_want_of_descriptors(&error(24)) && !is_for_want_of_descriptors(&error(2)));
    }
}
